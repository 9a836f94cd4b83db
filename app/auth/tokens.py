"""API tokens: what a bearer token proves. Only hashes are kept, here as in the database."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from app.auth.principal import Permission, Principal
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.models import TokenRecord
from tiny_ca.db.queries.tokens import token_by_hash
from tiny_ca.exc import Unauthenticated

__all__ = ["ADMIN_TOKEN_ID", "TokenAuthenticator", "token_sha256"]

ADMIN_TOKEN_ID: Final = "admin"  # noqa: S105  # the id of the row
_MAX_TOKEN_LENGTH: Final = 512
_CACHE_SECONDS: Final = 1.0
_CACHE_SIZE: Final = 1024
_SCHEME: Final = "bearer"


class TokenAuthenticator:
    """From an ``Authorization`` header to a Principal. A known token is asked for again after a second."""

    def __init__(self, db: AsyncDBHandler, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._known: dict[str, tuple[float, TokenRecord]] = {}

    async def authenticate(self, authorization: Sequence[str]) -> Principal:
        """Tell who sent these ``Authorization`` headers, of which there must be one.

        Raises
        ------
        Unauthenticated
            No header, another scheme, or a token that is unknown or has expired.
        RegistryUnavailable
            It cannot be told: the database does not answer.
        """
        digest = token_sha256(_bearer_token(authorization))
        record = await self._find(digest)
        # The look-up is by hash, so its time tells nothing of the token; the comparison is constant-time all the same.
        if record is None or not hmac.compare_digest(record.token_sha256, digest):
            raise Unauthenticated("the token is not known")
        if record.expires_at is not None and record.expires_at <= self._clock():
            raise Unauthenticated("the token has expired")
        # What other tokens may do is not recorded yet; until it is, they may do nothing.
        return Principal(record.id, frozenset(Permission) if record.id == ADMIN_TOKEN_ID else frozenset())

    async def _find(self, digest: str) -> TokenRecord | None:
        now = time.monotonic()
        until, record = self._known.get(digest, (0.0, None))
        if record is not None and now < until:
            return record
        record = await self._db.read(token_by_hash, digest)
        self._known.pop(digest, None)
        if record is not None:
            while len(self._known) >= _CACHE_SIZE:
                del self._known[next(iter(self._known))]
            self._known[digest] = (now + _CACHE_SECONDS, record)
        return record


def token_sha256(token: str) -> str:
    """What is kept of a token, in hex: 256 random bits need no salt and no stretching."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _bearer_token(authorization: Sequence[str]) -> str:
    if len(authorization) != 1:  # of two, a proxy may have judged by the other one
        raise Unauthenticated("send the header 'Authorization: Bearer TOKEN', once")
    scheme, _, token = authorization[0].partition(" ")
    token = token.strip()
    if scheme.lower() != _SCHEME or not token or len(token) > _MAX_TOKEN_LENGTH or " " in token:
        raise Unauthenticated("the Authorization header is not 'Bearer TOKEN'")
    return token
