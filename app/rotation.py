"""``tiny-ca token rotate-admin``: on the machine that holds the data folder, with the settings of the service."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import make_url

from app import database
from app.auth.tokens import ADMIN_TOKEN_ID, token_sha256
from app.services.ca_making import ACTOR
from app.services.secrets import ADMIN_TOKEN_FILE, replace_admin_token
from app.settings import Settings, SettingsError
from tiny_ca.db.entries import AuditEntry, TokenEntry
from tiny_ca.db.queries.tokens import put_token, token_by_id
from tiny_ca.exc import RegistryUnavailable

__all__ = ["rotate_admin_token"]


def _now() -> datetime:
    return datetime.now(UTC)


def rotate_admin_token(settings: Settings, *, clock: Callable[[], datetime] = _now) -> Path:
    """Make a new admin token: its file, its hash, a row of the audit; returns the file.

    A running service takes it at once, and the old one for a second more.

    Raises
    ------
    SettingsError
        The token is given by a setting, or there is no CA here.
    RegistryUnavailable
        The database does not answer. If the file was written by then, the next run, or start of the service, ends it.
    """
    if settings.admin_token is not None or settings.admin_token_file is not None:
        message = "TINY_CA_ADMIN_TOKEN gives the admin's token: change it there, and start the service again"
        raise SettingsError(message)
    url = make_url(settings.effective_database_url)
    # SQLite would make an empty database.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise _no_ca(settings)
    with _alone(settings.data_dir):
        return asyncio.run(_rotate(settings, clock))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of two at once, the second waits: or else one's token could be in the file and the other's in the database."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise SettingsError(f"TINY_CA_DATA_DIR: {folder} cannot be used: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


async def _rotate(settings: Settings, clock: Callable[[], datetime]) -> Path:
    db = database.connect(settings)
    try:
        # 1. Whatever can be refused is refused before the file changes.
        if not await database.is_current(db) or await db.read(token_by_id, ADMIN_TOKEN_ID) is None:
            raise _no_ca(settings)
        # 2. The file first: what is in it becomes the token at the next start, so a death from here on is mended there.
        #    The other way round, that start would bring the old token back.
        token = replace_admin_token(settings)
        # 3. The hash and the audit, in one transaction.
        now = clock()
        entry = TokenEntry(id=ADMIN_TOKEN_ID, name="admin", token_sha256=token_sha256(token.value), created_at=now)
        audit = AuditEntry(at=now, actor=ACTOR, action="token.rotate", outcome="success")
        try:
            await db.write(put_token, entry, audit=audit)
        except RegistryUnavailable as error:
            message = f"{error.message}; {token.path} holds a token that the database may not know yet: rotate again"
            raise RegistryUnavailable(message) from error
    finally:
        await db.aclose()
    return settings.data_dir / ADMIN_TOKEN_FILE


def _no_ca(settings: Settings) -> SettingsError:
    where = "TINY_CA_DATABASE_URL" if settings.database_url else f"TINY_CA_DATA_DIR: {settings.data_dir}"
    return SettingsError(f"{where}: there is no CA of this version; tiny-ca init makes one")
