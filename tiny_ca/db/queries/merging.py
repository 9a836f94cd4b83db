"""Units of work that bring in what another registry, or another CA, knows. Nothing here ever un-revokes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import bindparam, func, select, update

from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.models import AuditRecord, CertificateRecord, CRLRecord, IssuerRecord
from tiny_ca.db.queries.blocked_keys import block_key
from tiny_ca.db.queries.certificates import insert_certificates
from tiny_ca.db.queries.tables import add_rows
from tiny_ca.exc import Conflict
from tiny_ca.models.revocation import COMPROMISED, reason_code, reason_from_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import CertificateEntry

__all__ = [
    "Incoming",
    "Merged",
    "Revocation",
    "add_missing_audit",
    "advance_crls",
    "merge_certificates",
    "merge_issuers",
    "merged_revocation",
]

_HOLD: Final = reason_code(x509.ReasonFlags.certificate_hold)
_KEY_COMPROMISE: Final = reason_code(x509.ReasonFlags.key_compromise)
_NAMED: Final = 10
_AUDIT_COLUMNS: Final = tuple(column.name for column in AuditRecord.__table__.columns if column.name != "id")


class Revocation(NamedTuple):
    """When, and the integer of RFC 5280 §5.3.1."""

    date: datetime
    reason: int


@dataclass(frozen=True, slots=True)
class Incoming:
    """A certificate from elsewhere; ``where`` is what a refusal calls its place."""

    entry: CertificateEntry
    revocation: Revocation | None
    where: str


@dataclass(slots=True)
class Merged:
    """What became of them; ``revocations`` counts those that are new here, by issuer."""

    added: int = 0
    known: int = 0
    revocations: Counter[str | None] = field(default_factory=Counter)

    def add(self, other: Merged) -> None:
        """Count another batch."""
        self.added += other.added
        self.known += other.known
        self.revocations.update(other.revocations)


def merged_revocation(one: Revocation | None, other: Revocation | None) -> Revocation | None:
    """Return what holds where two registries differ: revoked if either says so, since the earlier date.

    The reason is the earlier one's, but any other goes before ``certificateHold``, and ``keyCompromise`` before any:
    the same as ``revoke`` allows.
    """
    if one is None or other is None:
        return one or other
    both = sorted((one, other))
    return Revocation(both[0].date, max(both, key=_weight).reason)


def merge_certificates(session: Session, incoming: Sequence[Incoming], *, now: datetime) -> Merged:
    """Add the certificates that are missing, and to those that are known the revocations that are not.

    The key of one that was revoked as compromised is blocked, as ``revoke`` has it in the service. Who bumps the
    issuers' counters is the caller, with ``advance_crls``.

    Raises
    ------
    Conflict
        A serial number is another certificate's here, or twice among those that come in.
    """
    _check_once(incoming)
    found = {
        row.serial_number: row
        for row in session.execute(
            select(
                CertificateRecord.serial_number,
                CertificateRecord.fingerprint_sha256,
                CertificateRecord.certificate_pem,
                CertificateRecord.revocation_date,
                CertificateRecord.revocation_reason,
            )
            .where(CertificateRecord.serial_number.in_([one.entry.serial_number for one in incoming]))
            .with_for_update()
        )
    }
    others = [one for one in incoming if one.entry.serial_number in found and not _is_same(one, found)]
    if others:
        raise _other_certificates(others)
    new = [one for one in incoming if one.entry.serial_number not in found]
    if new:
        entries = _without_taken_names(session, [one.entry for one in new])
        insert_certificates(session, entries, now=now)
    merged = Merged(added=len(new), known=len(found))
    changes = []
    for one in incoming:
        row = found.get(one.entry.serial_number)
        here = None if row is None or row.revocation_date is None else _revocation(row)
        result = merged_revocation(here, one.revocation)
        if result is not None and result != here:
            changes.append((one.entry, result))
            merged.revocations[one.entry.issuer_id] += 1
    _put_revocations(session, changes, now)
    _mark_expired(session, [one.entry for one in new if one.revocation is None and one.entry.not_valid_after < now])
    return merged


def merge_issuers(session: Session, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Add the CAs that are missing; those that are known stay as they are. Returns the ids of those that were added.

    Raises
    ------
    Conflict
        An id, or the name of a CA, is another certificate's here.
    """
    here = {
        row.id: x509.load_pem_x509_certificate(row.certificate_pem.encode())
        for row in session.execute(select(IssuerRecord.id, IssuerRecord.certificate_pem))
    }
    has_default = session.scalar(select(IssuerRecord.id).where(IssuerRecord.is_default)) is not None
    new = []
    for row in rows:
        values = dict(zip(columns, row, strict=True))
        identifier, certificate = values["id"], x509.load_pem_x509_certificate(values["certificate_pem"].encode())
        if identifier in here and here[identifier] != certificate:
            raise Conflict(f"issuer {identifier} is {_named(here[identifier])} here, and {_named(certificate)} there")
        # RFC 5280 §4.1.2.6: a name belongs to one CA; CRLs, and who looks for an issuer, go by it.
        for other, known in here.items():
            if known.subject == certificate.subject and known != certificate:
                raise Conflict(f"the name {_named(certificate)} is issuer {other} here, and issuer {identifier} there")
        if identifier not in here:
            values["is_default"] = values["is_default"] and not has_default
            new.append(tuple(values[name] for name in columns))
    add_rows(session.connection(), IssuerRecord.__table__, columns, new)  # type: ignore[arg-type]  # a Table
    return [row[columns.index("id")] for row in new]


