"""A CRL is read from an index alone, in its order: the rows beside it hold a certificate each.

Revision ID: 0006
Revises: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


_NAME = "ix_certificates_revoked"
_ORDER = ["issuer_id", "revocation_date"]
_READ = ["id", "serial_number", "revocation_reason", "not_valid_after"]


def upgrade() -> None:
    """Put another index in the place of one; the older program finds in it what it had."""
    _replace([*_ORDER, *_READ])


def downgrade() -> None:
    """Put the narrow one back."""
    _replace(_ORDER)


def _replace(columns: list[str]) -> None:
    where = sa.text("revocation_date IS NOT NULL")
    op.drop_index(_NAME, "certificates")
    op.create_index(_NAME, "certificates", columns, sqlite_where=where, postgresql_where=where)
