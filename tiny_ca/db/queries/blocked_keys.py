"""Units of work on keys that nobody gets a certificate for any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import exists, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import AuditRecord, BlockedKey, CertificateRecord

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.orm import Session

__all__ = ["block_key", "blocked_among", "key_is_anothers"]


def block_key(session: Session, spki_sha256: str, serial_number: str, *, now: datetime) -> None:
    """Block a public key, by the SHA-256 of its SubjectPublicKeyInfo; again, nothing changes."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(
        insert(BlockedKey)
        .values(spki_sha256=spki_sha256, serial_number=serial_number, blocked_at=now)
        .on_conflict_do_nothing()
    )


def blocked_among(session: Session, spki_sha256: Collection[str]) -> frozenset[str]:
    """Return which of these keys are blocked."""
    return frozenset(session.scalars(select(BlockedKey.spki_sha256).where(BlockedKey.spki_sha256.in_(spki_sha256))))


def key_is_anothers(session: Session, record: CertificateRecord, requester: str) -> bool:
    """Whether somebody else ever had a certificate for this key, or nobody proved here to have it: it was co-signed."""
    elsewhere = exists().where(
        CertificateRecord.spki_sha256 == record.spki_sha256, CertificateRecord.requester.is_distinct_from(requester)
    )
    cosigned = exists().where(
        AuditRecord.serial_number == record.serial_number, AuditRecord.action == "certificate.cosign"
    )
    return bool(session.scalar(select(or_(elsewhere, cosigned))))
