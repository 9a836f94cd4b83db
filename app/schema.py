"""``tiny-ca db …``: the schema of the service's database, looked at or brought up to date by its operator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from sqlalchemy import make_url

from app import database
from app.database import Revisions
from app.services.secrets import prepare_data_dir
from app.settings import Settings
from tiny_ca.db.async_db_manager import AsyncDBHandler

__all__ = ["schema_status", "upgrade_schema"]

_T = TypeVar("_T")


def schema_status(settings: Settings) -> Revisions:
    """Which schema is there; nothing is changed, nor made.

    Raises
    ------
    RegistryUnavailable
        The database does not answer, or there is no such SQLite file.
    """
    url = make_url(settings.effective_database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        # SQLite would make an empty database.
        url = url.set(database=":memory:")
        settings = settings.model_copy(update={"database_url": url.render_as_string(hide_password=False)})
    return asyncio.run(_with_database(settings, database.revisions))


def upgrade_schema(settings: Settings) -> tuple[Revisions, Revisions]:
    """Bring the schema to the newest revision; returns what was there and what is. Of several at once, the others wait.

    Raises
    ------
    SettingsError
        The database was made by a newer version of this program.
    RegistryUnavailable
        The database does not answer.
    """
    prepare_data_dir(settings.data_dir)

    async def run(db: AsyncDBHandler) -> tuple[Revisions, Revisions]:
        before = await database.revisions(db)
        await database.upgrade(settings)
        return before, await database.revisions(db)

    return asyncio.run(_with_database(settings, run))


async def _with_database(settings: Settings, work: Callable[[AsyncDBHandler], Awaitable[_T]]) -> _T:
    db = database.connect(settings)
    try:
        return await work(db)
    finally:
        await db.aclose()
