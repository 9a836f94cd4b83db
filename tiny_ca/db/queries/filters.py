"""What a ``CertificateFilter`` means in SQL."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import and_, func, literal, select, true

from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.models import CertificateName, CertificateRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import CertificateFilter

__all__ = ["Walk", "conditions", "has_common_name", "is_stored_as", "reversed_name", "walks"]

# Of so many names or more a page is soon met on a walk through the certificates; fewer are soon put in order.
_MANY: Final = 10_000


class Walk(NamedTuple):
    """Certificates in the order of ``position``, which is their id's."""

    condition: ColumnElement[bool]
    position: ColumnElement[int]


def walks(status: CertificateStatus | None, *, now: datetime) -> tuple[Walk, ...]:
    """Return walks that together meet each certificate with that status once, and no other.

    Judged by the clock: the stored status waits for the next ``mark_expired``. It is asked for besides, because there
    are indexes for it in the order of the ids; over two of them at once there is no order.
    """
    by_id: ColumnElement[int] = CertificateRecord.id.expression
    match status:
        case None:
            return (Walk(true(), by_id),)
        case CertificateStatus.REVOKED:
            return (Walk(CertificateRecord.revocation_date.is_not(None), by_id),)
        case CertificateStatus.VALID:
            return (Walk(and_(_unrevoked(status), CertificateRecord.not_valid_after >= now), by_id),)
        case CertificateStatus.EXPIRED:
            ended = CertificateRecord.not_valid_after < now
            return (
                Walk(and_(_unrevoked(status), ended), by_id),
                # These are few, and found by their end: in the order of the ids all valid ones come before them.
                Walk(and_(_unrevoked(CertificateStatus.VALID), ended), by_id + 0),
            )
        case _:
            return ()


def conditions(session: Session, wanted: CertificateFilter) -> Iterator[ColumnElement[bool]]:
    """Yield one condition per field that is given, but for the status."""
    if wanted.key_type is not None:
        yield CertificateRecord.key_type == wanted.key_type.value
    if wanted.common_name is not None:
        yield _common_name(session, wanted.common_name)
    if wanted.san is not None:
        yield _san(session, wanted.san)
    for column, value in (
        (CertificateRecord.profile, wanted.profile),
        (CertificateRecord.issuer_id, wanted.issuer_id),
        (CertificateRecord.requester, wanted.requester),
        (CertificateRecord.spki_sha256, wanted.spki_sha256),
    ):
        if value is not None:
            yield column == value
    if wanted.expires_before is not None:
        yield CertificateRecord.not_valid_after < wanted.expires_before
    if wanted.expires_after is not None:
        yield CertificateRecord.not_valid_after > wanted.expires_after


def is_stored_as(status: CertificateStatus) -> ColumnElement[bool]:
    """Return a condition that the index over this status alone serves: it must be there before the plan is made."""
    return CertificateRecord.status == literal(status.value, literal_execute=True)


def reversed_name(name: str) -> str:
    """Return the name as the ``reversed`` columns hold it; DNS names compare without case (RFC 4343)."""
    return name.lower()[::-1]


def _unrevoked(status: CertificateStatus) -> ColumnElement[bool]:
    return and_(is_stored_as(status), CertificateRecord.revocation_date.is_(None))


def has_common_name(name: str | None) -> ColumnElement[bool]:
    """Return a condition for this very name, which the index over the reversed ones serves."""
    if name is None:
        return CertificateRecord.common_name.is_(None)
    backwards = CertificateRecord.common_name_reversed == reversed_name(name)
    return and_(backwards, CertificateRecord.common_name == name)


def _common_name(session: Session, name: str) -> ColumnElement[bool]:
    if not name.startswith("*."):
        return has_common_name(name)
    column: ColumnElement[str | None] = CertificateRecord.common_name_reversed.expression
    if _are_many(session, _ends_with(column, name[1:])):
        column = func.coalesce(column, "")  # the same to everybody but an index: SQLite would read and sort them all
    return _ends_with(column, name[1:])


def _san(session: Session, name: str) -> ColumnElement[bool]:
    holders = select(CertificateName.certificate_id)
    if not name.startswith("*."):
        return CertificateRecord.id.in_(holders.where(_is_name(*_kind_and_value(name))))
    matching = _ends_with(CertificateName.reversed.expression, name[1:])
    if _are_many(session, matching):  # SQLite would put all of them in order first, for each page
        return holders.where(CertificateName.certificate_id == CertificateRecord.id, matching).exists()
    return CertificateRecord.id.in_(holders.where(matching))


def _is_name(kind: str, value: str) -> ColumnElement[bool]:
    # Beside one of these, each in an index: kind and value alone are in none.
    backwards = (
        CertificateName.reversed == reversed_name(value) if kind == "dns" else CertificateName.reversed.is_(None)
    )
    return and_(backwards, CertificateName.kind == kind, CertificateName.value == value)


def _are_many(session: Session, matching: ColumnElement[bool]) -> bool:
    """Whether at least ``_MANY`` names match; no more of them are read."""
    found = select(literal(1)).where(matching).limit(_MANY).subquery()
    return session.scalar(select(func.count()).select_from(found)) == _MANY


def _ends_with(column: ColumnElement[str | None], suffix: str) -> ColumnElement[bool]:
    """Return a range, which an index can serve; LIKE would depend on the collation and on what is escaped."""
    first = reversed_name(suffix)
    after_last = first[:-1] + chr(ord(first[-1]) + 1)
    return and_(column >= first, column < after_last)


def _kind_and_value(name: str) -> tuple[str, str]:
    if "://" in name:
        return "uri", name
    if "@" in name:
        return "email", name
    try:
        return "ip", str(ipaddress.ip_address(name))
    except ValueError:
        return "dns", name.lower().removesuffix(".")
