"""How often is too often."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.rate_limits import RateLimiter, RateLimits, RateLimitSettings, network_of
from tiny_ca.exc import RateLimited


class _Clock:
    """Seconds that stand until they are moved."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_the_rate() -> None:
    """A burst is let in at once; after that, one each interval, and the wait that is told is long enough."""
    clock = _Clock()
    limiter = RateLimiter(per_second=10, burst=5, clock=clock)
    assert [limiter.take("a") for _ in range(5)] == [0.0] * 5
    wait = limiter.take("a")
    assert wait == pytest.approx(0.1)
    clock.now += wait
    assert limiter.take("a") == 0.0
    assert limiter.take("a") == pytest.approx(0.1)


def test_keys_do_not_touch_each_other() -> None:
    """What one takes is no other's."""
    limiter = RateLimiter(per_second=1, burst=1, clock=_Clock())
    assert limiter.take("a") == 0.0
    assert limiter.take("a") > 0
    assert limiter.take("b") == 0.0


@given(
    st.integers(1, 50),
    st.floats(0.1, 1000),
    st.lists(st.floats(0, 2, allow_subnormal=False), min_size=1, max_size=200),
)
def test_never_more_than_burst_and_rate(burst: int, per_second: float, pauses: list[float]) -> None:
    """In any window, at most the burst and what the rate has earned in it are let in."""
    clock = _Clock(0.0)
    limiter = RateLimiter(per_second=per_second, burst=burst, clock=clock)
    taken: list[float] = []
    for pause in pauses:
        clock.now += pause
        if limiter.take("a") == 0.0:
            taken.append(clock.now)
    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + (taken[last] - taken[first]) * per_second + 1e-3


@given(st.integers(1, 20), st.floats(0.1, 1000), st.integers(0, 60))
def test_who_waits_is_let_in(burst: int, per_second: float, more: int) -> None:
    """Whoever comes again after the wait that they were told is let in, however often they asked meanwhile."""
    clock = _Clock()
    limiter = RateLimiter(per_second=per_second, burst=burst, clock=clock)
    while (wait := limiter.take("a")) == 0.0:
        pass
    for _ in range(more):
        limiter.take("a")
    clock.now += wait
    assert limiter.take("a") == 0.0


def test_the_table_is_bounded() -> None:
    """Of more keys than the table holds, those that took least recently are forgotten, and no others."""
    limiter = RateLimiter(per_second=1, burst=1, clock=_Clock(), size=100)
    for number in range(100):
        limiter.take(str(number))
    limiter.take("0")  # refused, and remembered for it
    for number in range(100, 199):
        limiter.take(str(number))
    assert len(limiter) == 100
    assert limiter.take("0") > 0
    assert limiter.take("1") == 0.0


def test_it_costs_microseconds() -> None:
    """A thousand keys over a full table: less than 50 microseconds each, on any machine."""
    limiter = RateLimiter(per_second=1000, burst=1000, clock=time.monotonic, size=1000)
    keys = [f"token-{number}" for number in range(2000)]
    began = time.process_time()
    for _ in range(10):
        for key in keys:
            limiter.take(key)
    assert (time.process_time() - began) / 20_000 < 50e-6


@pytest.mark.parametrize(
    "address,network",
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("", ""),
        ("no:address", "no:address"),
    ],
)
def test_ipv6_is_counted_by_64(address: str, network: str) -> None:
    """A host has a /64 to choose addresses from (RFC 4291 §2.5.1), and one IPv4 address."""
    assert network_of(address) == network


def test_refusals_say_how_long() -> None:
    """The error names who it is and carries the seconds; with the limits off there is none."""
    settings = RateLimitSettings(
        requests_per_second=0.5, requests_burst=1, failed_logins_per_minute=1, failed_logins_burst=1
    )
    limits = RateLimits.of(settings, _Clock())
    limits.check_request("admin")
    with pytest.raises(RateLimited, match=r"^admin sends more requests .* wait 2 s$") as refused:
        limits.check_request("admin")
    assert refused.value.retry_after == pytest.approx(2)
    limits.check_failed_login("2001:db8::1")
    with pytest.raises(RateLimited, match=r"2001:db8::2; wait 60 s$"):
        limits.check_failed_login("2001:db8::2")
    off = RateLimits.of(RateLimitSettings(enabled=False, requests_burst=1), _Clock())
    for _ in range(10):
        off.check_request("admin")
        off.check_failed_login("192.0.2.1")


@pytest.mark.parametrize(
    "wrong",
    [{"requests_per_second": 0}, {"requests_burst": 0}, {"requests_burst": "10"}, {"enabled": "no"}, {"request": 1},
     {"failed_logins_per_minute": -1}, {"failed_logins_burst": 1.5}, {"requests_per_second": float("nan")},
     {"requests_per_second": float("inf")}],
)  # fmt: skip
def test_limits_that_are_none(wrong: dict[str, object]) -> None:
    """Nothing, less than nothing, text and unknown names are refused."""
    with pytest.raises(ValidationError):
        RateLimitSettings.model_validate(wrong)
