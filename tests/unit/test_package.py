"""The package's front door."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tiny_ca
from tests.unit.public_api import NAMES

_EVERYTHING = "; ".join(f"from {module} import {', '.join(names)}" for module, names in NAMES.items())
# The interpreter writes no .pyc files (-B), so whatever is opened for writing was opened by what is imported.
_ON_IMPORT = """
import logging, os, sys, threading
touched = []
writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT
def watch(event, arguments):
    if event in ("os.mkdir", "os.rename", "socket.bind") or (event == "open" and arguments[2] & writes):
        touched.append((event, arguments))
sys.addaudithook(watch)
{statement}
assert not touched, touched
assert threading.active_count() == 1, threading.enumerate()
loggers = [logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)]
handlers = [(logger, logger.handlers) for logger in loggers if logger.handlers]
assert not handlers, handlers
taken = sys.modules.keys() & {{{absent}}}
assert not taken, taken
"""
_SERVICE = ("alembic", "apscheduler", "fastapi", "pydantic_settings", "starlette", "structlog", "typer", "uvicorn")
_HEAVY = ("cryptography", "pydantic", "sqlalchemy")


def test_every_name_is_there() -> None:
    """Each public name leads to the thing of that name."""
    for name in tiny_ca.__all__:
        expected = "DatabaseManager" if name == "SyncDatabaseManager" else name
        assert getattr(tiny_ca, name).__name__ == expected
    assert set(tiny_ca.__all__) <= set(dir(tiny_ca))


def test_no_other_name() -> None:
    """A name that is none is an AttributeError."""
    with pytest.raises(AttributeError, match="Nothing"):
        tiny_ca.Nothing  # noqa: B018 - asking is the test


@pytest.mark.parametrize(
    "statement, absent",
    [
        ("import tiny_ca", (*_SERVICE, *_HEAVY)),  # what is not asked for is not loaded
        ("from tiny_ca import *", _SERVICE),
        (_EVERYTHING, _SERVICE),
    ],
    ids=["package", "star", "everything"],
)
def test_import_does_nothing(tmp_path: Path, statement: str, absent: tuple[str, ...]) -> None:
    """Importing writes no file, starts no thread, touches no logger, and needs nothing of the service's."""
    script = _ON_IMPORT.format(statement=statement, absent=", ".join(map(repr, absent)))
    subprocess.run([sys.executable, "-B", "-W", "error", "-c", script], cwd=tmp_path, check=True)
    assert list(tmp_path.iterdir()) == []
