"""The database's schema, brought up to date with Alembic before anything else touches it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, func, select, text

from app.settings import SettingsError
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.engine import WRITE
from tiny_ca.db.policy import translated

__all__ = ["UNFINISHED", "head", "is_current", "is_known", "mark", "revision", "upgrade", "upgrade_within"]

# Any constant does, as long as nobody else takes it.
_UPGRADE_LOCK: Final = 0x7469_6E79_6D69
# The revision of a database that is being filled begins so: whoever would serve from it, or change it, must not.
UNFINISHED: Final = "copy-of-"


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
            await connection.run_sync(upgrade_within)


async def is_current(db: AsyncDBHandler) -> bool:
    """Whether the schema is the one this program knows."""
    return await db.read(lambda session: revision(session.connection()) == head())


def upgrade_within(connection: Connection, to: str | None = None) -> None:
    """As ``upgrade``, in a transaction of the caller's, to the newest revision or an older one.

    Raises
    ------
    SettingsError
        The database was made by a newer version of this program, or is a copy that is not finished.
    """
    if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE is such a lock
        connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
    wanted = to or head()
    found = revision(connection)
    if found == wanted:
        return
    if found is not None and found.startswith(UNFINISHED):
        message = "it holds a copy that is not finished: run tiny-ca db copy again"
        raise SettingsError(f"TINY_CA_DATABASE_URL: {message}")
    if found is not None and not is_known(found):
        message = f"TINY_CA_DATABASE_URL: the schema is at revision {found}, which is newer than this program"
        raise SettingsError(message)
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, wanted or "head")


def revision(connection: Connection) -> str | None:
    """The schema's revision, None where there is no schema."""
    return MigrationContext.configure(connection).get_current_revision()


def is_known(revision: str) -> bool:
    """Whether a revision is one of this program's."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def mark(connection: Connection, name: str | None) -> None:
    """Give a database of the newest schema another revision, such as ``UNFINISHED``; None gives it its own again."""
    connection.execute(text("UPDATE alembic_version SET version_num = :name"), {"name": name or head()})


def head() -> str | None:
    """The revision that this program knows."""
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
