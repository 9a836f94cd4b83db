"""The batching pipeline: certificates asked for at the same time share one thread hop and one durable transaction.

    submit -> queue -> [batch: plan, lint, sign in a thread -> one commit] -> every waiter gets its own answer

Nothing waits for a batch to fill: whatever has arrived by the time the last one is answered is the next. A request that
is refused, or fails, takes no other with it. Nobody gets a certificate before its row is on disk.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Session

from app.auth.caller import Caller
from app.metrics import Metrics
from app.services.idempotency import ANOTHER_REQUEST, BATCH_OUTCOME, certificate_outcome
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.keys import PublicKey, public_key_der
from tiny_ca.ca_factory.names import host_name
from tiny_ca.ca_factory.plan import Plan, plan
from tiny_ca.ca_factory.profiles import Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signing import sign_certificates
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, CertificateEntry, IdempotencyClaim
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.blocked_keys import blocked_among
from tiny_ca.db.queries.certificates import insert_certificates
from tiny_ca.db.queries.idempotency import claim_keys, claimed
from tiny_ca.db.queries.issuers import issuer_state
from tiny_ca.db.queries.obstacles import is_obstructed
from tiny_ca.db.queries.revocations import revoked_among
from tiny_ca.exc import Conflict, Forbidden, Invalid, TinyCAError, Unavailable
from tiny_ca.utils.stages import attempt_each

__all__ = ["IssuanceOrder", "IssuancePipeline", "Issued", "Repeated", "claimed_name", "key_sha256"]

_CLOSE_SECONDS: Final = 1.0
_ALL: Final = slice(None)
# Of the event loop, with no new request: one may take two until it is in the queue.
_QUIET_TURNS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuanceOrder:
    """One certificate to be made. ``read`` does the costly part of reading the request, in the batch's thread.

    ``beside`` is what must happen in the transaction that records the certificate, and may change its entry: to the one
    that it succeeds. ``holds_secret``: the answer will hold a private key, and cannot be given twice. ``requester``:
    whose it is on record; the caller's unless set.
    """

    read: Callable[[], CertificateRequest]
    profile: Profile
    issuer: Issuer
    caller: Caller
    action: str = "certificate.issue"
    beside: Callable[[Session, CertificateEntry, datetime], CertificateEntry] | None = None
    holds_secret: bool = False
    requester: str | None = None


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate whose record is durable, and who issued it."""

    certificate: x509.Certificate
    entry: CertificateEntry
    order: IssuanceOrder
    audit: AuditEntry
    plan: Plan

    @property
    def issuer(self) -> Issuer:
        """The CA that signed it."""
        return self.order.issuer


@dataclass(frozen=True, slots=True)
class _Refused:
    error: Exception
    audit: AuditEntry | None


@dataclass(frozen=True, slots=True)
class _Repeated:
    """Another request with this idempotency key was faster: what was signed for this one is thrown away."""

    order: IssuanceOrder
    audit: None = None


_Outcome = Issued | _Refused | _Repeated


class Repeated(Exception):
    """The request's idempotency key stands for something already."""


