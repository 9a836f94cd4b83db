"""How Alembic reaches the registry: over ``config.attributes["connection"]``, else ``TINY_CA_DATABASE_URL``.

A connection that is passed in stays its owner's: transaction, locks, logging and closing too.
"""

from __future__ import annotations

import asyncio
import os
from logging.config import fileConfig
from typing import TYPE_CHECKING

from alembic import context

from tiny_ca.db.engine import WRITE, EngineSettings, async_url, make_async_engine
from tiny_ca.db.models import Base

if TYPE_CHECKING:
    from sqlalchemy import Connection

_URL = "TINY_CA_DATABASE_URL"


def _database_url() -> str:
    url = os.environ.get(_URL) or context.config.get_main_option("sqlalchemy.url")
    if not url:
        message = f"{_URL} is not set; set it to the database to migrate, as in sqlite+aiosqlite:////var/lib/ca/ca.db"
        raise SystemExit(message)
    return url


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # SQLite cannot alter a table: Alembic makes a new one, copies, and swaps.
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _migrate_own_connection() -> None:
    engine = make_async_engine(_database_url(), EngineSettings())
    async with engine.execution_options(**WRITE).begin() as connection:
        await connection.run_sync(_migrate)
    await engine.dispose()


def _print_sql() -> None:
    context.configure(
        url=async_url(_database_url()),
        target_metadata=Base.metadata,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()


_given: Connection | None = context.config.attributes.get("connection")
if _given is not None:
    _migrate(_given)
else:
    if context.config.config_file_name is not None:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    if context.is_offline_mode():
        _print_sql()
    else:
        asyncio.run(_migrate_own_connection())
