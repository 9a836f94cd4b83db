"""Requests that may be sent again: what their key stands for already."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from pydantic_core import from_json, to_json

from app.auth.caller import Caller
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import IdempotencyClaim
from tiny_ca.db.models import IdempotencyKey
from tiny_ca.db.queries.idempotency import claimed_among
from tiny_ca.exc import Conflict

__all__ = ["ANOTHER_REQUEST", "BATCH_OUTCOME", "Idempotency", "certificate_outcome", "request_sha256"]

ANOTHER_REQUEST: Final = "this Idempotency-Key was given to another request; each request has a key of its own"
# Of a batch each part has its own; that there was one keeps its key from other requests.
BATCH_OUTCOME: Final = {"kind": "batch", "id": "", "secret": False}

# Of the names of fields; in JSON a letter of one may be written as an escape (RFC 8259 §7).
_SECRET: Final = re.compile(r"password$")
_MAY_HOLD_ONE: Final = re.compile(rb"password|\\u")
_AT_ONCE: Final = 500  # keys in one look-up


def certificate_outcome(serial_number: str, *, secret: bool) -> dict[str, Any]:
    """What is kept of an answer with a certificate: its serial number in decimal, and whether a key was in it."""
    return {"kind": "certificate", "id": serial_number, "secret": secret}


def request_sha256(method: str, path: str, query: str, body: bytes) -> str:
    """What is kept to tell a request from another: of method, path, query and body, octet by octet.

    Passwords in it are left out: of a weak one, whoever reads the database could try a billion a second.
    """
    digest = hashlib.sha256()
    for part in (method.encode(), path.encode(), query.encode(), _without_passwords(body)):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _without_passwords(body: bytes) -> bytes:
    if not _MAY_HOLD_ONE.search(body):
        return body
    try:
        value = from_json(body)
    except ValueError:  # a CSR, or what is refused
        return body
    return to_json(_pruned(value))


def _pruned(value: Any) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(value, dict):
        return {name: _pruned(one) for name, one in value.items() if not _SECRET.search(name)}
    return [_pruned(one) for one in value] if isinstance(value, list) else value


class Idempotency:
    """Looks keys up; they are claimed in the transaction of the act itself.

    Those that are asked for while a look-up is under way share the next one.
    """

    def __init__(self, db: AsyncDBHandler, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock
        self._asked: deque[tuple[IdempotencyClaim, asyncio.Future[IdempotencyKey | None]]] = deque()
        self._reader: asyncio.Task[None] | None = None

    async def earlier(self, caller: Caller) -> Mapping[str, Any] | None:
        """What the caller's key stands for; None where they gave none, or a new one.

        Raises
        ------
        Conflict
            It was given to another request, or its answer held a secret that was not kept.
        """
        if caller.claim is None:
            return None
        found = await self._find(caller.claim)
        if found is None:
            return None
        if found.request_sha256 != caller.claim.request_sha256:
            raise Conflict(ANOTHER_REQUEST)
        if found.outcome["secret"]:
            raise Conflict(_no_second_time(found.outcome))
        return found.outcome

    async def _find(self, claim: IdempotencyClaim) -> IdempotencyKey | None:
        future: asyncio.Future[IdempotencyKey | None] = asyncio.get_running_loop().create_future()
        self._asked.append((claim, future))
        if self._reader is None or self._reader.done():
            self._reader = asyncio.create_task(self._read(), name="idempotency keys")
        return await future

    async def _read(self) -> None:
        while self._asked:
            asked = [self._asked.popleft() for _ in range(min(len(self._asked), _AT_ONCE))]
            try:
                found = await self._db.read(claimed_among, [claim for claim, _ in asked], now=self._clock())
            except Exception as error:  # noqa: BLE001  # each who waits gets it
                for _, future in asked:
                    if not future.done():
                        future.set_exception(error)
                continue
            for claim, future in asked:
                if not future.done():
                    future.set_result(found.get((claim.actor, claim.key)))


def _no_second_time(outcome: Mapping[str, Any]) -> str:
    match outcome["kind"]:
        case "certificate":
            what = f"certificate {int(outcome['id']):x} was issued, and its private key"
        case _:
            what = f"{outcome['kind']} {outcome['id']} was made, and its secret"
    return f"this request was answered already: {what} returned once; it is not kept"
