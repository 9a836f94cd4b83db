"""Migrations and models say the same."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from app.database import head
from tiny_ca.db.engine import WRITE, EngineSettings, make_async_engine
from tiny_ca.db.models import Base

ROOT = Path(__file__).parents[3]


def migrated(connection: Connection, revision: str = "head") -> None:
    """Bring the schema there, down where that is ``base``."""
    config = Config(str(ROOT / "alembic.ini"))
    config.attributes["connection"] = connection
    (command.downgrade if revision == "base" else command.upgrade)(config, revision)


def in_transaction(db_url: str, *units: Callable[[Connection], object]) -> list[object]:
    """Run these, one after the other, in one transaction that writes; returns what each returned."""

    async def run() -> list[object]:
        engine = make_async_engine(db_url, EngineSettings())
        async with engine.execution_options(**WRITE).begin() as connection:
            answers = [await connection.run_sync(unit) for unit in units]
        await engine.dispose()
        return answers

    return asyncio.run(run())


def _difference(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), Base.metadata))


def _condition(options: Mapping[str, object]) -> list[str]:
    return [str(condition) for name, condition in options.items() if name.endswith("_where")]


def _indexes(connection: Connection) -> dict[str, list[tuple[str | None, tuple[str | None, ...], bool, list[str]]]]:
    inspector = inspect(connection)
    return {
        table: sorted(  # by name, and no two have one
            (
                index["name"],
                tuple(index["column_names"]),
                bool(index["unique"]),
                _condition(index.get("dialect_options", {})),
            )
            for index in inspector.get_indexes(table)
        )
        for table in Base.metadata.tables
    }


def test_migrations_make_what_the_models_describe(db_url: str) -> None:
    """After every migration Alembic finds no difference to the models."""
    assert in_transaction(db_url, migrated, _difference)[1] == []


def test_migrated_indexes_are_those_of_create_all(db_url: str) -> None:
    """Partial indexes too are the same, whether migrated or made by create_all."""
    by_migrations = in_transaction(db_url, migrated, _indexes, lambda connection: migrated(connection, "base"))[1]
    assert in_transaction(db_url, Base.metadata.create_all, _indexes)[1] == by_migrations


def test_downgrade_leaves_nothing_but_alembics_own(db_url: str) -> None:
    """The way back drops every table."""
    answers = in_transaction(
        db_url,
        migrated,
        lambda connection: migrated(connection, "base"),
        lambda connection: inspect(connection).get_table_names(),
    )
    assert answers[2] == ["alembic_version"]


def test_given_connection_leaves_logging_alone(tmp_path: Path) -> None:
    """A service that migrates keeps its own logging."""
    before = (logging.root.level, list(logging.root.handlers))
    in_transaction(f"sqlite:///{tmp_path / 'ca.db'}", migrated)
    assert (logging.root.level, list(logging.root.handlers)) == before


def test_command_line_migrates_the_database_of_the_environment(tmp_path: Path) -> None:
    """`alembic upgrade head` takes TINY_CA_DATABASE_URL, and finds nothing left to do afterwards."""
    for action in ("upgrade", "check"):
        arguments = [action, "head"] if action == "upgrade" else [action]
        subprocess.run(
            [sys.executable, "-m", "alembic", *arguments],
            cwd=ROOT,
            env={"TINY_CA_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'ca.db'}"},
            check=True,
            capture_output=True,
        )


def test_revisions_are_the_numbers_of_their_files() -> None:
    """A start looks at the names of the files alone: they must be what Alembic reads in them, in its order."""
    scripts = [*ScriptDirectory.from_config(Config(str(ROOT / "alembic.ini"))).walk_revisions()]
    assert [Path(script.path).name.partition("_")[0] for script in scripts] == [script.revision for script in scripts]
    assert [script.revision for script in scripts] == sorted((script.revision for script in scripts), reverse=True)
    assert scripts[0].revision == head()
