"""The documented methods of a registry, once for both handlers: which unit, with what, and what to say on failure."""

# ruff: noqa: D103 - what each promises stands once, in BaseDB

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import NoneType
from typing import TYPE_CHECKING, Final

from cryptography import x509

from tiny_ca.const import CertType
from tiny_ca.db import queries
from tiny_ca.db.const import RevokeStatus, Succession
from tiny_ca.db.entries import CertificateEntry, common_name_of
from tiny_ca.db.policy import Operation
from tiny_ca.exc import Invalid
from tiny_ca.utils.arguments import check_kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import RevokedRow
    from tiny_ca.db.models import CertificateRecord

__all__ = [
    "delete_by_serial",
    "delete_by_uuid",
    "get_by_name",
    "get_by_serial",
    "get_expiring",
    "get_revoked_certificates",
    "list_all",
    "record",
    "register",
    "require_revoked",
    "revoke",
    "update_status_expired",
]

_MAX_DAYS: Final = 365 * 1000


def get_by_serial(serial: int) -> Operation[CertificateRecord | None]:
    return Operation(
        name="get_by_serial", unit=lambda session: queries.certificate_by_serial(session, serial), on_failure=None
    )


def get_by_name(common_name: str) -> Operation[CertificateRecord | None]:
    now = _now()
    return Operation(
        name="get_by_name",
        unit=lambda session: queries.certificate_by_name(session, common_name, now=now),
        on_failure=None,
    )


def register(cert: x509.Certificate, uuid: str, key_type: CertType) -> Operation[bool]:
    check_kind(cert, x509.Certificate, "cert")
    check_kind(key_type, CertType, "key_type")
    if common_name_of(cert) is None:
        message = f"certificate {cert.serial_number:x} has no common name (CN) in its subject, so it is not recorded"
        raise IndexError(message)
    keep = record(cert, uuid, key_type, Succession.SHARED, None)

    def unit(session: Session) -> bool:
        keep(session)
        return True

    return Operation(name="register_cert_in_db", unit=unit, on_failure=False, write=True)


def record(
    cert: x509.Certificate, uuid: str, key_type: CertType, succession: Succession, predecessor: int | None
) -> Callable[[Session], list[CertificateRecord]]:
    now = _now()
    entry = CertificateEntry.of(cert, key_type=key_type, uuid=uuid, created_at=now)
    return lambda session: queries.insert_successor(session, entry, succession, predecessor=predecessor, now=now)


def revoke(serial: int, reason: x509.ReasonFlags) -> Operation[tuple[bool, RevokeStatus]]:
    given: object = reason
    # RFC 5280 §5.3.1: removeFromCRL revokes nothing, it says in a delta CRL that a hold was lifted.
    if not isinstance(given, x509.ReasonFlags) or given is x509.ReasonFlags.remove_from_crl:
        known = ", ".join(flag.name for flag in x509.ReasonFlags if flag is not x509.ReasonFlags.remove_from_crl)
        raise Invalid(f"reason is one of x509.ReasonFlags ({known}), not {given!r}", field="reason", value=given)
    now = _now()

    def unit(session: Session) -> tuple[bool, RevokeStatus]:
        status = queries.revoke_valid(session, serial, reason, now=now)
        return status is RevokeStatus.OK, status

    return Operation(name="revoke_certificate", unit=unit, on_failure=(False, RevokeStatus.UNKNOWN_ERROR), write=True)


def require_revoked(crl_window: timedelta | None, issuer: x509.Certificate | None) -> Operation[list[RevokedRow]]:
    if issuer is None:
        return get_revoked_certificates(crl_window)
    now = _now()
    return Operation(
        name="require_revoked",
        unit=lambda session: queries.revoked_by(session, issuer, now=now, crl_window=crl_window),
        on_failure=[],
    )


def get_revoked_certificates(crl_window: timedelta | None) -> Operation[list[RevokedRow]]:
    now = _now()
    return Operation(
        name="get_revoked_certificates",
        unit=lambda session: queries.revoked_rows(session, now=now, crl_window=crl_window),
        on_failure=[],
    )


def list_all(
    status: str | None, key_type: str | CertType | None, limit: int, offset: int
) -> Operation[list[CertificateRecord]]:
    check_kind(key_type, (str, CertType, NoneType), "key_type")
    return Operation(
        name="list_all",
        unit=lambda session: queries.list_certificates(
            session, status=status, key_type=key_type, limit=limit, offset=offset
        ),
        on_failure=[],
    )


def get_expiring(within_days: int) -> Operation[list[CertificateRecord]]:
    if not -_MAX_DAYS <= within_days <= _MAX_DAYS:
        message = f"within_days is at most {_MAX_DAYS} either way, not {within_days}"
        raise Invalid(message, field="within_days", value=within_days)
    now = _now()
    return Operation(
        name="get_expiring",
        unit=lambda session: queries.expiring(session, now=now, within=timedelta(days=within_days)),
        on_failure=[],
    )


def update_status_expired() -> Operation[int]:
    now = _now()
    return Operation(
        name="update_status_expired",
        unit=lambda session: queries.mark_expired(session, now=now),
        on_failure=0,
        write=True,
    )


def delete_by_serial(serial: int) -> Operation[bool]:
    return Operation(
        name="delete_by_serial",
        unit=lambda session: queries.delete_by_serial(session, serial),
        on_failure=False,
        write=True,
    )


def delete_by_uuid(uuid: str) -> Operation[bool]:
    return Operation(
        name="delete_by_uuid",
        unit=lambda session: queries.delete_by_uuid(session, uuid),
        on_failure=False,
        write=True,
    )


def _now() -> datetime:
    return datetime.now(UTC)
