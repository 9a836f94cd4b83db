"""One server for one SQLite file: two that do not know of each other would each serve CRLs that the other outdated."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import make_url

from app.settings import Settings, SettingsError

__all__ = ["no_server", "only_server"]


@contextmanager
def only_server(settings: Settings) -> Iterator[None]:
    """Hold the right to serve from a SQLite database; PostgreSQL is there for many, and is not locked.

    The lock is beside the database, never on it: closing a descriptor of that would drop SQLite's own locks.

    Raises
    ------
    SettingsError
        Another server holds it.
    """
    with _alone(
        settings.effective_database_url,
        "another tiny-ca serves {database}; "
        "for more processes over one SQLite file use --workers, for more machines PostgreSQL",
    ):
        yield


@contextmanager
def no_server(database_url: str) -> Iterator[None]:
    """Keep servers away from a SQLite database while it is read or written as a whole.

    Raises
    ------
    SettingsError
        One is there.
    """
    with _alone(database_url, "a tiny-ca serves {database}, or moves it in or out: stop it first"):
        yield


@contextmanager
def _alone(database_url: str, otherwise: str) -> Iterator[None]:
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite" or not url.database or url.database == ":memory:":
        yield
        return
    path = Path(f"{url.database}.lock")
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise SettingsError(f"TINY_CA_DATABASE_URL: {path} cannot be opened: {error.strerror}") from error
    try:
        _take(lock, otherwise.format(database=url.database))
        yield
    finally:
        os.close(lock)


def _take(lock: int, otherwise: str) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingsError(f"TINY_CA_DATABASE_URL: {otherwise}") from None
