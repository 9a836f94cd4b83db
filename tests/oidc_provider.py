"""A real OpenID Connect provider as a process of its own, with its own keys, which misbehaves when told to.

    python -m tests.oidc_provider --port 9000

Beside discovery and keys it has what CI platforms give their jobs: ``GET /token?audience=…`` answers ``{"value": JWT}``
to whoever sends the request token, as GitHub Actions does. ``POST /mint`` signs any claims, ``POST /behave`` changes
how it answers, ``GET /seen`` counts what it was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx
import uvicorn
from joserfc import jws
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["JOB", "REQUEST_TOKEN", "RunningProvider"]

REQUEST_TOKEN = "the-job-may-ask-for-a-token"
_ROOT = Path(__file__).parent.parent
_START_SECONDS = 30
_ALGORITHMS = [
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "Ed25519"),
]

# What a job of GitHub Actions is.
JOB: dict[str, Any] = {
    "sub": "repo:octo-org/app:ref:refs/heads/main",
    "repository": "octo-org/app",
    "repository_owner": "octo-org",
    "repository_id": "74",
    "ref": "refs/heads/main",
    "ref_protected": "true",
    "workflow": "deploy",
    "event_name": "push",
    "run_id": "1234567",
}


@dataclass
class _Provider:
    """What it holds, and what it answers."""

    issuer: str
    keys: dict[str, Key] = field(default_factory=dict)
    published: list[dict[str, Any]] = field(default_factory=list)
    behaviour: dict[str, Any] = field(default_factory=dict)
    seen: Counter[str] = field(default_factory=Counter)

    def roll(self) -> None:
        """New keys of every kind, of new kids; the old ones sign no more and are published no more."""
        mark = uuid.uuid4().hex[:8]
        made: list[Key] = [
            RSAKey.generate_key(2048),
            *(ECKey.generate_key(curve) for curve in ("P-256", "P-384", "P-521")),
            OKPKey.generate_key("Ed25519"),
        ]
        names = ("RSA", "P-256", "P-384", "P-521", "Ed25519")
        self.keys = dict(zip(names, made, strict=True))
        self.published = [
            {**key.as_dict(private=False), "kid": f"{name}-{mark}", "use": "sig"} for name, key in self.keys.items()
        ]

    def sign(self, claims: dict[str, Any], header: dict[str, Any], key: str) -> str:
        """A token, whose claims and header may be changed in any way; None takes a claim away."""
        now = int(time.time())
        usual = {"iss": self.issuer, "iat": now, "nbf": now, "exp": now + 300, "jti": uuid.uuid4().hex}
        kid = next(one["kid"] for one in self.published if one["kid"].startswith(key))
        algorithm = {"RSA": "RS256", "P-256": "ES256", "P-384": "ES384", "P-521": "ES512", "Ed25519": "Ed25519"}[key]
        said = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        head = {name: value for name, value in {"alg": algorithm, "kid": kid, **header}.items() if value is not None}
        return jws.serialize_compact({"typ": "JWT", **head}, json.dumps(said), self.keys[key], algorithms=_ALGORITHMS)

    async def discovery(self, _: Request) -> Response:
        """``behaviour["says"]`` changes the document, ``behaviour["document"]`` is another in its place."""
        self.seen["discovery"] += 1
        if "document" in self.behaviour:
            return PlainTextResponse(self.behaviour["document"])
        says = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **self.behaviour.get("says", {})}
        return JSONResponse(says)

    async def jwks(self, _: Request) -> Response:
        """``behaviour["keys"]`` is one of the ways of ``_ANSWERS``, or the keys themselves."""
        self.seen["keys"] += 1
        how = self.behaviour.get("keys", self.published)
        if isinstance(how, list):
            return JSONResponse({"keys": how})
        if how == "silent":
            await asyncio.sleep(60)
        return _ANSWERS[how]()

    async def elsewhere(self, _: Request) -> Response:
        """Where the redirect leads."""
        self.seen["elsewhere"] += 1
        return JSONResponse({"keys": self.published})

    async def token(self, request: Request) -> Response:
        """As GitHub Actions at ACTIONS_ID_TOKEN_REQUEST_URL."""
        if request.headers.get("authorization") != f"Bearer {REQUEST_TOKEN}":
            return PlainTextResponse("who are you?", status_code=401)
        claims = {**JOB, "aud": request.query_params["audience"]}
        return JSONResponse({"value": self.sign(claims, {}, "RSA")})

    async def mint(self, request: Request) -> Response:
        """Sign anything."""
        asked = await request.json()
        return PlainTextResponse(self.sign(asked["claims"], asked["header"], asked["key"]))

    async def behave(self, request: Request) -> Response:
        """Change how it answers."""
        asked = await request.json()
        if asked.pop("roll", False):
            self.roll()
        self.behaviour = asked
        self.seen.clear()
        return JSONResponse({})

    async def counts(self, _: Request) -> Response:
        """What it was asked."""
        return JSONResponse(self.seen)

    def app(self) -> Starlette:
        """All of it."""
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.discovery),
                Route("/keys", self.jwks),
                Route("/elsewhere", self.elsewhere),
                Route("/token", self.token),
                Route("/mint", self.mint, methods=["POST"]),
                Route("/behave", self.behave, methods=["POST"]),
                Route("/seen", self.counts),
            ]
        )


async def _megabytes(count: int) -> AsyncIterator[bytes]:
    yield b'{"keys": ["'
    for _ in range(count * 16):
        yield b"x" * 65_536
    yield b'"]}'


async def _drops() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.2)


_ANSWERS: dict[str, Callable[[], Response]] = {
    "huge": lambda: StreamingResponse(_megabytes(10), media_type="application/json"),
    "drip": lambda: StreamingResponse(_drops(), media_type="application/json"),
    "silent": lambda: PlainTextResponse("too late"),
    "html": lambda: PlainTextResponse("<html>sign in, please</html>", media_type="text/html"),
    "deep": lambda: PlainTextResponse("[" * 200_000, media_type="application/json"),
    "number": lambda: PlainTextResponse("1", media_type="application/json"),
    "broken": lambda: PlainTextResponse("no", status_code=500),
    "elsewhere": lambda: RedirectResponse("/elsewhere"),
}


class RunningProvider:
    """``with RunningProvider() as provider:`` runs one on a free port; ``stop`` and ``start`` are its outages."""

    def __init__(self, *, tls: tuple[Path, Path] | None = None) -> None:
        self.port = 0
        self._tls = tls
        self._process: subprocess.Popen[str] | None = None
        self._client = httpx.Client(timeout=30, verify=ssl.create_default_context(cafile=tls[0]) if tls else True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._client.close()

    @property
    def issuer(self) -> str:
        """Its URL, which its tokens name."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, on the port that it had; with new keys."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.oidc_provider", "--port", str(self.port), *map(str, self._tls or ())],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("http"), line
        self.port = int(line.rpartition(":")[2])

    def stop(self) -> None:
        """Be down."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
        self._process = None

    def behave(self, *, roll: bool = False, **how: Any) -> None:  # noqa: ANN401  # JSON
        """Answer like this from now on, and count anew."""
        self._client.post(f"{self.issuer}/behave", json={"roll": roll, **how}).raise_for_status()

    def seen(self) -> dict[str, int]:
        """How often it was asked for what since it was last told how to behave."""
        counts: dict[str, int] = self._client.get(f"{self.issuer}/seen").json()
        return counts

    def published(self) -> list[dict[str, Any]]:
        """Its public keys; that is counted too."""
        keys: list[dict[str, Any]] = self._client.get(f"{self.issuer}/keys").json()["keys"]
        return keys

    def token(
        self, *, audience: object, key: str = "RSA", header: dict[str, Any] | None = None, **claims: object
    ) -> str:
        """A token of a job, signed; None takes a claim away."""
        asked = {"claims": {**JOB, "aud": audience, **claims}, "header": header or {}, "key": key}
        # In ASCII: what no UTF-8 can hold may be in a token.
        return self._client.post(f"{self.issuer}/mint", content=json.dumps(asked)).raise_for_status().text


class _Announcing(uvicorn.Server):
    async def startup(self, sockets: Any = None) -> None:  # noqa: ANN401  # uvicorn's own
        """Listen, and say where."""
        await super().startup(sockets)
        sys.stdout.write(f"{_provider.issuer}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("certificate", nargs="?")
    parser.add_argument("key", nargs="?")
    given = parser.parse_args()
    listener = uvicorn.Config("", port=given.port, log_level="critical").bind_socket()
    scheme = "https" if given.certificate else "http"
    _provider = _Provider(f"{scheme}://127.0.0.1:{listener.getsockname()[1]}")
    _provider.roll()
    tls = {"ssl_certfile": given.certificate, "ssl_keyfile": given.key}
    _Announcing(uvicorn.Config(_provider.app(), log_level="warning", access_log=False, **tls)).run(sockets=[listener])
