"""The tables of the registry. Their migrations are in ``migrations/versions``; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tiny_ca.const import CertType
from tiny_ca.db.const import CertificateStatus

__all__ = [
    "AuditRecord",
    "Base",
    "BlockedKey",
    "CRLRecord",
    "CertificateName",
    "CertificateRecord",
    "IdempotencyKey",
    "IssuerRecord",
    "JobRecord",
    "NoticeRecord",
    "NoticeScan",
    "TokenRecord",
    "UTCDateTime",
    "UsedIdentityToken",
]


class UTCDateTime(TypeDecorator[datetime]):
    """Stored as naive UTC, returned aware; a naive value is taken as UTC."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the interface
        """Drop the zone after converting to UTC."""
        if value is None or value.tzinfo is None:
            return value
        return value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - the interface
        """Say that it is UTC."""
        return None if value is None else value.replace(tzinfo=UTC)


# SQLite numbers rows by itself only in a column declared INTEGER, which holds 64 bits there.
_RowId = BigInteger().with_variant(Integer, "sqlite")
# A range over a reversed name is a prefix search only in byte order; PostgreSQL's default order is the language's.
_ByteOrder = String().with_variant(String(collation="C"), "postgresql")


class Base(DeclarativeBase):
    """Declarative base; every constraint has a name, so that a migration can speak of it."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UTCDateTime, dict[str, Any]: JSON}  # noqa: RUF012 - SQLAlchemy's own attribute


def _utc_now() -> datetime:
    return datetime.now(UTC)


class CertificateRecord(Base):
    """One issued certificate.

    ``status`` lags behind the clock until the next ``mark_expired``; whoever needs the truth looks at
    ``revocation_date`` and ``not_valid_after``. ``unique_name`` is the common name while this certificate is the only
    one that may hold it, else NULL: its UNIQUE constraint decides between two issued at once. ``revocation_number`` is
    the issuer's ``revocation_count`` as this revocation left it, NULL where that is not known or a hold was lifted.
    """

    __tablename__ = "certificates"

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    serial_number: Mapped[str] = mapped_column(String, unique=True)
    common_name: Mapped[str | None]
    common_name_reversed: Mapped[str | None] = mapped_column(_ByteOrder)
    status: Mapped[str] = mapped_column(String, default=CertificateStatus.VALID.value)
    not_valid_before: Mapped[datetime]
    not_valid_after: Mapped[datetime] = mapped_column(index=True)
    key_type: Mapped[str] = mapped_column(String, default=CertType.DEVICE.value)
    certificate_pem: Mapped[str] = mapped_column(Text)
    revocation_date: Mapped[datetime | None]
    revocation_reason: Mapped[int | None]
    revocation_number: Mapped[int | None] = mapped_column(BigInteger)
    uuid: Mapped[str | None] = mapped_column(String, unique=True)
    issuer_id: Mapped[str | None] = mapped_column(ForeignKey("issuers.id"))
    fingerprint_sha256: Mapped[str | None] = mapped_column(String, unique=True)
    spki_sha256: Mapped[str | None]
    profile: Mapped[str | None]
    requester: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(default=_utc_now)
    unique_name: Mapped[str | None] = mapped_column(String, unique=True)

    # The id behind each filter makes a keyset page one walk along one index, however deep the page.
    __table_args__ = (
        # Backwards, it serves whole names as well as ``*.example.org``.
        Index(None, "common_name_reversed", "id"),
        Index(None, "key_type", "id"),
        Index(None, "profile", "id"),
        Index(None, "issuer_id", "id"),
        Index(None, "requester", "id"),
        Index(None, "spki_sha256", "id"),
        Index(None, "status", "not_valid_after"),
        # Only the revoked are in it, with all that a CRL says of them, in its order: its cost follows their number, not
        # the table's, and no row is read, of which each holds a certificate.
        Index(
            "ix_certificates_revoked",
            "issuer_id",
            "revocation_date",
            "id",
            "serial_number",
            "revocation_reason",
            "not_valid_after",
            sqlite_where=text("revocation_date IS NOT NULL"),
            postgresql_where=text("revocation_date IS NOT NULL"),
        ),
        # What was revoked after a CRL.
        Index(
            None,
            "issuer_id",
            "revocation_number",
            sqlite_where=text("revocation_number IS NOT NULL"),
            postgresql_where=text("revocation_number IS NOT NULL"),
        ),
        Index(
            "ix_certificates_revoked_id",
            "id",
            sqlite_where=text("revocation_date IS NOT NULL"),
            postgresql_where=text("revocation_date IS NOT NULL"),
        ),
        # Expired ones are old and valid ones may be rare: neither is met soon by a walk through all. The third is for
        # those that have ended unmarked: over (status, not_valid_after) PostgreSQL expects many, and reads them all.
        Index(
            "ix_certificates_valid_id",
            "id",
            sqlite_where=text("status = 'valid'"),
            postgresql_where=text("status = 'valid'"),
        ),
        Index(
            "ix_certificates_expired_id",
            "id",
            sqlite_where=text("status = 'expired'"),
            postgresql_where=text("status = 'expired'"),
        ),
        Index(
            "ix_certificates_valid_not_valid_after",
            "not_valid_after",
            sqlite_where=text("status = 'valid'"),
            postgresql_where=text("status = 'valid'"),
        ),
    )

    def __repr__(self) -> str:
        return f"<CertificateRecord {self.serial_number} {self.common_name!r} {self.status}>"


class CertificateName(Base):
    """One subject alternative name; ``reversed`` is set for DNS names: ``*.example.org`` is a prefix search there."""

    __tablename__ = "certificate_names"

    certificate_id: Mapped[int] = mapped_column(
        _RowId, ForeignKey("certificates.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    kind: Mapped[str] = mapped_column(String, primary_key=True)
    value: Mapped[str] = mapped_column(String, primary_key=True)
    reversed: Mapped[str | None] = mapped_column(_ByteOrder)

    __table_args__ = (
        Index(None, "reversed", "certificate_id"),
        Index(
            "ix_certificate_names_others",
            "kind",
            "value",
            "certificate_id",
            sqlite_where=text("reversed IS NULL"),
            postgresql_where=text("reversed IS NULL"),
        ),
    )


class IssuerRecord(Base):
    """One CA. ``private_key_pem`` is encrypted PKCS#8, NULL once the key is offline.

    ``crl_number`` and ``crl_this_update`` are the last ones given out, whether or not that CRL was ever published.
    ``revocation_count`` grows with each change to what its CRL must say: one that says less is due, whatever anybody's
    clock says.
    """

    __tablename__ = "issuers"

    id: Mapped[str] = mapped_column(String(16), primary_key=True)
    common_name: Mapped[str]
    certificate_pem: Mapped[str] = mapped_column(Text)
    private_key_pem: Mapped[str | None] = mapped_column(Text)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("issuers.id"))
    is_root: Mapped[bool] = mapped_column(default=False)
    enabled: Mapped[bool] = mapped_column(default=True)
    is_default: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=_utc_now)
    crl_number: Mapped[int] = mapped_column(BigInteger, default=0)
    crl_this_update: Mapped[datetime | None]
    revocation_count: Mapped[int] = mapped_column(BigInteger, default=0)

    # At most one default, whoever else is setting one: two replicas on an empty database cannot both win.
    __table_args__ = (
        Index(
            "uq_issuers_default",
            "is_default",
            unique=True,
            sqlite_where=text("is_default"),
            postgresql_where=text("is_default"),
        ),
    )

    def __repr__(self) -> str:
        return f"<IssuerRecord {self.id} {self.common_name!r}>"


class CRLRecord(Base):
    """One published CRL; ``revocation_count`` is the issuer's when its list was read."""

    __tablename__ = "crls"

    issuer_id: Mapped[str] = mapped_column(ForeignKey("issuers.id"), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    this_update: Mapped[datetime]
    next_update: Mapped[datetime]
    revocation_count: Mapped[int] = mapped_column(BigInteger, default=0)
    der: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(default=_utc_now)

    def __repr__(self) -> str:
        return f"<CRLRecord {self.issuer_id} number {self.number}>"


class TokenRecord(Base):
    """One API token, by the hash of it. ``grants`` says what it may do; the admin's has none and may do everything."""

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(String, primary_key=True)
    name: Mapped[str]
    token_sha256: Mapped[str] = mapped_column(String, unique=True)
    created_at: Mapped[datetime] = mapped_column(default=_utc_now)
    expires_at: Mapped[datetime | None]
    grants: Mapped[dict[str, Any] | None]
    created_by: Mapped[str | None]
    last_used_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "created_at", "id"),)

    def __repr__(self) -> str:
        return f"<TokenRecord {self.id} {self.name!r}>"


