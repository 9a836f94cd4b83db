"""``tiny-ca db copy``: a registry from one database into another, in pieces that are committed, so that it can go on.

While it is not finished, the copy's schema has a revision of its own: no service starts on half a registry, and the
next run knows what was being copied. What is there by then is held against the source before anything is added to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Table
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import Session

from app import database
from app.client.output import progress
from app.lock import no_server
from app.services.ca_making import ACTOR
from app.transfer.registry import opened, opened_ca, pages, snapshot, transaction
from app.transfer.rows import Digest, row_line
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.engine import async_url
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.issuers import list_issuers
from tiny_ca.db.queries.tables import TABLES, add_rows, count_rows, is_empty, raise_sequences
from tiny_ca.exc import Conflict

__all__ = ["Copied", "copy_database"]


@dataclass(frozen=True, slots=True)
class Copied:
    """What is the same in both now: of each table, how many rows and their digest."""

    rows: dict[str, int]
    sha256: dict[str, str]


def copy_database(source_url: str, target_url: str) -> Copied:
    """Copy, or go on where another run ended; then hold every table of the one against the other.

    Raises
    ------
    SettingsError
        A server holds a SQLite file of the two.
    Invalid, NotFound
        One is no database that is known, or the source has no CA of this version.
    Conflict
        The target holds something else, or differs in the end: the message names the tables.
    RegistryUnavailable
        One of them does not answer; what was committed stays, and the next run goes on.
    """
    source, target = (async_url(url).render_as_string(hide_password=False) for url in (source_url, target_url))
    with no_server(source), no_server(target):
        return asyncio.run(_copy(source, target))


async def _copy(source_url: str, target_url: str) -> Copied:
    async with opened_ca(source_url) as source, opened(target_url) as target, snapshot(source) as here:
        # 1. The target is empty, or an earlier run of this copy.
        name, total = await here.run_sync(_look)
        async with transaction(target) as there:
            await there.run_sync(_prepare, name)
        # 2. Table by table, parents first.
        read: dict[str, Digest] = {}
        is_over = False
        with progress("copy", total) as advance:
            for table in TABLES:
                already = await _digest(target, table)
                if is_over and already.rows:
                    raise _other(table)
                read[table.name] = await _copy_table(here, target, table, already, advance)
                is_over = is_over or already.rows < read[table.name].rows
        # 3. Both sides say the same.
        differing = []
        with progress("verify", total) as advance:
            for table in TABLES:
                written = await _digest(target, table)
                advance(written.rows)
                if written != read[table.name]:
                    rows = f"{read[table.name].rows} rows in the source and {written.rows} in the copy"
                    differing.append(f"{table.name} ({rows})")
        if differing:
            raise Conflict(f"the copy differs in {', '.join(differing)}; it is not to be used")
        # 4. From here on it is a registry.
        copied = Copied(
            {table: digest.rows for table, digest in read.items()},
            {table: digest.hex for table, digest in read.items()},
        )
        async with transaction(target) as there:
            await there.run_sync(_finish, copied)
        return copied


def _look(connection: Connection) -> tuple[str, int]:
    """What the copy is called while it is not finished: by the oldest CA and the schema."""
    with Session(bind=connection) as session:
        issuers = list_issuers(session)
    if not issuers:
        raise Conflict("the source holds no CA: there is nothing to copy")
    name = f"{database.UNFINISHED}{issuers[0].id}-{database.head()}"
    return name, sum(count_rows(connection, table) for table in TABLES)


def _prepare(connection: Connection, name: str) -> None:
    found = database.revision(connection)
    if found == name:
        return
    if found is not None and found.startswith(database.UNFINISHED):
        raise Conflict("the target holds an unfinished copy of another source, or by another version; empty it first")
    database.upgrade_within(connection)
    if not is_empty(connection):
        raise Conflict(
            "the target is not empty, and no unfinished copy; name an empty database, or use backup, restore"
        )
    database.mark(connection, name)


async def _copy_table(
    here: AsyncConnection, target: AsyncDBHandler, table: Table, already: Digest, advance: Callable[[int], None]
) -> Digest:
    """Add what is missing; returns the digest of the whole table at the source.

    What is there are the first rows in the source's order: whole pages are committed, one after the other.
    """
    columns = [column.name for column in table.columns]
    seen, checked = Digest(), already.rows == 0
    async for page in pages(here, table):
        missing = []
        for row in page:
            if not checked and seen.rows == already.rows:
                _check_same(table, seen, already)
                checked = True
            if checked:
                missing.append(row)
            seen.add(row_line(row))
        if missing:
            async with transaction(target) as there:
                await there.run_sync(add_rows, table, columns, missing)
        advance(len(page))
    if not checked:
        _check_same(table, seen, already)
    return seen


def _check_same(table: Table, seen: Digest, already: Digest) -> None:
    if seen != already:
        raise _other(table)


def _other(table: Table) -> Conflict:
    return Conflict(
        f"table {table.name} of the target holds other rows than the source had first: it changed since, or the target "
        "is no copy of it; empty the target, and begin anew"
    )


async def _digest(db: AsyncDBHandler, table: Table) -> Digest:
    digest = Digest()
    async with snapshot(db) as connection:
        async for page in pages(connection, table):
            for row in page:
                digest.add(row_line(row))
    return digest


def _finish(connection: Connection, copied: Copied) -> None:
    raise_sequences(connection)
    detail = {"rows": copied.rows}
    audit = AuditEntry(at=datetime.now(UTC), actor=ACTOR, action="registry.copy", outcome="success", detail=detail)
    with Session(bind=connection) as session:
        insert_audit(session, [audit])
        session.flush()
    database.mark(connection, None)
