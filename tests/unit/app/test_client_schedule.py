"""When a certificate is renewed, and when it is tried again: the schedule alone, with a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.client.errors import ClientError, ExitCode
from app.client.schedule import Watch, Window, draw_share, due, pause

_START = datetime(2026, 1, 1, tzinfo=UTC)
_DAYS_90 = Window(_START, _START + timedelta(days=90))


@dataclass
class _World:
    """A clock that only waiting moves, and a service that is away for some attempts or until some moment."""

    now: datetime = _START
    window: Window = _DAYS_90
    down_until: datetime = _START
    end: datetime = _START + timedelta(days=365)
    revoked: bool = False
    renewed: list[datetime] = field(default_factory=list)
    failed: list[datetime] = field(default_factory=list)
    unreadable: bool = False

    def run(self, rng: float = 0.5) -> None:
        Watch(
            window=self._window,
            renew=self._renew,
            clock=lambda: self.now,
            wait=self._wait,
            rng=lambda: rng,
            report=lambda _: self.failed.append(self.now),
            is_final=lambda error: error.code is ExitCode.CONFLICT,
        ).run()

    def _window(self) -> Window:
        if self.unreadable:
            raise ClientError("no such file", code=ExitCode.USAGE)
        return self.window

    def _renew(self) -> None:
        if self.revoked:
            raise ClientError("it is revoked", code=ExitCode.CONFLICT)
        if self.now < self.down_until:
            raise ClientError("nobody answers")
        self.renewed.append(self.now)
        self.window = Window(self.now, self.now + self.window.lifetime)

    def _wait(self, seconds: float) -> bool:
        assert 0 < seconds <= 60
        self.now += timedelta(seconds=seconds)
        return self.now >= self.end


@given(st.floats(0, 1, exclude_max=True))
def test_the_share_is_two_thirds_with_jitter(rng: float) -> None:
    """It is within a thirtieth of two thirds, whatever the dice say."""
    assert abs(draw_share(lambda: rng) - 2 / 3) <= 1 / 30 + 1e-9


def test_due() -> None:
    """A certificate of 90 days that is renewed at two thirds is renewed after 60."""
    assert due(_DAYS_90, 2 / 3) == _START + timedelta(days=60)


@given(st.integers(0, 10_000), st.timedeltas(timedelta(minutes=1), timedelta(days=4000)), st.floats(0, 1))
def test_a_pause_is_bounded(failures: int, lifetime: timedelta, rng: float) -> None:
    """However many failures: never none, at most an hour, at most a twentieth of the lifetime (or a second)."""
    waited = pause(failures, Window(_START, _START + lifetime), lambda: rng)
    assert timedelta(seconds=0.5) <= waited <= max(timedelta(seconds=1), min(timedelta(hours=1), lifetime / 20))


def test_renewals_follow_each_other() -> None:
    """Each is at two thirds of its own certificate."""
    world = _World(end=_START + timedelta(days=200))
    world.run()
    assert world.renewed == [_START + timedelta(days=days) for days in (60, 120, 180)]
    assert world.failed == []


def test_an_outage_is_waited_out() -> None:
    """Also one that outlasts the certificate; the first success ends it, within an hour of the service's return."""
    back = _START + timedelta(days=100)
    world = _World(down_until=back, end=_START + timedelta(days=101))
    world.run()
    assert world.failed[0] == _START + timedelta(days=60)
    assert len(world.renewed) == 1
    assert timedelta() <= world.renewed[0] - back <= timedelta(hours=1)


def test_attempts_become_rare() -> None:
    """In forty days without a service there are about as many attempts as hours, not as seconds."""
    world = _World(down_until=_START + timedelta(days=400), end=_START + timedelta(days=100))
    world.run()
    assert 900 < len(world.failed) < 2000


def test_a_wrong_clock_makes_no_tight_loop() -> None:
    """A service whose certificates are always past two thirds is asked at most twice a second."""

    class _Late(_World):
        def _renew(self) -> None:
            self.renewed.append(self.now)

    world = _Late(now=_START + timedelta(days=80), end=_START + timedelta(days=80, seconds=60))
    world.run()
    assert len(world.renewed) <= 120


def test_what_is_final_ends_it() -> None:
    """A revoked certificate is not asked for again."""
    world = _World(revoked=True)
    with pytest.raises(ClientError, match="revoked"):
        world.run()
    assert world.failed == []


def test_an_unreadable_file_at_the_start_ends_it() -> None:
    """A watch that cannot know what it watches does not begin."""
    with pytest.raises(ClientError, match="no such file"):
        _World(unreadable=True).run()


def test_a_file_that_somebody_else_replaced() -> None:
    """The new certificate's time counts from then on."""

    class _Replaced(_World):
        def _wait(self, seconds: float) -> bool:
            if self.now == _START + timedelta(days=30):
                self.window = Window(_START + timedelta(days=30), _START + timedelta(days=120))
            return super()._wait(seconds)

    world = _Replaced(end=_START + timedelta(days=91))
    world.run()
    assert world.renewed == [_START + timedelta(days=90)]