class AuditRecord(Base):
    """Who did what to which certificate, and how it ended."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    at: Mapped[datetime] = mapped_column(index=True)
    actor: Mapped[str] = mapped_column(String, index=True)
    action: Mapped[str]
    outcome: Mapped[str]
    serial_number: Mapped[str | None] = mapped_column(String, index=True)
    issuer_id: Mapped[str | None]
    profile: Mapped[str | None]
    request_id: Mapped[str | None] = mapped_column(String, index=True)
    peer: Mapped[str | None]
    rule: Mapped[str | None]
    detail: Mapped[dict[str, Any] | None]

    def __repr__(self) -> str:
        return f"<AuditRecord {self.id} {self.action} {self.outcome}>"


class IdempotencyKey(Base):
    """What became of a request that a caller may send again; ``outcome`` names what was made, and holds no secret."""

    __tablename__ = "idempotency_keys"

    actor: Mapped[str] = mapped_column(String, primary_key=True)
    key: Mapped[str] = mapped_column(String, primary_key=True)
    request_sha256: Mapped[str]
    outcome: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(index=True)


class BlockedKey(Base):
    """A public key that nobody gets a certificate for any more; ``serial_number`` is of the one it was revoked with."""

    __tablename__ = "blocked_keys"

    spki_sha256: Mapped[str] = mapped_column(String, primary_key=True)
    serial_number: Mapped[str]
    blocked_at: Mapped[datetime]


class UsedIdentityToken(Base):
    """An identity token that may be used once, and was."""

    __tablename__ = "used_identity_tokens"

    issuer: Mapped[str] = mapped_column(String, primary_key=True)
    jti: Mapped[str] = mapped_column(String, primary_key=True)
    expires_at: Mapped[datetime] = mapped_column(index=True)


class NoticeRecord(Base):
    """A notice of a certificate about to expire: in the outbox until it is delivered, kept until the certificate ends.

    ``body`` is what every attempt sends, to the byte. ``next_attempt_at`` is NULL once it is delivered.
    """

    __tablename__ = "notices"

    serial_number: Mapped[str] = mapped_column(String, primary_key=True)
    threshold_days: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    not_valid_after: Mapped[datetime] = mapped_column(index=True)
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    attempts: Mapped[int] = mapped_column(default=0)
    next_attempt_at: Mapped[datetime | None] = mapped_column(index=True)
    last_error: Mapped[str | None]
    delivered_at: Mapped[datetime | None]

    def __repr__(self) -> str:
        return f"<NoticeRecord {self.serial_number} {self.threshold_days} days>"


class NoticeScan(Base):
    """When certificates were last looked through for notices: what has expired since then was not told of. One row."""

    __tablename__ = "notice_scans"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]


class JobRecord(Base):
    """One job: who runs it now, and how its last run went. Every moment is by the database's clock.

    ``holder`` may run it until ``lease_until``; NULL is nobody. ``fence`` grows with each acquisition, so that a holder
    whose lease has passed to another is told apart.
    """

    __tablename__ = "jobs"

    name: Mapped[str] = mapped_column(String, primary_key=True)
    due_at: Mapped[datetime]
    fence: Mapped[int] = mapped_column(BigInteger, default=0)
    holder: Mapped[str | None]
    started_at: Mapped[datetime | None]
    lease_until: Mapped[datetime | None]
    last_run: Mapped[datetime | None]
    last_success: Mapped[datetime | None]
    last_replica: Mapped[str | None]
    last_error: Mapped[str | None]
    last_done: Mapped[int | None] = mapped_column(BigInteger)
    last_milliseconds: Mapped[int | None]
    failures: Mapped[int] = mapped_column(default=0)

    def __repr__(self) -> str:
        return f"<JobRecord {self.name} fence {self.fence}>"
