"""The runs of the background jobs: several runners over one database, as several replicas have them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.jobs import Job, JobRunner
from app.metrics import Metrics
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.models import JobRecord
from tiny_ca.exc import Conflict, NotFound, RegistryUnavailable

pytestmark = pytest.mark.anyio
_LEASE = timedelta(seconds=30)
_SHORT = timedelta(milliseconds=300)


@pytest.fixture
async def db(db_url: str) -> AsyncIterator[AsyncDBHandler]:
    """An empty database of each kind."""
    handler = AsyncDBHandler(db_url, strict=True)
    yield handler
    await handler.aclose()


def _runner(
    db: AsyncDBHandler, *jobs: Job, replica: str = "one", lease: timedelta = _LEASE, metrics: Metrics | None = None
) -> JobRunner:
    return JobRunner(jobs, db=db, replica=replica, lease=lease, metrics=metrics or Metrics(), look_seconds=0.05)


def _job(run: Callable[[], Awaitable[int]], *, every: float = 60, alarm_after: int = 1) -> Job:
    return Job("tidy", every_seconds=every, run=run, why="", alarm_after=alarm_after)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    until = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


async def test_once_a_period_whoever_runs_it(db: AsyncDBHandler) -> None:
    """Three replicas run a job as often as one would."""
    begun: list[float] = []

    async def run() -> int:
        begun.append(time.monotonic())
        return 1

    metrics = [Metrics() for _ in range(3)]
    runners = [_runner(db, _job(run, every=0.4), replica=str(index), metrics=one) for index, one in enumerate(metrics)]
    started = time.monotonic()
    for runner in runners:
        runner.start()

    async def five() -> bool:
        return len(begun) >= 5

    await _until(five)
    for runner in runners:
        await runner.stop()
    # The first is due a period after the start; whatever comes late only moves the next ones.
    assert all(at - started > 0.4 * number - 0.01 for number, at in enumerate(begun, 1))
    counted = [
        one.registry.get_sample_value("tiny_ca_job_runs_total", {"job": "tidy", "outcome": "success"})
        for one in metrics
    ]
    assert sum(filter(None, counted)) == len(begun)


async def test_every_replica_tells_the_same(db: AsyncDBHandler) -> None:
    """What one replica did, another tells of: who, when, how it went."""

    async def run() -> int:
        return 7

    one, other = (_runner(db, _job(run), replica=name) for name in ("one", "other"))
    assert [state.last_run for state in await one.states()] == [None]
    ran = await one.run_now("tidy")
    assert (ran.replica, ran.done, ran.error, ran.failures) == ("one", 7, None, 0)
    assert await one.states() == await other.states() == [ran]


async def test_what_runs_is_not_run_again(db: AsyncDBHandler) -> None:
    """While one replica runs a job it is a conflict here and elsewhere; a job that is none is not found."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def run() -> int:
        begun.set()
        await go_on.wait()
        return 0

    one, other = (_runner(db, _job(run), replica=name) for name in ("one", "other"))
    running = asyncio.create_task(one.run_now("tidy"))
    await begun.wait()
    assert [state.running_on for state in await other.states()] == ["one"]
    for runner in (one, other):
        with pytest.raises(Conflict, match="running already"):
            await runner.run_now("tidy")
    go_on.set()
    await running
    assert (await other.run_now("tidy")).replica == "other"
    with pytest.raises(NotFound, match="there are tidy"):
        await one.run_now("none")


async def test_a_long_run_keeps_its_lease(db: AsyncDBHandler) -> None:
    """While a run goes on its lease is made longer, again and again."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def run() -> int:
        begun.set()
        await go_on.wait()
        return 0

    one = _runner(db, _job(run), lease=_SHORT)
    running = asyncio.create_task(one.run_now("tidy"))
    await begun.wait()
    first = await db.read(_lease_until)

    async def renewed() -> bool:
        return await db.read(_lease_until) > first

    await _until(renewed)
    go_on.set()
    assert (await running).replica == "one"


async def test_a_late_run_records_nothing(db: AsyncDBHandler, caplog: pytest.LogCaptureFixture) -> None:
    """A run whose lease was lost, because its process was paused, does not cover what another has recorded since."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def late() -> int:
        begun.set()
        await go_on.wait()
        raise RegistryUnavailable("of long ago")

    async def newer() -> int:
        return 5

    paused = _runner(db, _job(late), replica="paused")
    other = _runner(db, _job(newer), replica="other")
    running = asyncio.create_task(paused.run_now("tidy"))
    await begun.wait()
    await db.write(Session.execute, update(JobRecord).values(lease_until=datetime(2020, 1, 1, tzinfo=UTC)))
    ran = await other.run_now("tidy")
    go_on.set()
    with pytest.raises(Conflict, match="taken it over"):
        await running
    assert await paused.states() == [ran]
    assert paused.failing() == {}
    assert "job.superseded" in caplog.text


async def test_a_stop_lets_a_run_come_to_its_end(db: AsyncDBHandler) -> None:
    """A run that has begun is not cut in the middle, and none begins after it."""
    begun, go_on, ends = asyncio.Event(), asyncio.Event(), []

    async def run() -> int:
        begun.set()
        await go_on.wait()
        ends.append(True)
        return 1

    runner = _runner(db, _job(run, every=0.1))
    runner.start()
    await begun.wait()
    stop = asyncio.create_task(runner.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stop
    assert ends == [True]
    (state,) = await runner.states()
    assert (state.done, state.running_on) == (1, None)


async def test_failures_show_when_they_matter(db: AsyncDBHandler) -> None:
    """A job that fails is not failing until it has done so as often as its table says; one success forgets them."""
    answers: list[Exception | int] = [RegistryUnavailable("gone"), RegistryUnavailable("gone"), 0]

    async def run() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    runner = _runner(db, _job(run, alarm_after=2))
    seen = []
    for _ in range(3):
        await runner.run_now("tidy")
        seen.append(runner.failing())
    assert seen == [{}, {"tidy": "RegistryUnavailable"}, {}]


async def test_a_database_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, however often a job is looked for; nothing else comes of it."""
    gone = AsyncDBHandler("postgresql+asyncpg://u:p@127.0.0.1:9/none", strict=True, create_all=False)
    runner = _runner(gone, _job(_never))
    looks = 0
    read = gone.read

    async def counted(*args: object, **kwargs: object) -> object:
        nonlocal looks
        looks += 1
        return await read(*args, **kwargs)  # type: ignore[arg-type]  # passed on as they are

    gone.read = counted  # type: ignore[method-assign,assignment]
    runner.start()

    async def thrice() -> bool:
        return looks >= 3

    await _until(thrice)
    await runner.stop()
    await gone.aclose()
    logged = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage() for record in logged] == ["jobs.look_failed"]


def _lease_until(session: Session) -> datetime:
    lease_until: datetime | None = session.scalar(select(JobRecord.lease_until))
    assert lease_until is not None
    return lease_until


async def _never() -> int:
    raise AssertionError("it was never acquired")
