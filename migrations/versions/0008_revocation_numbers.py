"""Each revocation has a number, by which a CRL is continued with what came after the one before it.

Revision ID: 0008
Revises: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_NUMBERED = sa.text("revocation_number IS NOT NULL")


def upgrade() -> None:
    """Add the number. What was revoked before has none, nor what an older program revokes: then a CRL is read whole."""
    op.add_column("certificates", sa.Column("revocation_number", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_certificates_issuer_id_revocation_number",
        "certificates",
        ["issuer_id", "revocation_number"],
        sqlite_where=_NUMBERED,
        postgresql_where=_NUMBERED,
    )


def downgrade() -> None:
    """Take it away."""
    op.drop_index("ix_certificates_issuer_id_revocation_number", "certificates")
    op.drop_column("certificates", "revocation_number")
