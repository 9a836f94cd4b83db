"""``tiny-ca backup``: the whole registry, as it is at one moment, into one encrypted file, also while it is served."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

from sqlalchemy import Connection

from app import database
from app.client.errors import ClientError
from app.client.files import staging
from app.client.output import progress
from app.services.ca_making import ACTOR
from app.settings import Settings
from app.transfer.archive import Head, write_archive
from app.transfer.envelope import SealedWriter, new_seal
from app.transfer.registry import opened_ca, snapshot
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.tables import TABLES, count_rows
from tiny_ca.exc import Conflict, Unavailable

__all__ = ["Backup", "back_up"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Backup:
    """What was written: the file, the moment that it is of, and how many rows of each table."""

    file: Path
    taken_at: datetime
    revision: str
    rows: dict[str, int]


def back_up(settings: Settings, file: Path, passphrase: str, *, replace: bool) -> Backup:
    """Write the file, whole or not at all, mode 0600, and a row of the audit.

    Raises
    ------
    SettingsError
        There is no CA here.
    Conflict, Unavailable
        The file is there and may not be replaced; it cannot be written.
    RegistryUnavailable
        The database does not answer; then there is no file.
    """
    if file.exists() and not replace:
        raise Conflict(f"{file} is there already; --force replaces it")
    return asyncio.run(_back_up(settings, file, passphrase, replace=replace))


async def _back_up(settings: Settings, file: Path, passphrase: str, *, replace: bool) -> Backup:
    async with opened_ca(settings.effective_database_url, settings) as db:
        seal = await asyncio.to_thread(new_seal, passphrase)
        try:
            with staging(file) as (raw, finished):
                # 1. One snapshot, to the disk.
                written = _Written(raw, file)
                sealed = SealedWriter(written, seal)
                async with snapshot(db) as connection:
                    head, rows = await connection.run_sync(_write, sealed.write)
                sealed.finish()
                staged = written.synced(finished)
                # 2. Its audit row: a copy of every key that nobody knows of would be one too many.
                detail = {"rows": rows, "revision": head.revision}
                audit = AuditEntry(
                    at=datetime.now(UTC), actor=ACTOR, action="registry.backup", outcome="success", detail=detail
                )
                await db.write(insert_audit, [audit])
                # 3. Its name.
                staged.place(replace=replace)
        except ClientError as error:
            raise Conflict(error.message) from error
    return Backup(file, head.taken_at, head.revision, rows)


def _write(connection: Connection, write: Callable[[bytes], None]) -> tuple[Head, dict[str, int]]:
    total = sum(count_rows(connection, table) for table in TABLES)  # the first SELECT: from here on, one moment
    head = Head(str(database.revision(connection)), datetime.now(UTC))
    with progress("backup", total) as advance:
        return head, write_archive(write, connection, head, advance=advance)


class _Written:
    """The file that is being written; that a disk is full is no failure of the database's."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path

    def write(self, content: bytes) -> None:
        """Write some more."""
        self._guarded(lambda: self._file.write(content))

    def synced(self, finish: Callable[[], _T]) -> _T:
        """Sync it."""
        return self._guarded(finish)

    def _guarded(self, act: Callable[[], _T]) -> _T:
        try:
            return act()
        except OSError as error:
            raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
