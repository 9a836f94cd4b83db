"""Units of work on jobs: who may run one now, and how its last run went.

Leases begin and end by the database's clock, the only one that all replicas share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.entries import JobState
from tiny_ca.db.models import JobRecord, UTCDateTime

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sqlalchemy import Select
    from sqlalchemy.orm import Session

__all__ = ["acquire_job", "finish_job", "job_states", "renew_job"]


def acquire_job(
    session: Session, name: str, *, holder: str, period: timedelta, lease: timedelta, early: bool = False
) -> int | None:
    """Take a job that is due and that nobody holds; return its fence, greater than any before, or None.

    ``early`` takes it before it is due. A job that was never heard of is first due in a ``period``.
    """
    # Who finds the row locked need not wait: another is taking the job, or ending it.
    unlocked = _row(name).with_for_update(skip_locked=True)
    job = session.scalar(unlocked)
    if job is None:
        _make(session, name, due_at=_now(session) + period)
        job = session.scalar(unlocked)
    if job is None:
        return None
    now = _now(session)
    if _is_held(job, now) or (now < job.due_at and not early):
        return None
    job.fence += 1
    job.holder, job.started_at, job.lease_until = holder, now, now + lease
    return job.fence


def renew_job(session: Session, name: str, fence: int, *, lease: timedelta) -> bool:
    """Let the lease last from now; False where the job has passed to another, or has ended."""
    job = _held_with(session, name, fence)
    if job is None:
        return False
    job.lease_until = _now(session) + lease
    return True


def finish_job(
    session: Session,
    name: str,
    fence: int,
    *,
    period: timedelta,
    done: int | None,
    error: str | None,
    milliseconds: int,
) -> JobState | None:
    """Record how the run went and give the job back, due a ``period`` after this run began.

    None, and nothing is recorded, where it has passed to another meanwhile: what that one says is newer.
    """
    job = _held_with(session, name, fence)
    if job is None:
        return None
    now = _now(session)
    job.last_run, job.last_replica, job.last_error = now, job.holder, error
    job.last_done, job.last_milliseconds = done, milliseconds
    if error is None:
        job.last_success = now
    job.failures = 0 if error is None else job.failures + 1
    job.due_at = (job.started_at or now) + period
    job.holder = job.started_at = job.lease_until = None
    return _state(job, now)


def job_states(session: Session) -> dict[str, JobState]:
    """Return every job that was ever heard of, by name."""
    now = _now(session)
    return {job.name: _state(job, now) for job in session.scalars(select(JobRecord))}


def _now(session: Session) -> datetime:
    if session.get_bind().dialect.name == "postgresql":
        # Not now(), which is when the transaction began: it may have waited for a lock since.
        clock = func.timezone("UTC", func.clock_timestamp(), type_=UTCDateTime)
    else:
        clock = func.strftime("%Y-%m-%d %H:%M:%f000", "now", type_=UTCDateTime)
    return session.execute(select(clock)).scalar_one()


def _make(session: Session, name: str, *, due_at: datetime) -> None:
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(insert(JobRecord).values(name=name, due_at=due_at).on_conflict_do_nothing())


def _row(name: str) -> Select[JobRecord]:
    return select(JobRecord).where(JobRecord.name == name)


def _held_with(session: Session, name: str, fence: int) -> JobRecord | None:
    """The job, locked, while nobody has taken it since: also after the lease has ended."""
    return session.scalar(_row(name).where(JobRecord.fence == fence, JobRecord.holder.is_not(None)).with_for_update())


def _is_held(job: JobRecord, now: datetime) -> bool:
    return job.lease_until is not None and now < job.lease_until


def _state(job: JobRecord, now: datetime) -> JobState:
    held = _is_held(job, now)
    return JobState(
        name=job.name,
        last_run=job.last_run,
        last_success=job.last_success,
        replica=job.last_replica,
        error=job.last_error,
        done=job.last_done,
        milliseconds=job.last_milliseconds,
        failures=job.failures,
        next_due=job.due_at,
        running_on=job.holder if held else None,
        is_due=job.due_at <= now and not held,
    )
