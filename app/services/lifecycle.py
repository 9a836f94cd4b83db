"""The async lifecycle service: every certificate that this CA makes for a caller, whatever the protocol they came by.

Authorize, then sign through the pipeline, then answer from what is durable. What ends a certificate is in
``revocations``, what only reads is in ``records``.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier
from sqlalchemy.orm import Session

from app.auth.caller import Caller
from app.auth.principal import Permission
from app.services.crls import CRLPublisher
from app.services.idempotency import Idempotency
from app.services.issuance import IssuanceOrder, IssuancePipeline, Issued, Repeated, claimed_name, key_sha256
from app.services.issuers import IssuerStore
from app.services.keymaker import KeyMaker
from app.services.records import check_actor, find, load, note_refusal, refusals
from tiny_ca.ca_factory.csr import parse_csr
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.keys import PrivateKey, public_key_der
from tiny_ca.ca_factory.names import AlternativeNames, host_name
from tiny_ca.ca_factory.pkcs12 import check_fits_pkcs12
from tiny_ca.ca_factory.plan import Plan, Verdict, check, verdicts
from tiny_ca.ca_factory.profiles import Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.const import CertType
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, CertificateEntry
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.blocked_keys import blocked_among
from tiny_ca.db.queries.certificates import holder_of
from tiny_ca.db.queries.revocations import locked_certificate, revoke
from tiny_ca.exc import CertNotFound, Conflict, Forbidden, Invalid, NotFound, TinyCAError
from tiny_ca.models.key_spec import KeySpec

__all__ = ["LifecycleService", "Made", "Wish"]

_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a request says besides subject and key; None leaves it to the profile, the CSR or the default issuer."""

    profile: str | None = None
    issuer_id: str | None = None
    lifetime: timedelta | None = None
    valid_from: datetime | None = None
    names: AlternativeNames | None = None
    certificate_type: CertType | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A certificate on record, and who is above it, root last: just issued, or read again.

    ``plan``: what it was made from, where it was made just now.
    """

    facts: CertificateEntry | CertificateRecord
    certificate: x509.Certificate
    above: tuple[x509.Certificate, ...]
    private_key: PrivateKey | None = None
    plan: Plan | None = None


_Act = Callable[Concatenate["LifecycleService", Caller, _P], Coroutine[Any, Any, Made]]


def _repeatable(action: str) -> Callable[[_Act[_P]], _Act[_P]]:
    """An act that a second request with its idempotency key does not do again."""

    def decorated(act: _Act[_P]) -> _Act[_P]:
        @wraps(act)
        async def once(self: LifecycleService, caller: Caller, /, *args: _P.args, **kwargs: _P.kwargs) -> Made:
            earlier = await self._earlier(caller, action)
            if earlier is not None:
                return earlier
            try:
                return await act(self, caller, *args, **kwargs)
            except Conflict:
                # What is in the way may be what this very request has done meanwhile, on another replica.
                earlier = await self._earlier(caller, action)
                if earlier is None:
                    raise
                return earlier

        return once

    return decorated


class LifecycleService:
    """One instance for the application; every method may be called many times at once.

    ``profiles`` may be replaced by others: each act takes what is there once, and goes on with that.
    """

    def __init__(
        self,
        db: AsyncDBHandler,
        *,
        issuers: IssuerStore,
        crls: CRLPublisher,
        pipeline: IssuancePipeline,
        profiles: Mapping[str, Profile],
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._issuers = issuers
        self._crls = crls
        self._pipeline = pipeline
        self.profiles = profiles
        self._clock = clock
        self._keys = KeyMaker()
        self._idempotency = Idempotency(db, clock)

    def give_up(self) -> None:
        """The service is about to stop: whoever waits for a key or for a batch gets Unavailable."""
        self._keys.give_up()
        self._pipeline.give_up()

    @_repeatable("certificate.issue")
    async def issue_from_csr(self, caller: Caller, csr: bytes, wish: Wish) -> Made:
        """Sign a CSR (PEM or DER).

        Raises
        ------
        Malformed, Invalid, Forbidden, Conflict, Unavailable
            The CSR is none, is unfit, policy or state says no, or it could not be recorded.
        """
        return await self._submit(await self._wished(caller, wish, lambda: _request_of(csr, wish)))

    @_repeatable("certificate.issue")
    async def issue_from_config(
        self,
        caller: Caller,
        request: CertificateRequest,
        wish: Wish,
        *,
        default_profile: str,
        for_pkcs12: bool = False,
    ) -> Made:
        """Make a key of ``request.key_spec`` and a certificate for it; the key is returned and not kept.

        ``for_pkcs12``: it must be of a kind that such a file holds.

        Raises
        ------
        Invalid, Forbidden, Conflict, Unavailable
            As for a CSR.
        """
        order = await self._wished(caller, wish, lambda: request, default_profile=default_profile)
        return await self._with_new_key(order, request, for_pkcs12=for_pkcs12)

    @_repeatable("certificate.renew")
    async def renew(self, caller: Caller, serial_number: int, lifetime: timedelta | None) -> Made:
        """Issue again for the same key, names and profile; the old certificate stays valid.

        Raises
        ------
        CertNotFound, Forbidden, Invalid, Conflict, Unavailable
            Unknown; policy says no by now; it is revoked or expired, or its profile or issuer is gone.
        """
        return await self._succeed(caller, serial_number, "certificate.renew", lifetime=lifetime)

    @_repeatable("certificate.renew")
    async def renew_itself(self, caller: Caller, csr: bytes | None) -> Made:
        """Issue again for the certificate that the caller proved to hold: for its key, or the one of a CSR.

        The CSR's names and subject are the certificate's. It lasts no longer than the old one did, which stays valid:
        who has lost the answer still has what to ask with. It stays with whoever had the old one issued.

        Raises
        ------
        Malformed, Forbidden, Invalid, Conflict, Unavailable
            As ``renew``; or the CSR is unfit, or says something else than the certificate.
        """
        profiles, serial_number = self.profiles, caller.principal.certificate
        if serial_number is None:
            raise Forbidden(f"{caller.principal.id} has shown no certificate", rule="client_certificate")
        audit = caller.audit("certificate.renew", self._clock(), serial_number=str(serial_number))
        async with refusals(self._db, audit):
            old = await find(self._db, serial_number)
            check_actor(caller.principal, old)
            self._check_succeedable(old, profiles)
            request, order = self._succession(caller, old, profiles, _lifetime_of(old, profiles[str(old.profile)]))
        beside = self._replacing(order, serial_number, audit, rotates=False)
        order = replace(order, action="certificate.renew", beside=beside, requester=old.requester)
        return await self._submit(
            order if csr is None else replace(order, read=lambda: _same_but_for_key(request, csr))
        )

    async def rotate(
        self,
        caller: Caller,
        serial_number: int,
        *,
        csr: bytes | None = None,
        key: KeySpec | None = None,
        for_pkcs12: bool = False,
    ) -> Made:
        """Issue for a new key, of a CSR or made here; the old certificate is revoked in the same transaction.

        The CSR gives its key alone: names and subject stay those of the old certificate.

        Raises
        ------
        CertNotFound, Malformed, Forbidden, Invalid, Conflict, Unavailable
            As ``renew``; or the CSR is unfit, or holds the old key.
        """
        made = await self._rotated(caller, serial_number, csr=csr, key=key, for_pkcs12=for_pkcs12)
        # Also where it was done earlier: that try may have ended between its commit and its CRL.
        await self._crls.publish(str(made.facts.issuer_id))
        return made

    @_repeatable("certificate.rotate")
    async def _rotated(
        self, caller: Caller, serial_number: int, *, csr: bytes | None, key: KeySpec | None, for_pkcs12: bool
    ) -> Made:
        return await self._succeed(caller, serial_number, "certificate.rotate", csr=csr, key=key, for_pkcs12=for_pkcs12)

    @_repeatable("certificate.cosign")
    async def cosign(self, caller: Caller, certificate: x509.Certificate, wish: Wish) -> Made:
        """Issue what another CA's certificate holds, as far as the profile allows it. Its key is not proved.

        Raises
        ------
        Invalid, Forbidden, Conflict, Unavailable
            Its key or a name is unfit, policy or state says no, or it could not be recorded.
        """
        action, permission = "certificate.cosign", Permission.CERTIFICATES_COSIGN
        copy = partial(_copy_of, certificate, wish)
        return await self._submit(await self._wished(caller, wish, copy, action=action, permission=permission))

    async def simulate(
        self, caller: Caller, read: Callable[[], CertificateRequest], wish: Wish, *, default_profile: str
    ) -> tuple[CertificateRequest, Profile, Issuer | None, tuple[Verdict, ...]]:
        """What each rule would say, and state; nothing is signed, recorded or audited. Issuer None: it signs nothing.

        Raises
        ------
        Malformed, Invalid, Forbidden, Conflict
            The request cannot be judged: it is none, or names a profile or issuer that does not exist.
        """
        caller.principal.require(Permission.CERTIFICATES_ISSUE)
        profile, state = _profile(self.profiles, wish.profile or default_profile), Verdict(rule="issuer", passed=True)
        issuer: Issuer | None = None
        try:
            issuer = self._issuer(wish.issuer_id)
        except Conflict as error:
            state = Verdict(rule="issuer", passed=False, detail=error.message)
        request = read()
        said = verdicts(request, profile=profile, limits=caller.principal.limits, issuer=issuer, now=self._clock())
        by_state = (state, *await self._name_verdict(request, profile), *await self._key_verdict(request))
        return request, profile, issuer, (*said, *by_state)

    async def _name_verdict(self, request: CertificateRequest, profile: Profile) -> tuple[Verdict, ...]:
        name = claimed_name(request.common_name) if profile.unique_common_name else None
        if name is None:
            return ()
        holder = await self._db.read(holder_of, name, now=self._clock())
        detail = None if holder is None else f"certificate {int(holder):x} is valid and has it; revoke it first"
        return (Verdict(rule="unique_common_name", passed=holder is None, detail=detail),)

    async def _key_verdict(self, request: CertificateRequest) -> tuple[Verdict, ...]:
        """None for a key that would be made here."""
        if request.public_key is None:
            return ()
        key = key_sha256(request.public_key)
        blocked = key in self._pipeline.blocked_keys or key in await self._db.read(blocked_among, [key])
        detail = f"the key {key} is blocked: make a new key" if blocked else None
        return (Verdict(rule="key_blocked", passed=not blocked, detail=detail),)

    async def _succeed(
        self,
        caller: Caller,
        serial_number: int,
        action: str,
        *,
        lifetime: timedelta | None = None,
        csr: bytes | None = None,
        key: KeySpec | None = None,
        for_pkcs12: bool = False,
    ) -> Made:
        profiles, rotates = self.profiles, action == "certificate.rotate"
        audit = caller.audit(action, self._clock(), serial_number=str(serial_number))
        async with refusals(self._db, audit):
            caller.principal.require(Permission.CERTIFICATES_ISSUE)
            old = await find(self._db, serial_number)
            check_actor(caller.principal, old)
            self._check_succeedable(old, profiles)
            request, order = self._succession(caller, old, profiles, lifetime)
        order = replace(order, action=action, beside=self._replacing(order, serial_number, audit, rotates=rotates))
        if csr is not None:
            return await self._submit(replace(order, read=lambda: _with_key_of(request, csr)))
        if rotates:
            renewed = replace(request, public_key=None, key_spec=key or request.key_spec)
            return await self._with_new_key(order, renewed, for_pkcs12=for_pkcs12)
        return await self._submit(order)

    def _succession(
        self, caller: Caller, old: CertificateRecord, profiles: Mapping[str, Profile], lifetime: timedelta | None
    ) -> tuple[CertificateRequest, IssuanceOrder]:
        """What the old certificate holds, asked for again."""
        wish = Wish(profile=old.profile, issuer_id=old.issuer_id, lifetime=lifetime)
        copy = CertificateRequest.from_certificate(load(old), lifetime=lifetime, kind=CertType(old.key_type))
        request = replace(copy, requests_ca=False)  # its profile says so
        return request, self._order(caller, wish, lambda: request, profiles[str(old.profile)])

    def _check_succeedable(self, old: CertificateRecord, profiles: Container[str]) -> None:
        if old.revocation_date is not None:
            raise Conflict(f"certificate {int(old.serial_number):x} is revoked; issue a new one")
        if old.not_valid_after < self._clock():
            raise Conflict(f"certificate {int(old.serial_number):x} has expired; issue a new one")
        if str(old.profile) not in profiles:
            raise Conflict(f"profile {old.profile!r} of certificate {int(old.serial_number):x} is not there any more")

    def _replacing(
        self, order: IssuanceOrder, serial_number: int, audit: AuditEntry, *, rotates: bool
    ) -> Callable[[Session, CertificateEntry, datetime], CertificateEntry]:
        """What the new certificate does to the old one, in the transaction that records it."""

        def beside(session: Session, entry: CertificateEntry, now: datetime) -> CertificateEntry:
            old = locked_certificate(session, serial_number)
            self._check_succeedable(old, (order.profile.name,))
            claimed, old.unique_name = old.unique_name, None
            session.flush()
            if rotates:
                detail = {"reason": "superseded", "by": entry.serial_number}
                ended = replace(audit, action="certificate.revoke", issuer_id=order.issuer.id, detail=detail)
                revoke(session, serial_number, x509.ReasonFlags.superseded, now=now, audit=ended)
            return replace(entry, unique_name=claimed)

        return beside

    async def _with_new_key(self, order: IssuanceOrder, request: CertificateRequest, *, for_pkcs12: bool) -> Made:
        if for_pkcs12:  # afterwards it would be too late: the certificate would be there, and its key lost
            check_fits_pkcs12(request.key_spec)
        try:
            _check_no_ca_key(order)
            check(
                request,
                profile=order.profile,
                limits=order.caller.principal.limits,
                issuer=order.issuer,
                now=self._clock(),
            )
        except TinyCAError as error:
            # The pipeline refuses, and audits, as it does for a CSR; no key is made for it.
            await self._pipeline.submit(replace(order, read=_raiser(error)))
            raise
        private_key = await self._keys.make(request.key_spec)
        with_key = replace(request, public_key=private_key.public_key())
        made = await self._submit(replace(order, read=lambda: with_key, holds_secret=True))
        return replace(made, private_key=private_key)

    async def _submit(self, order: IssuanceOrder) -> Made:
        if order.profile.ca:
            await self._intend(order)
        try:
            issued = await self._pipeline.submit(order)
        except Repeated:
            earlier = await self._earlier(order.caller, order.action)
            if earlier is None:  # it has had its day just now
                raise Conflict("the Idempotency-Key was taken and has just expired; send the request again") from None
            return earlier
        return _made(issued)

    async def check_claim(self, caller: Caller, action: str) -> None:
        """Conflict where the caller's idempotency key was given to another request; audited."""
        async with refusals(self._db, caller.audit(action, self._clock())):
            await self._idempotency.earlier(caller)

    async def _earlier(self, caller: Caller, action: str) -> Made | None:
        """What an earlier request with this idempotency key made.

        Raises
        ------
        Conflict
            The key was given to another request, or the answer held a private key.
        """
        if caller.claim is None:
            return None
        async with refusals(self._db, caller.audit(action, self._clock())):
            outcome = await self._idempotency.earlier(caller)
            if outcome is None:
                return None
            try:
                record = await find(self._db, int(outcome["id"]))
            except CertNotFound:
                raise Conflict(
                    f"certificate {int(outcome['id']):x} was issued for this key, and deleted since"
                ) from None
        return Made(record, load(record), self._issuers.known(str(record.issuer_id)))

    async def _wished(
        self,
        caller: Caller,
        wish: Wish,
        read: Callable[[], CertificateRequest],
        *,
        action: str = "certificate.issue",
        permission: Permission = Permission.CERTIFICATES_ISSUE,
        default_profile: str = "server",
    ) -> IssuanceOrder:
        """What the pipeline is asked for; a refusal is audited under ``action``."""
        try:
            caller.principal.require(permission)
            profile = _profile(self.profiles, wish.profile or default_profile)
            return self._order(caller, wish, read, profile, action)
        except (Forbidden, Conflict) as error:
            await note_refusal(self._db, caller.audit(action, self._clock(), profile=wish.profile), error)
            raise

    def _order(
        self,
        caller: Caller,
        wish: Wish,
        read: Callable[[], CertificateRequest],
        profile: Profile,
        action: str = "certificate.issue",
    ) -> IssuanceOrder:
        if profile.ca:
            caller.principal.require(Permission.ISSUERS_MANAGE)
        issuer = self._issuer(wish.issuer_id)
        return IssuanceOrder(read=read, profile=profile, issuer=issuer, caller=caller, action=action)

    async def _intend(self, order: IssuanceOrder) -> None:
        """Before a CA's certificate is signed, it is written down that it shall be: rare, and it matters."""
        intent = order.caller.audit(
            order.action, self._clock(), outcome="intended", issuer_id=order.issuer.id, profile=order.profile.name
        )
        await self._db.write(insert_audit, [intent])

    def _issuer(self, issuer_id: str | None) -> Issuer:
        if issuer_id is None:
            return self._issuers.for_issuing(self._issuers.default.id)
        try:
            return self._issuers.for_issuing(issuer_id)
        except NotFound as error:  # in a request it is a field like any other
            raise Invalid(error.message, field="issuer_id", value=issuer_id) from error


