"""What runs by itself: one table of (schedule, what runs, why), and what became of each run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger
from sqlalchemy.orm import Session

from app.metrics import Metrics
from app.services.crls import CRLPublisher
from app.services.notices import Notices
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.queries.idempotency import prune_keys
from tiny_ca.db.queries.identity_tokens import prune_identity_tokens
from tiny_ca.exc import NotFound

__all__ = ["Job", "JobRunner", "JobState", "job_table"]

_log = structlog.get_logger(__name__)
_STOP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """``run`` returns how many things it did. ``alarm_after`` failures in a row, ``/readyz`` says so."""

    name: str
    every_seconds: int
    run: Callable[[], Awaitable[int]]
    why: str
    alarm_after: int


@dataclass(frozen=True, slots=True)
class JobState:
    """How the last runs of one job went."""

    last_run: datetime | None = None
    last_error: str | None = None
    failures: int = 0


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
    """APScheduler over the event loop; a run never overlaps itself."""

    def __init__(self, jobs: Sequence[Job], *, metrics: Metrics, clock: Callable[[], datetime]) -> None:
        self._jobs = jobs
        self._metrics = metrics
        self._clock = clock
        self._scheduler = AsyncIOScheduler(timezone="UTC")
        self._running: set[asyncio.Task[Any]] = set()
        self.states = {job.name: JobState() for job in jobs}

    def start(self) -> None:
        """Schedule every job."""
        for job in self._jobs:
            self._scheduler.add_job(
                self._scheduled,
                IntervalTrigger(seconds=job.every_seconds, jitter=max(1, job.every_seconds // 10)),
                args=[job],
                id=job.name,
                max_instances=1,
                coalesce=True,
                misfire_grace_time=None,  # late is better than never
            )
        self._scheduler.start()

    async def stop(self) -> None:
        """Start nothing more, and let what runs come to its end; what hangs is cancelled."""
        self._scheduler.pause()
        if self._running:
            await asyncio.wait(self._running, timeout=_STOP_SECONDS)
        self._scheduler.shutdown(wait=False)

    def failing(self) -> dict[str, str]:
        """The jobs whose failures matter by now, with the last error of each."""
        return {
            job.name: str(self.states[job.name].last_error)
            for job in self._jobs
            if self.states[job.name].failures >= job.alarm_after
        }

    async def _scheduled(self, job: Job) -> None:
        """A run that ``stop`` waits for; the scheduler's own shutdown would cut it in the middle."""
        run = asyncio.create_task(self.run(job))
        self._running.add(run)
        run.add_done_callback(self._running.discard)
        await asyncio.shield(run)

    async def run_now(self, name: str) -> JobState:
        """Run one job at once, and tell how it went.

        Raises
        ------
        NotFound
            There is no such job.
        """
        for job in self._jobs:
            if job.name == name:
                await self.run(job)
                return self.states[name]
        known = ", ".join(job.name for job in self._jobs)
        raise NotFound(f"there is no job {name[:80]!r}; there are {known}")

    async def run(self, job: Job) -> None:
        """Run one job now; its failure is logged and counted, and is not the scheduler's."""
        state, began = self.states[job.name], time.perf_counter()
        try:
            done = await job.run()
        except Exception as error:  # noqa: BLE001  # a job may fail in any way, and must run again
            _log.warning("job.failed", job=job.name, failures=state.failures + 1, exc_info=error)
            self._metrics.job_runs.labels(job.name, "failure").inc()
            failures = state.failures + 1
            self.states[job.name] = JobState(self._clock(), type(error).__name__, failures)
            return
        milliseconds = round((time.perf_counter() - began) * 1000, 1)
        log = _log.info if done else _log.debug
        log("job.done", job=job.name, done=done, milliseconds=milliseconds)
        self._metrics.job_runs.labels(job.name, "success").inc()
        self._metrics.job_last_success.labels(job.name).set(self._clock().timestamp())
        self.states[job.name] = replace(state, last_run=self._clock(), last_error=None, failures=0)
