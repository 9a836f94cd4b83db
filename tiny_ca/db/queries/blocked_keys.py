"""Units of work on keys that nobody gets a certificate for any more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import BlockedKey

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from sqlalchemy.orm import Session

__all__ = ["block_key", "blocked_among"]


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
