"""Units of work on a new certificate and those before it: who may have the name, what becomes of its predecessor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from cryptography import x509
from sqlalchemy import func, or_, select, update

from tiny_ca.const import CertType
from tiny_ca.db.const import CertificateStatus, Succession
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.certificates import insert_certificates
from tiny_ca.db.queries.filters import has_common_name
from tiny_ca.db.queries.revocations import locked_certificate, revoke
from tiny_ca.exc import Conflict, NotUniqueCertOwner
from tiny_ca.utils.rfc3339 import rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import CertificateEntry

__all__ = ["insert_successor"]

_NAMES: Final = 0x6E61_6D65  # any constant does: it keeps these locks apart from others'
_SUPERSEDED: Final = x509.ReasonFlags.superseded


def insert_successor(
    session: Session, entry: CertificateEntry, succession: Succession, *, predecessor: int | None, now: datetime
) -> list[CertificateRecord]:
    """Keep a certificate, and do to those before it what ``succession`` says; return those that it ended.

    ``predecessor`` is the serial number of the one that is renewed or rotated, None for the other kinds.

    Raises
    ------
    NotUniqueCertOwner
        Another valid certificate holds the name.
    CertNotFound
        There is no such predecessor.
    Conflict
        The predecessor is revoked, or the serial number or UUID of the new one is there already.
    """
    _lock_names(session, entry, predecessor)
    ended: list[CertificateRecord] = []
    match succession, predecessor:
        case Succession.SHARED, None:
            claimed = None
        case Succession.UNIQUE, None:
            claimed = entry.common_name
        case Succession.OVERWRITE, None:
            ended = _supersede_holders(session, entry, now)
            claimed = entry.common_name
        case Succession.RENEWAL, int(serial):
            claimed = _taken_over(session, serial)
        case Succession.ROTATION, int(serial):
            ended = [_rotated(session, serial, entry, now)]
            claimed = entry.common_name
        case _:
            raise TypeError(f"{succession} {'needs a' if predecessor is None else 'has no'} predecessor")
    insert_certificates(session, [replace(entry, unique_name=claimed)], now=now)
    return ended


def _lock_names(session: Session, entry: CertificateEntry, predecessor: int | None) -> None:
    """Let those who succeed to a name at once do so one after the other; each then sees what the last one recorded.

    SQLite has one writer at a time anyway.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    names = {entry.common_name}
    if predecessor is not None:
        serial = CertificateRecord.serial_number == str(predecessor)
        names.add(session.scalar(select(CertificateRecord.common_name).where(serial)))
    for name in sorted(name for name in names if name is not None):  # in one order: nobody waits in a circle
        session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, _NAMES))))


def _taken_over(session: Session, serial: int) -> str | None:
    """Free the name that a predecessor claimed, for its renewal to claim."""
    old = _successable(session, serial)
    claimed, old.unique_name = old.unique_name, None
    session.flush()
    return claimed


def _rotated(session: Session, serial: int, entry: CertificateEntry, now: datetime) -> CertificateRecord:
    old = _successable(session, serial)
    if old.key_type == CertType.CA.value and entry.key_type != CertType.CA.value:
        raise Conflict(f"certificate {serial:x} is a CA's, which only a CA's replaces")
    if old.not_valid_after >= now:
        revoke(session, serial, _SUPERSEDED, now=now)
    if old.common_name == entry.common_name:
        # Its renewals have the same name, and the same owner.
        session.execute(
            update(CertificateRecord)
            .where(CertificateRecord.unique_name == entry.common_name)
            .values(unique_name=None)
            .execution_options(synchronize_session=False)
        )
    elif (holder := _holder(session, entry.common_name, now)) is not None:
        raise NotUniqueCertOwner(
            f"certificate {int(holder):x} is valid and named {entry.common_name!r}; revoke it first"
        )
    return old


def _successable(session: Session, serial: int) -> CertificateRecord:
    old = locked_certificate(session, serial)
    if old.revocation_date is not None:
        raise Conflict(f"certificate {serial:x} was revoked at {rfc3339(old.revocation_date)}: it has no successor")
    return old


def _holder(session: Session, common_name: str | None, now: datetime) -> str | None:
    return session.scalar(
        select(CertificateRecord.serial_number)
        .where(
            has_common_name(common_name),
            CertificateRecord.status == CertificateStatus.VALID.value,
            CertificateRecord.not_valid_after >= now,
        )
        .limit(1)
    )


def _supersede_holders(session: Session, entry: CertificateEntry, now: datetime) -> list[CertificateRecord]:
    """Make room: revoke every valid holder of the name, and take the folder of one that is not valid any more.

    A CA's certificate makes room only for a CA's: a host that is named like it must not end it.
    """
    valid = CertificateRecord.status == CertificateStatus.VALID.value
    of_a_ca = CertificateRecord.key_type == CertType.CA.value
    holders = session.scalars(
        select(CertificateRecord.serial_number).where(
            has_common_name(entry.common_name),
            valid,
            CertificateRecord.not_valid_after >= now,
            of_a_ca if entry.key_type == CertType.CA.value else ~of_a_ca,
        )
    )
    superseded = [revoke(session, int(serial_number), _SUPERSEDED, now=now) for serial_number in holders.all()]
    session.execute(
        update(CertificateRecord)
        .where(CertificateRecord.uuid == entry.uuid, or_(~valid, CertificateRecord.not_valid_after < now))
        .values(uuid=None)
        .execution_options(synchronize_session=False)
    )
    return superseded