def _profile(profiles: Mapping[str, Profile], name: str) -> Profile:
    if name not in profiles:
        message = f"there is no profile {name[:80]!r}; there are {', '.join(profiles)}"
        raise Invalid(message, field="profile", value=name[:80])
    return profiles[name]


def _made(issued: Issued) -> Made:
    return Made(issued.entry, issued.certificate, (issued.issuer.certificate, *issued.issuer.chain), plan=issued.plan)


def _request_of(csr: bytes, wish: Wish) -> CertificateRequest:
    return CertificateRequest.from_csr(
        parse_csr(csr),
        names=wish.names,
        lifetime=wish.lifetime,
        valid_from=wish.valid_from,
        certificate_type=wish.certificate_type,
    )


def _copy_of(certificate: x509.Certificate, wish: Wish) -> CertificateRequest:
    copy = CertificateRequest.from_certificate(certificate, lifetime=wish.lifetime, kind=wish.certificate_type)
    return replace(copy, valid_from=wish.valid_from)


def _with_key_of(request: CertificateRequest, csr: bytes) -> CertificateRequest:
    parsed = parse_csr(csr)
    if request.public_key is not None and public_key_der(parsed.public_key) == public_key_der(request.public_key):
        raise Invalid("the CSR holds the old key: rotate to a new one, or renew", field="csr.public_key")
    return replace(request, public_key=parsed.public_key, key_spec=parsed.key_spec)


