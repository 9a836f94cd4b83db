"""The clock that never goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.clock import SteadyClock, last_on_record
from tests.unit.app.conftest import OpenCA
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.queries.audit import insert_audit

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class _Time:
    """What the machine's clocks say; only ``pass_`` moves both."""

    def __init__(self) -> None:
        self.wall = NOON
        self.monotonic = 1000.0

    def pass_(self, span: timedelta) -> None:
        self.wall += span
        self.monotonic += span.total_seconds()


@pytest.fixture
def machine() -> _Time:
    """Give a machine whose time stands until a test moves it."""
    return _Time()


def _steady(machine: _Time, *, since: datetime | None = None) -> SteadyClock:
    return SteadyClock(lambda: machine.wall, since=since, monotonic=lambda: machine.monotonic)


def test_a_clock_that_goes_right(machine: _Time) -> None:
    """It tells what the machine's clock tells, also where that stands or jumps ahead."""
    clock = _steady(machine)
    told = [clock(), clock()]
    machine.pass_(HOUR)
    told.append(clock())
    machine.wall += HOUR
    told.append(clock())
    assert told == [NOON, NOON, NOON + HOUR, NOON + 2 * HOUR]


def test_a_jump_back(machine: _Time) -> None:
    """Time goes on from where it was; once the machine's clock has caught up, that counts again."""
    clock = _steady(machine)
    clock()
    machine.wall -= HOUR
    jumped = clock()
    machine.pass_(HOUR / 2)
    later = clock()
    machine.wall += HOUR + timedelta(seconds=3)
    right_again = clock()
    machine.wall += HOUR
    assert (jumped, later) == (NOON, NOON + HOUR / 2)
    assert right_again == NOON + HOUR / 2 + timedelta(seconds=3)
    assert clock() == right_again + HOUR


def test_a_small_step_back(machine: _Time) -> None:
    """What NTP does: time stands still until it is right."""
    clock = _steady(machine)
    clock()
    machine.wall -= timedelta(milliseconds=300)
    assert clock() == NOON
    machine.pass_(timedelta(seconds=1))
    assert clock() == NOON + timedelta(milliseconds=700)


def test_a_jump_while_nobody_looked(machine: _Time) -> None:
    """What is on record from before the start counts."""
    clock = _steady(machine, since=NOON + HOUR)
    assert clock() == NOON + HOUR
    machine.pass_(HOUR)
    assert clock() == NOON + 2 * HOUR


def test_a_jump_is_logged_once(machine: _Time, caplog: pytest.LogCaptureFixture) -> None:
    """The log says when the clock went back and when it had caught up."""
    caplog.set_level("INFO")
    clock = _steady(machine)
    machine.wall -= HOUR
    for _ in range(3):
        clock()
    machine.wall += HOUR
    clock()
    assert [record.message for record in caplog.records] == ["clock.went_back", "clock.caught_up"]


@pytest.mark.anyio
async def test_what_is_on_record(ca: OpenCA) -> None:
    """The last moment is that of the newest act, or of a CRL if that is later."""
    later = datetime.now(UTC).replace(microsecond=0) + HOUR
    audit = AuditEntry(at=later, actor="admin", action="token.create", outcome="success")
    await ca.db.write(insert_audit, [audit])
    assert await ca.db.read(last_on_record) == later
    crls = ca.publisher()
    ca.clock.forward(2 * HOUR)
    await crls.load()
    assert await ca.db.read(last_on_record) == ca.clock().replace(microsecond=0)
