"""The registry: issuers, certificates with their names, CRLs, tokens, audit.

Revision ID: 0001
Revises:
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# As the models had it at this revision: a migration imports nothing that may change.
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_BYTE_ORDER = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_REVOKED = sa.text("revocation_date IS NOT NULL")
_DEFAULT = sa.text("is_default")


def upgrade() -> None:
    """Make the tables, those that others refer to first."""
    _create_issuers()
    _create_certificates()
    _create_certificate_names()
    _create_crls()
    _create_tokens()
    _create_audit()


def downgrade() -> None:
    """Drop every table with all it holds; the indexes go with them."""
    for table in ("audit", "tokens", "crls", "certificate_names", "certificates", "issuers"):
        op.drop_table(table)


def _create_issuers() -> None:
    op.create_table(
        "issuers",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("common_name", sa.String(), nullable=False),
        sa.Column("certificate_pem", sa.Text(), nullable=False),
        sa.Column("private_key_pem", sa.Text(), nullable=True),
        sa.Column("parent_id", sa.String(length=16), nullable=True),
        sa.Column("is_root", sa.Boolean(), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("is_default", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("crl_number", sa.BigInteger(), nullable=False),
        sa.Column("crl_this_update", sa.DateTime(), nullable=True),
        sa.Column("revocation_count", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["issuers.id"], name="fk_issuers_parent_id_issuers"),
        sa.PrimaryKeyConstraint("id", name="pk_issuers"),
    )
    op.create_index(
        "uq_issuers_default", "issuers", ["is_default"], unique=True, sqlite_where=_DEFAULT, postgresql_where=_DEFAULT
    )


def _create_certificates() -> None:
    op.create_table(
        "certificates",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("serial_number", sa.String(), nullable=False),
        sa.Column("common_name", sa.String(), nullable=True),
        sa.Column("common_name_reversed", _BYTE_ORDER, nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("not_valid_before", sa.DateTime(), nullable=False),
        sa.Column("not_valid_after", sa.DateTime(), nullable=False),
        sa.Column("key_type", sa.String(), nullable=False),
        sa.Column("certificate_pem", sa.Text(), nullable=False),
        sa.Column("revocation_date", sa.DateTime(), nullable=True),
        sa.Column("revocation_reason", sa.Integer(), nullable=True),
        sa.Column("uuid", sa.String(), nullable=True),
        sa.Column("issuer_id", sa.String(length=16), nullable=True),
        sa.Column("fingerprint_sha256", sa.String(), nullable=True),
        sa.Column("spki_sha256", sa.String(), nullable=True),
        sa.Column("profile", sa.String(), nullable=True),
        sa.Column("requester", sa.String(), nullable=True),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("unique_name", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["issuer_id"], ["issuers.id"], name="fk_certificates_issuer_id_issuers"),
        sa.PrimaryKeyConstraint("id", name="pk_certificates"),
        sa.UniqueConstraint("fingerprint_sha256", name="uq_certificates_fingerprint_sha256"),
        sa.UniqueConstraint("serial_number", name="uq_certificates_serial_number"),
        sa.UniqueConstraint("unique_name", name="uq_certificates_unique_name"),
        sa.UniqueConstraint("uuid", name="uq_certificates_uuid"),
    )
    op.create_index("ix_certificates_common_name_id", "certificates", ["common_name", "id"])
    op.create_index("ix_certificates_common_name_reversed", "certificates", ["common_name_reversed"])
    op.create_index("ix_certificates_issuer_id_id", "certificates", ["issuer_id", "id"])
    op.create_index("ix_certificates_key_type_id", "certificates", ["key_type", "id"])
    op.create_index("ix_certificates_not_valid_after", "certificates", ["not_valid_after"])
    op.create_index("ix_certificates_profile_id", "certificates", ["profile", "id"])
    op.create_index("ix_certificates_requester_id", "certificates", ["requester", "id"])
    op.create_index(
        "ix_certificates_revoked",
        "certificates",
        ["issuer_id", "revocation_date"],
        sqlite_where=_REVOKED,
        postgresql_where=_REVOKED,
    )
    op.create_index(
        "ix_certificates_revoked_id", "certificates", ["id"], sqlite_where=_REVOKED, postgresql_where=_REVOKED
    )
    op.create_index("ix_certificates_spki_sha256_id", "certificates", ["spki_sha256", "id"])
    op.create_index("ix_certificates_status_not_valid_after", "certificates", ["status", "not_valid_after"])


def _create_certificate_names() -> None:
    op.create_table(
        "certificate_names",
        sa.Column("certificate_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.Column("reversed", _BYTE_ORDER, nullable=True),
        sa.ForeignKeyConstraint(
            ["certificate_id"],
            ["certificates.id"],
            name="fk_certificate_names_certificate_id_certificates",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("certificate_id", "kind", "value", name="pk_certificate_names"),
    )
    op.create_index(
        "ix_certificate_names_kind_value_certificate_id", "certificate_names", ["kind", "value", "certificate_id"]
    )
    op.create_index("ix_certificate_names_reversed_certificate_id", "certificate_names", ["reversed", "certificate_id"])


def _create_crls() -> None:
    op.create_table(
        "crls",
        sa.Column("issuer_id", sa.String(length=16), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("this_update", sa.DateTime(), nullable=False),
        sa.Column("next_update", sa.DateTime(), nullable=False),
        sa.Column("revocation_count", sa.BigInteger(), nullable=False),
        sa.Column("der", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.ForeignKeyConstraint(["issuer_id"], ["issuers.id"], name="fk_crls_issuer_id_issuers"),
        sa.PrimaryKeyConstraint("issuer_id", "number", name="pk_crls"),
    )


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("token_sha256", sa.String(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("token_sha256", name="uq_tokens_token_sha256"),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("outcome", sa.String(), nullable=False),
        sa.Column("serial_number", sa.String(), nullable=True),
        sa.Column("issuer_id", sa.String(), nullable=True),
        sa.Column("profile", sa.String(), nullable=True),
        sa.Column("request_id", sa.String(), nullable=True),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("detail", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_actor", "audit", ["actor"])
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_serial_number", "audit", ["serial_number"])
