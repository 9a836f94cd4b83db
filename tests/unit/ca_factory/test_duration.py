"""Lifetimes as people write them."""

from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import texts
from tiny_ca.exc import Invalid
from tiny_ca.utils.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    "text,expected",
    [
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(hours=24)),
        ("10000d", timedelta(days=10_000)),
        ("4w", timedelta(weeks=4)),
        ("007d", timedelta(days=7)),
    ],
)
def test_good(text: str, expected: timedelta) -> None:
    """A number and a unit."""
    assert parse_duration(text, field="lifetime") == expected


@pytest.mark.parametrize(
    "text",
    ["", "0s", "0d", "-1d", "1", "d", "1.5h", " 1d", "1d ", "1d\n", "1D", "\u0661d", "15 parsecs", "1h30m", "9" * 999],
)
def test_bad(text: str) -> None:
    """Anything else is refused by the name of its field, and long nonsense is cut short in the message."""
    with pytest.raises(Invalid) as caught:
        parse_duration(text, field="lifetime")
    assert caught.value.field == "lifetime"
    assert len(caught.value.message) < 200


def test_longer_than_any_calendar() -> None:
    """A number of weeks past the end of the calendar is refused."""
    with pytest.raises(Invalid, match="past the end of the calendar"):
        parse_duration("999999999w", field="lifetime")


@given(st.integers(1, 10**9))
def test_round_trip(seconds: int) -> None:
    """What is written reads back."""
    duration = timedelta(seconds=seconds)
    text = format_duration(duration)
    if len(text) <= 10:
        assert parse_duration(text, field="lifetime") == duration


@given(texts())
def test_never_another_error(text: str) -> None:
    """Any text is a positive lifetime or is refused."""
    with contextlib.suppress(Invalid):
        assert parse_duration(text, field="lifetime") > timedelta(0)


@pytest.mark.parametrize("seconds,expected", [(0, "0s"), (-1, "-1s"), (59, "59s"), (3600, "1h"), (604800, "7d")])
def test_written(seconds: int, expected: str) -> None:
    """A duration is written in the largest unit that divides it."""
    assert format_duration(timedelta(seconds=seconds)) == expected
