"""The leases of jobs, on both databases."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, event, text, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from tests.unit.db.helpers import Registry
from tiny_ca.db.engine import EngineSettings
from tiny_ca.db.entries import JobState
from tiny_ca.db.models import JobRecord
from tiny_ca.db.queries.jobs import acquire_job, finish_job, job_states, renew_job
from tiny_ca.db.sync_db_manager import SyncDBHandler
from tiny_ca.exc import RegistryUnavailable

_PERIOD = timedelta(minutes=1)
_LEASE = timedelta(seconds=30)
_ENDED = timedelta(seconds=-1)  # a lease that has ended when it begins


class _DatabaseClock:
    """The clock of a registry's database, which can be moved; that of the process stays."""

    def __init__(self, registry: Registry) -> None:
        self.ahead = timedelta()
        handler = registry.handler
        engine = handler.engine if isinstance(handler, SyncDBHandler) else handler.sync_engine
        if engine.dialect.name == "sqlite":
            event.listen(engine, "begin", self._replace_function)
            return
        registry.write(Session.execute, text("CREATE SCHEMA shifted"))
        now = "pg_catalog.clock_timestamp() + current_setting('shifted.ahead')::interval"
        function = f"CREATE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$SELECT {now}$$"
        registry.write(Session.execute, text(function.replace(":", "\\:")))
        event.listen(engine, "begin", self._prefer_function)

    def _replace_function(self, connection: Connection) -> None:
        driver: Any = connection.connection
        driver.create_function("strftime", 2, lambda *_: str((datetime.now(UTC) + self.ahead).replace(tzinfo=None)))

    def _prefer_function(self, connection: Connection) -> None:
        connection.exec_driver_sql("SET LOCAL search_path = public, shifted, pg_catalog")
        connection.exec_driver_sql(f"SET LOCAL shifted.ahead = '{self.ahead.total_seconds()} seconds'")


def _acquire(
    registry: Registry,
    holder: str = "one",
    *,
    lease: timedelta = _LEASE,
    early: bool = True,
    period: timedelta = _PERIOD,
) -> int | None:
    return registry.write(acquire_job, "tidy", holder=holder, period=period, lease=lease, early=early)


def _finish(registry: Registry, fence: int | None, *, error: str | None = None) -> JobState | None:
    assert fence is not None
    done = 3 if error is None else None
    return registry.write(finish_job, "tidy", fence, period=_PERIOD, done=done, error=error, milliseconds=500)


def _state(registry: Registry) -> JobState:
    return registry.read(job_states)["tidy"]


def _make_due(registry: Registry) -> None:
    registry.write(Session.execute, update(JobRecord).values(due_at=datetime(2020, 1, 1, tzinfo=UTC)))


def test_a_new_job_is_due_in_a_period(registry: Registry) -> None:
    """Nobody runs it before, unless asked to."""
    before = datetime.now(UTC)
    assert registry.read(job_states) == {}
    assert _acquire(registry, early=False) is None
    state = _state(registry)
    assert state.next_due is not None
    assert timedelta() <= state.next_due - before - _PERIOD < timedelta(minutes=1)
    assert state == JobState(name="tidy", next_due=state.next_due)
    assert _acquire(registry) == 1


def test_one_holds_it_at_a_time(registry: Registry) -> None:
    """A job that is held is not due, and another gets it neither when it is due nor early."""
    _acquire(registry, early=False)
    _make_due(registry)
    assert _state(registry).is_due
    assert _acquire(registry, "one", early=False) == 1
    assert (_state(registry).running_on, _state(registry).is_due) == ("one", False)
    assert _acquire(registry, "two", early=False) is None
    assert _acquire(registry, "two") is None


def test_how_it_went_is_told(registry: Registry) -> None:
    """Who ran it, with what result, and when the next is due; failures are counted until a success."""
    seen = []
    for error in ("RegistryUnavailable", "ValueError", None):
        state = _finish(registry, _acquire(registry), error=error)
        assert state is not None
        assert state == _state(registry)
        assert state.last_run is not None
        assert state.next_due is not None
        assert timedelta() < state.next_due - state.last_run <= _PERIOD
        assert (state.replica, state.running_on, state.milliseconds) == ("one", None, 500)
        seen.append((state.error, state.done, state.failures, state.last_success == state.last_run))
    assert seen == [("RegistryUnavailable", None, 1, False), ("ValueError", None, 2, False), (None, 3, 0, True)]
    assert _acquire(registry, early=False) is None


