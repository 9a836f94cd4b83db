"""Valid and expired certificates in the order of their pages, and valid ones by their end.

Revision ID: 0005
Revises: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


_INDEXES = (("valid", "id"), ("expired", "id"), ("valid", "not_valid_after"))


def upgrade() -> None:
    """Add indexes that the older program does not need."""
    for status, column in _INDEXES:
        where = sa.text(f"status = '{status}'")
        op.create_index(
            f"ix_certificates_{status}_{column}",
            "certificates",
            [column],
            sqlite_where=where,
            postgresql_where=where,
        )


def downgrade() -> None:
    """Take them away."""
    for status, column in reversed(_INDEXES):
        op.drop_index(f"ix_certificates_{status}_{column}", "certificates")
