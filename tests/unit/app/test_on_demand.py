"""What is made when it is asked for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from app.services.on_demand import OnDemand

pytestmark = pytest.mark.anyio


async def test_it_is_made_once_for_all() -> None:
    """Those who ask at the same time, and those who ask later, get the same."""
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    value = OnDemand(make)
    assert made == []
    got = await asyncio.gather(*(value.get() for _ in range(10)))
    assert {*got, await value.get()} == set(made)
    assert len(made) == 1


async def test_who_gives_up_keeps_nobody_from_it() -> None:
    """It goes on being made for the others."""
    may_end = threading.Event()
    value = OnDemand(lambda: may_end.wait(20))
    impatient, patient = asyncio.create_task(value.get()), asyncio.create_task(value.get())
    await asyncio.sleep(0)
    impatient.cancel()
    may_end.set()
    assert await patient is True
    with pytest.raises(asyncio.CancelledError):
        await impatient


async def test_a_failure_is_not_kept() -> None:
    """Who asks next gets what is made then."""
    failures = [OSError("no memory")]

    def make() -> bytes:
        if failures:
            raise failures.pop()
        return b"made"

    value = OnDemand(make)
    with pytest.raises(OSError, match="no memory"):
        await value.get()
    assert await value.get() == b"made"
