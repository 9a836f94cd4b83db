"""Registries over real databases, of which each test has its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.unit.db.helpers import Registry
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.sync_db_manager import SyncDBHandler


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Give one event loop for the whole test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=[SyncDBHandler, AsyncDBHandler], ids=["sync", "async"])
def handler_class(request: pytest.FixtureRequest) -> type[SyncDBHandler | AsyncDBHandler]:
    """Give each handler in turn."""
    kind: type[SyncDBHandler | AsyncDBHandler] = request.param
    return kind


@pytest.fixture
def registry(
    db_url: str, handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner
) -> Iterator[Registry]:
    """Give a strict registry without a CRL window, of each handler over each database."""
    registry = Registry(handler_class(db_url, strict=True, crl_window=None), runner)
    yield registry
    registry.close()
