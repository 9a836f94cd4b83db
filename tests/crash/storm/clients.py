"""Clients that issue, renew, rotate and revoke, and give up nothing: what got no answer is asked again, elsewhere."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol
from uuid import uuid4

import httpx
from cryptography import x509

from tests.crash.storm.received import CRLSeen, Received, Revocation
from tests.running import CERTIFICATES

__all__ = ["Client", "Replica", "new_http", "watch_crls"]

_PATIENCE: Final = 90.0
_ANSWER: Final = 10.0
_AGAIN: Final = frozenset({429, 503})
_DER: Final = {"Accept": "application/pkix-cert"}


class Replica(Protocol):
    """Where a service is now: it has another port after each start."""

    url: str
    starts: int


@dataclass(frozen=True, slots=True)
class _Ask:
    """A request that may be sent any number of times."""

    path: str
    key: str
    body: dict[str, Any] | bytes


class Client:
    """One caller. It acts on its own certificates only, so that every refusal is a defect."""

    def __init__(
        self, http: httpx.AsyncClient, replicas: Sequence[Replica], csrs: Sequence[bytes], received: Received, seed: int
    ) -> None:
        self._http = http
        self._replicas = replicas
        self._csrs = csrs
        self._received = received
        self._random = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self._valid: dict[int, int] = {}  # serial number -> which CSR it was made of

    async def work(self, until: asyncio.Event) -> None:
        """Act until told to stop; the act that is going on is brought to its end."""
        while not until.is_set():
            await self._act()

    async def _act(self) -> None:
        chance = self._random.random()
        if not self._valid or chance < 0.6:
            csr = self._random.randrange(len(self._csrs))
            await self._made(f"{CERTIFICATES}?profile=server", self._csrs[csr], csr)
            return
        serial = self._random.choice(list(self._valid))
        path, csr = f"{CERTIFICATES}/{serial:x}", self._valid[serial]
        if chance < 0.75:
            await self._made(f"{path}/renew", {}, csr)
            return
        del self._valid[serial]
        if chance < 0.85:
            csr = (csr + 1) % len(self._csrs)  # a rotation is to another key
            done = await self._made(f"{path}/rotate", {"csr": self._csrs[csr].decode()}, csr)
        else:
            done = await self._answer(_Ask(f"{path}/revoke", _key(), {"reason": "superseded"}), 200) is not None
        if done:
            self._received.revocations.append(Revocation(serial, time.monotonic()))

    async def _made(self, path: str, body: dict[str, Any] | bytes, csr: int) -> bool:
        """Ask for a certificate and keep it; False where there was no answer."""
        ask = _Ask(path, _key(), body)
        # Now and then the same request comes twice at once, as from a client that did not wait for the answer.
        times = 2 if self._random.random() < 0.1 else 1
        answers = await asyncio.gather(*(self._answer(ask, 201) for _ in range(times)))
        got = {answer.content for answer in answers if answer is not None}
        self._received.certificates.setdefault(ask.key, set()).update(got)
        self._valid |= {x509.load_der_x509_certificate(der).serial_number: csr for der in got}
        return bool(got)

    async def _answer(self, ask: _Ask, expected: int) -> httpx.Response | None:
        """Ask until somebody answers; None, and a finding, where nobody does or the answer is another one."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            replica = self._random.choice(self._replicas)
            body: dict[str, Any] = {"content": ask.body} if isinstance(ask.body, bytes) else {"json": ask.body}
            headers = {"Idempotency-Key": ask.key, **(_DER if expected == 201 else {})}
            try:
                response = await self._http.post(replica.url + ask.path, headers=headers, **body)
            except httpx.HTTPError:
                self._received.lost += 1
                await asyncio.sleep(self._random.uniform(0.05, 0.3))  # as a client backs off
                continue
            self._received.statuses[response.status_code] += 1
            if response.status_code == expected:
                return response
            if response.status_code not in _AGAIN:
                self._received.unexpected.append(f"{ask.path}: {response.status_code} {response.text[:200]}")
                return None
            await asyncio.sleep(self._random.uniform(0.05, 0.3))
        self._received.unexpected.append(f"{ask.path}: no answer in {_PATIENCE:.0f} s")
        return None


async def watch_crls(
    http: httpx.AsyncClient, replicas: Sequence[Replica], received: Received, until: asyncio.Event
) -> None:
    """Fetch every replica's CRL over and over, as relying parties do."""
    while not until.is_set():
        for number, replica in enumerate(replicas):
            began, start = time.monotonic(), replica.starts
            try:
                response = await http.get(f"{replica.url}/crl.der")
            except httpx.HTTPError:
                continue
            if response.status_code == 200 and start == replica.starts:
                received.crls.append(CRLSeen(response.content, began, number, start))
        await asyncio.sleep(0.1)


def new_http(token: str) -> httpx.AsyncClient:
    """A client that waits for an answer no longer than users do."""
    limits = httpx.Limits(max_connections=None, keepalive_expiry=5)
    return httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=_ANSWER, limits=limits)


def _key() -> str:
    return uuid4().hex
