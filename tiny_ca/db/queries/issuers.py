"""Units of work on issuers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from tiny_ca.db.models import IssuerRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.exc import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import AuditEntry, IssuerEntry

__all__ = [
    "IssuerState",
    "change_issuer",
    "insert_issuers",
    "issuer_by_id",
    "issuer_state",
    "issuer_states",
    "list_issuers",
    "locked_issuer",
    "put_issuer_key",
]


class IssuerState(NamedTuple):
    """All of an issuer that ever changes, but for its CRLs."""

    id: str
    enabled: bool
    is_default: bool
    has_key: bool


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


def issuer_state(session: Session, issuer_id: str) -> tuple[bool, bool] | None:
    """Return whether the issuer is enabled, and whether its key is here; None for an unknown one."""
    row = (
        session.connection()
        .execute(
            select(IssuerRecord.enabled, IssuerRecord.private_key_pem.is_not(None)).where(IssuerRecord.id == issuer_id)
        )
        .one_or_none()
    )
    return None if row is None else (row[0], row[1])


def list_issuers(session: Session) -> list[IssuerRecord]:
    """Return every issuer, oldest first."""
    return list(session.scalars(select(IssuerRecord).order_by(IssuerRecord.created_at, IssuerRecord.id)))


def issuer_states(session: Session) -> frozenset[IssuerState]:
    """Return what may have changed of every issuer, without what is costly to read."""
    rows = session.execute(
        select(
            IssuerRecord.id, IssuerRecord.enabled, IssuerRecord.is_default, IssuerRecord.private_key_pem.is_not(None)
        )
    )
    return frozenset(IssuerState(*row) for row in rows)


def locked_issuer(session: Session, issuer_id: str) -> IssuerRecord:
    """Return the issuer as it is now, which nobody else changes before this transaction ends.

    Raises
    ------
    NotFound
        There is none.
    """
    # On SQLite FOR UPDATE is nothing and need not be more: the transaction began IMMEDIATE, it is the only writer.
    record = session.scalar(
        select(IssuerRecord)
        .where(IssuerRecord.id == issuer_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if record is None:
        message = f"there is no issuer {issuer_id!r}"
        raise NotFound(message)
    return record


def change_issuer(
    session: Session, issuer_id: str, *, enabled: bool | None = None, make_default: bool = False
) -> IssuerRecord:
    """Enable or disable an issuer, or make it the default in place of the one before; None leaves it as it is.

    Raises
    ------
    NotFound
        There is none.
    Conflict
        Another transaction made another one the default at the same moment.
    """
    record = locked_issuer(session, issuer_id)
    if enabled is not None:
        record.enabled = enabled
    if make_default and not record.is_default:
        session.execute(
            update(IssuerRecord)
            .where(IssuerRecord.is_default.is_(True))
            .values(is_default=False)
            .execution_options(synchronize_session=False)
        )
        record.is_default = True
    try:
        session.flush()
    except IntegrityError as error:
        message = "another issuer was made the default just now; look at it, and try again"
        raise Conflict(message) from error
    return record


def put_issuer_key(session: Session, issuer_id: str, private_key_pem: str | None) -> IssuerRecord:
    """Keep the issuer's key, encrypted PKCS#8, or with None forget it.

    Raises
    ------
    NotFound
        There is no such issuer.
    """
    record = locked_issuer(session, issuer_id)
    record.private_key_pem = private_key_pem
    session.flush()
    return record
