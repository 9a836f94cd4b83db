"""CRLs: made when something was revoked and well before they end, recorded, then served from memory.

    revoke committed -> publish(issuer): number + snapshot (one transaction) -> sign (thread) -> record -> memory

The snapshot is the whole list; of a large one, what was revoked after the CRL in memory, whose entries the new one has
as they are. What has expired leaves a large CRL when the whole list is read again: at the first CRL an hour later, and
after a hold was lifted or a reason replaced.

The number and the list it stands for come from one transaction that holds the issuer's row, so a higher number never
says less than a lower one, whoever signs first. Making those that are due is a job, which one replica runs; each
process watches for what the others made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import NamedTuple

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.services.issuers import IssuerStore
from app.services.on_demand import OnDemand
from app.services.publication import CRL, LARGE, PEM, PublicFile, crl_pem
from app.services.watching import Watch
from tiny_ca.ca_factory.crl import encode_entries, encoded_entries, sign_crl
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import ContinuedCRL, CRLEntry, CRLSnapshot, RevokedText
from tiny_ca.db.models import CRLRecord, IssuerRecord
from tiny_ca.db.queries.crls import begin_packed_crl, latest_crl, prune_crls, record_crl, this_update_before
from tiny_ca.exc import RegistryUnavailable, TinyCAError, Unavailable

__all__ = ["CRLPublisher", "PublishedCRL"]

_log = structlog.get_logger(__name__)
_KEPT = 10
_CLOSE_SECONDS = 1.0
_WATCH_SECONDS = 10.0
# So long a CRL in memory waits for the database to tell of a newer one: another process may just have revoked.
_LEARN_SECONDS = 3.0
_MAKE_SECONDS = 10.0
# So long a large list is continued; with a third of a CRL's lifetime, where that is less.
_CONTINUED_FOR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class PublishedCRL:
    """The newest CRL of one issuer, in both forms; its window is what the CRL itself says.

    ``pem`` is made for the first who fetches it: of a large CRL it costs as much as all the rest.
    """

    number: int
    this_update: datetime
    next_update: datetime
    revocation_count: int
    created_at: datetime
    der: PublicFile
    pem: OnDemand[PublicFile] = field(repr=False, compare=False)


class CRLPublisher:
    """Makes and serves the CRLs of the loaded issuers.

    ``shared``: other processes write to the same database, so what is in memory may not be the newest.
    """

    def __init__(
        self,
        db: AsyncDBHandler,
        issuers: IssuerStore,
        *,
        lifetime: timedelta,
        shared: bool,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._issuers = issuers
        self._lifetime = lifetime
        self._shared = shared
        self._clock = clock
        self._current: dict[str, PublishedCRL] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, asyncio.Task[None]] = {}
        self._read_whole_at: dict[str, datetime] = {}
        self._watch = Watch(self._reload_all, seconds=_WATCH_SECONDS, failed="crl.reload_failed")

    async def load(self) -> None:
        """Take the newest CRL of every issuer from the database, and make those that are missing or old."""
        await self._reload_all()
        try:
            await self.refresh()
        except ExceptionGroup as failures:  # readiness tells of it, and the job tries again
            _log.warning("crl.refresh_failed", errors=[str(failure) for failure in failures.exceptions])

    def watch(self) -> None:
        """From now on, learn what other processes made also where nobody asks for it; needs a running event loop."""
        if self._shared:
            self._watch.start()

    async def refresh(self) -> int:
        """Make each CRL that is due; returns how many were made. One that fails keeps none of the others from it.

        Raises
        ------
        ExceptionGroup
            Of what kept some of them from being made.
        """
        failures: list[Exception] = []
        made = 0
        for issuer in self._issuers.signing:
            try:
                if await self._is_due(issuer):
                    await self.publish(issuer.id)
                    made += 1
            except TinyCAError as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("CRLs were not made", failures)
        return made

    async def publish(self, issuer_id: str) -> None:
        """Return once a CRL can be fetched whose list was read after this call; callers at the same time share one.

        Raises
        ------
        RegistryUnavailable
            It could not be recorded; the one before it is still served.
        """
        # A CRL that is being made may have read its list already; the one after it has not.
        task = self._waiting.get(issuer_id)
        if task is None:
            task = asyncio.create_task(self._publish_next(issuer_id, self._running.get(issuer_id)))
            self._waiting[issuer_id] = task
        await asyncio.shield(task)

    async def close(self) -> None:
        """Watch no more, and let the CRLs that are being made come to their end; what hangs is not waited for."""
        await self._watch.stop()
        making = {*self._running.values(), *self._waiting.values()}
        if making:
            await asyncio.wait(making, timeout=_CLOSE_SECONDS)

    async def current(self, issuer_id: str) -> PublishedCRL:
        """The newest CRL of this issuer.

        Raises
        ------
        NotFound
            There is no such issuer.
        Unavailable
            The CRL has ended and a new one could not be made: nobody is to trust the old one.
        """
        self._issuers.known(issuer_id)
        # Also where its key was taken offline: whoever did that left a CRL that lasts.
        if self._shared or not self._can_sign(issuer_id):
            await self._learn(issuer_id)
        found = self._current.get(issuer_id)
        if (found is None or found.next_update <= self._clock()) and self._can_sign(issuer_id):
            with suppress(TimeoutError):
                async with asyncio.timeout(_MAKE_SECONDS):
                    await self.publish(issuer_id)
            found = self._current.get(issuer_id)
        if found is None or found.next_update <= self._clock():
            raise Unavailable(f"there is no current CRL of issuer {issuer_id}", retry_after=60)
        return found

    def peek(self, issuer_id: str) -> PublishedCRL | None:
        """What is in memory, be it out of date."""
        return self._current.get(issuer_id)

    async def _publish_next(self, issuer_id: str, before: asyncio.Task[None] | None) -> None:
        if before is not None:
            await asyncio.wait([before])
        # From here on, whoever comes must wait for the next one: our list is about to be read.
        self._running[issuer_id] = self._waiting.pop(issuer_id)
        try:
            await self._make(self._issuers.get(issuer_id))
        finally:
            del self._running[issuer_id]

    async def _make(self, issuer: Issuer) -> None:
        began = self._clock()
        since, entries = self._to_continue(issuer.id)
        snapshot = await self._db.write(begin_packed_crl, issuer.id, now=began, pack=_pack, since=since)
        read, whole = sum(some.number for some in snapshot.revoked), snapshot.whole
        listed = None if whole else entries
        entry = await asyncio.to_thread(_sign, issuer, listed, snapshot, self._lifetime, self._clock())
        del snapshot, listed, entries  # as large as the CRL, which takes its place
        await self._db.write(_record, entry)
        if whole:
            self._read_whole_at[issuer.id] = began
        await self._accept(entry)
        if self._current[issuer.id].created_at != entry.created_at:
            await self._reload(issuer.id)  # another process was faster, or the database has fallen back
        _log.info("crl.published", issuer_id=issuer.id, number=entry.number, entries_read=read, whole=whole)

    def _to_continue(self, issuer_id: str) -> tuple[ContinuedCRL | None, memoryview | None]:
        """The CRL to which the next one may add what came since, and its entries."""
        known = self._current.get(issuer_id)
        read_at = self._read_whole_at.get(issuer_id)
        if known is None or read_at is None or len(known.der.content) < LARGE:
            return None, None
        if self._clock() - read_at >= min(_CONTINUED_FOR, self._lifetime / 3):
            return None, None
        try:
            entries = encoded_entries(known.der.content)
        except ValueError as error:
            _log.error("crl.not_continued", issuer_id=issuer_id, number=known.number, error=str(error))
            return None, None
        return ContinuedCRL(known.number, known.created_at, known.this_update, known.revocation_count), entries

    async def _learn(self, issuer_id: str) -> None:
        """Take what others made, if the database tells soon; what is in memory is good until it ends."""
        for _ in range(2):  # of a process that was paused meanwhile, the first has ended before it could ask
            try:
                async with asyncio.timeout(_LEARN_SECONDS / 2):
                    await self._reload(issuer_id)
            except RegistryUnavailable:
                break
            except TimeoutError:
                continue
            return
        _log.warning("crl.reload_failed", issuer_id=issuer_id)

    async def _reload_all(self) -> None:
        for issuer_id in self._issuers.ids:
            await self._reload(issuer_id)

    async def _reload(self, issuer_id: str) -> None:
        known = self._current.get(issuer_id)
        newest = await self._db.read(_newest, issuer_id)
        if newest is None or (known is not None and newest == (known.number, known.created_at)):
            return
        record = await self._db.read(latest_crl, issuer_id)
        if record is None:
            return
        # What is in memory was on record before. A database that was restored, or a standby that took over, lacks it.
        lost = known if known is not None and record.number <= known.number else None
        if lost is not None:
            _log.error("crl.database_fell_back", issuer_id=issuer_id, number=lost.number, on_record=record.number)
        await self._accept(record, instead_of=lost)

    async def _accept(self, crl: CRLEntry | CRLRecord, *, instead_of: PublishedCRL | None = None) -> None:
        before = await self._db.read(this_update_before, crl.issuer_id, crl.number)
        made = await asyncio.to_thread(_published, crl, dated=before is None or before < crl.this_update)
        known = self._current.get(crl.issuer_id)
        if known is None or known is instead_of or made.number > known.number:
            self._current[crl.issuer_id] = made

    def _can_sign(self, issuer_id: str) -> bool:
        """Whether the issuer's key is here and its certificate has not ended: nobody would believe it after that."""
        return any(
            issuer.id == issuer_id and issuer.not_valid_after > self._clock() for issuer in self._issuers.signing
        )

    async def _is_due(self, issuer: Issuer) -> bool:
        if not self._can_sign(issuer.id):
            return False
        if self._shared:
            await self._reload(issuer.id)  # another replica may have made it
        known = self._current.get(issuer.id)
        if known is None or self._clock() >= known.this_update + (known.next_update - known.this_update) / 3:
            return True
        # A revocation whose process died, or whose database went away, before its CRL was made.
        return await self._db.read(_revocation_count, issuer.id) != known.revocation_count


