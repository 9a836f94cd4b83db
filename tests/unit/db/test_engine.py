"""Drivers, settings and files."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from tests.unit.db.helpers import Registry
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.engine import async_url, sync_url
from tiny_ca.db.sync_db_manager import SyncDBHandler
from tiny_ca.exc import Invalid


@pytest.mark.parametrize("url", ["sqlite:///a.db", "sqlite+aiosqlite:///a.db", "sqlite+pysqlite:///a.db"])
def test_sqlite_urls_fit_both_handlers(url: str) -> None:
    """The driver of a SQLite URL is the handler's."""
    assert (str(sync_url(url)), str(async_url(url))) == ("sqlite+pysqlite:///a.db", "sqlite+aiosqlite:///a.db")


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+asyncpg", "postgresql+psycopg"])
def test_postgresql_urls_fit_both_handlers(scheme: str) -> None:
    """The driver of a PostgreSQL URL is the handler's, and TLS is asked for in libpq's words."""
    assert str(sync_url(f"{scheme}://h/d?ssl=require")) == "postgresql+psycopg://h/d?sslmode=require"
    assert str(async_url(f"{scheme}://h/d?ssl=require")) == "postgresql+asyncpg://h/d?sslmode=require"


@pytest.mark.parametrize("url", ["mysql://u:hunter2@h/d", "hunter2"])
def test_other_urls_are_refused_without_their_password(url: str) -> None:
    """Neither another database nor a broken URL is taken, and no password is repeated."""
    for read in (sync_url, async_url):
        with pytest.raises(Invalid) as caught:
            read(url)
        assert "hunter2" not in f"{caught.value.message}{caught.value.value}"


def test_missing_driver_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg a sync handler says what to install."""
    monkeypatch.setattr("tiny_ca.db.engine.find_spec", lambda _name: None)
    with pytest.raises(Invalid, match="psycopg"):
        sync_url("postgresql://h/d")


def test_files_are_the_owners_alone(
    tmp_path: Path, handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner
) -> None:
    """The database and what SQLite puts beside it have mode 0600, whatever the umask."""
    umask = os.umask(0)
    try:
        registry = Registry(handler_class(f"sqlite:///{tmp_path / 'ca.db'}"), runner)
        registry.call("ping")
    finally:
        os.umask(umask)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    registry.close()
    assert modes == {"ca.db": 0o600, "ca.db-shm": 0o600, "ca.db-wal": 0o600}


def test_sqlite_is_durable_and_checks_foreign_keys(
    tmp_path: Path, handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner
) -> None:
    """WAL, synchronous=FULL, foreign keys and the busy timeout hold on every connection."""
    registry = Registry(handler_class(f"sqlite:///{tmp_path / 'ca.db'}"), runner)

    def pragmas(session: Session) -> list[object]:
        names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        return [session.execute(text(f"PRAGMA {name}")).scalar() for name in names]

    answers = registry.read(pragmas)
    registry.close()
    assert answers == ["wal", 2, 1, 5000]


def test_postgresql_has_timeouts(
    postgres_database: str, handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner
) -> None:
    """A statement, a wait for a lock and a transaction in which nothing happens end on the server's side."""
    registry = Registry(handler_class(postgres_database), runner)

    def timeouts(session: Session) -> list[object]:
        names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
        return [session.execute(text(f"SHOW {name}")).scalar() for name in names]

    answers = registry.read(timeouts)
    registry.close()
    assert answers == ["30s", "10s", "10s"]


def test_a_parameter_that_asyncpg_does_not_take_is_named() -> None:
    """As one of libpq's that is a setting here; said at once, and not by a traceback at the first connection."""
    with pytest.raises(Invalid, match="connect_timeout") as caught:
        async_url("postgresql://u@h/db?connect_timeout=5")
    assert (caught.value.field, caught.value.value) == ("db_url", "connect_timeout")
    assert "application_name" in str(async_url("postgresql://u@h/db?application_name=x&sslmode=require"))
