"""The database's schema, brought up to date with Alembic before anything else touches it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select

from app.settings import SettingsError
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.engine import WRITE
from tiny_ca.db.policy import translated

__all__ = ["is_current", "upgrade"]

# Any constant does, as long as nobody else takes it.
_UPGRADE_LOCK: Final = 0x7469_6E79_6D69


async def upgrade(db: AsyncDBHandler) -> None:
    """Bring the schema to the newest revision, in one transaction; of several processes, the others wait.

    Raises
    ------
    SettingsError
        The database was made by a newer version of this program.
    RegistryUnavailable
        The database does not answer.
    """
    with translated():
        async with db.engine.execution_options(**WRITE).begin() as connection:
            if db.engine.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE is such a lock
                await connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            await connection.run_sync(_upgrade)


async def is_current(db: AsyncDBHandler) -> bool:
    """Whether the schema is the one this program knows."""
    return await db.read(lambda session: _revision(session.connection()) == _head())


def _upgrade(connection: Connection) -> None:
    revision = _revision(connection)
    if revision == _head():
        return
    scripts = ScriptDirectory.from_config(_config())
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        message = f"TINY_CA_DATABASE_URL: the schema is at revision {revision}, which is newer than this program"
        raise SettingsError(message)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _head() -> str | None:
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    config.set_main_option("path_separator", "os")
    return config


def _migrations() -> Path:
    """Inside the package where it was installed from a wheel, beside it in a checkout."""
    installed = Path(__file__).parent / "migrations"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "migrations"