class _Entries(NamedTuple):
    """Some entries of a CRL, and how many."""

    der: bytes
    number: int


def _pack(rows: Sequence[RevokedText]) -> _Entries:
    return _Entries(encode_entries(rows), len(rows))


def _sign(
    issuer: Issuer, listed: memoryview | None, snapshot: CRLSnapshot[_Entries], lifetime: timedelta, now: datetime
) -> CRLEntry:
    next_update = min(snapshot.this_update + lifetime, issuer.not_valid_after)
    der = sign_crl(
        (listed or b"", *(entries.der for entries in snapshot.revoked)),
        issuer=issuer,
        crl_number=snapshot.number,
        this_update=snapshot.this_update,
        next_update=next_update,
    )
    return CRLEntry(
        issuer_id=issuer.id,
        number=snapshot.number,
        this_update=snapshot.this_update,
        next_update=next_update,
        revocation_count=snapshot.revocation_count,
        der=der,
        created_at=now,
    )


def _record(session: Session, entry: CRLEntry) -> None:
    record_crl(session, entry)
    prune_crls(session, entry.issuer_id, keep=_KEPT)


def _newest(session: Session, issuer_id: str) -> tuple[int, datetime] | None:
    of_issuer = select(CRLRecord.number, CRLRecord.created_at).where(CRLRecord.issuer_id == issuer_id)
    found = session.execute(of_issuer.order_by(CRLRecord.number.desc()).limit(1)).one_or_none()
    return None if found is None else (found.number, found.created_at)


def _revocation_count(session: Session, issuer_id: str) -> int | None:
    return session.scalar(select(IssuerRecord.revocation_count).where(IssuerRecord.id == issuer_id))


def _published(crl: CRLEntry | CRLRecord, *, dated: bool) -> PublishedCRL:
    return PublishedCRL(
        number=crl.number,
        this_update=crl.this_update,
        next_update=crl.next_update,
        revocation_count=crl.revocation_count,
        created_at=crl.created_at,
        der=PublicFile.of(crl.der, CRL, crl.this_update, dated=dated),
        pem=OnDemand(partial(_pem, crl.der, crl.this_update, dated=dated)),
    )


def _pem(der: bytes, this_update: datetime, *, dated: bool) -> PublicFile:
    # Whoever fetches a large one compressed takes the DER.
    return PublicFile.of(crl_pem(der), PEM, this_update, dated=dated, compress=len(der) < LARGE)
