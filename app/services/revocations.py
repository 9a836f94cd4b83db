"""Revoking, holding, lifting a hold, deleting: answered only once the CRL that says so can be fetched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from cryptography import x509
from sqlalchemy.orm import Session

from app.auth.caller import Caller
from app.auth.principal import Permission
from app.metrics import Metrics
from app.services.crls import CRLPublisher
from app.services.issuers import IssuerStore
from app.services.records import check_actor, find, refusals
from tiny_ca.const import CertType
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.audit import actor_of
from tiny_ca.db.queries.blocked_keys import block_key, key_is_anothers
from tiny_ca.db.queries.certificates import delete_expired, valid_with_key
from tiny_ca.db.queries.revocations import locked_certificate, revoke, unhold
from tiny_ca.exc import Conflict, Forbidden
from tiny_ca.models.revocation import COMPROMISED, reason_code

__all__ = ["Revocations"]

_REVOKE: Final = "certificate.revoke"
_HOLD: Final = reason_code(x509.ReasonFlags.certificate_hold)


class Revocations:
    """What ends a certificate before its time."""

    def __init__(
        self,
        db: AsyncDBHandler,
        *,
        issuers: IssuerStore,
        crls: CRLPublisher,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._issuers = issuers
        self._crls = crls
        self._metrics = metrics
        self._clock = clock

    async def revoke(
        self, caller: Caller, serial_number: int, reason: x509.ReasonFlags, *, all_with_key: bool = False
    ) -> CertificateRecord:
        """Revoke, and return once the CRL that says so can be fetched. A compromised key is blocked for good.

        ``all_with_key``: every other valid certificate with that key too, all of them or none.

        Raises
        ------
        CertNotFound, Conflict, Forbidden, Invalid
            Unknown; expired, or revoked for another reason; not the caller's to revoke; ``removeFromCRL``.
        """
        audit = self._audit(caller, _REVOKE, serial_number, reason=reason.value)
        async with refusals(self._db, audit):
            caller.principal.require(Permission.CERTIFICATES_REVOKE)
            found = await find(self._db, serial_number)
            self._check(caller, found)
            others = await self._db.read(valid_with_key, found, now=self._clock()) if all_with_key else []
            for other in others:
                self._check(caller, other)
            records = await self._db.write(self._revoke_all, caller, [found, *others], reason)
        for before, after in zip([found, *others], records, strict=True):
            await self._published(before, after, reason)
        return records[0]

    async def unhold(self, caller: Caller, serial_number: int) -> CertificateRecord:
        """Lift a ``certificateHold``, and return once no CRL lists the certificate any more.

        Raises
        ------
        CertNotFound, Conflict, Forbidden
            Unknown; not on hold, or expired; not the caller's to act on, or with ``own_only`` not placed by them.
        """
        audit = self._audit(caller, "certificate.unhold", serial_number)
        async with refusals(self._db, audit):
            caller.principal.require(Permission.CERTIFICATES_REVOKE)
            found = await find(self._db, serial_number)
            self._check(caller, found)
            record = await self._db.write(_unhold, caller, serial_number, now=self._clock(), audit=audit)
        await self._published(found, record, None)
        return record

    async def delete(self, caller: Caller, serial_number: int) -> CertificateRecord:
        """Delete the record of a certificate that has expired, and return it as it was.

        Raises
        ------
        CertNotFound, Conflict, Forbidden
            Unknown; not expired: it would fall off the CRL; not the caller's to delete.
        """
        audit = self._audit(caller, "certificate.delete", serial_number)
        async with refusals(self._db, audit):
            caller.principal.require(Permission.CERTIFICATES_DELETE)
            found = await find(self._db, serial_number)
            check_actor(caller.principal, found)
            await self._db.write(delete_expired, serial_number, now=self._clock(), audit=audit)
        return found

    def _check(self, caller: Caller, record: CertificateRecord) -> None:
        if record.key_type == CertType.CA.value:
            caller.principal.require(Permission.ISSUERS_MANAGE)
        check_actor(caller.principal, record)
        above = self._issuers.known(str(record.issuer_id))
        if len(above) == 1 and record.serial_number == str(above[0].serial_number):
            raise Conflict("a root cannot be revoked: no CRL of its own could be believed")

    def _revoke_all(
        self, session: Session, caller: Caller, records: list[CertificateRecord], reason: x509.ReasonFlags
    ) -> list[CertificateRecord]:
        """One transaction: each revocation with its audit row, and the block of the key."""
        now = self._clock()
        revoked = []
        for record in records:
            audit = self._audit(caller, _REVOKE, int(record.serial_number), record, reason=reason.value)
            audit = replace(audit, at=now)  # by this moment ``_unhold`` finds who placed a hold
            revoked.append(revoke(session, int(record.serial_number), reason, now=now, audit=audit))
            if reason in COMPROMISED and record.spki_sha256 is not None and _may_block(session, caller, record):
                block_key(session, record.spki_sha256, record.serial_number, now=now)
        return revoked

    async def _published(
        self, before: CertificateRecord, after: CertificateRecord, reason: x509.ReasonFlags | None
    ) -> None:
        if after.key_type == CertType.CA.value:
            await self._issuers.load_revoked()
        if reason is not None and after.revocation_reason != before.revocation_reason:
            self._metrics.revoked.labels(reason.value).inc()
        # Also where nothing changed: the first try may have ended between its commit and its CRL.
        await self._crls.publish(str(after.issuer_id))

    def _audit(
        self,
        caller: Caller,
        action: str,
        serial_number: int,
        record: CertificateRecord | None = None,
        **detail: object,
    ) -> AuditEntry:
        return caller.audit(
            action,
            self._clock(),
            serial_number=str(serial_number),
            issuer_id=record.issuer_id if record else None,
            profile=record.profile if record else None,
            detail=detail or None,
        )


def _unhold(
    session: Session, caller: Caller, serial_number: int, *, now: datetime, audit: AuditEntry
) -> CertificateRecord:
    """One transaction: whose hold it is, and its end."""
    record = locked_certificate(session, serial_number)
    since = record.revocation_date if record.revocation_reason == _HOLD else None
    if caller.principal.own_only and since is not None and caller.principal.id != _placed_by(session, record, since):
        message = f"{caller.principal.id} lifts only holds that it placed itself, and this one is another's"
        raise Forbidden(message, rule="own_only", value=f"{serial_number:x}")
    return unhold(session, serial_number, now=now, audit=audit)


def _placed_by(session: Session, record: CertificateRecord, since: datetime) -> str | None:
    """Whose act began the hold, by the audit row of the same transaction."""
    return actor_of(session, _REVOKE, record.serial_number, at=since)


def _may_block(session: Session, caller: Caller, record: CertificateRecord) -> bool:
    """Whether the key is this caller's to block: who acts on their own alone shall not take another's key from them.

    Co-signing proves no key: what it copied may hold anybody's.
    """
    return not (caller.principal.own_only and key_is_anothers(session, record, caller.principal.id))
