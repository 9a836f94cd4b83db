"""What is on record of CAs, and the transactions that put it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.caller import Caller
from app.services.ca_keeping import NewCA, check_not_revoked, keep_imported
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.models import CertificateRecord, CRLRecord, IssuerRecord
from tiny_ca.db.queries.blocked_keys import block_key
from tiny_ca.db.queries.certificates import insert_certificates
from tiny_ca.db.queries.idempotency import claim_keys
from tiny_ca.db.queries.issuers import insert_issuers, issuer_by_id, list_issuers, locked_issuer
from tiny_ca.db.queries.revocations import revoke
from tiny_ca.exc import Conflict
from tiny_ca.models.revocation import COMPROMISED

__all__ = ["CRLWindow", "keep_made", "keep_taken", "read_authorities", "revoke_authority"]


@dataclass(frozen=True, slots=True)
class CRLWindow:
    """A CRL that was published."""

    number: int
    this_update: datetime
    next_update: datetime


def keep_made(
    session: Session, new: NewCA, parent: Issuer, audit: AuditEntry, caller: Caller, *, now: datetime
) -> bool:
    """One transaction: the CA, its certificate, the audit row and the idempotency key; False where that is taken.

    Raises
    ------
    Conflict
        What another process did to the parent meanwhile counts: it is disabled or revoked, or its key is gone.
    """
    if not _claim(session, new, caller, now):
        return False
    record = locked_issuer(session, parent.id)
    if not record.enabled or record.private_key_pem is None:
        state = "is disabled" if not record.enabled else "has lost its key"
        raise Conflict(f"issuer {parent.id} {state} since; nothing was made")
    check_not_revoked(session, (parent.certificate, *parent.chain))
    insert_issuers(session, new.issuers)
    serial = new.certificates[-1].serial_number
    made = replace(audit, issuer_id=new.issuers[-1].id, serial_number=serial)
    insert_certificates(session, new.certificates, now=now, audit=[made])
    return True


def keep_taken(
    session: Session,
    new: NewCA,
    above: Sequence[x509.Certificate],
    audit: AuditEntry,
    caller: Caller,
    *,
    now: datetime,
) -> bool:
    """As ``keep_made``, of a CA from elsewhere."""
    if not _claim(session, new, caller, now):
        return False
    keep_imported(session, new, above, audit, now=now)
    return True


def _claim(session: Session, new: NewCA, caller: Caller, now: datetime) -> bool:
    if caller.claim is None:
        return True
    outcome = {"kind": "issuer", "id": new.issuers[-1].id, "secret": False}
    (free,) = claim_keys(session, [(caller.claim, outcome)], now=now)
    return free


def revoke_authority(
    session: Session, serial: int, reason: x509.ReasonFlags, *, now: datetime, audit: AuditEntry
) -> None:
    """One transaction: the revocation with its audit row, and the block of a compromised key."""
    record = revoke(session, serial, reason, now=now, audit=audit)
    if reason in COMPROMISED and record.spki_sha256 is not None:
        block_key(session, record.spki_sha256, record.serial_number, now=now)


def read_authorities(
    session: Session, identifier: str | None
) -> list[tuple[IssuerRecord, CertificateRecord | None, CRLWindow | None]]:
    """The CAs with what is on record of their certificates and newest CRLs."""
    if identifier is None:
        records = list_issuers(session)
    else:
        one = issuer_by_id(session, identifier)
        records = [] if one is None else [one]
    certificates = {
        record.id: x509.load_pem_x509_certificate(record.certificate_pem.encode()).serial_number for record in records
    }
    query = select(CRLRecord.issuer_id, CRLRecord.number, CRLRecord.this_update, CRLRecord.next_update)
    if identifier is not None:
        query = query.where(CRLRecord.issuer_id == identifier)
    windows = {row[0]: CRLWindow(*row[1:]) for row in session.execute(query.order_by(CRLRecord.number))}
    owned = {
        found.serial_number: found
        for found in session.scalars(
            select(CertificateRecord).where(
                CertificateRecord.serial_number.in_([str(serial) for serial in certificates.values()])
            )
        )
    }
    return [(record, owned.get(str(certificates[record.id])), windows.get(record.id)) for record in records]
