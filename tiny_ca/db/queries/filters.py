"""What a ``CertificateFilter`` means in SQL."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

from sqlalchemy import and_, false, select

from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.models import CertificateName, CertificateRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import InstrumentedAttribute

    from tiny_ca.db.entries import CertificateFilter

__all__ = ["conditions", "reversed_name"]


def conditions(wanted: CertificateFilter, *, now: datetime) -> Iterator[ColumnElement[bool]]:
    """Yield one condition per field that is given."""
    if wanted.status is not None:
        yield _status(wanted.status, now)
    if wanted.key_type is not None:
        yield CertificateRecord.key_type == wanted.key_type.value
    if wanted.common_name is not None:
        yield _common_name(wanted.common_name)
    if wanted.san is not None:
        yield _san(wanted.san)
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


def reversed_name(name: str) -> str:
    """Return the name as the ``reversed`` columns hold it; DNS names compare without case (RFC 4343)."""
    return name.lower()[::-1]


def _status(status: CertificateStatus, now: datetime) -> ColumnElement[bool]:
    """Judge by the clock: the stored status waits for the next ``mark_expired``."""
    match status:
        case CertificateStatus.REVOKED:
            return CertificateRecord.revocation_date.is_not(None)
        case CertificateStatus.VALID:
            return and_(CertificateRecord.revocation_date.is_(None), CertificateRecord.not_valid_after >= now)
        case CertificateStatus.EXPIRED:
            return and_(CertificateRecord.revocation_date.is_(None), CertificateRecord.not_valid_after < now)
        case _:
            return false()


def _common_name(name: str) -> ColumnElement[bool]:
    if name.startswith("*."):
        return _ends_with(CertificateRecord.common_name_reversed, name[1:])
    return CertificateRecord.common_name == name


def _san(name: str) -> ColumnElement[bool]:
    holders = select(CertificateName.certificate_id)
    if name.startswith("*."):
        return CertificateRecord.id.in_(holders.where(_ends_with(CertificateName.reversed, name[1:])))
    kind, value = _kind_and_value(name)
    return CertificateRecord.id.in_(holders.where(CertificateName.kind == kind, CertificateName.value == value))


def _ends_with(column: InstrumentedAttribute[str | None], suffix: str) -> ColumnElement[bool]:
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
