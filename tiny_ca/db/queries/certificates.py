"""Units of work on certificates: keep, find, list, expire, delete. Revoking is in ``revocations``."""

from __future__ import annotations

from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tiny_ca.const import CertType
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.entries import CertificateEntry, CertificateFilter
from tiny_ca.db.models import CertificateName, CertificateRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.filters import conditions, has_common_name, is_stored_as, reversed_name, walks
from tiny_ca.exc import CertNotFound, Conflict, NotUniqueCertOwner
from tiny_ca.models.revocation import REASON_CODES
from tiny_ca.utils.rfc3339 import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime, timedelta

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import AuditEntry

__all__ = [
    "certificate_by_fingerprint",
    "certificate_by_name",
    "certificate_by_serial",
    "certificate_by_uuid",
    "delete_by_serial",
    "delete_by_uuid",
    "delete_expired",
    "expiring",
    "holder_of",
    "insert_certificates",
    "list_certificates",
    "mark_expired",
    "page_certificates",
    "superseded_by",
    "superseded_with_key",
    "valid_with_key",
]

_MAX_ROWS: Final = 2**63 - 1
_SUPERSEDED: Final = REASON_CODES[x509.ReasonFlags.superseded]
_VALID: Final = CertificateStatus.VALID.value
_COLUMNS: Final = tuple(field.name for field in fields(CertificateEntry) if field.name != "names")
# Put together once: every certificate passes here.
_INSERT: Final = insert(CertificateRecord).returning(CertificateRecord.serial_number, CertificateRecord.id)
_INSERT_NAMES: Final = insert(CertificateName)


def insert_certificates(
    session: Session, entries: Sequence[CertificateEntry], *, now: datetime, audit: Sequence[AuditEntry] = ()
) -> None:
    """Keep all of them or none, in as many statements for fifty as for two.

    Raises
    ------
    NotUniqueCertOwner
        A valid certificate holds a name that an entry claims.
    Conflict
        A serial, fingerprint or UUID is there already, or the issuer is not.
    """
    claimed = [entry.unique_name for entry in entries if entry.unique_name is not None]
    if claimed:
        _release_expired_names(session, claimed, now)
    try:
        inserted = session.connection().execute(_INSERT, [_row(entry) for entry in entries])
        ids = {row.serial_number: row.id for row in inserted}
    except IntegrityError as error:
        raise _conflict(error, entries, claimed) from error
    names = [row for entry in entries for row in _name_rows(entry, ids)]
    if names:
        session.connection().execute(_INSERT_NAMES, names)
    insert_audit(session, audit)


def certificate_by_serial(session: Session, serial: int) -> CertificateRecord | None:
    """Return the record, whatever its state."""
    return session.scalar(select(CertificateRecord).where(CertificateRecord.serial_number == str(serial)))


def certificate_by_uuid(session: Session, uuid: str) -> CertificateRecord | None:
    """Return the record whose files are in the folder of that name."""
    return session.scalar(select(CertificateRecord).where(CertificateRecord.uuid == uuid))


def certificate_by_fingerprint(session: Session, sha256: str) -> CertificateRecord | None:
    """Return the record of the certificate whose DER has this SHA-256, lower-case hex, whatever its state."""
    return session.scalar(select(CertificateRecord).where(CertificateRecord.fingerprint_sha256 == sha256))


def certificate_by_name(session: Session, common_name: str, *, now: datetime) -> CertificateRecord | None:
    """Return the newest certificate with this CN that is neither revoked nor expired, by status and by the clock."""
    return session.scalar(
        select(CertificateRecord)
        .where(
            has_common_name(common_name),
            CertificateRecord.status == _VALID,
            CertificateRecord.not_valid_after >= now,
        )
        .order_by(CertificateRecord.id.desc())
        .limit(1)
    )


