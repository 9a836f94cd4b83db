"""Validity windows."""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta, timezone
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ca_factory.authorities import NOW, make_root
from tiny_ca.ca_factory.utils.life_time import CertLifetime
from tiny_ca.exc import InvalidRangeTimeCertificate

_T = TypeVar("_T")


def _result(coroutine: Coroutine[None, None, _T]) -> _T:
    """What a coroutine returns that waits for nothing."""
    with pytest.raises(StopIteration) as ended:
        coroutine.send(None)
    value: _T = ended.value.value
    return value


def test_from_now() -> None:
    """Without a start the window begins now, in whole seconds of UTC."""
    before = datetime.now(UTC).replace(microsecond=0)
    start, end = CertLifetime.compute(days_valid=90)
    assert before <= start <= datetime.now(UTC)
    assert (end - start, start.microsecond, start.tzinfo) == (timedelta(days=90), 0, UTC)


def test_naive_is_utc() -> None:
    """A naive start is UTC; one with a zone is the same moment in UTC."""
    naive, zoned = datetime(2100, 1, 1), datetime(2100, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))  # noqa: DTZ001  # naive on purpose
    assert CertLifetime.compute(naive) == CertLifetime.compute(zoned) == _result(CertLifetime.compute_async(naive))
    assert CertLifetime.normalize_dt(zoned) is zoned
    assert CertLifetime.normalize_dt(naive).tzinfo is UTC


@given(start=st.datetimes(timezones=st.timezones()), days=st.integers(-(10**9), 10**9))
def test_never_another_error(start: datetime, days: int) -> None:
    """Whatever the start and the days, it is a window that ends in the future, or a wrong range."""
    try:
        begin, end = CertLifetime.compute(start, days)
    except InvalidRangeTimeCertificate:
        return
    assert 1950 <= begin.year <= end.year
    assert end > datetime.now(UTC) - timedelta(minutes=1)
    assert end - begin == timedelta(days=days)


@pytest.mark.parametrize(
    "start,days,message",
    [
        (None, 0, "at least 1"),
        (None, 10**7, "past the year 9999"),
        (None, 10**10, "past the year 9999"),
        (datetime(2020, 1, 1, tzinfo=UTC), 30, "before now"),
        (datetime(1949, 12, 31, tzinfo=UTC), 40_000, "1950 to 9999"),
        (datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))), 1, "1950 to 9999"),
    ],
)
def test_wrong_ranges(start: datetime | None, days: int, message: str) -> None:
    """A range that is none says why."""
    with pytest.raises(InvalidRangeTimeCertificate, match=message):
        CertLifetime.compute(start, days)


def test_reading() -> None:
    """A certificate's window reads back, aware of its zone."""
    certificate = make_root().certificate
    begin, end = CertLifetime.valid_from(certificate), CertLifetime.valid_to(certificate)
    assert (begin, end) == (NOW - timedelta(minutes=1), NOW + timedelta(days=3650))
    assert _result(CertLifetime.valid_from_async(certificate)) == begin
    assert _result(CertLifetime.valid_to_async(certificate)) == end
