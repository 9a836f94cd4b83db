"""Engines: which driver, which settings, how a transaction begins.

A SQLite file is in WAL mode and synchronous=FULL: what was committed survives a power cut, and readers wait for nobody.
Reads begin with BEGIN, writes with BEGIN IMMEDIATE: a write that waits for another does so before it has read anything,
so it never fails half way because what it read is out of date.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from sqlalchemy import URL, AsyncAdaptedQueuePool, Engine, QueuePool, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from tiny_ca.db.models import Base
from tiny_ca.exc import Invalid

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

__all__ = [
    "WRITE",
    "EngineSettings",
    "async_url",
    "create_tables",
    "is_sqlite_file",
    "make_async_engine",
    "make_sync_engine",
    "sync_url",
]

# Execution options of an engine or a session whose transactions write; PostgreSQL has no use for them.
WRITE: Final = {"tiny_ca_begin": "BEGIN IMMEDIATE"}
# Any constant does, as long as nobody else takes it: the advisory lock under which tables are made.
_CREATE_LOCK: Final = 0x7469_6E79_6361
_FILE_MODE: Final = 0o600
# libpq's TLS parameters (PostgreSQL docs §34.1.2) that asyncpg reads from a connection string, not as arguments.
_TLS_PARAMETERS: Final = frozenset(
    {
        *("sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version"),
    }
)
# What else a URL for asyncpg may say; the two last are SQLAlchemy's.
_OTHER_PARAMETERS: Final = frozenset(
    {
        *("host", "port", "user", "password", "database", "passfile", "target_session_attrs", "ssl"),
        *("application_name", "prepared_statement_cache_size", "prepared_statement_name_func"),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """Bounds of a connection pool; times in seconds. ``busy_timeout`` is SQLite's, ``*_timeout`` else PostgreSQL's.

    ``idle_timeout`` ends a transaction whose process says nothing more: one that is paused in it holds its locks.
    """

    busy_timeout: float = 5.0
    pool_size: int = 5
    max_overflow: int = 10
    pool_timeout: float = 10.0
    connect_timeout: float = 5.0
    statement_timeout: float = 30.0
    lock_timeout: float = 10.0
    idle_timeout: float = 10.0


def sync_url(db_url: str | URL) -> URL:
    """Return the URL with the sync driver of its database.

    Raises
    ------
    Invalid
        Not the URL of a SQLite or PostgreSQL database, or psycopg is needed and missing.
    """
    url = _parsed(db_url)
    if url.get_backend_name() == "sqlite":
        return url.set(drivername="sqlite+pysqlite")
    if find_spec("psycopg") is None:
        message = "a sync handler needs psycopg for PostgreSQL: pip install 'psycopg[binary]', or use AsyncDBHandler"
        raise Invalid(message, field="db_url", value=url.render_as_string())
    return _renamed(url.set(drivername="postgresql+psycopg"), "ssl", "sslmode")


def async_url(db_url: str | URL) -> URL:
    """Return the URL with the async driver of its database.

    Raises
    ------
    Invalid
        Not the URL of a SQLite or PostgreSQL database, or asyncpg is needed and missing.
    """
    url = _parsed(db_url)
    if url.get_backend_name() == "sqlite":
        return url.set(drivername="sqlite+aiosqlite")
    unknown = sorted(url.query.keys() - _TLS_PARAMETERS - _OTHER_PARAMETERS)
    if unknown:
        known = ", ".join(sorted(_TLS_PARAMETERS | _OTHER_PARAMETERS))
        message = f"the database URL's parameter {unknown[0]!r} is none that asyncpg takes here; known are {known}"
        raise Invalid(message, field="db_url", value=unknown[0])
    if find_spec("asyncpg") is None:
        message = "an async handler needs asyncpg for PostgreSQL: pip install asyncpg, or use SyncDBHandler"
        raise Invalid(message, field="db_url", value=url.render_as_string())
    return _renamed(url.set(drivername="postgresql+asyncpg"), "ssl", "sslmode")


def make_sync_engine(db_url: str | URL, settings: EngineSettings) -> Engine:
    """Make an engine; nothing is opened yet."""
    url = sync_url(db_url)
    engine = create_engine(url, poolclass=QueuePool, **_options(url, settings))
    _prepare(engine)
    return engine


def make_async_engine(db_url: str | URL, settings: EngineSettings) -> AsyncEngine:
    """Make an async engine; nothing is opened yet."""
    url = async_url(db_url)
    options = _options(url, settings)
    url = url.difference_update_query([*_TLS_PARAMETERS, "application_name"])
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, **options)
    _prepare(engine.sync_engine)
    return engine


def create_tables(connection: Connection) -> None:
    """Make the tables that are missing; any number of processes may do so at once."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _CREATE_LOCK})
    Base.metadata.create_all(connection)


