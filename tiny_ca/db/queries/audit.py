"""Units of work on the audit. A row is written in the transaction of the act it speaks of."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Final

from sqlalchemy import insert, select

from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.models import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import AuditFilter

__all__ = ["actor_of", "insert_audit", "page_audit"]

_COLUMNS: Final = tuple(field.name for field in fields(AuditEntry))
_INSERT: Final = insert(AuditRecord)


def insert_audit(session: Session, entries: Sequence[AuditEntry]) -> None:
    """Write the rows in one statement."""
    if entries:
        rows = [{name: getattr(entry, name) for name in _COLUMNS} for entry in entries]
        session.connection().execute(_INSERT, rows)


def actor_of(session: Session, action: str, serial_number: str, *, at: datetime) -> str | None:
    """Return who did this to a certificate at this very moment; None where no row says so."""
    return session.scalar(
        select(AuditRecord.actor).where(
            AuditRecord.serial_number == serial_number,
            AuditRecord.action == action,
            AuditRecord.outcome == "success",
            AuditRecord.at == at,
        )
    )


def page_audit(session: Session, wanted: AuditFilter, *, limit: int, before_id: int | None = None) -> list[AuditRecord]:
    """Return the newest rows that match, of those with an id below ``before_id``: the last id is the next cursor."""
    query = select(AuditRecord).order_by(AuditRecord.id.desc()).limit(limit)
    for column, value in (
        (AuditRecord.actor, wanted.actor),
        (AuditRecord.action, wanted.action),
        (AuditRecord.serial_number, wanted.serial_number),
        (AuditRecord.outcome, wanted.outcome),
        (AuditRecord.request_id, wanted.request_id),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.since is not None:
        query = query.where(AuditRecord.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditRecord.at < wanted.until)
    if before_id is not None:
        query = query.where(AuditRecord.id < before_id)
    return list(session.scalars(query))
