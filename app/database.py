"""The service's way to its database, and the schema there, brought up to date with Alembic before anything else.

Alembic itself is loaded where something is to be done: most starts find the schema as it should be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, inspect, select, text

from app.settings import Settings, SettingsError
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.engine import WRITE, EngineSettings
from tiny_ca.db.policy import translated

__all__ = [
    "UNFINISHED",
    "Revisions",
    "connect",
    "head",
    "is_current",
    "is_known",
    "mark",
    "require_current",
    "revision",
    "revisions",
    "serves",
    "upgrade",
    "upgrade_within",
]

_LONG: Final = 24 * 3600.0
# Any constant does, as long as nobody else takes it.
_UPGRADE_LOCK: Final = 0x7469_6E79_6D69
# The revision of a database that is being filled begins so: whoever would serve from it, or change it, must not.
UNFINISHED: Final = "copy-of-"


@dataclass(frozen=True, slots=True)
class Revisions:
    """Of the schema that is there, None where there is none, and of the one that this program needs."""

    found: str | None
    needed: str
    is_newer: bool = False  # than any that this program knows

    @property
    def is_current(self) -> bool:
        """Whether they are the same."""
        return self.found == self.needed


def connect(
    settings: Settings, *, patience: float | None = None, engine: EngineSettings | None = None
) -> AsyncDBHandler:
    """The database of these settings; nothing is opened yet. ``patience`` in seconds, as the handler has it."""
    return AsyncDBHandler(
        settings.effective_database_url,
        strict=True,
        crl_window=None,
        create_all=False,
        settings=engine or settings.database_engine,
        patience=patience,
    )


async def upgrade(settings: Settings) -> None:
    """Bring the schema to the newest revision, in one transaction; of several processes, the others wait.

    However long it takes: of a large table, an index takes longer than anything that a service asks for.

    Raises
    ------
    SettingsError
        The database was made by a newer version of this program.
    RegistryUnavailable
        The database does not answer.
    """
    patient = replace(settings.database_engine, statement_timeout=_LONG, lock_timeout=_LONG, idle_timeout=_LONG)
    db = connect(settings, engine=patient)
    try:
        if await is_current(db):  # nobody who restarts waits for another's migration
            return
        with translated():
            async with db.engine.execution_options(**WRITE).begin() as connection:
                await connection.run_sync(upgrade_within, lock_timeout=settings.database_lock_timeout)
    finally:
        await db.aclose()


async def revisions(db: AsyncDBHandler) -> Revisions:
    """Which schema is there, and which one is needed.

    Raises
    ------
    RegistryUnavailable
        The database does not answer.
    """
    return await db.read(lambda session: _revisions(session.connection()))


async def is_current(db: AsyncDBHandler) -> bool:
    """Whether the schema is the one this program knows."""
    return (await revisions(db)).is_current


async def serves(db: AsyncDBHandler) -> bool:
    """Whether a program that runs already can go on with the schema: migrations expand, so a newer one does as well."""
    schema = await revisions(db)
    return schema.is_current or schema.is_newer


async def require_current(db: AsyncDBHandler) -> None:
    """Change nothing.

    Raises
    ------
    SettingsError
        The schema is another one than this program needs.
    RegistryUnavailable
        The database does not answer.
    """
    schema = await revisions(db)
    if schema.is_current:
        return
    _check_ours(schema.found)
    found = "has no schema yet" if schema.found is None else f"is at revision {schema.found}"
    message = f"TINY_CA_AUTO_MIGRATE: the database {found}, and {schema.needed} is needed: run 'tiny-ca db upgrade'"
    raise SettingsError(message)


def upgrade_within(connection: Connection, to: str | None = None, *, lock_timeout: timedelta | None = None) -> None:
    """As ``upgrade``, in a transaction of the caller's, to the newest revision or an older one.

    ``lock_timeout``: how long it may wait for a table, where everybody else would wait behind it; None changes nothing.

    Raises
    ------
    SettingsError
        The database was made by a newer version of this program, or is a copy that is not finished.
    """
    if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE is such a lock
        connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
        if lock_timeout is not None:
            milliseconds = round(lock_timeout.total_seconds() * 1000)
            connection.execute(select(func.set_config("lock_timeout", str(milliseconds), True)))  # noqa: FBT003  # local
    wanted, found = to or head(), revision(connection)
    if found == wanted:
        return
    _check_ours(found)
    _run_alembic(connection, wanted)


def revision(connection: Connection) -> str | None:
    """The schema's revision, None where there is no schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


def is_known(revision: str) -> bool:
    """Whether a revision is one of this program's."""
    return revision in _known()


def mark(connection: Connection, name: str | None) -> None:
    """Give a database of the newest schema another revision, such as ``UNFINISHED``; None gives it its own again."""
    connection.execute(text("UPDATE alembic_version SET version_num = :name"), {"name": name or head()})


def head() -> str:
    """The revision that this program needs."""
    return _known()[-1]


def _check_ours(found: str | None) -> None:
    if found is not None and found.startswith(UNFINISHED):
        message = "it holds a copy that is not finished: run tiny-ca db copy again"
        raise SettingsError(f"TINY_CA_DATABASE_URL: {message}")
    if found is not None and not is_known(found):
        message = f"TINY_CA_DATABASE_URL: the schema is at revision {found}, which is newer than this program"
        raise SettingsError(message)


def _revisions(connection: Connection) -> Revisions:
    found, needed = revision(connection), head()
    is_foreign = found is not None and found != needed and not found.startswith(UNFINISHED)
    return Revisions(found, needed, is_newer=is_foreign and not is_known(str(found)))


@lru_cache(maxsize=1)
def _known() -> tuple[str, ...]:
    """Each revision, oldest first: they are numbers, and their files' names begin with them."""
    known = sorted(file.name.partition("_")[0] for file in (_migrations() / "versions").glob("[0-9]*_*.py"))
    assert known, "no migrations were found"  # noqa: S101  # they are part of the program
    return tuple(known)


def _run_alembic(connection: Connection, wanted: str) -> None:
    from alembic import command  # noqa: PLC0415  # a tenth of the time of a start that does not need it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_migrations()))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, wanted)


def _migrations() -> Path:
    """Inside the package where it was installed from a wheel, beside it in a checkout."""
    installed = Path(__file__).parent / "migrations"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "migrations"