def is_sqlite_file(url: URL) -> bool:
    """Whether it is a SQLite database that several connections share: a file, not memory."""
    return url.get_backend_name() == "sqlite" and not _in_memory(url)


def _parsed(db_url: str | URL) -> URL:
    try:
        url = make_url(db_url)
    except ArgumentError as error:
        # The text of it is not repeated: it may hold a password.
        message = "the database URL cannot be read; write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        raise Invalid(message, field="db_url") from error
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        message = f"the registry is kept in SQLite or PostgreSQL, not in {url.get_backend_name()}"
        raise Invalid(message, field="db_url", value=url.render_as_string())
    return url


def _renamed(url: URL, old: str, new: str) -> URL:
    """Give a query parameter the name that the other driver knows it by."""
    if old not in url.query:
        return url
    return url.difference_update_query([old]).update_query_dict({new: url.query[old]})


def _in_memory(url: URL) -> bool:
    return url.database in {None, "", ":memory:"} or url.query.get("mode") == "memory"


def _options(url: URL, settings: EngineSettings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "pool_timeout": settings.pool_timeout,
        "pool_use_lifo": True,
        "connect_args": _connect_args(url, settings),
        "hide_parameters": True,  # an error's text must not carry token hashes and certificates into a log
    }
    if url.get_backend_name() == "sqlite" and _in_memory(url):
        # Each connection to :memory: is a database of its own, so there is one, and everybody waits for it.
        return options | {"pool_size": 1, "max_overflow": 0}
    options |= {"pool_size": settings.pool_size, "max_overflow": settings.max_overflow}
    if url.get_backend_name() == "postgresql":
        options["pool_pre_ping"] = True
    return options


def _connect_args(url: URL, settings: EngineSettings) -> dict[str, Any]:
    bounds = {
        "statement_timeout": f"{round(settings.statement_timeout * 1000)}",
        "lock_timeout": f"{round(settings.lock_timeout * 1000)}",
        "idle_in_transaction_session_timeout": f"{round(settings.idle_timeout * 1000)}",
    }
    match url.get_driver_name():
        case "asyncpg":
            return {
                **_tls_arguments(url),
                "timeout": settings.connect_timeout,
                # The server ends a statement at its own timeout; this one is for a server that no longer answers.
                "command_timeout": settings.statement_timeout + settings.connect_timeout,
                "server_settings": {**bounds, **_application_name(url)},
            }
        case "psycopg":
            return {
                "connect_timeout": round(settings.connect_timeout),
                "options": " ".join(f"-c {name}={value}" for name, value in bounds.items()),
            }
        case _:
            return {"timeout": settings.busy_timeout, "check_same_thread": False}


def _application_name(url: URL) -> dict[str, str]:
    name = url.query.get("application_name")
    return {"application_name": name} if isinstance(name, str) else {}


def _tls_arguments(url: URL) -> dict[str, str]:
    """What asyncpg is told of TLS: a connection string with nothing else in it, which it reads as libpq does."""
    query = urlencode({name: url.query[name] for name in sorted(_TLS_PARAMETERS & url.query.keys())}, doseq=True)
    return {"dsn": f"postgresql://?{query}"} if query else {}


def _prepare(engine: Engine) -> None:
    if engine.dialect.name == "sqlite":
        event.listen(engine, "do_connect", _create_file)
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", _begin)
        path = str(engine.url.database)
        if not (_in_memory(engine.url) or path.startswith("file:")):
            file = Path(path).absolute()
            event.listen(engine, "connect", partial(_remember_file, file))
            event.listen(engine, "checkout", partial(_check_file, file))


def _create_file(_dialect: object, _record: object, cargs: list[Any], _cparams: object) -> None:
    """Make the file first, for SQLite would make it readable to all; its -wal and -shm take its mode."""
    path = str(cargs[0])
    if path in {"", ":memory:"} or path.startswith("file:"):
        return
    # O_EXCL: a file that is there must not be opened here, for closing it would drop every lock that this process holds
    # on it (https://sqlite.org/howtocorrupt.html §2.2), and the next process to close the database would delete the WAL
    # under us. Where this fails otherwise, SQLite fails next, and its error is the one that is mapped.
    with suppress(OSError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, _FILE_MODE))


def _set_pragmas(dbapi_connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
    # The driver must not begin transactions by itself: it would begin them late, and never IMMEDIATE.
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.close()


def _remember_file(file: Path, _dbapi_connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    record.info["file"] = _identity(file)


def _check_file(
    file: Path, _dbapi_connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
) -> None:
    """Close connections to a file that was moved, deleted or replaced: what is committed there, nobody finds again.

    The pool then opens whatever is in its place. An empty file has no tables, so that every call fails and says so.
    """
    if record.info["file"] != _identity(file):
        message = f"{file} is not the file any more that was opened"
        raise InvalidatePoolError(message)


def _identity(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("tiny_ca_begin", "BEGIN"))
