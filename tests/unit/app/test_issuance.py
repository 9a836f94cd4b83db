"""The batching pipeline, over a real database."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from app.metrics import Metrics
from app.services.issuance import IssuancePipeline, Issued
from app.settings import Settings
from tests.unit.app.conftest import OpenCA
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.db.models import AuditRecord, CertificateRecord
from tiny_ca.exc import Forbidden, NotUniqueCertOwner, RegistryUnavailable, Unavailable

pytestmark = pytest.mark.anyio


def _count(session: Session, model: Any) -> int:  # noqa: ANN401  # any mapped class
    return session.scalar(select(func.count()).select_from(model)) or 0


def _audited(session: Session, outcome: str) -> list[str | None]:
    rows = session.scalars(
        select(AuditRecord).where(AuditRecord.action == "certificate.issue", AuditRecord.outcome == outcome)
    )
    return [row.rule for row in rows]


@contextmanager
def _commits() -> Any:  # noqa: ANN401  # the list grows while the block runs
    seen: list[None] = []

    def count(_connection: object) -> None:
        seen.append(None)

    event.listen(Engine, "commit", count)
    try:
        yield seen
    finally:
        event.remove(Engine, "commit", count)


async def _all(pipeline: IssuancePipeline, *orders: Any) -> list[Issued | BaseException]:  # noqa: ANN401
    """Submit at once, so that all of them wait for the same batch, then work them off."""
    waiting = [asyncio.create_task(pipeline.submit(order)) for order in orders]
    await asyncio.sleep(0)
    pipeline.start()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    await pipeline.close()
    return answers


async def test_requests_that_wait_together_share_one_commit(ca: OpenCA) -> None:
    """Twenty certificates asked for at the same time are in the database after a single commit."""
    before = await ca.db.read(_count, CertificateRecord)
    with _commits() as commits:
        answers = await _all(ca.pipeline(), *(ca.order() for _ in range(20)))
    assert all(isinstance(answer, Issued) for answer in answers)
    assert len(commits) == 1
    assert await ca.db.read(_count, CertificateRecord) == before + 20


async def test_batching_off_commits_each(ca: OpenCA) -> None:
    """With batches of one, each certificate has a transaction of its own."""
    with _commits() as commits:
        await _all(ca.pipeline(max_batch=1), *(ca.order() for _ in range(5)))
    assert len(commits) == 5


async def test_a_refusal_takes_nobody_with_it(ca: OpenCA) -> None:
    """One request of a batch is refused, the others get their certificates, and both are audited."""
    bad = ca.order("not a host")
    answers = await _all(ca.pipeline(), ca.order(), bad, ca.order())
    assert [type(answer) for answer in answers] == [Issued, Forbidden, Issued]
    assert await ca.db.read(_audited, "refused") == ["common_name"]
    assert await ca.db.read(_audited, "success") == [None, None]


async def test_a_request_that_breaks_takes_nobody_with_it(ca: OpenCA) -> None:
    """A defect that one request meets is that request's failure alone."""

    def broken() -> CertificateRequest:
        raise ZeroDivisionError

    answers = await _all(ca.pipeline(), ca.order(), replace(ca.order(), read=broken), ca.order())
    assert [type(answer) for answer in answers] == [Issued, ZeroDivisionError, Issued]


async def test_of_two_that_claim_one_name_in_a_batch_one_wins(ca: OpenCA) -> None:
    """Under a profile with unique common names a batch keeps one claim and the neighbours, and refuses the other."""
    unique = replace(BUILT_IN_PROFILES["server"], unique_common_name=True)
    answers = await _all(
        ca.pipeline(), ca.order(profile=unique), ca.order("b.example.org", unique), ca.order(profile=unique)
    )
    assert [type(answer) for answer in answers] == [Issued, Issued, NotUniqueCertOwner]
    assert await ca.db.read(_audited, "refused") == ["conflict"]


