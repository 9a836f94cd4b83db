"""A database that is locked, full, read-only or gone, and what callers are told."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy import event, text
from sqlalchemy.orm import Session

from tests.unit.db.helpers import NOW, Registry, certificate, entry
from tiny_ca.db import queries
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.const import RevokeStatus
from tiny_ca.db.engine import EngineSettings
from tiny_ca.db.queries.revocations import locked_certificate
from tiny_ca.db.sync_db_manager import SyncDBHandler
from tiny_ca.exc import RegistryUnavailable

Handler = type[SyncDBHandler | AsyncDBHandler]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the path of a SQLite file."""
    return tmp_path / "ca.db"


@pytest.fixture(params=[True, False], ids=["strict", "lenient"])
def impatient(
    request: pytest.FixtureRequest, path: Path, handler_class: Handler, runner: asyncio.Runner
) -> Iterator[Registry]:
    """Give a registry that waits for a lock for a moment only."""
    settings = EngineSettings(busy_timeout=0.05)
    registry = Registry(handler_class(f"sqlite:///{path}", strict=request.param, settings=settings), runner)
    registry.call("ping")
    yield registry
    registry.close()


def test_locked_database_is_unavailable_to_writes(impatient: Registry, path: Path) -> None:
    """A write that cannot get the lock in time is refused as unavailable; reads go on."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RegistryUnavailable, match="locked"):
            impatient.keep(entry())
        assert impatient.read(queries.list_certificates) == []
    impatient.keep(entry())


def test_full_database_keeps_nothing_of_a_batch(impatient: Registry) -> None:
    """A batch that does not fit is unavailable, and leaves no row."""

    def fill(session: Session) -> None:
        pages = session.execute(text("PRAGMA page_count")).scalar_one()
        session.execute(text(f"PRAGMA max_page_count={pages}"))
        queries.insert_certificates(session, [entry() for _ in range(50)], now=NOW)

    with pytest.raises(RegistryUnavailable, match="full"):
        impatient.write(fill)
    assert impatient.read(queries.list_certificates) == []


def test_documented_methods_answer_as_documented(impatient: Registry, path: Path) -> None:
    """A lenient registry answers None, False, [] or 0 to a broken database; a strict one raises each time."""
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE certificate_names")
        other.execute("DROP TABLE certificates")
    answers: list[tuple[str, tuple[object, ...], object]] = [
        ("get_by_serial", (1,), None),
        ("get_by_name", ("a",), None),
        (
            "register_cert_in_db",
            (
                certificate(),
                "u",
            ),
            False,
        ),
        ("revoke_certificate", (1,), (False, RevokeStatus.UNKNOWN_ERROR)),
        ("get_revoked_certificates", (), []),
        ("list_all", (), []),
        ("get_expiring", (), []),
        ("update_status_expired", (), 0),
        ("delete_by_uuid", ("u",), False),
    ]
    for method, arguments, answer in answers:
        if impatient.handler.strict:
            with pytest.raises(RegistryUnavailable):
                impatient.call(method, *arguments)
        else:
            assert impatient.call(method, *arguments) == answer


def test_folder_that_is_missing_is_unavailable(tmp_path: Path, handler_class: Handler, runner: asyncio.Runner) -> None:
    """A database that cannot be opened is an exception of the library."""
    with pytest.raises(RegistryUnavailable, match="unable to open"):
        Registry(handler_class(f"sqlite:///{tmp_path / 'none' / 'ca.db'}"), runner).call("ping")


@pytest.mark.parametrize("where", ["127.0.0.1:1", "no-such-host.invalid:5432"])
def test_server_that_is_gone_is_unavailable(where: str, handler_class: Handler, runner: asyncio.Runner) -> None:
    """A server that refuses, or has no address, is an exception of the library."""
    with pytest.raises(RegistryUnavailable):
        Registry(handler_class(f"postgresql://u:p@{where}/none"), runner).call("ping")


def test_missing_postgres_database_is_unavailable(
    postgres_url: str, handler_class: Handler, runner: asyncio.Runner
) -> None:
    """A server that lets nobody in is unavailable too."""
    with pytest.raises(RegistryUnavailable):
        Registry(handler_class(postgres_url.replace("/postgres?", "/missing?")), runner).call("ping")


def test_connection_that_breaks_is_unavailable_then_replaced(
    postgres_database: str, handler_class: Handler, runner: asyncio.Runner
) -> None:
    """A session that the server ends in the middle fails; the next one works, without a restart."""
    registry = Registry(handler_class(postgres_database), runner)
    with pytest.raises(RegistryUnavailable):
        registry.write(Session.execute, text("SELECT pg_terminate_backend(pg_backend_pid())"))
    registry.keep(entry())
    registry.close()


def test_deadlock_is_nobodys_failure(postgres_database: str, handler_class: Handler) -> None:
    """Two transactions that lock the same rows in opposite order both succeed: the one that is ended runs again."""
    first, second = entry(), entry()
    both = Barrier(2)
    runs = []

    def unit(session: Session, serials: tuple[int, int]) -> None:
        runs.append(serials)
        locked_certificate(session, serials[0])
        if len(runs) <= 2:
            both.wait(10)
        locked_certificate(session, serials[1])

    def lock(*serials: int) -> None:
        with asyncio.Runner() as runner:
            registry = Registry(handler_class(postgres_database, strict=True), runner)
            registry.write(unit, (serials[0], serials[1]))
            registry.close()

    with asyncio.Runner() as runner:
        registry = Registry(handler_class(postgres_database, strict=True), runner)
        registry.keep(first)
        registry.keep(second)
        registry.close()
    one, other = int(first.serial_number), int(second.serial_number)
    with ThreadPoolExecutor() as pool:
        done = [pool.submit(lock, one, other), pool.submit(lock, other, one)]
        assert [each.result(30) for each in done] == [None, None]
    assert len(runs) > 2


def test_file_that_is_deleted_or_replaced(impatient: Registry, path: Path, tmp_path: Path) -> None:
    """Nothing is kept in a file that has no name any more; what is put in its place is used."""
    with closing(sqlite3.connect(path)) as opened, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        opened.backup(copy)
    impatient.keep(entry())
    path.unlink()
    with pytest.raises(RegistryUnavailable, match="no such table"):
        impatient.keep(entry())
    (tmp_path / "copy.db").rename(path)
    impatient.keep(kept := entry())
    with closing(sqlite3.connect(path)) as opened:
        rows = opened.execute("SELECT serial_number FROM certificates").fetchall()
    assert rows == [(kept.serial_number,)]


def test_error_never_repeats_the_statement(path: Path) -> None:
    """A key on its way into the database is not in the text of the error."""
    handler = SyncDBHandler(f"sqlite:///{path}")
    with pytest.raises(RegistryUnavailable) as caught:
        handler.write(Session.execute, text("INSERT INTO none VALUES (:key)"), {"key": "SECRET"})
    handler.close()
    assert "SECRET" not in caught.value.message


@pytest.mark.parametrize("write", [True, False])
def test_writes_take_the_lock_before_they_read(path: Path, *, write: bool) -> None:
    """A unit that writes begins IMMEDIATE, one that reads does not."""
    handler = SyncDBHandler(f"sqlite:///{path}")
    seen: list[str] = []
    event.listen(handler.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    (handler.write if write else handler.read)(queries.list_certificates)
    handler.close()
    assert seen[0] == ("BEGIN IMMEDIATE" if write else "BEGIN")


def test_patience_ends_and_the_work_does_not(path: Path) -> None:
    """Who has waited long enough is told so; what they asked for comes to its end. The patient wait for that."""

    async def run() -> None:
        handler = AsyncDBHandler(f"sqlite:///{path}", strict=True, patience=0.1)
        await handler.patient().ping()
        late, later = entry(), entry()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(RegistryUnavailable, match=r"no answer within 0\.1 seconds"):
                await handler.write(queries.insert_certificates, [late], now=NOW)
            waiting = asyncio.create_task(handler.patient().write(queries.insert_certificates, [later], now=NOW))
            assert await asyncio.wait([waiting], timeout=0.2) == (set(), {waiting})
            other.execute("ROLLBACK")
        await waiting
        await handler.aclose()
        again = AsyncDBHandler(f"sqlite:///{path}", strict=True)
        kept = {record.serial_number for record in await again.read(queries.list_certificates)}
        await again.aclose()
        assert kept == {late.serial_number, later.serial_number}

    asyncio.run(run())
