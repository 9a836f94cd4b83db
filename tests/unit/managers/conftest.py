"""Managers of each kind over real files and a real SQLite database."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.managers.helpers import Manager
from tiny_ca.db import AsyncDBHandler, SyncDBHandler
from tiny_ca.managers import AsyncCertLifecycleManager, CertLifecycleManager
from tiny_ca.storage import AsyncLocalStorage, LocalStorage


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Give one event loop for the whole test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=["sync", "async", "async over sync"])
def empty(request: pytest.FixtureRequest, tmp_path: Path, runner: asyncio.Runner) -> Iterator[Manager]:
    """Give a manager without a CA: sync, async, and async over a sync storage and database."""
    folder, db_url = tmp_path / "pki", f"sqlite:///{tmp_path / 'ca.db'}"
    manager: CertLifecycleManager | AsyncCertLifecycleManager
    if request.param == "sync":
        manager = CertLifecycleManager(LocalStorage(folder), db_handler=SyncDBHandler(db_url))
    elif request.param == "async":
        manager = AsyncCertLifecycleManager(AsyncLocalStorage(folder), db_handler=AsyncDBHandler(db_url))
    else:
        manager = AsyncCertLifecycleManager(LocalStorage(folder), db_handler=SyncDBHandler(db_url))
    adapter = Manager(manager, folder, db_url, runner)
    yield adapter
    adapter.close()


@pytest.fixture
def manager(empty: Manager) -> Manager:
    """Give a manager that can issue."""
    empty.set_up()
    return empty