async def test_no_certificate_without_its_record(ca: OpenCA, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database does not keep the batch, every caller gets Unavailable and the next batch works again."""
    pipeline = ca.pipeline()
    write = ca.db.write

    async def full(*_args: object, **_kwargs: object) -> None:
        raise RegistryUnavailable("database or disk is full")

    before = await ca.db.read(_count, CertificateRecord)
    with monkeypatch.context() as patch:
        patch.setattr(ca.db, "write", full)
        waiting = [asyncio.create_task(pipeline.submit(ca.order())) for _ in range(3)]
        await asyncio.sleep(0)
        pipeline.start()
        answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [RegistryUnavailable] * 3
    assert await ca.db.read(_count, CertificateRecord) == before
    assert ca.db.write == write
    assert isinstance(await pipeline.submit(ca.order()), Issued)
    await pipeline.close()


async def test_a_full_queue_turns_away(ca: OpenCA) -> None:
    """Past its bound the queue takes nothing more: Unavailable, with when to come back."""
    pipeline = ca.pipeline(max_waiting=2)
    waiting = [asyncio.create_task(pipeline.submit(ca.order())) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await pipeline.submit(ca.order())
    assert refused.value.retry_after == 1
    pipeline.start()
    await asyncio.gather(*waiting)
    await pipeline.close()


async def test_closing_finishes_what_waits(ca: OpenCA) -> None:
    """A stop serves everything that was queued and takes nothing more."""
    pipeline = ca.pipeline()
    waiting = [asyncio.create_task(pipeline.submit(ca.order())) for _ in range(3)]
    await asyncio.sleep(0)
    pipeline.start()
    await pipeline.close()
    assert all(isinstance(answer, Issued) for answer in await asyncio.gather(*waiting))
    with pytest.raises(Unavailable):
        await pipeline.submit(ca.order())


async def test_a_client_that_left_does_not_stop_the_batch(ca: OpenCA) -> None:
    """For a waiter that was cancelled nothing is signed, and the neighbours get theirs."""
    pipeline = ca.pipeline()
    before = await ca.db.read(_count, CertificateRecord)
    gone = asyncio.create_task(pipeline.submit(ca.order()))
    stays = asyncio.create_task(pipeline.submit(ca.order()))
    await asyncio.sleep(0)
    gone.cancel()
    pipeline.start()
    assert isinstance(await stays, Issued)
    await pipeline.close()
    assert await ca.db.read(_count, CertificateRecord) == before + 1


async def test_who_was_told_that_there_is_nothing_has_nothing_on_record(ca: OpenCA, settings: Settings) -> None:
    """Patience ends while somebody else holds the database: what was signed meanwhile is not recorded afterwards."""
    pipeline = IssuancePipeline(ca.db, max_batch=8, max_waiting=8, metrics=Metrics(), clock=ca.clock, patience=0.5)
    pipeline.start()
    before = await ca.db.read(_count, CertificateRecord)
    with closing(sqlite3.connect(settings.data_dir / "tiny-ca.db", isolation_level=None)) as holder:
        holder.execute("begin immediate")
        with pytest.raises(Unavailable, match="no certificate within"):
            await pipeline.submit(ca.order())
        holder.execute("rollback")
    issued = await pipeline.submit(ca.order("next.example.org"))  # behind the first
    await pipeline.close()
    assert issued.entry.common_name == "next.example.org"
    assert await ca.db.read(_count, CertificateRecord) == before + 1


async def test_a_failure_after_some_are_kept_is_told_to_the_others_alone(ca: OpenCA) -> None:
    """Where a batch is recorded one by one, a database that fails then takes nobody's certificate back."""
    pipeline = ca.pipeline()
    pipeline.start()
    unique = replace(BUILT_IN_PROFILES["server"], unique_common_name=True)
    orders = [ca.order(profile=unique), ca.order(profile=unique), ca.order("last.example.org")]
    begun = 0

    def begin(_connection: object) -> None:
        nonlocal begun
        begun += 1
        if begun == 5:  # all together, the first, the second, its refusal, and the last
            raise OperationalError("BEGIN", None, sqlite3.OperationalError("disk I/O error"))

    event.listen(Engine, "begin", begin)
    try:
        outcomes = await asyncio.gather(*map(pipeline.submit, orders), return_exceptions=True)
    finally:
        event.remove(Engine, "begin", begin)
    await pipeline.close()
    assert [type(outcome) for outcome in outcomes] == [Issued, NotUniqueCertOwner, RegistryUnavailable]