def holder_of(session: Session, unique_name: str, *, now: datetime) -> str | None:
    """Return the serial number of the valid certificate that claimed this name."""
    return session.scalar(
        select(CertificateRecord.serial_number).where(
            CertificateRecord.unique_name == unique_name, CertificateRecord.not_valid_after >= now
        )
    )


def valid_with_key(session: Session, certificate: CertificateRecord, *, now: datetime) -> list[CertificateRecord]:
    """Return the other certificates with the same key that are neither revoked nor expired."""
    return list(
        session.scalars(
            select(CertificateRecord).where(
                CertificateRecord.spki_sha256 == certificate.spki_sha256,
                CertificateRecord.id != certificate.id,
                CertificateRecord.revocation_date.is_(None),
                CertificateRecord.not_valid_after >= now,
            )
        )
    )


def superseded_with_key(session: Session, certificate: CertificateRecord) -> list[CertificateRecord]:
    """Return the other superseded certificates with the same key that still have files."""
    return list(
        session.scalars(
            select(CertificateRecord).where(
                CertificateRecord.spki_sha256 == certificate.spki_sha256,
                CertificateRecord.id != certificate.id,
                CertificateRecord.revocation_reason == _SUPERSEDED,
                CertificateRecord.uuid.is_not(None),
            )
        )
    )


def superseded_by(session: Session, certificate: CertificateRecord) -> list[CertificateRecord]:
    """Return what the transaction that recorded a certificate superseded: it gave both the same moment."""
    return list(
        session.scalars(
            select(CertificateRecord).where(
                CertificateRecord.revocation_date == certificate.created_at,
                CertificateRecord.revocation_reason == _SUPERSEDED,
                CertificateRecord.id != certificate.id,
            )
        )
    )


