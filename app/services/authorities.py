"""The CAs as operators handle them: made, imported, enabled, made the default, revoked.

check -> (key) -> intent -> sign -> one transaction: CA, certificate, audit row, idempotency key -> load -> first CRL
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog
from cryptography import x509
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.auth.caller import Caller
from app.auth.principal import Permission
from app.services.authority_limits import PROFILE, check_all, check_may_import, check_within
from app.services.authority_records import CRLWindow, keep_made, keep_taken, read_authorities, revoke_authority
from app.services.ca_import import Material, complete
from app.services.ca_keeping import NewCA, check_names_are_free, imported_rows
from app.services.ca_making import certificate_entry, issuer_entry
from app.services.crls import CRLPublisher
from app.services.idempotency import Idempotency
from app.services.issuers import IssuerStore
from app.services.keymaker import KeyMaker
from app.services.records import refusals
from tiny_ca.ca_factory.issuer import Issuer, issuer_id
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.plan import check, plan
from tiny_ca.ca_factory.profiles import Limits, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.models import CertificateRecord, IssuerRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.issuers import (
    change_issuer,
    locked_issuer,
)
from tiny_ca.db.queries.revocations import revoked_among
from tiny_ca.exc import Conflict, Forbidden, Invalid, NotFound
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Authorities", "Authority"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Authority:
    """One CA on record; ``chain`` is itself and those above it, root last. ``own`` is its certificate's record."""

    record: IssuerRecord
    own: CertificateRecord | None
    crl: CRLWindow | None
    chain: tuple[x509.Certificate, ...]


