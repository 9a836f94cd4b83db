"""Certificates on record: looked up, listed, and who may act on which."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from app.auth.caller import Caller
from app.auth.principal import Permission, Principal
from app.services.issuers import IssuerStore
from tiny_ca.ca_factory.names import AlternativeNames, host_name
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, CertificateFilter
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.certificates import certificate_by_serial, page_certificates
from tiny_ca.exc import CertNotFound, Conflict, Forbidden

__all__ = ["Records", "check_actor", "load", "note_refusal", "refusals"]


class Records:
    """Reading; every method may be called many times at once."""

    def __init__(self, db: AsyncDBHandler, *, issuers: IssuerStore, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._issuers = issuers
        self._clock = clock

    def now(self) -> datetime:
        """The service's clock."""
        return self._clock()

    async def get(self, caller: Caller, serial_number: int) -> CertificateRecord:
        """The record of one certificate.

        Raises
        ------
        CertNotFound
            There is none with that serial number.
        Forbidden
            The caller sees only their own, and it is another's.
        """
        async with refusals(
            self._db, caller.audit("certificate.read", self._clock(), serial_number=str(serial_number))
        ):
            caller.principal.require(Permission.CERTIFICATES_READ)
            record = await find(self._db, serial_number)
            _check_own(caller.principal, record)
        return record

    async def for_export(self, caller: Caller, serial_number: int) -> CertificateRecord:
        """The record of a certificate whose key the caller has: who may issue may have them in one file.

        Raises
        ------
        CertNotFound, Forbidden
            There is none with that serial number; it is outside the caller's limits.
        """
        audit = caller.audit("certificate.pkcs12", self._clock(), serial_number=str(serial_number))
        async with refusals(self._db, audit):
            caller.principal.require(Permission.CERTIFICATES_ISSUE)
            record = await find(self._db, serial_number)
            check_actor(caller.principal, record)
        return record

    async def status(self, caller: Caller, serial_number: int) -> CertificateRecord | None:
        """The record of one certificate, None where it is unknown."""
        try:
            return await self.get(caller, serial_number)
        except CertNotFound:
            return None

    async def page(
        self, caller: Caller, wanted: CertificateFilter, *, limit: int, before_id: int | None
    ) -> list[CertificateRecord]:
        """Up to ``limit`` records that match, newest first, older than ``before_id``."""
        async with refusals(self._db, caller.audit("certificate.list", self._clock())):
            caller.principal.require(Permission.CERTIFICATES_READ)
        if caller.principal.own_only:
            if wanted.requester not in {None, caller.principal.id}:
                return []
            wanted = replace(wanted, requester=caller.principal.id)
        return await self._db.read(page_certificates, wanted, now=self._clock(), limit=limit, before_id=before_id)

    def chain(self, record: CertificateRecord) -> tuple[x509.Certificate, ...]:
        """The CAs above a certificate, issuing CA first, root last."""
        above = self._issuers.known(str(record.issuer_id))
        is_root = len(above) == 1 and record.serial_number == str(above[0].serial_number)
        return () if is_root else above


async def find(db: AsyncDBHandler, serial_number: int) -> CertificateRecord:
    """The record with this serial number.

    Raises
    ------
    CertNotFound
        There is none.
    """
    record = await db.read(certificate_by_serial, serial_number)
    if record is None:
        raise CertNotFound(f"there is no certificate with the serial number {serial_number:x}")
    return record


def load(record: CertificateRecord) -> x509.Certificate:
    """The certificate itself."""
    return x509.load_pem_x509_certificate(record.certificate_pem.encode())


def check_actor(principal: Principal, record: CertificateRecord) -> None:
    """Nobody acts on a certificate that they could not have been issued.

    Raises
    ------
    Forbidden
        It is not their own, or its issuer, profile or a name of it is outside their limits.
    """
    _check_own(principal, record)
    limits = principal.limits
    if limits.issuers is not None and record.issuer_id not in limits.issuers:
        raise Forbidden(f"{principal.id} may not use issuer {record.issuer_id}", rule="issuer", value=record.issuer_id)
    if limits.profiles is not None and record.profile not in limits.profiles:
        raise Forbidden(f"{principal.id} may not use profile {record.profile!r}", rule="profile", value=record.profile)
    certificate = load(record)
    for kind, name in limits.effective_names.uncovered(_names(certificate)):
        message = f"the {kind} name {name!r} of the certificate is outside what {principal.id} may have"
        raise Forbidden(message, rule="limits.names", value=name)
    patterns = limits.names.dns
    for name in _common_names(certificate):
        if patterns is not None and host_name(name) is None and name not in patterns:
            message = f"the common name {name!r} of the certificate is outside what {principal.id} may have"
            raise Forbidden(message, rule="limits.names", value=name)


@asynccontextmanager
async def refusals(db: AsyncDBHandler, audit: AuditEntry) -> AsyncIterator[None]:
    """Audit what policy or state refuses in the block, which must not reach the pipeline: that audits its own."""
    try:
        yield
    except (Forbidden, Conflict) as error:
        await note_refusal(db, audit, error)
        raise


async def note_refusal(db: AsyncDBHandler, audit: AuditEntry, error: Forbidden | Conflict) -> None:
    """Write down that policy or state refused the act that ``audit`` is of."""
    rule = error.rule if isinstance(error, Forbidden) else "conflict"
    detail = {**(audit.detail or {}), "message": error.message}
    await db.write(insert_audit, [replace(audit, outcome="refused", rule=rule, detail=detail)])


def _check_own(principal: Principal, record: CertificateRecord) -> None:
    if principal.own_only and record.requester != principal.id:
        message = f"{principal.id} sees only what it issued itself, and this certificate is another's"
        raise Forbidden(message, rule="own_only", value=f"{int(record.serial_number):x}")


def _names(certificate: x509.Certificate) -> AlternativeNames:
    names = AlternativeNames()
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = AlternativeNames.from_extension(extension.value, field="certificate")
    for name in _common_names(certificate):
        host = host_name(name)
        if host is not None:
            names = names.with_host(host)
    return names


def _common_names(certificate: x509.Certificate) -> list[str]:
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