def _lifetime_of(old: CertificateRecord, profile: Profile) -> timedelta:
    """So that the whole window, backdate included, is as long as it was: renewed for ever, it must not grow."""
    window = old.not_valid_after - old.not_valid_before
    return min(max(window - profile.backdate, profile.min_lifetime), profile.max_lifetime)


def _same_but_for_key(request: CertificateRequest, csr: bytes) -> CertificateRequest:
    """RFC 7030 §4.2.2: subject and names of a CSR that renews are the certificate's.

    Raises
    ------
    Forbidden
        They are not.
    """
    parsed = parse_csr(csr)
    asked = CertificateRequest.from_csr(parsed)
    if asked.subject and asked.subject != request.subject:
        raise Forbidden("the CSR's subject is not the certificate's", rule="subject", value=_shown(asked.subject))
    had = set(_with_hosts(request.names, request.subject))
    for kind, name in set(_with_hosts(asked.names, request.subject)) ^ had:
        message = f"the {kind} name {name!r} is in the CSR or in the certificate, and not in both"
        raise Forbidden(message, rule="names", value=name)
    return replace(request, public_key=parsed.public_key, key_spec=parsed.key_spec)


def _with_hosts(names: AlternativeNames, subject: Sequence[tuple[ObjectIdentifier, str]]) -> list[tuple[str, str]]:
    for attribute, value in subject:
        host = host_name(value) if attribute == NameOID.COMMON_NAME else None
        names = names if host is None else names.with_host(host)
    return names.items()


def _shown(subject: Sequence[tuple[ObjectIdentifier, str]]) -> str:
    return ",".join(f"{attribute._name}={value}" for attribute, value in subject)[:200]  # noqa: SLF001  # as in ``plan``


def _check_no_ca_key(order: IssuanceOrder) -> None:
    if order.profile.ca:
        message = f"profile {order.profile.name!r} makes CAs, whose keys never leave the service; send a CSR"
        raise Forbidden(message, rule="certificate_authority", value=order.profile.name)


def _raiser(error: TinyCAError) -> Callable[[], CertificateRequest]:
    def read() -> CertificateRequest:
        raise error

    return read