class IssuancePipeline:
    """One worker over a bounded queue. ``max_batch`` 1 gives every certificate its own hop and its own commit.

    ``patience``: seconds from the queue to the answer; who waits longer, behind a batch that hangs, is told so.
    ``blocked_keys``: SHA-256 of SubjectPublicKeyInfo in hex; what is put in its place counts from the next batch on.
    """

    def __init__(
        self,
        db: AsyncDBHandler,
        *,
        max_batch: int,
        max_waiting: int,
        metrics: Metrics,
        clock: Callable[[], datetime],
        blocked_keys: frozenset[str] = frozenset(),
        patience: float | None = None,
    ) -> None:
        self._db = db
        self._patience = patience
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._metrics = metrics
        self._clock = clock
        self.blocked_keys = blocked_keys
        self._queue: deque[tuple[IssuanceOrder, asyncio.Future[Issued]]] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._worker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work; needs a running event loop."""
        self._worker = asyncio.create_task(self._work(), name="issuance")

    async def close(self) -> None:
        """Finish what is queued, take nothing more; a database that hangs is not waited for."""
        self._closing = True
        self._arrived.set()
        if self._worker is not None:
            await asyncio.wait([self._worker], timeout=_CLOSE_SECONDS)
            self._worker.cancel()

    def give_up(self) -> None:
        """The service stops and time is short: whoever still waits for a batch is told so."""
        self._closing = True
        while self._queue:
            _, future = self._queue.popleft()
            if not future.done():
                future.set_exception(Unavailable("the service stops; nothing was issued", retry_after=5))

    async def submit(self, order: IssuanceOrder) -> Issued:
        """Make one certificate; it is durable when this returns.

        Raises
        ------
        Unavailable
            The queue is full, the service is stopping, or the database did not keep the record, or not in time.
        Repeated
            The request's idempotency key stands for something already; nothing was issued.
        TinyCAError
            The request is refused.
        """
        if self._closing or len(self._queue) >= self._max_waiting:
            self._metrics.overloaded.inc()
            raise Unavailable("the service is at its limit; try again in a second", retry_after=1)
        future: asyncio.Future[Issued] = asyncio.get_running_loop().create_future()
        self._queue.append((order, future))
        self._metrics.queue_depth.set(len(self._queue))
        self._arrived.set()
        if self._patience is None:
            return await future
        late = asyncio.get_running_loop().call_later(self._patience, self._is_late, future)
        try:
            return await future
        finally:
            late.cancel()

    def _is_late(self, future: asyncio.Future[Issued]) -> None:
        if not future.done():
            message = f"no certificate within {self._patience:g} seconds"
            future.set_exception(Unavailable(f"{message}; ask again, under an Idempotency-Key nothing is made twice"))

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            while batch := await self._next_batch():
                self._metrics.batch_size.observe(len(batch))
                await self._serve(batch)
            self._arrived.clear()
            if self._closing:
                return

    async def _next_batch(self) -> list[tuple[IssuanceOrder, asyncio.Future[Issued]]]:
        """What waits, as far as a batch takes it; nothing is signed for a client that has gone."""
        await self._let_arrive()
        batch: list[tuple[IssuanceOrder, asyncio.Future[Issued]]] = []
        while self._queue and len(batch) < self._max_batch:
            order, future = self._queue.popleft()
            if not future.done():
                batch.append((order, future))
        self._metrics.queue_depth.set(len(self._queue))
        return batch

    async def _let_arrive(self) -> None:
        """Let the event loop read what has come in already, for as long as it finds more: no clock is waited for.

        Whoever got an answer from the last batch asks again while it is sent to the others. Begun with the first of
        them, each batch of thirty would be followed by one of two, which costs as much time on disk.
        """
        waiting, quiet = 0, 0
        while quiet < _QUIET_TURNS and len(self._queue) < self._max_batch and (waiting or self._queue):
            quiet = quiet + 1 if len(self._queue) == waiting else 0
            waiting = len(self._queue)
            await asyncio.sleep(0)

    async def _serve(self, batch: Sequence[tuple[IssuanceOrder, asyncio.Future[Issued]]]) -> None:
        making = _Making(batch, self._clock(), self.blocked_keys)
        try:
            outcomes = await self._make_and_keep(making)
        except Exception as error:  # noqa: BLE001  # the worker must outlive any failure; each waiter gets it
            # Who needed no record is told what they would have been told anyway.
            outcomes = [one if one.audit is None else _Refused(error, None) for one in making.outcomes]
            outcomes = outcomes or [_Refused(error, None)] * len(batch)
        for (order, future), outcome in zip(batch, outcomes, strict=True):
            self._count(order, outcome)
            if future.done():  # they went away while it was recorded; it is there like any other
                continue
            match outcome:
                case Issued():
                    future.set_result(outcome)
                case _Repeated():
                    future.set_exception(Repeated())
                case _:
                    future.set_exception(outcome.error)

    async def _make_and_keep(self, making: _Making) -> list[_Outcome]:
        """Sign a batch and record it in one transaction, in one thread where units of work run in threads."""
        if self._db.runs_in_threads:
            return await self._keep(making, _ALL)
        await asyncio.to_thread(making.make)
        # An unreadable request is told so, whatever the database does.
        return making.outcomes if _needs_no_record(making.outcomes) else await self._keep(making, _ALL)

    async def _keep(self, making: _Making, part: slice) -> list[_Outcome]:
        """Record a part of a batch in one transaction; where one record cannot be kept, each gets one of its own."""
        try:
            return await self._db.write(_make_and_record, making, part, now=self._clock())
        except (Conflict, Forbidden, Invalid) as error:
            several = range(len(making.outcomes))[part]
            if len(several) > 1:
                return [await self._keep_one(making, number) for number in several]
            (outcome,) = making.outcomes[part]
            if not isinstance(outcome, Issued):
                raise
            making.outcomes[part] = [_refusal(outcome.order, error, self._clock())]
            return await self._keep(making, part)

    async def _keep_one(self, making: _Making, number: int) -> _Outcome:
        """Record one alone: what becomes of it, and of those after it, changes nothing for those before it."""
        try:
            (kept,) = await self._keep(making, slice(number, number + 1))
        except Exception as error:  # noqa: BLE001  # its waiter gets it
            return _Refused(error, None)
        return kept

    def _count(self, order: IssuanceOrder, outcome: _Outcome) -> None:
        if isinstance(outcome, Issued):
            self._metrics.issued.labels(order.profile.name).inc()
        elif isinstance(outcome, _Repeated):
            self._metrics.repeated.inc()
        elif isinstance(outcome.error, TinyCAError) and not isinstance(outcome.error, Unavailable):
            rule = outcome.error.rule if isinstance(outcome.error, Forbidden) else type(outcome.error).__name__
            self._metrics.refused.labels(order.profile.name, rule).inc()


class _Making:
    """What becomes of a batch of orders: once, however often its unit of work has to run."""

    def __init__(
        self,
        batch: Sequence[tuple[IssuanceOrder, asyncio.Future[Issued]]],
        now: datetime,
        blocked_keys: frozenset[str],
    ) -> None:
        self._batch = batch
        self._now = now
        self._blocked_keys = blocked_keys
        self.outcomes: list[_Outcome] = []

    def make(self) -> list[_Outcome]:
        """Plan, lint and sign, unless that is done."""
        if not self.outcomes:
            self.outcomes = _make_all([order for order, _ in self._batch], self._now, self._blocked_keys)
        return self.outcomes

    def wanted(self, part: slice) -> list[_Outcome]:
        """A part of what was made, without certificates of those who were told that there is none, or are gone."""
        return [
            _Refused(Unavailable("nobody waits for it any more"), None)
            if isinstance(outcome, Issued) and future.done()
            else outcome
            for outcome, (_, future) in zip(self.outcomes[part], self._batch[part], strict=True)
        ]


def _make_all(orders: Sequence[IssuanceOrder], now: datetime, blocked_keys: frozenset[str]) -> list[_Outcome]:
    """One request's failure is that request's alone."""
    requests = attempt_each(lambda order: order.read(), orders)
    plans = attempt_each(lambda request, order: _plan(request, order, now, blocked_keys), requests, orders)
    certificates = sign_certificates(plans)
    issued = attempt_each(
        lambda certificate, made, order: _issued(certificate, made, order, now), certificates, plans, orders
    )
    return [
        _refusal(order, made, now) if isinstance(made, Exception) else made
        for order, made in zip(orders, issued, strict=True)
    ]


def _plan(request: CertificateRequest, order: IssuanceOrder, now: datetime, blocked_keys: frozenset[str]) -> Plan:
    made = plan(request, profile=order.profile, limits=order.caller.principal.limits, issuer=order.issuer, now=now)
    _check_listed(made, blocked_keys)
    return made


def _issued(certificate: x509.Certificate, made: Plan, order: IssuanceOrder, now: datetime) -> Issued:
    entry = _entry(made, certificate, order, now)
    audit = _audit(order, now, outcome="success", serial_number=entry.serial_number)
    return Issued(certificate, entry, order, audit, made)


def _entry(made: Plan, certificate: x509.Certificate, order: IssuanceOrder, now: datetime) -> CertificateEntry:
    """What ``CertificateEntry.of`` reads from the certificate: lint has just read it, and found it to be as planned."""
    return CertificateEntry(
        serial_number=str(made.serial_number),
        common_name=made.common_name,
        not_valid_before=made.not_valid_before,
        not_valid_after=made.not_valid_after,
        key_type=made.certificate_type.value,
        certificate_pem=certificate.public_bytes(Encoding.PEM).decode("ascii"),
        fingerprint_sha256=certificate.fingerprint(SHA256()).hex(),
        spki_sha256=_sha256(made.public_key_info),
        names=tuple(made.names.items()),
        created_at=now,
        issuer_id=order.issuer.id,
        profile=order.profile.name,
        requester=order.requester or order.caller.principal.id,
        unique_name=claimed_name(made.common_name) if order.profile.unique_common_name else None,
    )


def key_sha256(public_key: PublicKey) -> str:
    """What a key is blocked by: SHA-256 of its SubjectPublicKeyInfo, in hex."""
    return _sha256(public_key_der(public_key))


def _sha256(encoded: bytes) -> str:
    return hashlib.sha256(encoded).hexdigest()


def _check_listed(made: Plan, blocked_keys: frozenset[str]) -> None:
    """The operator's own list; the registry's is looked at in the transaction that records the certificate."""
    if not blocked_keys:
        return
    key = _sha256(made.public_key_info)
    if key in blocked_keys:
        raise Forbidden(
            f"the key {key} is on the service's list of blocked keys: make a new key", rule="key_blocked", value=key
        )


def claimed_name(name: str | None) -> str | None:
    """A common name in the one form that every spelling of it shares."""
    return None if name is None else str(host_name(name) or name.casefold())


def _refusal(order: IssuanceOrder, error: Exception, now: datetime) -> _Refused:
    """A refusal by policy or by state has an audit row; an unreadable request is counted, not audited."""
    if isinstance(error, Forbidden):
        return _Refused(
            error, _audit(order, now, outcome="refused", rule=error.rule, detail={"message": error.message})
        )
    if isinstance(error, Conflict):
        return _Refused(
            error, _audit(order, now, outcome="refused", rule="conflict", detail={"message": error.message})
        )
    return _Refused(error, None)


def _audit(order: IssuanceOrder, now: datetime, **facts: Any) -> AuditEntry:  # noqa: ANN401  # AuditEntry checks them
    return order.caller.audit(order.action, now, issuer_id=order.issuer.id, profile=order.profile.name, **facts)


def _make_and_record(session: Session, making: _Making, part: slice, *, now: datetime) -> list[_Outcome]:
    """Sign before there is a transaction; who gave up while others kept it from beginning has nothing on record."""
    making.make()
    if _needs_no_record(making.outcomes[part]):
        return making.outcomes[part]
    session.connection()
    return _record(session, making.wanted(part), now=now)


def _record(session: Session, outcomes: Sequence[_Outcome], *, now: datetime) -> list[_Outcome]:
    """One transaction: the certificates, an audit row for each, and an audit row for each refusal.

    What had an idempotency key that was taken meanwhile comes back as ``_Repeated``, and leaves nothing.

    Raises
    ------
    Conflict
        A CA that signed them is revoked by now, whoever revoked it: what another process did counts from its commit on.
    Forbidden
        A key among them is blocked.
    """
    kept = _claim_keys(session, outcomes, now)
    issued = [outcome for outcome in kept if isinstance(outcome, Issued)]
    if issued:
        _check_state(session, issued)
        entries = [
            outcome.order.beside(session, outcome.entry, now) if outcome.order.beside else outcome.entry
            for outcome in issued
        ]
        insert_certificates(session, entries, now=now)
    insert_audit(session, [outcome.audit for outcome in kept if outcome.audit is not None])
    return kept


def _needs_no_record(outcomes: Sequence[_Outcome]) -> bool:
    return all(outcome.audit is None for outcome in outcomes)


def _claim_keys(session: Session, outcomes: Sequence[_Outcome], now: datetime) -> list[_Outcome]:
    claims = [
        (claim, certificate_outcome(outcome.entry.serial_number, secret=outcome.order.holds_secret))
        for outcome in outcomes
        if isinstance(outcome, Issued) and (claim := outcome.order.caller.claim) is not None
    ]
    if not claims:
        return list(outcomes)
    _claim_wholes(session, {claim.whole for claim, _ in claims if claim.part_of is not None}, now)
    free = iter(claim_keys(session, claims, now=now))

    def is_taken(issued: Issued) -> bool:
        return issued.order.caller.claim is not None and not next(free)

    return [
        _Repeated(outcome.order) if isinstance(outcome, Issued) and is_taken(outcome) else outcome
        for outcome in outcomes
    ]


def _claim_wholes(session: Session, wholes: set[IdempotencyClaim], now: datetime) -> None:
    """With the first part that is made, the key is the batch's.

    Raises
    ------
    Conflict
        Another request got it meanwhile.
    """
    asked = sorted(wholes, key=lambda claim: (claim.actor, claim.key))
    for whole, free in zip(asked, claim_keys(session, [(one, BATCH_OUTCOME) for one in asked], now=now), strict=True):
        found = None if free else claimed(session, whole, now=now)
        if found is not None and found.request_sha256 != whole.request_sha256:
            raise Conflict(ANOTHER_REQUEST)


def _check_state(session: Session, issued: Sequence[Issued]) -> None:
    issuers = {outcome.issuer.id: outcome.issuer for outcome in issued}
    authorities = {one.serial_number for issuer in issuers.values() for one in (issuer.certificate, *issuer.chain)}
    keys = {outcome.entry.spki_sha256 for outcome in issued}
    if is_obstructed(session, authorities=authorities, issuers=issuers.keys(), keys=keys):
        _check_issuers(session, issuers.values())
        _check_keys(session, keys)


def _check_keys(session: Session, keys: Collection[str]) -> None:
    for blocked in blocked_among(session, keys):
        message = f"the key {blocked} was revoked as compromised: make a new key"
        raise Forbidden(message, rule="key_blocked", value=blocked)


def _check_issuers(session: Session, issuers: Iterable[Issuer]) -> None:
    for issuer in issuers:
        above = [certificate.serial_number for certificate in (issuer.certificate, *issuer.chain)]
        if revoked_among(session, above):
            raise Conflict(f"issuer {issuer.id}, or a CA above it, is revoked")
        state = issuer_state(session, issuer.id)
        if state not in {None, (True, True)}:
            raise Conflict(f"issuer {issuer.id} {'has its key offline' if state[0] else 'is disabled'}")
