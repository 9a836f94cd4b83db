"""Units of work on idempotency keys: in the act's own transaction, so that act and key stand or fall together."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import IdempotencyKey

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import IdempotencyClaim

__all__ = ["claim_keys", "claimed", "prune_keys"]

_KEPT: Final = timedelta(hours=24)


def claim_keys(
    session: Session, claims: Sequence[tuple[IdempotencyClaim, Mapping[str, Any]]], *, now: datetime
) -> list[bool]:
    """Keep each key with its outcome; tell for each whether it was free: only then may its act be done.

    A key that another transaction is claiming is waited for. Of two claims of one key here, the first gets it.
    """
    prune_keys(session, now=now, keys=[(claim.actor, claim.key) for claim, _ in claims])
    rows = [
        {
            "actor": claim.actor,
            "key": claim.key,
            "request_sha256": claim.request_sha256,
            "outcome": dict(outcome),
            "created_at": now,
        }
        for claim, outcome in claims
    ]
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    taken: set[tuple[str, str]] = set()
    free = []
    for row in rows:
        key = (str(row["actor"]), str(row["key"]))
        made = key not in taken and (
            session.execute(
                insert(IdempotencyKey).values(row).on_conflict_do_nothing().returning(IdempotencyKey.key)
            ).one_or_none()
            is not None
        )
        taken.add(key)
        free.append(made)
    return free


def claimed(session: Session, claim: IdempotencyClaim, *, now: datetime) -> IdempotencyKey | None:
    """Return what the caller's key stands for already, whatever request it was given to."""
    found = session.get(IdempotencyKey, (claim.actor, claim.key))
    return found if found is not None and found.created_at > now - _KEPT else None


def prune_keys(session: Session, *, now: datetime, keys: Sequence[tuple[str, str]] | None = None) -> int:
    """Delete the keys that have had their time, of those named or of all; return how many."""
    condition = IdempotencyKey.created_at <= now - _KEPT
    query = delete(IdempotencyKey).where(condition)
    if keys is not None:
        query = query.where(tuple_(IdempotencyKey.actor, IdempotencyKey.key).in_(keys))
    return len(session.execute(query.returning(IdempotencyKey.key)).all())
