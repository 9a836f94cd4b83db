"""Notices of certificates about to expire: the outbox, and when certificates were last looked through.

Revision ID: 0003
Revises: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two tables that the older program does not know."""
    op.create_table(
        "notices",
        sa.Column("serial_number", sa.String(), nullable=False),
        sa.Column("threshold_days", sa.Integer(), nullable=False),
        sa.Column("not_valid_after", sa.DateTime(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("delivered_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("serial_number", "threshold_days", name="pk_notices"),
    )
    op.create_index("ix_notices_not_valid_after", "notices", ["not_valid_after"])
    op.create_index("ix_notices_next_attempt_at", "notices", ["next_attempt_at"])
    op.create_table(
        "notice_scans",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_notice_scans"),
    )


def downgrade() -> None:
    """Take both away."""
    op.drop_table("notice_scans")
    op.drop_table("notices")
