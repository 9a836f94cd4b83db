"""The package's front door."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tiny_ca

_ON_IMPORT = """
import logging, sys, threading, time
start = time.perf_counter(); import tiny_ca; spent = time.perf_counter() - start
assert spent < 0.4, spent
assert not logging.getLogger("tiny_ca").handlers and not logging.root.handlers
assert threading.active_count() == 1
assert "sqlalchemy" not in sys.modules
"""


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


def test_import_does_nothing() -> None:
    """Importing takes no time, starts no thread and touches no logger."""
    subprocess.run([sys.executable, "-W", "error", "-c", _ON_IMPORT], check=True)