class Authorities:
    """What the holders of ``issuers:read`` and ``issuers:manage`` do; limits to issuers narrow what they see."""

    def __init__(
        self,
        db: AsyncDBHandler,
        *,
        issuers: IssuerStore,
        crls: CRLPublisher,
        profiles: Callable[[], Mapping[str, Profile]],
        clock: Callable[[], datetime],
        blocked_keys: Callable[[], frozenset[str]] = frozenset,
    ) -> None:
        self._db = db
        self._issuers = issuers
        self._crls = crls
        self._profiles = profiles
        self._blocked_keys = blocked_keys
        self._clock = clock
        self._keys = KeyMaker()
        self._idempotency = Idempotency(db, clock)

    async def page(self, caller: Caller) -> list[Authority]:
        """Every CA that the caller may see, oldest first."""
        async with refusals(self._db, caller.audit("issuer.list", self._clock())):
            caller.principal.require(Permission.ISSUERS_READ)
        allowed = caller.principal.limits.issuers
        await self._issuers.refresh()
        return [one for one in await self._read(None) if allowed is None or one.record.id in allowed]

    async def get(self, caller: Caller, issuer_id: str) -> Authority:
        """One CA.

        Raises
        ------
        NotFound, Forbidden
            There is none; it is not the caller's to see.
        """
        async with refusals(self._db, caller.audit("issuer.read", self._clock(), issuer_id=issuer_id[:64])):
            caller.principal.require(Permission.ISSUERS_READ)
            check_within(caller, issuer_id)
        await self._issuers.refresh()
        return await self._find(issuer_id)

    async def create(self, caller: Caller, request: CertificateRequest, parent_id: str | None) -> Authority:
        """Make a CA below another: its key is made here and stays here.

        Without a ``parent_id`` it stands below the root of the default issuer. A path length not asked for is 0; a
        lifetime not asked for is the profile's, or what the parent leaves of it.

        Raises
        ------
        Forbidden
            The profile ``intermediate``, the caller's limits or the parent say no.
        Conflict
            The parent's key is not here, or it is disabled or revoked.
        Invalid, Unavailable
            There is no such parent; the key or the record could not be made.
        """
        detail = {"common_name": request.common_name}
        audit = caller.audit("issuer.create", self._clock(), profile=PROFILE, detail=detail)
        async with refusals(self._db, audit):
            caller.principal.require(Permission.ISSUERS_MANAGE)
            check_all(caller)
            return await self._once(caller, lambda: self._create(caller, request, parent_id, audit))

    async def take(self, caller: Caller, read: Callable[[], Material]) -> Authority:
        """Import a CA that was made elsewhere; ``read`` takes it out of the request, in a thread.

        The CAs above it that are not known yet are kept without a key. What it revoked elsewhere is on no CRL of ours.

        Raises
        ------
        Invalid
            It is no CA that can work here; ``field`` is the part that is wrong.
        Forbidden
            The caller is limited to some issuers or names, or its key is blocked.
        Conflict
            It is there already, or a name or a serial number in its chain is another's.
        """
        audit = caller.audit("issuer.import", self._clock())
        async with refusals(self._db, audit):
            caller.principal.require(Permission.ISSUERS_MANAGE)
            check_may_import(caller)
            return await self._once(caller, lambda: self._take(caller, read, audit))

    async def change(
        self, caller: Caller, issuer_id: str, *, enabled: bool | None = None, make_default: bool = False
    ) -> Authority:
        """Enable, disable, make the default; here at once, in other processes within about a second.

        Raises
        ------
        NotFound, Forbidden
            There is none; it, or the default that it would replace, is not the caller's to manage.
        Conflict
            It cannot be the default: it is disabled, revoked or has ended, or its key is not here.
        """
        detail = {"enabled": enabled, "default": make_default or None}
        audit = caller.audit("issuer.change", self._clock(), issuer_id=issuer_id[:64], detail=detail)
        async with refusals(self._db, audit):
            caller.principal.require(Permission.ISSUERS_MANAGE)
            check_within(caller, issuer_id)
            await self._issuers.refresh()
            above = self._issuers.known(issuer_id)
            if make_default:
                self._check_ends(above)
            await self._db.write(self._change, caller, audit, above, enabled=enabled, make_default=make_default)
        await self._issuers.refresh()
        return await self._find(issuer_id)

    async def revoke(self, caller: Caller, issuer_id: str, reason: x509.ReasonFlags) -> Authority:
        """Revoke an intermediate, and return once its parent's CRL says so. A compromised key is blocked for good.

        Raises
        ------
        NotFound, Forbidden, Invalid
            There is none; it is not the caller's to manage; ``removeFromCRL``.
        Conflict
            It is a root, has expired or is revoked for another reason, or its parent's key is not here.
        """
        audit = caller.audit("issuer.revoke", self._clock(), issuer_id=issuer_id[:64], detail={"reason": reason.value})
        async with refusals(self._db, audit):
            caller.principal.require(Permission.ISSUERS_MANAGE)
            check_within(caller, issuer_id)
            await self._issuers.refresh()
            above = self._issuers.known(issuer_id)
            if len(above) == 1:
                raise Conflict("a root cannot be revoked: no CRL of its own could be believed; disable it instead")
            parent = _id(above[1])
            self._require_key(parent, "no CRL could show the revocation; meanwhile, disable the issuer")
            serial = above[0].serial_number
            found = replace(audit, serial_number=str(serial))
            await self._db.write(revoke_authority, serial, reason, now=self._clock(), audit=found)
        await self._issuers.refresh()
        # Also where nothing changed: the first try may have ended between its commit and its CRL.
        await self._crls.publish(parent)
        return await self._find(issuer_id)

    async def publish_crl(self, caller: Caller, issuer_id: str) -> tuple[CRLWindow, bytes]:
        """Make a CRL now: its window, and the CRL in PEM.

        Raises
        ------
        NotFound, Forbidden
            There is none; it is not the caller's to manage.
        Conflict
            Its key is not here, or it has ended.
        """
        audit = caller.audit("issuer.crl", self._clock(), issuer_id=issuer_id[:64])
        async with refusals(self._db, audit):
            caller.principal.require(Permission.ISSUERS_MANAGE)
            check_within(caller, issuer_id)
            await self._issuers.refresh()
            self._issuers.known(issuer_id)
            issuer = self._require_key(issuer_id, "it signs no CRL")
            if issuer.not_valid_after <= self._clock():
                raise Conflict(
                    f"issuer {issuer_id} ended {rfc3339(issuer.not_valid_after)}: nobody would believe its CRL"
                )
        await self._crls.publish(issuer_id)
        crl = await self._crls.current(issuer_id)
        await self._db.write(insert_audit, [replace(audit, detail={"number": crl.number})])
        return CRLWindow(crl.number, crl.this_update, crl.next_update), (await crl.pem.get()).content

    async def _once(self, caller: Caller, make: Callable[[], Awaitable[Authority]]) -> Authority:
        """What the caller's idempotency key stands for; where it stands for nothing yet, what is made now."""
        earlier = await self._earlier(caller)
        if earlier is not None:
            return earlier
        try:
            return await make()
        except (Forbidden, Conflict):
            # The same request, sent twice at once, was faster: then its CA is in the way of this one.
            earlier = await self._earlier(caller)
            if earlier is None:
                raise
            return earlier

    async def _create(
        self, caller: Caller, request: CertificateRequest, parent_id: str | None, audit: AuditEntry
    ) -> Authority:
        await self._issuers.refresh()
        now, limits = self._clock(), caller.principal.limits
        parent, profile = self._parent(parent_id), self._profile()
        wanted = replace(
            request,
            path_length=0 if request.path_length is None else request.path_length,
            lifetime=request.lifetime or _lifetime(profile, limits, parent, now),
        )
        check(wanted, profile=profile, limits=limits, issuer=parent, now=now)
        # 1. The key.
        private_key = await self._keys.make(request.key_spec)
        # 2. Before a CA's certificate is signed, it is written down that it shall be.
        audit = replace(audit, detail={**(audit.detail or {}), "parent": parent.id})
        await self._db.write(insert_audit, [replace(audit, outcome="intended")])
        # 3. Sign.
        ready = replace(wanted, public_key=private_key.public_key())
        made = await asyncio.to_thread(
            lambda: sign_certificate(plan(ready, profile=profile, limits=limits, issuer=parent, now=now))
        )
        # 4. One transaction.
        new = await asyncio.to_thread(self._new, made, private_key, parent.id, caller, now)
        if not await self._db.write(keep_made, new, parent, audit, caller, now=now):
            return await self._taken(caller)
        return await self._begin(new.issuers[-1].id)

    async def _take(self, caller: Caller, read: Callable[[], Material], audit: AuditEntry) -> Authority:
        await self._issuers.refresh()
        now = self._clock()
        known = {one: self._issuers.known(one)[0] for one in self._issuers.ids}
        # 1. What was sent is a CA that can work here, and its chain is whole.
        material, above = await asyncio.to_thread(_read_and_check, read, tuple(known.values()), now)
        # 2. It is new.
        self._check_new((material.certificate, *above), known)
        # 3. One transaction.
        new = await asyncio.to_thread(
            imported_rows, material, above, known, encrypt=self._issuers.encrypt, requester=caller.principal.id, now=now
        )
        for blocked in self._blocked_keys() & {entry.spki_sha256 for entry in new.certificates}:
            message = f"the key {blocked} is on the service's list of blocked keys"
            raise Forbidden(message, rule="key_blocked", value=blocked)
        audit = replace(
            audit,
            issuer_id=new.issuers[-1].id,
            serial_number=new.certificates[-1].serial_number,
            detail={
                "subject": material.certificate.subject.rfc4514_string(),
                "issuers": [entry.id for entry in new.issuers],
            },
        )
        if not await self._db.write(keep_taken, new, above, audit, caller, now=now):
            return await self._taken(caller)
        return await self._begin(new.issuers[-1].id)

    def _parent(self, parent_id: str | None) -> Issuer:
        identifier = parent_id or _id(self._issuers.known(self._issuers.default.id)[-1])
        try:
            self._issuers.known(identifier)
        except NotFound as error:  # in a request it is a field like any other
            raise Invalid(error.message, field="parent_id", value=identifier) from error
        self._require_key(identifier, "it signs no CA below it")
        return self._issuers.for_issuing(identifier)

    def _require_key(self, identifier: str, so: str) -> Issuer:
        try:
            return self._issuers.get(identifier)
        except Conflict:
            name = self._issuers.known(identifier)[0].subject.rfc4514_string()
            message = (
                f"the key of issuer {identifier} ({name}) is not here, so {so}. "
                "Bring a root's key back with 'tiny-ca root import FILE', do this, and take it away again with "
                "'tiny-ca root export --remove --out FILE'"
            )
            raise Conflict(message) from None

    def _profile(self) -> Profile:
        """How long the path below may be is the parent's to say: the profile's bound is for CAs made from a CSR."""
        profiles = self._profiles()
        if PROFILE not in profiles:
            raise Conflict(f"the profile {PROFILE!r} is not there: it says what CAs may be made")
        return replace(profiles[PROFILE], path_length=None)

    def _new(
        self, certificate: x509.Certificate, private_key: PrivateKey, parent_id: str, caller: Caller, now: datetime
    ) -> NewCA:
        entry = issuer_entry(
            certificate, private_key_pem=self._issuers.encrypt(private_key), parent_id=parent_id, now=now
        )
        record = certificate_entry(
            certificate, issuer=parent_id, profile=PROFILE, requester=caller.principal.id, now=now
        )
        return NewCA((entry,), (record,))

    def _check_new(self, path: Sequence[x509.Certificate], known: Mapping[str, x509.Certificate]) -> None:
        if _id(path[0]) in known:
            message = f"the CA is there already, as issuer {_id(path[0])}"
            if all(issuer.id != _id(path[0]) for issuer in self._issuers.signing):
                message += "; its key is not here: where it is a root, bring it with 'tiny-ca root import FILE'"
            raise Conflict(message)
        check_names_are_free(path, known)

    def _check_ends(self, above: Sequence[x509.Certificate]) -> None:
        ends = min(one.not_valid_after_utc for one in above)
        if ends <= self._clock():
            raise Conflict(f"issuer {_id(above[0])}, or a CA above it, ended {rfc3339(ends)}: it cannot be the default")

    def _change(
        self,
        session: Session,
        caller: Caller,
        audit: AuditEntry,
        above: Sequence[x509.Certificate],
        *,
        enabled: bool | None,
        make_default: bool,
    ) -> None:
        """One transaction: the change and its audit row; where nothing changes, neither."""
        record = locked_issuer(session, _id(above[0]))
        if enabled in {None, record.enabled} and (not make_default or record.is_default):
            return
        if make_default and not record.is_default:
            allowed = caller.principal.limits.issuers
            before = session.scalar(select(IssuerRecord.id).where(IssuerRecord.is_default.is_(True)))
            if allowed is not None and before is not None and before not in allowed:
                message = f"{caller.principal.id} may not take the default from issuer {before}"
                raise Forbidden(message, rule="issuer", value=before)
            if not (record.enabled if enabled is None else enabled):
                raise Conflict(f"issuer {record.id} is disabled: enable it before it becomes the default")
            if record.private_key_pem is None:
                raise Conflict(f"the key of issuer {record.id} is not here: it cannot become the default")
            if revoked_among(session, [one.serial_number for one in above]):
                raise Conflict(f"issuer {record.id}, or a CA above it, is revoked: it cannot become the default")
        change_issuer(session, record.id, enabled=enabled, make_default=make_default)
        insert_audit(session, [audit])

    async def _begin(self, identifier: str) -> Authority:
        """The new CA works from here on: it is loaded, and its first CRL can be fetched."""
        await self._issuers.refresh()
        await self._crls.publish(identifier)
        _log.info("issuer.created", issuer_id=identifier)
        return await self._find(identifier)

    async def _earlier(self, caller: Caller) -> Authority | None:
        """What an earlier request with this idempotency key made.

        Raises
        ------
        Conflict
            The key was given to another request.
        """
        outcome = await self._idempotency.earlier(caller)
        if outcome is None:
            return None
        await self._issuers.refresh()
        found = await self._find(str(outcome["id"]))
        if found.crl is not None or not any(issuer.id == found.record.id for issuer in self._issuers.signing):
            return found
        return await self._begin(found.record.id)  # the first try ended between its commit and its CRL

    async def _taken(self, caller: Caller) -> Authority:
        earlier = await self._earlier(caller)
        if earlier is None:  # it has had its day just now
            raise Conflict("the Idempotency-Key was taken and has just expired; send the request again")
        return earlier

    async def _find(self, identifier: str) -> Authority:
        for found in await self._read(identifier):
            return found
        raise NotFound(f"there is no issuer {identifier[:64]!r}")

    async def _read(self, identifier: str | None) -> list[Authority]:
        rows = await self._db.read(read_authorities, identifier)
        # A CA that came between the two readings is in the next answer.
        return [
            Authority(record, own, crl, self._issuers.known(record.id))
            for record, own, crl in rows
            if record.id in self._issuers.ids
        ]


def _id(certificate: x509.Certificate) -> str:
    return issuer_id(certificate)


def _lifetime(profile: Profile, limits: Limits, parent: Issuer, now: datetime) -> timedelta:
    """How long a CA lives that was not asked to live for a certain time."""
    left = timedelta(seconds=(parent.not_valid_after - now) // timedelta(seconds=1))
    bounds = (profile.default_lifetime, left, *([] if limits.max_lifetime is None else [limits.max_lifetime]))
    return max(min(bounds), timedelta(seconds=1))


def _read_and_check(
    read: Callable[[], Material], known: Sequence[x509.Certificate], now: datetime
) -> tuple[Material, tuple[x509.Certificate, ...]]:
    material = read()
    return material, complete(material, known, now=now)
