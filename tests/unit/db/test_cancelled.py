"""A caller that goes away in the middle: what has begun comes to its end, and nothing is left hanging."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from sqlalchemy.orm import Session

from tests.unit.db.helpers import NOW, entry
from tiny_ca.db import queries
from tiny_ca.db.async_db_manager import AsyncDBHandler

pytestmark = pytest.mark.anyio


@pytest.fixture
async def handler(db_url: str) -> AsyncIterator[AsyncDBHandler]:
    """Give an async registry over each database."""
    handler = AsyncDBHandler(db_url, strict=True)
    await handler.ping()
    yield handler
    await handler.aclose()


async def _cancelled_in_the_middle(handler: AsyncDBHandler) -> None:
    """Begin to write, and leave once the unit is at work."""
    at_work = asyncio.Event()

    def unit(session: Session) -> None:
        at_work.set()
        queries.insert_certificates(session, [entry()], now=NOW)

    caller = asyncio.create_task(handler.write(unit))
    await at_work.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


async def test_what_has_begun_is_committed(db_url: str, handler: AsyncDBHandler) -> None:
    """Callers that leave are let go at once; their units are committed all the same, the last before the close ends."""
    left = AsyncDBHandler(db_url, strict=True)
    for _ in range(20):  # more than the pool holds: each connection must have come back
        await _cancelled_in_the_middle(left)
    await left.aclose()
    assert len(await handler.read(queries.list_certificates)) == 20
