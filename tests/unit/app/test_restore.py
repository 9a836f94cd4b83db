"""Backups of other versions of this program."""

from __future__ import annotations

import asyncio
import io
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from sqlalchemy import Connection, inspect

from app import database
from app.main import prepare_ca
from app.settings import Settings
from app.transfer import restore as restoring
from app.transfer.backup import back_up
from app.transfer.envelope import SealedReader, SealedWriter, new_seal, read_seal
from app.transfer.registry import opened, transaction
from app.transfer.restore import restore
from app.transfer.rows import Digest, row_line
from tiny_ca.exc import Conflict, Malformed

PASSPHRASE = "correct horse battery staple"
OLD = "0002"


@pytest.fixture
def backup(settings: Settings, tmp_path: Path) -> Path:
    """The backup of a CA that was just made."""
    asyncio.run(prepare_ca(settings))
    back_up(settings, tmp_path / "backup", PASSPHRASE, replace=False)
    return tmp_path / "backup"


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path) -> Settings:
    """Another place, with the passphrase of the CA's keys."""
    new = Settings(data_dir=tmp_path / "new")
    new.data_dir.mkdir()
    (new.data_dir / "key-passphrase").write_bytes((settings.data_dir / "key-passphrase").read_bytes())
    return new


def _rewritten(file: Path, change: Callable[[list[Any]], list[Any]]) -> None:
    """Change what is inside, and seal it again."""
    with file.open("rb") as content:
        lines = [json.loads(line) for line in io.BufferedReader(SealedReader(content, read_seal(content, PASSPHRASE)))]
    with file.open("wb") as content:
        writer = SealedWriter(content, new_seal(PASSPHRASE))
        for line in change(lines):
            writer.write(json.dumps(line, separators=(",", ":"), sort_keys=True).encode() + b"\n")
        writer.finish()


_Columns: TypeAlias = Mapping[str, Collection[str]]


def _columns_of(revision: str, folder: Path) -> _Columns:
    """Of each table that there was."""

    def look(connection: Connection) -> _Columns:
        database.upgrade_within(connection, revision)
        inspector = inspect(connection)
        return {table: {one["name"] for one in inspector.get_columns(table)} for table in inspector.get_table_names()}

    async def run() -> _Columns:
        async with opened(f"sqlite:///{folder / 'old.db'}") as db, transaction(db) as connection:
            return await connection.run_sync(look)

    return asyncio.run(run())


def _of_revision(file: Path, revision: str, columns: _Columns | None = None) -> None:
    """Let the backup say that it is of this revision, and leave out what that did not have."""

    def change(lines: list[Any]) -> list[Any]:
        head, *rest, end = lines
        if columns is None:
            return [{**head, "revision": revision}, *rest, end]
        kept: list[Any] = []
        digests: dict[str, Digest] = {}
        table, places = "", list[int]()
        for line in rest:
            if isinstance(line, dict):
                table = line["table"]
                places = [at for at, name in enumerate(line["columns"]) if name in columns.get(table, ())]
                if places:
                    digests[table] = Digest()
                    kept.append({"table": table, "columns": [line["columns"][at] for at in places]})
            elif places:
                kept.append([line[at] for at in places])
                digests[table].add(row_line(kept[-1]))
        ends = {name: {"rows": one.rows, "sha256": one.hex} for name, one in digests.items()}
        return [{**head, "revision": revision}, *kept, {"end": ends}]

    _rewritten(file, change)


def test_a_backup_of_an_older_version(backup: Path, elsewhere: Settings, settings: Settings, tmp_path: Path) -> None:
    """Into a new database: it is filled as it was, then brought up to date. It is merged into none."""
    _of_revision(backup, OLD, _columns_of(OLD, tmp_path))
    done = restore(elsewhere, backup, PASSPHRASE)
    assert (done.merged, done.issuers, done.certificates) == (False, 2, 2)
    with closing(sqlite3.connect(elsewhere.data_dir / "tiny-ca.db")) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(database.head(),)]
        assert connection.execute("SELECT count(*) FROM notices").fetchall() == [(0,)]
    asyncio.run(prepare_ca(elsewhere))
    with pytest.raises(Conflict, match=rf"of schema {OLD}"):
        restore(settings, backup, PASSPHRASE)


def test_a_backup_of_a_newer_version(backup: Path, elsewhere: Settings) -> None:
    """It is refused, and nothing is made."""
    _of_revision(backup, "9999")
    with pytest.raises(Conflict, match="9999, which is newer"):
        restore(elsewhere, backup, PASSPHRASE)
    assert not (elsewhere.data_dir / "tiny-ca.db").exists()


def test_a_restore_that_dies_leaves_nothing(backup: Path, elsewhere: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all rows are in, and the commit is not there yet: none of them is; the next one brings all."""

    def die(_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(restoring, "raise_sequences", die)
        with pytest.raises(KeyboardInterrupt):
            restore(elsewhere, backup, PASSPHRASE)
    with closing(sqlite3.connect(elsewhere.data_dir / "tiny-ca.db")) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert restore(elsewhere, backup, PASSPHRASE).certificates == 2


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda lines: lines[:-1], "before its end"),
        (lambda lines: [*lines, {}], "follows its end"),
        (lambda lines: [*lines[:3], *lines[4:]], "other rows"),
        (lambda lines: [*lines[:2], [1, 2], *lines[2:]], "has 1[0-9] values"),
        (lambda lines: [{**lines[0], "format": 2}, *lines[1:]], "another format"),
        (lambda lines: [lines[0], {"table": "strangers", "columns": []}, *lines[1:]], "none of this format"),
        (lambda lines: [lines[0], {"table": lines[1]["table"], "columns": ["odd"]}, *lines[2:]], "odd"),
    ],
)
def test_what_does_not_add_up(
    backup: Path, elsewhere: Settings, change: Callable[[list[Any]], list[Any]], said: str
) -> None:
    """Sealed as it should be, and yet not what a backup holds: refused before anything is made."""
    _rewritten(backup, change)
    with pytest.raises(Malformed, match=said):
        restore(elsewhere, backup, PASSPHRASE)
    assert not (elsewhere.data_dir / "tiny-ca.db").exists()