def test_a_dead_holder_is_followed(registry: Registry) -> None:
    """When the lease has ended the job is due as before, and the next holder's fence is greater."""
    _acquire(registry, early=False)
    _make_due(registry)
    assert _acquire(registry, "one", lease=_ENDED, early=False) == 1
    assert (_state(registry).running_on, _state(registry).is_due) == (None, True)
    assert _acquire(registry, "two", early=False) == 2
    assert _state(registry).running_on == "two"


def test_a_late_holder_records_nothing(registry: Registry) -> None:
    """Once another has acquired it, the former one neither renews nor records, also after the other has ended."""
    late = _acquire(registry, "one", lease=_ENDED)
    assert late is not None
    newer = _acquire(registry, "two")
    for _ in range(2):
        assert registry.write(renew_job, "tidy", late, lease=_LEASE) is False
        assert _finish(registry, late, error="ValueError") is None
        assert newer is not None
        _finish(registry, newer)
        assert (_state(registry).replica, _state(registry).error, _state(registry).failures) == ("two", None, 0)
    assert _finish(registry, newer) is None


def test_a_lease_is_renewed(registry: Registry) -> None:
    """Also one that has ended, as long as nobody took it; not one that was given back."""
    fence = _acquire(registry, lease=_ENDED)
    assert fence is not None
    assert registry.write(renew_job, "tidy", fence, lease=_LEASE) is True
    assert _acquire(registry, "two") is None
    _finish(registry, fence)
    assert registry.write(renew_job, "tidy", fence, lease=_LEASE) is False
    assert _state(registry).running_on is None


def test_the_databases_clock_counts(registry: Registry) -> None:
    """A lease begins and ends, and a job is due, by the database's clock, whatever the replica's says."""
    clock = _DatabaseClock(registry)
    clock.ahead = timedelta(days=1)
    fence = _acquire(registry, "one")
    assert fence == 1
    clock.ahead += _LEASE - timedelta(seconds=10)
    assert _acquire(registry, "two") is None
    assert registry.write(renew_job, "tidy", fence, lease=_LEASE)
    clock.ahead += timedelta(seconds=15)
    assert _acquire(registry, "two") is None
    clock.ahead += timedelta(seconds=15)
    assert _state(registry).running_on is None
    state = _finish(registry, _acquire(registry, "two"))
    assert state is not None
    assert state.last_run is not None
    assert timedelta(days=1) < state.last_run - datetime.now(UTC) < timedelta(days=1, minutes=2)
    clock.ahead += _PERIOD - timedelta(seconds=10)
    assert _acquire(registry, early=False) is None
    clock.ahead += timedelta(seconds=10)
    assert _acquire(registry, early=False) == 3


def test_of_many_at_once_one_wins(db_url: str) -> None:
    """Replicas that ask in the same moment, for a job that is new, then for one whose holder died: one gets it."""
    handler = SyncDBHandler(db_url, strict=True, crl_window=None)
    handler.read(job_states)

    def acquire(replica: int) -> int | None:
        return handler.write(
            acquire_job,
            "tidy",
            holder=str(replica),
            period=_PERIOD,
            lease=_ENDED if replica < 0 else _LEASE,
            early=True,
        )

    with ThreadPoolExecutor(8) as pool:
        for fence in (1, 3, 5):
            won = [one for one in pool.map(acquire, range(8)) if one is not None]
            assert won == [fence]
            handler.write(finish_job, "tidy", fence, period=_PERIOD, done=0, error=None, milliseconds=0)
            assert acquire(-1) == fence + 1
    handler.close()


def test_a_holder_that_is_paused_in_a_transaction(postgres_database: str) -> None:
    """Its locks go with its session once it says nothing for the idle timeout, and another takes the job over."""
    settings = EngineSettings(idle_timeout=0.2)
    handler = SyncDBHandler(postgres_database, strict=True, settings=settings)
    handler.write(acquire_job, "tidy", holder="one", period=_PERIOD, lease=_ENDED, early=True)

    def take(holder: str) -> int | None:
        return handler.write(acquire_job, "tidy", holder=holder, period=_PERIOD, lease=_LEASE, early=True)

    def pause(session: Session) -> None:
        renew_job(session, "tidy", 1, lease=_LEASE)
        session.flush()
        assert take("two") is None  # it does not wait for the lock
        until = time.monotonic() + 10
        while take("two") is None:
            assert time.monotonic() < until

    with pytest.raises((RegistryUnavailable, OperationalError)):
        handler.write(pause)
    assert handler.read(job_states)["tidy"].running_on == "two"
    handler.close()
