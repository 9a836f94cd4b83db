"""Units of work on idempotency keys: in the act's own transaction, so that act and key stand or fall together."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select, tuple_
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import IdempotencyKey

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import IdempotencyClaim

__all__ = ["claim_keys", "claimed", "claimed_among", "prune_keys"]

_KEPT: Final = timedelta(hours=24)
_ROWS: Final = 200  # of five parameters each: SQLite takes 32,766, PostgreSQL 32,767


def claim_keys(
    session: Session, claims: Sequence[tuple[IdempotencyClaim, Mapping[str, Any]]], *, now: datetime
) -> list[bool]:
    """Keep each key with its outcome; tell for each whether it was free: only then may its act be done.

    A key that another transaction is claiming is waited for. Of two claims of one key here, the first gets it.
    """
    prune_keys(session, now=now, keys=[(claim.actor, claim.key) for claim, _ in claims])
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    firsts = []
    for claim, outcome in claims:
        key = (claim.actor, claim.key)
        firsts.append(key not in rows)
        rows.setdefault(
            key,
            {
                "actor": claim.actor,
                "key": claim.key,
                "request_sha256": claim.request_sha256,
                "outcome": dict(outcome),
                "created_at": now,
            },
        )
    made = _insert_free(session, list(rows.values()))
    return [first and (claim.actor, claim.key) in made for first, (claim, _) in zip(firsts, claims, strict=True)]


def _insert_free(session: Session, rows: Sequence[Mapping[str, Any]]) -> set[tuple[str, str]]:
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    made: set[tuple[str, str]] = set()
    for at in range(0, len(rows), _ROWS):
        statement = insert(IdempotencyKey).values(rows[at : at + _ROWS]).on_conflict_do_nothing()
        inserted = session.execute(statement.returning(IdempotencyKey.actor, IdempotencyKey.key))
        made.update((row.actor, row.key) for row in inserted)
    return made


def claimed(session: Session, claim: IdempotencyClaim, *, now: datetime) -> IdempotencyKey | None:
    """Return what the caller's key stands for already, whatever request it was given to."""
    found = session.get(IdempotencyKey, (claim.actor, claim.key))
    return found if found is not None and found.created_at > now - _KEPT else None


def claimed_among(
    session: Session, claims: Collection[IdempotencyClaim], *, now: datetime
) -> dict[tuple[str, str], IdempotencyKey]:
    """Return what their keys stand for already, by ``(actor, key)``; as ``claimed``, for many at once."""
    keys = {(claim.actor, claim.key) for claim in claims}
    wanted = tuple_(IdempotencyKey.actor, IdempotencyKey.key).in_(keys)
    found = session.scalars(select(IdempotencyKey).where(wanted, IdempotencyKey.created_at > now - _KEPT))
    return {(one.actor, one.key): one for one in found}


def prune_keys(session: Session, *, now: datetime, keys: Sequence[tuple[str, str]] | None = None) -> int:
    """Delete the keys that have had their time, of those named or of all; return how many."""
    condition = IdempotencyKey.created_at <= now - _KEPT
    query = delete(IdempotencyKey).where(condition)
    if keys is not None:
        query = query.where(tuple_(IdempotencyKey.actor, IdempotencyKey.key).in_(keys))
    return len(session.execute(query.returning(IdempotencyKey.key)).all())
