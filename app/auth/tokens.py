"""API tokens: what a bearer token proves. Only hashes are kept, here as in the database."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from app.auth.grants import Grant
from app.auth.principal import Permission, Principal
from app.auth.token_format import is_mistyped
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.models import TokenRecord
from tiny_ca.db.queries.tokens import token_by_hash, touch_token
from tiny_ca.exc import RegistryUnavailable, Unauthenticated

__all__ = ["ADMIN_TOKEN_ID", "TokenAuthenticator", "token_sha256"]

_log = structlog.get_logger(__name__)
ADMIN_TOKEN_ID: Final = "admin"  # noqa: S105  # the id of the row
_CACHE_SECONDS: Final = 0.5
_CACHE_SIZE: Final = 1024
# By its form alone: it tells nothing of the tokens that there are.
_MISTYPED: Final = "this is no token of ours: its checksum is wrong; check for typing or cutting"
_TOUCHED_EVERY: Final = timedelta(minutes=1)


class TokenAuthenticator:
    """From a token to a Principal. A known one is asked for anew after half a second: a deleted one lives so long."""

    def __init__(self, db: AsyncDBHandler, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[str, tuple[float, TokenRecord, Principal]] = {}
        self._asking: dict[str, asyncio.Task[tuple[TokenRecord, Principal] | None]] = {}
        self._touched: dict[str, datetime] = {}
        self._touching: set[asyncio.Task[Any]] = set()

    async def authenticate(self, token: str) -> Principal:
        """Tell whose token it is.

        Raises
        ------
        Unauthenticated
            It is unknown, mistyped or has expired.
        RegistryUnavailable
            It cannot be told: the database does not answer.
        """
        digest = token_sha256(token)
        found = await self._find(digest)
        # The look-up is by hash, so its time tells nothing of the token; the comparison is constant-time all the same.
        if found is None or not hmac.compare_digest(found[0].token_sha256, digest):
            raise Unauthenticated(_MISTYPED if is_mistyped(token) else "the token is not known")
        record, principal = found
        now = self._clock()
        if record.expires_at is not None and record.expires_at <= now:
            raise Unauthenticated("the token has expired")
        self._touch(record, now)
        return principal

    def forget(self, token_id: str) -> None:
        """The token is gone: this process lets it in no more."""
        self._known = {digest: entry for digest, entry in self._known.items() if entry[1].id != token_id}

    async def _find(self, digest: str) -> tuple[TokenRecord, Principal] | None:
        now = time.monotonic()
        known = self._known.get(digest)
        if known is not None and now < known[0]:
            return known[1], known[2]
        # All who come with it at once share one look-up.
        asking = self._asking.get(digest)
        if asking is None:
            asking = self._asking[digest] = asyncio.create_task(self._look_up(digest))
            asking.add_done_callback(lambda _: self._asking.pop(digest))
        return await asyncio.shield(asking)

    async def _look_up(self, digest: str) -> tuple[TokenRecord, Principal] | None:
        asked_at = time.monotonic()
        record = await self._db.read(token_by_hash, digest)
        self._known.pop(digest, None)
        if record is None:
            return None
        while len(self._known) >= _CACHE_SIZE:
            del self._known[next(iter(self._known))]
        principal = _principal(record)
        self._known[digest] = (asked_at + _CACHE_SECONDS, record, principal)
        return record, principal

    def _touch(self, record: TokenRecord, now: datetime) -> None:
        """Note the use, at most once a minute, and let nobody wait for it."""
        last = max(filter(None, (self._touched.get(record.id), record.last_used_at)), default=None)
        if last is not None and now - last < _TOUCHED_EVERY:
            return
        self._touched[record.id] = now
        task = asyncio.create_task(self._write_touch(record.id, now))
        self._touching.add(task)
        task.add_done_callback(self._touching.discard)

    async def _write_touch(self, token_id: str, now: datetime) -> None:
        try:
            await self._db.write(touch_token, token_id, now=now)
        except RegistryUnavailable as error:  # the request itself fails, or did not need the database
            _log.warning("token.touch_failed", error=error.message)


def token_sha256(token: str) -> str:
    """What is kept of a token, in hex: 256 random bits need no salt and no stretching."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _principal(record: TokenRecord) -> Principal:
    if record.id == ADMIN_TOKEN_ID:
        return Principal(record.id, frozenset(Permission))
    if record.grants is None:
        return Principal(record.id, frozenset(), expires_at=record.expires_at)
    grant = Grant.from_json(record.grants)
    return Principal(record.id, grant.permissions, grant.limits, grant.own_only, record.expires_at)
