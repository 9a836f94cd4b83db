"""API tokens made, listed and deleted: nobody hands on more than they have."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy.orm import Session

from app.auth.caller import Caller
from app.auth.grants import Grant
from app.auth.principal import Permission
from app.auth.token_format import make_token
from app.auth.tokens import ADMIN_TOKEN_ID, TokenAuthenticator, token_sha256
from app.services.idempotency import Idempotency
from app.services.records import refusals
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, TokenEntry
from tiny_ca.db.models import TokenRecord
from tiny_ca.db.queries.idempotency import claim_keys
from tiny_ca.db.queries.tokens import delete_token, page_tokens, put_token, token_by_id
from tiny_ca.exc import Conflict, Invalid, NotFound
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["NewToken", "TokenPage", "Tokens"]


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token that was just made: the only place where it is ever seen."""

    entry: TokenEntry
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TokenPage:
    """``last`` is the key of its last token, seen or not, where there are more after it."""

    visible: list[TokenRecord]
    last: tuple[datetime, str] | None


class Tokens:
    """What the holders of ``tokens:manage`` do."""

    def __init__(self, db: AsyncDBHandler, *, authenticator: TokenAuthenticator, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._authenticator = authenticator
        self._clock = clock
        self._idempotency = Idempotency(db, clock)

    async def create(self, caller: Caller, name: str, grant: Grant, expires_at: datetime | None) -> NewToken:
        """Make a token.

        Raises
        ------
        Forbidden
            It would grant more than the caller has, or live longer.
        Invalid
            It would have ended already.
        Conflict
            The request's idempotency key stands for a token already.
        """
        now = self._clock()
        async with refusals(self._db, caller.audit("token.create", now, detail={"name": name})):
            caller.principal.require(Permission.TOKENS_MANAGE)
            grant.check_within(caller.principal, expires_at)
            await self._idempotency.earlier(caller)
        if expires_at is not None and expires_at <= now:
            raise Invalid(f"expires_at {rfc3339(expires_at)} is past", field="expires_at")
        token = make_token()
        entry = TokenEntry(
            id=secrets.token_hex(8),
            name=name,
            token_sha256=token_sha256(token),
            created_at=now,
            expires_at=expires_at,
            grants=grant.to_json(),
            created_by=caller.principal.id,
        )
        audit = caller.audit("token.create", now, detail={"token": entry.id, "name": name, **grant.to_json()})
        if not await self._db.write(_keep, entry, audit, caller, now=now):
            await self._idempotency.earlier(caller)
            raise Conflict("the Idempotency-Key was taken and has just expired; send the request again")
        return NewToken(entry, token)

    async def page(self, caller: Caller, *, limit: int, before: tuple[datetime, str] | None) -> TokenPage:
        """Of the next ``limit`` tokens, newest first, those that grant no more than the caller has."""
        async with refusals(self._db, caller.audit("token.list", self._clock())):
            caller.principal.require(Permission.TOKENS_MANAGE)
        found = await self._db.read(page_tokens, limit=limit + 1, before=before)
        page = found[:limit]
        last = (page[-1].created_at, page[-1].id) if len(found) > limit else None
        return TokenPage([record for record in page if _is_within(record, caller)], last)

    async def get(self, caller: Caller, token_id: str) -> TokenRecord:
        """One token; NotFound where there is none that the caller could have made."""
        async with refusals(self._db, caller.audit("token.read", self._clock(), detail={"token": token_id[:80]})):
            caller.principal.require(Permission.TOKENS_MANAGE)
        return await self._find(caller, token_id)

    async def _find(self, caller: Caller, token_id: str) -> TokenRecord:
        record = await self._db.read(token_by_id, token_id)
        if record is None or not _is_within(record, caller):
            raise NotFound(f"there is no token {token_id[:80]!r}")
        return record

    async def delete(self, caller: Caller, token_id: str) -> TokenRecord:
        """Delete a token, and return what it was: it opens nothing any more, here at once, elsewhere within a second.

        Raises
        ------
        NotFound
            There is none that the caller could have made.
        Conflict
            It is the admin's, which is rotated, not deleted.
        """
        audit = caller.audit("token.delete", self._clock(), detail={"token": token_id})
        async with refusals(self._db, audit):
            caller.principal.require(Permission.TOKENS_MANAGE)
            record = await self._find(caller, token_id)
            if token_id == ADMIN_TOKEN_ID:
                raise Conflict("the admin's token is not deleted; rotate it with 'tiny-ca token rotate-admin'")
            deleted = await self._db.write(delete_token, token_id, audit=audit)
        self._authenticator.forget(token_id)
        if not deleted:
            raise NotFound(f"there is no token {token_id[:80]!r}")
        return record


def _keep(session: Session, entry: TokenEntry, audit: AuditEntry, caller: Caller, *, now: datetime) -> bool:
    """One transaction: the token, its audit row and the request's idempotency key; False where that is taken."""
    if caller.claim is not None:
        outcome = {"kind": "token", "id": entry.id, "secret": True}
        (free,) = claim_keys(session, [(caller.claim, outcome)], now=now)
        if not free:
            return False
    put_token(session, entry, audit=audit)
    return True


def _is_within(record: TokenRecord, caller: Caller) -> bool:
    if record.id == ADMIN_TOKEN_ID or record.grants is None:
        return Grant(permissions=frozenset(Permission)).is_within(caller.principal, record.expires_at)
    return Grant.from_json(record.grants).is_within(caller.principal, record.expires_at)
