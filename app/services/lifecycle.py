"""The async lifecycle service: everything the CA does for a caller, whatever the protocol they came by.

Authorize, then act, then answer from what is durable. Signing goes through the pipeline, reading straight to the
registry, and a revocation is answered only once the CRL that holds it can be fetched.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509

from app.auth.principal import Permission, Principal
from app.metrics import Metrics
from app.services.crls import CRLPublisher
from app.services.issuance import IssuanceOrder, IssuancePipeline, Issued
from app.services.issuers import IssuerStore
from app.services.keymaker import KeyMaker
from tiny_ca.ca_factory.csr import parse_csr
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import check
from tiny_ca.ca_factory.profiles import Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.const import CertType
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, CertificateFilter
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.certificates import certificate_by_serial, page_certificates
from tiny_ca.db.queries.revocations import revoke
from tiny_ca.exc import CertNotFound, Conflict, Forbidden, Invalid, NotFound, TinyCAError

__all__ = ["Caller", "LifecycleService", "Wish"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and by which request: what an audit row needs to know."""

    principal: Principal
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request says besides subject and key; None leaves it to the profile, the CSR or the default issuer."""

    profile: str | None = None
    issuer_id: str | None = None
    lifetime: timedelta | None = None
    valid_from: datetime | None = None
    names: AlternativeNames | None = None
    certificate_type: CertType | None = None


class LifecycleService:
    """One instance for the application; every method may be called many times at once."""

    def __init__(
        self,
        db: AsyncDBHandler,
        *,
        issuers: IssuerStore,
        crls: CRLPublisher,
        pipeline: IssuancePipeline,
        profiles: Mapping[str, Profile],
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._issuers = issuers
        self._crls = crls
        self._pipeline = pipeline
        self._profiles = profiles
        self._metrics = metrics
        self._clock = clock
        self._keys = KeyMaker()

    def now(self) -> datetime:
        """The service's clock."""
        return self._clock()

    def give_up(self) -> None:
        """The service is about to stop: whoever waits for a key or for a batch gets Unavailable."""
        self._keys.give_up()
        self._pipeline.give_up()

    async def issue_from_csr(self, caller: Caller, csr: bytes, wish: Wish) -> Issued:
        """Sign a CSR (PEM or DER).

        Raises
        ------
        Malformed, Invalid, Forbidden, Conflict, Unavailable
            The CSR is none, is unfit, policy or state says no, or it could not be recorded.
        """

        def read() -> CertificateRequest:
            return CertificateRequest.from_csr(
                parse_csr(csr),
                names=wish.names,
                lifetime=wish.lifetime,
                valid_from=wish.valid_from,
                certificate_type=wish.certificate_type,
            )

        async with self._refusals(self._audit(caller, "certificate.issue", profile=wish.profile)):
            caller.principal.require(Permission.CERTIFICATES_ISSUE)
            order = self._order(caller, wish, read, default_profile="server")
        if order.profile.ca:
            await self._intend(caller, order)
        return await self._pipeline.submit(order)

    async def issue_from_config(
        self, caller: Caller, request: CertificateRequest, wish: Wish, *, default_profile: str
    ) -> tuple[Issued, PrivateKey]:
        """Make a key of ``request.key_spec`` and a certificate for it; the key is returned and not kept.

        Raises
        ------
        Invalid, Forbidden, Conflict, Unavailable
            As for a CSR.
        """
        async with self._refusals(self._audit(caller, "certificate.issue", profile=wish.profile)):
            caller.principal.require(Permission.CERTIFICATES_ISSUE)
            order = self._order(caller, wish, lambda: request, default_profile=default_profile)
        try:
            _check_no_ca_key(order)
            check(
                request,
                profile=order.profile,
                limits=caller.principal.limits,
                issuer=order.issuer,
                now=self._clock(),
            )
        except TinyCAError as error:
            # The pipeline refuses, and audits, as it does for a CSR; no key is made for it.
            await self._pipeline.submit(replace(order, read=_raiser(error)))
            raise
        private_key = await self._keys.make(request.key_spec)
        with_key = replace(request, public_key=private_key.public_key())
        return await self._pipeline.submit(replace(order, read=lambda: with_key)), private_key

    async def get(self, caller: Caller, serial_number: int) -> CertificateRecord:
        """The record of one certificate.

        Raises
        ------
        CertNotFound
            There is none with that serial number.
        """
        caller.principal.require(Permission.CERTIFICATES_READ)
        return await self._find(serial_number)

    async def status(self, caller: Caller, serial_number: int) -> CertificateRecord | None:
        """The record of one certificate, None where it is unknown."""
        caller.principal.require(Permission.CERTIFICATES_READ)
        return await self._db.read(certificate_by_serial, serial_number)

    async def page(
        self, caller: Caller, wanted: CertificateFilter, *, limit: int, before_id: int | None
    ) -> list[CertificateRecord]:
        """Up to ``limit`` records that match, newest first, older than ``before_id``."""
        caller.principal.require(Permission.CERTIFICATES_READ)
        return await self._db.read(page_certificates, wanted, now=self._clock(), limit=limit, before_id=before_id)

    def chain(self, record: CertificateRecord) -> tuple[x509.Certificate, ...]:
        """The CAs above a certificate, issuing CA first, root last."""
        above = self._issuers.known(str(record.issuer_id))
        return () if _is_root(record, above) else above

    async def revoke(self, caller: Caller, serial_number: int, reason: x509.ReasonFlags) -> CertificateRecord:
        """Revoke, and return once the CRL that says so can be fetched.

        Raises
        ------
        CertNotFound, Conflict, Invalid
            Unknown, expired or revoked for another reason, or ``removeFromCRL``.
        """
        detail = {"reason": reason.value}
        audit = self._audit(caller, "certificate.revoke", serial_number=str(serial_number), detail=detail)
        async with self._refusals(audit):
            caller.principal.require(Permission.CERTIFICATES_REVOKE)
        found = await self._find(serial_number)
        audit = replace(audit, issuer_id=found.issuer_id, profile=found.profile)
        async with self._refusals(audit):
            if found.key_type == CertType.CA.value:
                caller.principal.require(Permission.ISSUERS_MANAGE)
            self._check_revocable(found)
            record = await self._db.write(revoke, serial_number, reason, now=self._clock(), audit=audit)
        if record.key_type == CertType.CA.value:
            await self._issuers.load_revoked()
        if record.revocation_reason != found.revocation_reason:
            self._metrics.revoked.labels(reason.value).inc()
        # Also where nothing changed: the first try may have ended between its commit and its CRL.
        await self._crls.publish(str(record.issuer_id))
        return record

    def _check_revocable(self, record: CertificateRecord) -> None:
        if _is_root(record, self._issuers.known(str(record.issuer_id))):
            raise Conflict("a root cannot be revoked: no CRL of its own could be believed")

    async def _find(self, serial_number: int) -> CertificateRecord:
        record = await self._db.read(certificate_by_serial, serial_number)
        if record is None:
            raise CertNotFound(f"there is no certificate with the serial number {serial_number:x}")
        return record

    def _order(
        self, caller: Caller, wish: Wish, read: Callable[[], CertificateRequest], *, default_profile: str
    ) -> IssuanceOrder:
        profile = self._profile(wish.profile or default_profile)
        if profile.ca:
            caller.principal.require(Permission.ISSUERS_MANAGE)
        return IssuanceOrder(
            read=read,
            profile=profile,
            issuer=self._issuer(wish.issuer_id),
            principal=caller.principal,
            request_id=caller.request_id,
        )

    async def _intend(self, caller: Caller, order: IssuanceOrder) -> None:
        """Before a CA's certificate is signed, it is written down that it shall be: rare, and it matters."""
        intent = self._audit(caller, order.action, issuer_id=order.issuer.id, profile=order.profile.name)
        await self._db.write(insert_audit, [replace(intent, outcome="intended")])

    def _issuer(self, issuer_id: str | None) -> Issuer:
        if issuer_id is None:
            return self._issuers.for_issuing(self._issuers.default.id)
        try:
            return self._issuers.for_issuing(issuer_id)
        except NotFound as error:  # in a request it is a field like any other
            raise Invalid(error.message, field="issuer_id", value=issuer_id) from error

    def _profile(self, name: str) -> Profile:
        if name not in self._profiles:
            message = f"there is no profile {name[:80]!r}; there are {', '.join(self._profiles)}"
            raise Invalid(message, field="profile", value=name[:80])
        return self._profiles[name]

    def _audit(self, caller: Caller, action: str, **facts: Any) -> AuditEntry:  # noqa: ANN401  # AuditEntry checks them
        return AuditEntry(
            at=self._clock(),
            actor=caller.principal.id,
            action=action,
            outcome="success",
            request_id=caller.request_id,
            **facts,
        )

    @asynccontextmanager
    async def _refusals(self, audit: AuditEntry) -> AsyncIterator[None]:
        """Audit what policy or state refuses in the block, which must not reach the pipeline: that audits its own."""
        try:
            yield
        except (Forbidden, Conflict) as error:
            rule = error.rule if isinstance(error, Forbidden) else "conflict"
            detail = {**(audit.detail or {}), "message": error.message}
            await self._db.write(insert_audit, [replace(audit, outcome="refused", rule=rule, detail=detail)])
            raise


def _check_no_ca_key(order: IssuanceOrder) -> None:
    if order.profile.ca:
        message = f"profile {order.profile.name!r} makes CAs, whose keys never leave the service; send a CSR"
        raise Forbidden(message, rule="certificate_authority", value=order.profile.name)


def _raiser(error: TinyCAError) -> Callable[[], CertificateRequest]:
    def read() -> CertificateRequest:
        raise error

    return read


def _is_root(record: CertificateRecord, above: tuple[x509.Certificate, ...]) -> bool:
    return len(above) == 1 and record.serial_number == str(above[0].serial_number)
