"""Units of work on the audit. A row is written in the transaction of the act it speaks of."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import insert

from tiny_ca.db.models import AuditRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import AuditEntry

__all__ = ["insert_audit"]


def insert_audit(session: Session, entries: Sequence[AuditEntry]) -> None:
    """Write the rows in one statement."""
    if entries:
        session.connection().execute(insert(AuditRecord), [asdict(entry) for entry in entries])