def list_certificates(
    session: Session,
    *,
    status: CertificateStatus | str | None = None,
    key_type: CertType | str | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[CertificateRecord]:
    """Return the records with this stored status, newest first, as BaseDB documents it."""
    query = select(CertificateRecord).order_by(CertificateRecord.id.desc())
    if status is not None:
        query = query.where(CertificateRecord.status == str(status).lower())
    if key_type is not None:
        query = query.where(CertificateRecord.key_type == _key_type_value(key_type))
    # SQLite reads a negative limit as none at all, PostgreSQL refuses it; neither takes more than 64 bits.
    limit, offset = (min(max(number, 0), _MAX_ROWS) for number in (limit, offset))
    return list(session.scalars(query.limit(limit).offset(offset)))


def page_certificates(
    session: Session, wanted: CertificateFilter, *, now: datetime, limit: int, before_id: int | None = None
) -> list[CertificateRecord]:
    """Return the newest records that match, of those with an id below ``before_id``: the last id is the next cursor."""
    query = select(CertificateRecord).where(*conditions(session, wanted))
    if before_id is not None:
        query = query.where(CertificateRecord.id < before_id)
    found = [
        session.scalars(query.where(walk.condition).order_by(walk.position.desc()).limit(limit))
        for walk in walks(wanted.status, now=now)
    ]
    return sorted(chain.from_iterable(found), key=lambda record: record.id, reverse=True)[:limit]


def expiring(session: Session, *, now: datetime, within: timedelta) -> list[CertificateRecord]:
    """Return the valid certificates that expire by ``now + within``, soonest first; not those that have."""
    return list(
        session.scalars(
            select(CertificateRecord)
            .where(
                CertificateRecord.status == _VALID,
                CertificateRecord.not_valid_after >= now,
                CertificateRecord.not_valid_after <= now + within,
            )
            .order_by(CertificateRecord.not_valid_after, CertificateRecord.id)
        )
    )


def mark_expired(session: Session, *, now: datetime) -> int:
    """Give every valid certificate that has expired its status, and its name back; return how many."""
    marked = session.connection().execute(
        update(CertificateRecord)
        .where(is_stored_as(CertificateStatus.VALID), CertificateRecord.not_valid_after < now)
        .values(status=CertificateStatus.EXPIRED.value, unique_name=None)
    )
    return marked.rowcount


def delete_by_uuid(session: Session, uuid: str) -> bool:
    """Delete the record, whatever its state; False where there is none."""
    given: object = uuid
    if given is None:  # ``IS NULL`` would be true of every record without files
        return False
    deleted = session.execute(
        delete(CertificateRecord)
        .where(CertificateRecord.uuid == uuid)
        .returning(CertificateRecord.id)
        .execution_options(synchronize_session=False)
    )
    return deleted.one_or_none() is not None


def delete_by_serial(session: Session, serial: int) -> bool:
    """Delete the record, whatever its state; False where there is none."""
    deleted = session.execute(
        delete(CertificateRecord)
        .where(CertificateRecord.serial_number == str(serial))
        .returning(CertificateRecord.id)
        .execution_options(synchronize_session=False)
    )
    return deleted.one_or_none() is not None


def delete_expired(session: Session, serial: int, *, now: datetime, audit: AuditEntry | None = None) -> None:
    """Delete the record of a certificate that has expired.

    Raises
    ------
    CertNotFound
        No certificate with that serial.
    Conflict
        It has not expired: once revoked it would fall off the CRL, and its serial would be unknown.
    """
    expires = session.scalar(
        select(CertificateRecord.not_valid_after)
        .where(CertificateRecord.serial_number == str(serial))
        .with_for_update()
    )
    if expires is None:
        message = f"there is no certificate with serial number {serial:x}"
        raise CertNotFound(message)
    if expires >= now:
        message = f"certificate {serial:x} is valid until {rfc3339(expires)}; only expired ones are deleted"
        raise Conflict(message)
    session.execute(
        delete(CertificateRecord)
        .where(CertificateRecord.serial_number == str(serial))
        .execution_options(synchronize_session=False)
    )
    insert_audit(session, [] if audit is None else [audit])


def _release_expired_names(session: Session, names: Sequence[str], now: datetime) -> None:
    """Take claimed names from holders that have expired but that ``mark_expired`` has not met yet."""
    session.execute(
        update(CertificateRecord)
        .where(CertificateRecord.unique_name.in_(names), CertificateRecord.not_valid_after < now)
        .values(unique_name=None)
        .execution_options(synchronize_session=False)
    )


def _row(entry: CertificateEntry) -> Mapping[str, Any]:
    row = {name: getattr(entry, name) for name in _COLUMNS}
    row["common_name_reversed"] = None if entry.common_name is None else reversed_name(entry.common_name)
    return row


def _name_rows(entry: CertificateEntry, ids: Mapping[str, int]) -> list[Mapping[str, Any]]:
    return [
        {
            "certificate_id": ids[entry.serial_number],
            "kind": kind,
            "value": value,
            "reversed": reversed_name(value) if kind == "dns" else None,
        }
        for kind, value in entry.names
    ]


def _conflict(error: IntegrityError, entries: Sequence[CertificateEntry], claimed: Sequence[str]) -> Conflict:
    # SQLite names the column and PostgreSQL the constraint, both in the first line; the later ones may quote values.
    cause = str(error.orig).partition("\n")[0]
    if "unique_name" in cause:
        return NotUniqueCertOwner(
            f"a valid certificate holds the common name {' or '.join(map(repr, claimed))}; revoke it first"
        )
    if "uuid" in cause:
        folders = ", ".join(repr(entry.uuid) for entry in entries)
        return Conflict(f"the folder {folders} is a valid certificate's; its UUID names that one alone")
    serials = ", ".join(f"{int(entry.serial_number):x}" for entry in entries)
    return Conflict(f"certificates {serials} were not recorded: {cause}")


def _key_type_value(key_type: CertType | str) -> str:
    """Return the stored value; a caller may give a CertType, its value or its name in any case."""
    if isinstance(key_type, CertType):
        return key_type.value
    folded = key_type.upper()
    return CertType[folded].value if folded in CertType.__members__ else folded
