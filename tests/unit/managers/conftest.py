"""Managers of each kind over real files and a real SQLite database."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.managers.helpers import KINDS, Manager, NewManager, client, make_manager


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    """Give one event loop for the whole test."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(params=KINDS)
def new_manager(request: pytest.FixtureRequest, tmp_path: Path, runner: asyncio.Runner) -> Iterator[NewManager]:
    """Give what makes managers of one kind in turn: sync, async, and async over a sync storage and database."""
    made: list[Manager] = []

    def new(name: str) -> Manager:
        made.append(make_manager(request.param, tmp_path / name, runner))
        return made[-1]

    yield new
    for manager in made:
        manager.close()


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the home of a manager that has a CA, and a certificate in the folder ``web``."""
    return make_template(tmp_path_factory.mktemp("template") / "home")


def make_template(home: Path) -> Path:
    """Make that home."""
    with asyncio.Runner() as runner:
        manager = make_manager("sync", home, runner)
        manager.set_up()
        manager.call("issue_certificate", client(), uuid_str="web")
        manager.close()
    return home


@pytest.fixture
def copied_manager(new_manager: NewManager, template: Path, tmp_path: Path) -> NewManager:
    """Give what makes managers that go on from the template, each in a copy of its own."""

    def new(name: str) -> Manager:
        shutil.copytree(template, tmp_path / name)
        manager = new_manager(name)
        manager.load_ca()
        return manager

    return new


@pytest.fixture
def empty(new_manager: NewManager) -> Manager:
    """Give a manager without a CA."""
    return new_manager("only")


@pytest.fixture
def manager(empty: Manager) -> Manager:
    """Give a manager that can issue."""
    empty.set_up()
    return empty
