"""Names are looked up backwards, whole or by their end: one index for both, and one row less to write for each name.

Revision ID: 0007
Revises: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Of the names, only DNS names are kept backwards.
_OTHERS = sa.text("reversed IS NULL")


def upgrade() -> None:
    """Drop what each certificate wrote twice. The older program finds the same, but reads more for a whole name."""
    op.create_index("ix_certificates_common_name_reversed_id", "certificates", ["common_name_reversed", "id"])
    op.drop_index("ix_certificates_common_name_reversed", "certificates")
    op.drop_index("ix_certificates_common_name_id", "certificates")
    op.create_index(
        "ix_certificate_names_others",
        "certificate_names",
        ["kind", "value", "certificate_id"],
        sqlite_where=_OTHERS,
        postgresql_where=_OTHERS,
    )
    op.drop_index("ix_certificate_names_kind_value_certificate_id", "certificate_names")


def downgrade() -> None:
    """Put them back."""
    op.create_index(
        "ix_certificate_names_kind_value_certificate_id", "certificate_names", ["kind", "value", "certificate_id"]
    )
    op.drop_index("ix_certificate_names_others", "certificate_names")
    op.create_index("ix_certificates_common_name_id", "certificates", ["common_name", "id"])
    op.create_index("ix_certificates_common_name_reversed", "certificates", ["common_name_reversed"])
    op.drop_index("ix_certificates_common_name_reversed_id", "certificates")
