"""What runs by itself: one table of (schedule, what runs, why), each job under a lease in the database.

    look -> due, and nobody's -> acquire (fence) -> run, the lease renewed meanwhile -> record, if the fence still holds

So a job runs once a period whatever the number of processes, and of one that dies another takes it over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.orm import Session

from app.metrics import Metrics
from app.services.crls import CRLPublisher
from app.services.notices import Notices
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import JobState
from tiny_ca.db.queries.idempotency import prune_keys
from tiny_ca.db.queries.identity_tokens import prune_identity_tokens
from tiny_ca.db.queries.jobs import acquire_job, finish_job, job_states, renew_job
from tiny_ca.exc import Conflict, NotFound, TinyCAError

__all__ = ["Job", "JobRunner", "job_table"]

_log = structlog.get_logger(__name__)
_STOP_SECONDS: Final = 1.0
_LOOK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Job:
    """``run`` returns how many things it did. ``alarm_after`` failures in a row, ``/readyz`` says so."""

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[int]]
    why: str
    alarm_after: int

    @property
    def period(self) -> timedelta:
        """From the beginning of one run to the next."""
        return timedelta(seconds=self.every_seconds)


def job_table(
    db: AsyncDBHandler, crls: CRLPublisher, clock: Callable[[], datetime], notices: Notices | None = None
) -> tuple[Job, ...]:
    """Every job. The next run tries again what failed: the intervals are short, and an idle run costs a query."""
    telling = () if notices is None else _telling(notices)
    return (
        *telling,
        Job(
            "mark_expired",
            every_seconds=60,
            run=db.update_status_expired,
            why="status queries and lists see what the clock has ended",
            alarm_after=10,
        ),
        Job(
            "regenerate_crls",
            every_seconds=10,
            run=crls.refresh,
            why="a CRL is renewed at a third of its lifetime, and a revocation whose process died still gets one",
            alarm_after=3,
        ),
        Job(
            "forget",
            every_seconds=600,
            run=lambda: db.write(_forget, clock()),
            why="an idempotency key lives a day, and a used identity token is no danger once it has expired",
            alarm_after=10,
        ),
    )


def _telling(notices: Notices) -> tuple[Job, ...]:
    return (
        Job(
            "find_expiring",
            every_seconds=900,
            run=notices.find,
            why="certificates about to expire are told of, by thresholds of days",
            alarm_after=10,
        ),
        Job(
            "send_notices",
            every_seconds=30,
            run=notices.send,
            why="a notice is sent until the receiver has taken it",
            alarm_after=10,
        ),
    )


def _forget(session: Session, now: datetime) -> int:
    return prune_keys(session, now=now) + prune_identity_tokens(session, now=now)


class JobRunner:
    """Runs what is due, as ``replica``; looks for it every ``look_seconds``. A run never overlaps itself."""

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        db: AsyncDBHandler,
        replica: str,
        lease: timedelta,
        metrics: Metrics,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._db = db
        self._replica = replica
        self._lease = lease
        self._metrics = metrics
        self._look_seconds = look_seconds
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._running: dict[str, asyncio.Task[None]] = {}
        self._blind = self._stopping = False
        self.seen: dict[str, JobState] = {}

    def start(self) -> None:
        """Run jobs from now on."""
        self._scheduler.add_job(
            self._look,
            IntervalTrigger(seconds=self._look_seconds),
            max_instances=1,
            coalesce=True,
            misfire_grace_time=None,  # late is better than never
        )
        self._scheduler.start()

    async def stop(self) -> None:
        """Start nothing more, and let what runs come to its end; what hangs is cancelled."""
        self._stopping = True
        self._scheduler.pause()
        if self._running:
            await asyncio.wait(self._running.values(), timeout=_STOP_SECONDS)
        self._scheduler.shutdown(wait=False)

    def failing(self) -> dict[str, str]:
        """The jobs whose failures matter by now, on whichever replica, with the last error of each; as last seen."""
        return {
            state.name: str(state.error)
            for state in self.seen.values()
            if state.failures >= self._jobs[state.name].alarm_after
        }

    async def states(self) -> list[JobState]:
        """Every job by name, as the database has it now: the same on every replica."""
        known = await self._db.read(job_states)
        self.seen = {name: known.get(name, JobState(name=name)) for name in sorted(self._jobs)}
        return list(self.seen.values())

    async def run_now(self, name: str) -> JobState:
        """Run one job at once, due or not, and tell how it went.

        Raises
        ------
        NotFound
            There is no such job.
        Conflict
            It is running, here or elsewhere; or it was taken for dead, and what another made of it counts.
        """
        job = self._jobs.get(name)
        if job is None:
            raise NotFound(f"there is no job {name[:80]!r}; there are {', '.join(self._jobs)}")
        fence = await self._acquire(job, early=True)
        if fence is None:
            raise Conflict(f"job {name!r} is running already; ask again when it has ended")
        state = await self._run(job, fence)
        if state is None:
            raise Conflict(f"job {name!r} took too long, and another replica has taken it over")
        return state

    async def _look(self) -> None:
        """Begin what is due. A database that does not answer is tried again at the next look, and logged once."""
        try:
            due = [state.name for state in await self.states() if state.is_due or state.next_due is None]
            for name in due:
                if name not in self._running:
                    await self._begin(self._jobs[name])
        except TinyCAError as error:
            if not self._blind:
                _log.warning("jobs.look_failed", error=str(error))
            self._blind = True
        except asyncio.CancelledError:
            if not self._stopping:  # else there is nothing more to look for
                raise
        else:
            self._blind = False

    async def _begin(self, job: Job) -> None:
        """Run a job, if no other replica was faster, in a task that ``stop`` waits for."""
        fence = await self._acquire(job)
        if fence is not None and not self._stopping:  # else the lease ends by itself
            self._running[job.name] = task = asyncio.create_task(self._run_scheduled(job, fence))
            task.add_done_callback(lambda _: self._running.pop(job.name))

    async def _run_scheduled(self, job: Job, fence: int) -> None:
        try:
            await self._run(job, fence)
        except TinyCAError as error:  # the lease ends by itself, and the job runs again
            _log.warning("job.not_recorded", job=job.name, error=str(error))

    async def _acquire(self, job: Job, *, early: bool = False) -> int | None:
        return await self._db.write(
            acquire_job, job.name, holder=self._replica, period=job.period, lease=self._lease, early=early
        )

    async def _run(self, job: Job, fence: int) -> JobState | None:
        """Run one job and record how it went; None where another replica has it by now, and its record stands."""
        renewing, began = asyncio.create_task(self._renew(job, fence)), time.perf_counter()
        done, error = None, None
        try:
            done = await job.run()
        except Exception as failure:  # noqa: BLE001  # a job may fail in any way, and must run again
            error = type(failure).__name__
            _log.warning("job.failed", job=job.name, exc_info=failure)
        else:
            log = _log.info if done else _log.debug
            log("job.done", job=job.name, done=done, milliseconds=_milliseconds_since(began))
        finally:
            renewing.cancel()
        self._metrics.job_runs.labels(job.name, "success" if error is None else "failure").inc()
        milliseconds = _milliseconds_since(began)
        state = await self._db.write(
            finish_job, job.name, fence, period=job.period, done=done, error=error, milliseconds=milliseconds
        )
        if state is None:
            _log.warning("job.superseded", job=job.name, fence=fence)
        else:
            self.seen[job.name] = state
        return state

    async def _renew(self, job: Job, fence: int) -> None:
        """Keep the lease while a run goes on; until it is lost, a failure is tried again."""
        kept = True
        while kept:
            await asyncio.sleep(self._lease.total_seconds() / 3)
            try:
                kept = await self._db.write(renew_job, job.name, fence, lease=self._lease)
            except TinyCAError as error:
                _log.warning("job.not_renewed", job=job.name, error=str(error))
        _log.warning("job.lease_lost", job=job.name, fence=fence)


def _milliseconds_since(began: float) -> int:
    return round((time.perf_counter() - began) * 1000)
