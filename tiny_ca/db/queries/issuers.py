"""Units of work on issuers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from tiny_ca.db.models import IssuerRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.exc import Conflict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import AuditEntry, IssuerEntry

__all__ = ["insert_issuers", "issuer_by_id", "list_issuers"]


def insert_issuers(session: Session, entries: Sequence[IssuerEntry], *, audit: Sequence[AuditEntry] = ()) -> None:
    """Keep the issuers, parents before children; all of them or none.

    Raises
    ------
    Conflict
        One is there already, its parent is not, or there is a default: on a first run, another replica was faster.
    """
    try:
        for entry in entries:
            session.connection().execute(insert(IssuerRecord), asdict(entry))
    except IntegrityError as error:
        names = ", ".join(entry.common_name for entry in entries)
        message = f"issuers {names} were not kept: one exists, lacks its parent, or is a second default"
        raise Conflict(message) from error
    insert_audit(session, audit)


def issuer_by_id(session: Session, issuer_id: str) -> IssuerRecord | None:
    """Return the issuer, enabled or not."""
    return session.get(IssuerRecord, issuer_id)


def list_issuers(session: Session) -> list[IssuerRecord]:
    """Return every issuer, oldest first."""
    return list(session.scalars(select(IssuerRecord).order_by(IssuerRecord.created_at, IssuerRecord.id)))
