"""Units of work that revoke, hold and release."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography import x509
from sqlalchemy import select, update

from tiny_ca.db.const import CertificateStatus, RevokeStatus
from tiny_ca.db.models import CertificateRecord, IssuerRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.exc import CertNotFound, Conflict, Invalid
from tiny_ca.models.revocation import reason_code, reason_name
from tiny_ca.utils.rfc3339 import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import AuditEntry

__all__ = ["locked_certificate", "revoke", "revoke_valid", "revoked_among", "unhold"]

_HOLD: Final = reason_code(x509.ReasonFlags.certificate_hold)
_KEY_COMPROMISE: Final = reason_code(x509.ReasonFlags.key_compromise)


def revoke(
    session: Session, serial: int, reason: x509.ReasonFlags, *, now: datetime, audit: AuditEntry | None = None
) -> CertificateRecord:
    """Revoke, and return the record; with the reason already in force nothing changes and nothing is audited.

    A later reason replaces ``certificateHold``, and ``keyCompromise`` replaces any; the date stays the first one.

    Raises
    ------
    Invalid
        ``removeFromCRL``, which only a delta CRL knows.
    CertNotFound
        No certificate with that serial.
    Conflict
        It has expired, or is revoked for a reason that this one may not replace.
    """
    # RFC 5280 §5.3.1: removeFromCRL is no reason to revoke; it says in a delta CRL that a hold was lifted.
    if reason is x509.ReasonFlags.remove_from_crl:
        message = "removeFromCRL revokes nothing; lift a certificateHold instead"
        raise Invalid(message, field="reason", value="removeFromCRL")
    record = locked_certificate(session, serial)
    code = reason_code(reason)
    if record.revocation_date is not None and record.revocation_reason == code:
        return record
    if record.not_valid_after < now:
        message = f"certificate {serial:x} expired at {rfc3339(record.not_valid_after)}; only valid ones are revoked"
        raise Conflict(message)
    if record.revocation_date is not None and record.revocation_reason != _HOLD and code != _KEY_COMPROMISE:
        in_force = reason_name(record.revocation_reason or 0)
        message = f"certificate {serial:x} is revoked as {in_force}; only keyCompromise may replace that"
        raise Conflict(message)
    number = _count(session, record.issuer_id)
    if record.revocation_date is None:
        record.revocation_date, record.revocation_number = now, number
    record.status = CertificateStatus.REVOKED.value
    record.revocation_reason = code
    record.unique_name = None
    return _acted(session, record, audit)


def unhold(session: Session, serial: int, *, now: datetime, audit: AuditEntry | None = None) -> CertificateRecord:
    """Lift a ``certificateHold``, and return the record. The name it may have claimed is not claimed again.

    Raises
    ------
    CertNotFound
        No certificate with that serial.
    Conflict
        It is not on hold, or has expired.
    """
    record = locked_certificate(session, serial)
    if record.revocation_date is None or record.revocation_reason != _HOLD:
        message = f"certificate {serial:x} is not on hold"
        raise Conflict(message)
    if record.not_valid_after < now:
        message = f"certificate {serial:x} expired at {rfc3339(record.not_valid_after)} while on hold"
        raise Conflict(message)
    _count(session, record.issuer_id)
    record.status = CertificateStatus.VALID.value
    record.revocation_reason = record.revocation_date = record.revocation_number = None
    return _acted(session, record, audit)


def revoke_valid(session: Session, serial: int, reason: x509.ReasonFlags, *, now: datetime) -> RevokeStatus:
    """Revoke as BaseDB documents it: only what is stored as valid, and never twice."""
    revoked = session.execute(
        update(CertificateRecord)
        .where(
            CertificateRecord.serial_number == str(serial), CertificateRecord.status == CertificateStatus.VALID.value
        )
        .values(
            status=CertificateStatus.REVOKED.value,
            revocation_reason=reason_code(reason),
            revocation_date=now,
            unique_name=None,
        )
        .returning(CertificateRecord.issuer_id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if revoked is None:
        return RevokeStatus.NOT_FOUND
    _count(session, revoked.issuer_id)
    return RevokeStatus.OK


def revoked_among(session: Session, serials: Iterable[int]) -> frozenset[str]:
    """Return which of these serial numbers, in decimal, are revoked, be they on hold."""
    return frozenset(
        session.scalars(
            select(CertificateRecord.serial_number).where(
                CertificateRecord.serial_number.in_([str(serial) for serial in serials]),
                CertificateRecord.revocation_date.is_not(None),
            )
        )
    )


def locked_certificate(session: Session, serial: int) -> CertificateRecord:
    """Return the record as it is now, which nobody else changes before this transaction ends.

    Raises
    ------
    CertNotFound
        No certificate with that serial.
    """
    # On SQLite FOR UPDATE is nothing and need not be more: the transaction began IMMEDIATE, it is the only writer.
    record = session.scalar(
        select(CertificateRecord)
        .where(CertificateRecord.serial_number == str(serial))
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if record is None:
        message = f"there is no certificate with serial number {serial:x}"
        raise CertNotFound(message)
    return record


def _count(session: Session, issuer_id: str | None) -> int | None:
    """Count one change to what the issuer's CRL must say; returns how many there were then, None without an issuer."""
    if issuer_id is None:
        return None
    # In the revocation's own transaction: from its commit on, every older CRL is known to say too little. This lock
    # also makes a CRL that is beginning wait for this commit.
    return session.scalar(
        update(IssuerRecord)
        .where(IssuerRecord.id == issuer_id)
        .values(revocation_count=IssuerRecord.revocation_count + 1)
        .returning(IssuerRecord.revocation_count)
        .execution_options(synchronize_session=False)
    )


def _acted(session: Session, record: CertificateRecord, audit: AuditEntry | None) -> CertificateRecord:
    session.flush()
    insert_audit(session, [] if audit is None else [audit])
    return record
