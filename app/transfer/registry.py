"""The registry as this package opens it: one snapshot to read, one transaction to write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Table, make_url
from sqlalchemy.ext.asyncio import AsyncConnection

from app import database
from app.settings import Settings, SettingsError
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.engine import WRITE, async_url
from tiny_ca.db.policy import translated
from tiny_ca.db.queries.tables import walk
from tiny_ca.exc import NotFound

__all__ = ["missing_file", "opened", "opened_ca", "pages", "snapshot", "transaction"]


@asynccontextmanager
async def opened(database_url: str) -> AsyncIterator[AsyncDBHandler]:
    """A database, whatever is in it; closed afterwards."""
    db = AsyncDBHandler(database_url, strict=True, crl_window=None, create_all=False)
    try:
        yield db
    finally:
        await db.aclose()


def missing_file(database_url: str) -> bool:
    """Whether it is a SQLite file that is not there: opening it would make an empty one."""
    url = make_url(database_url)
    return url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file()


@asynccontextmanager
async def opened_ca(database_url: str, settings: Settings | None = None) -> AsyncIterator[AsyncDBHandler]:
    """A database with a CA of this version.

    Raises
    ------
    SettingsError, NotFound
        There is none: with the settings that say where, or at a URL.
    """
    url = async_url(database_url)
    if missing_file(database_url):
        raise _no_ca(url, settings)
    async with opened(database_url) as db:
        if not await database.is_current(db):
            raise _no_ca(url, settings)
        yield db


@asynccontextmanager
async def snapshot(db: AsyncDBHandler) -> AsyncIterator[AsyncConnection]:
    """One moment of the database, however long it is read and whoever writes meanwhile."""
    # SQLite's readers see the moment of their first SELECT, as WAL has it.
    is_postgres = db.engine.dialect.name == "postgresql"
    options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True} if is_postgres else {}
    with translated():
        async with db.engine.execution_options(**options).connect() as connection, connection.begin():
            yield connection


@asynccontextmanager
async def transaction(db: AsyncDBHandler) -> AsyncIterator[AsyncConnection]:
    """One transaction that writes, committed at the end and rolled back on any error."""
    with translated():
        async with db.engine.execution_options(**WRITE).begin() as connection:
            yield connection


async def pages(connection: AsyncConnection, table: Table) -> AsyncIterator[list[tuple[Any, ...]]]:
    """As ``walk``, between whose pages something else may be awaited."""
    walked = await connection.run_sync(walk, table)
    while (page := await connection.run_sync(lambda _: next(walked, None))) is not None:
        yield page


def _no_ca(url: URL, settings: Settings | None) -> Exception:
    if settings is None:
        return NotFound(f"there is no CA of this version in {url.render_as_string()}")
    where = "TINY_CA_DATABASE_URL" if settings.database_url else f"TINY_CA_DATA_DIR: {settings.data_dir}"
    return SettingsError(f"{where}: there is no CA of this version; tiny-ca init makes one")
