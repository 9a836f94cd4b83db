"""Tokens with rights, the audit's peer addresses, idempotency keys, blocked keys, identity tokens used once.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add columns that the older program does not miss, and tables that it does not know."""
    with op.batch_alter_table("tokens") as tokens:
        tokens.add_column(sa.Column("grants", sa.JSON(), nullable=True))
        tokens.add_column(sa.Column("created_by", sa.String(), nullable=True))
        tokens.add_column(sa.Column("last_used_at", sa.DateTime(), nullable=True))
    with op.batch_alter_table("audit") as audit:
        audit.add_column(sa.Column("peer", sa.String(), nullable=True))
    op.create_index("ix_audit_request_id", "audit", ["request_id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("request_sha256", sa.String(), nullable=False),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("actor", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
    op.create_table(
        "blocked_keys",
        sa.Column("spki_sha256", sa.String(), nullable=False),
        sa.Column("serial_number", sa.String(), nullable=False),
        sa.Column("blocked_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("spki_sha256", name="pk_blocked_keys"),
    )
    op.create_table(
        "used_identity_tokens",
        sa.Column("issuer", sa.String(), nullable=False),
        sa.Column("jti", sa.String(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "jti", name="pk_used_identity_tokens"),
    )
    op.create_index("ix_used_identity_tokens_expires_at", "used_identity_tokens", ["expires_at"])


def downgrade() -> None:
    """Take all of it away."""
    op.drop_table("used_identity_tokens")
    op.drop_table("blocked_keys")
    op.drop_table("idempotency_keys")
    op.drop_index("ix_audit_request_id", "audit")
    with op.batch_alter_table("audit") as audit:
        audit.drop_column("peer")
    with op.batch_alter_table("tokens") as tokens:
        tokens.drop_column("last_used_at")
        tokens.drop_column("created_by")
        tokens.drop_column("grants")
