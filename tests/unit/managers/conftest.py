"""Managers of each kind over real files and real databases."""

from __future__ import annotations

import asyncio
import functools
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from tests.postgres import new_database
from tests.stored import Rows, copy_database, empty_database, fill_database
from tests.unit.managers.helpers import KINDS, Manager, NewManager, client, make_manager

# From "sqlite" or "postgresql" to a database, and to the home and the rows that copies are made of.
Borrow: TypeAlias = Callable[[str], AbstractContextManager[str | None]]
Template: TypeAlias = Callable[[str], tuple[Path, Rows | None]]

_EACH: Final = [(kind, database) for database in ("sqlite", "postgresql") for kind in KINDS]
# What dies before each of its effects does so hundreds of times.
_COPIED: Final = [*((kind, "sqlite") for kind in KINDS), ("async", "postgresql")]


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Give one event loop for the whole test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def borrow(postgres_url: str) -> Iterator[Borrow]:
    """Give what lends databases without a row; None for SQLite, where each home has its own.

    Each is used again and again: emptying one takes a tenth of the time of making one.
    """
    free: list[str] = []
    with ExitStack() as databases:

        @contextmanager
        def lend() -> Iterator[str]:
            if not free:
                free.append(databases.enter_context(new_database(postgres_url)))
            db_url = free.pop()
            yield db_url
            empty_database(db_url)
            free.append(db_url)

        yield lambda database: nullcontext() if database == "sqlite" else lend()


@pytest.fixture(params=_EACH, ids=" over ".join)
def new_manager(
    request: pytest.FixtureRequest, borrow: Borrow, tmp_path: Path, runner: asyncio.Runner
) -> Iterator[NewManager]:
    """Give what makes managers of one kind in turn: sync, async, and async over a sync storage and database."""
    kind, database = request.param
    with ExitStack() as stack:

        def new(name: str) -> Manager:
            manager = make_manager(kind, tmp_path / name, runner, stack.enter_context(borrow(database)))
            stack.callback(manager.close)
            return manager

        yield new


@pytest.fixture(scope="session")
def template(borrow: Borrow, tmp_path_factory: pytest.TempPathFactory) -> Template:
    """Give what ``copied_manager`` copies."""

    @functools.cache
    def made(database: str) -> tuple[Path, Rows | None]:
        home = tmp_path_factory.mktemp("template") / "home"
        with borrow(database) as db_url:
            make_template(home, db_url)
            return home, None if db_url is None else copy_database(db_url)

    return made


def make_template(home: Path, db_url: str | None = None) -> Path:
    """Make the home of a manager that has a CA, and a certificate in the folder ``web``."""
    with asyncio.Runner() as runner:
        manager = make_manager("sync", home, runner, db_url)
        manager.set_up()
        manager.call("issue_certificate", client(), uuid_str="web")
        manager.close()
    return home


@pytest.fixture(params=_COPIED, ids=" over ".join)
def copied_manager(
    request: pytest.FixtureRequest, borrow: Borrow, template: Template, tmp_path: Path, runner: asyncio.Runner
) -> Iterator[NewManager]:
    """Give what makes managers that go on from the template, each in a copy of its own, when the last one is closed."""
    kind, database = request.param
    with ExitStack() as last:

        def new(name: str) -> Manager:
            last.close()
            home, rows = template(database)
            shutil.copytree(home, tmp_path / name)
            db_url = last.enter_context(borrow(database))
            if db_url is not None and rows is not None:
                fill_database(db_url, rows)
            manager = make_manager(kind, tmp_path / name, runner, db_url)
            last.callback(manager.close)
            manager.load_ca()
            return manager

        yield new


@pytest.fixture
def empty(new_manager: NewManager) -> Manager:
    """Give a manager without a CA."""
    return new_manager("only")


@pytest.fixture
def manager(empty: Manager) -> Manager:
    """Give a manager that can issue."""
    empty.set_up()
    return empty
