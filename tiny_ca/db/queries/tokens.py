"""Units of work on API tokens."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import TokenRecord
from tiny_ca.db.queries.audit import insert_audit

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import AuditEntry, TokenEntry

__all__ = ["delete_token", "page_tokens", "put_token", "token_by_hash", "token_by_id", "touch_token"]


def put_token(session: Session, entry: TokenEntry, *, audit: AuditEntry | None = None) -> None:
    """Keep the token, in place of the one with its id: replicas that start together all put the admin's."""
    row = asdict(entry)
    changes = {name: value for name, value in row.items() if name not in {"id", "created_at", "created_by"}}
    if session.get_bind().dialect.name == "postgresql":
        session.execute(
            postgresql.insert(TokenRecord).values(row).on_conflict_do_update(index_elements=["id"], set_=changes)
        )
    else:
        session.execute(
            sqlite.insert(TokenRecord).values(row).on_conflict_do_update(index_elements=["id"], set_=changes)
        )
    insert_audit(session, [] if audit is None else [audit])


def token_by_hash(session: Session, token_sha256: str) -> TokenRecord | None:
    """Return the token with this SHA-256 (lower-case hex), expired or not: that is the caller's to judge."""
    return session.scalar(select(TokenRecord).where(TokenRecord.token_sha256 == token_sha256))


def token_by_id(session: Session, token_id: str) -> TokenRecord | None:
    """Return the token with this id, expired or not."""
    return session.get(TokenRecord, token_id)


def page_tokens(session: Session, *, limit: int, before: tuple[datetime, str] | None = None) -> list[TokenRecord]:
    """Return the newest tokens, of those before one that was made at a moment and has an id."""
    key = tuple_(TokenRecord.created_at, TokenRecord.id)
    query = select(TokenRecord).order_by(TokenRecord.created_at.desc(), TokenRecord.id.desc()).limit(limit)
    if before is not None:
        query = query.where(key < before)
    return list(session.scalars(query))


def delete_token(session: Session, token_id: str, *, audit: AuditEntry | None = None) -> bool:
    """Delete the token; False, and no row of the audit, where there is none."""
    deleted = session.execute(delete(TokenRecord).where(TokenRecord.id == token_id).returning(TokenRecord.id))
    found = deleted.one_or_none() is not None
    insert_audit(session, [] if audit is None or not found else [audit])
    return found


def touch_token(session: Session, token_id: str, *, now: datetime) -> None:
    """Note that the token was used."""
    session.execute(update(TokenRecord).where(TokenRecord.id == token_id).values(last_used_at=now))