def advance_crls(
    session: Session,
    issuer_id: str,
    *,
    crl_number: int,
    crl_this_update: datetime | None,
    revocations: int,
) -> None:
    """Let the issuer's next CRL have a number above ``crl_number`` and every one published; it is due from now on.

    ``crl_this_update`` is the newest that was given out elsewhere, ``revocations`` how many came in.
    """
    record = session.scalar(select(IssuerRecord).where(IssuerRecord.id == issuer_id).with_for_update())
    if record is None:
        return
    published = session.scalar(select(func.max(CRLRecord.number)).where(CRLRecord.issuer_id == issuer_id)) or 0
    record.crl_number = max(record.crl_number, crl_number, published)
    if crl_this_update is not None:
        record.crl_this_update = max(record.crl_this_update or crl_this_update, crl_this_update)
    # A CRL is due where its count is not the issuer's: counts of two registries say nothing about each other.
    covered = session.scalar(select(func.max(CRLRecord.revocation_count)).where(CRLRecord.issuer_id == issuer_id)) or 0
    record.revocation_count = max(record.revocation_count, covered) + max(revocations, 1)
    session.flush()


def add_missing_audit(session: Session, rows: Sequence[Mapping[str, Any]], *, up_to_id: int) -> int:
    """Add rows of another registry's audit, under new ids; not those that are here already, as to all they say.

    ``up_to_id``: rows above it are from this merge itself. Returns how many were added.
    """
    if not rows:
        return 0
    here = Counter(
        _audit_key(dict(zip(_AUDIT_COLUMNS, row, strict=True)))
        for row in session.execute(
            select(*(AuditRecord.__table__.columns[name] for name in _AUDIT_COLUMNS)).where(
                AuditRecord.at.in_({row["at"] for row in rows}), AuditRecord.id <= up_to_id
            )
        )
    )
    new = []
    for row in rows:
        key = _audit_key(row)
        if here[key] > 0:
            here[key] -= 1
        else:
            new.append(tuple(row.get(name) for name in _AUDIT_COLUMNS))
    add_rows(session.connection(), AuditRecord.__table__, _AUDIT_COLUMNS, new)  # type: ignore[arg-type]  # a Table
    return len(new)


def _weight(revocation: Revocation) -> int:
    if revocation.reason == _KEY_COMPROMISE:
        return 2
    return 0 if revocation.reason == _HOLD else 1


def _check_once(incoming: Iterable[Incoming]) -> None:
    seen: dict[str, Incoming] = {}
    for one in incoming:
        before = seen.setdefault(one.entry.serial_number, one)
        if before is not one:
            serial = f"{int(one.entry.serial_number):x}"
            raise Conflict(f"{one.where}: serial number {serial} was in {before.where} already")


def _is_same(one: Incoming, found: Mapping[str, Any]) -> bool:
    row = found[one.entry.serial_number]
    here = row.fingerprint_sha256
    if here is None:  # kept by an older program
        here = x509.load_pem_x509_certificate(row.certificate_pem.encode()).fingerprint(SHA256()).hex()
    return bool(here == one.entry.fingerprint_sha256)


def _other_certificates(others: Sequence[Incoming]) -> Conflict:
    shown = ", ".join(f"{int(one.entry.serial_number):x} ({one.where})" for one in others[:_NAMED])
    more = f", and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
    return Conflict(f"the registry has other certificates with these serial numbers: {shown}{more}")


def _without_taken_names(session: Session, entries: list[CertificateEntry]) -> list[CertificateEntry]:
    """A name that one certificate holds alone here stays its own: what comes in does not claim it."""
    claimed = {entry.unique_name for entry in entries if entry.unique_name is not None}
    if not claimed:
        return entries
    taken = set(
        session.scalars(select(CertificateRecord.unique_name).where(CertificateRecord.unique_name.in_(claimed)))
    )
    return [replace(entry, unique_name=None) if entry.unique_name in taken else entry for entry in entries]


def _put_revocations(session: Session, changes: Sequence[tuple[CertificateEntry, Revocation]], now: datetime) -> None:
    if not changes:
        return
    session.connection().execute(
        update(CertificateRecord)
        .where(CertificateRecord.serial_number == bindparam("of_serial"))
        .values(status=CertificateStatus.REVOKED.value, unique_name=None),
        [
            {"of_serial": entry.serial_number, "revocation_date": result.date, "revocation_reason": result.reason}
            for entry, result in changes
        ],
    )
    for entry, result in changes:
        if reason_from_code(result.reason) in COMPROMISED:
            block_key(session, entry.spki_sha256, entry.serial_number, now=now)


def _mark_expired(session: Session, entries: Sequence[CertificateEntry]) -> None:
    if entries:
        session.connection().execute(
            update(CertificateRecord)
            .where(CertificateRecord.serial_number == bindparam("of_serial"))
            .values(status=CertificateStatus.EXPIRED.value, unique_name=None),
            [{"of_serial": entry.serial_number} for entry in entries],
        )


def _revocation(row: Any) -> Revocation:  # noqa: ANN401  # a row
    return Revocation(row.revocation_date, row.revocation_reason or 0)


def _named(certificate: x509.Certificate) -> str:
    fingerprint = certificate.fingerprint(SHA256()).hex()[:16]
    return f"{certificate.subject.rfc4514_string()!r} (SHA-256 {fingerprint}…)"


def _audit_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    # The order of its members says nothing.
    detail = json.dumps(row.get("detail"), sort_keys=True)
    return (*(row.get(name) for name in _AUDIT_COLUMNS if name != "detail"), detail)
