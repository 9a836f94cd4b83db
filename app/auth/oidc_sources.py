"""Where the keys of an identity provider come from: discovery, a URL or a file; every load bounded in size and time."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx

from app.net import is_loopback

__all__ = [
    "MAX_BYTES",
    "SECONDS",
    "DiscoveredKeys",
    "KeySource",
    "KeysAt",
    "KeysInFile",
    "SourceError",
    "checked_url",
    "tls_context",
]

MAX_BYTES: Final = 1024 * 1024
SECONDS: Final = 5.0
_DISCOVERY: Final = "/.well-known/openid-configuration"


class SourceError(Exception):
    """The keys cannot be had: unreachable, too large, too slow, or something else than keys."""


class KeySource(Protocol):
    """A place where a JWK Set (RFC 7517 §5) is."""

    async def load(self) -> bytes:
        """The set as it is there, unread; SourceError where it cannot be had."""
        ...


@dataclass(frozen=True, slots=True)
class KeysInFile:
    """A file of the operator's; put anew, it is found when a token names a key that is not known."""

    path: Path

    async def load(self) -> bytes:
        """The file."""
        return await asyncio.to_thread(self.read)

    def read(self) -> bytes:
        """The file; SourceError where it cannot be read."""
        try:
            with self.path.open("rb") as file:
                octets = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read: {error.strerror or error}") from error
        if len(octets) > MAX_BYTES:
            raise SourceError(f"{self.path} is larger than {MAX_BYTES} bytes")
        return octets


@dataclass(frozen=True, slots=True)
class KeysAt:
    """A URL of the operator's."""

    url: str
    tls: ssl.SSLContext | None

    async def load(self) -> bytes:
        """What is there."""
        return await _in_time(_fetch(self.url, self.tls))


@dataclass(frozen=True, slots=True)
class DiscoveredKeys:
    """Wherever the issuer says (OpenID Connect Discovery 1.0 §4), asked anew each time."""

    issuer: str
    tls: ssl.SSLContext | None

    async def load(self) -> bytes:
        """What is there; both requests share the time."""
        return await _in_time(self._load())

    async def _load(self) -> bytes:
        # §4: "any terminating / MUST be removed before appending".
        where = self.issuer.rstrip("/") + _DISCOVERY
        document = _object(await _fetch(where, self.tls), where)
        # §4.3: "MUST exactly match": otherwise one issuer could speak for another.
        if document.get("issuer") != self.issuer:
            raise SourceError(f"{where} is another issuer's: {ascii(document.get('issuer'))[:80]}")
        try:
            # What an issuer elsewhere says must not lead to this machine.
            url = checked_url(document.get("jwks_uri"), loopback=is_loopback(urlsplit(self.issuer).hostname or ""))
        except ValueError as error:
            raise SourceError(f"{where}: jwks_uri: {error}") from None
        return await _fetch(url, self.tls)


def checked_url(value: object, *, loopback: bool = True) -> str:
    """A URL that keys may come from: https, or http on this machine where ``loopback`` is let.

    Raises
    ------
    ValueError
        Another thing.
    """
    shown = ascii(value)[:200]
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or {" ", "\\"} & set(value):
        raise ValueError(f"{shown} is no URL such as https://issuer.example.org")
    parts = urlsplit(value)
    host = parts.hostname or ""
    local = is_loopback(host)
    if not host or parts.scheme not in {"http", "https"} or "@" in parts.netloc or parts.fragment or parts.port == 0:
        raise ValueError(f"{shown} is no URL such as https://issuer.example.org")
    if parts.scheme == "http" and not local:
        raise ValueError(f"{shown} is not https: whoever is on the way could put in keys of their own")
    if local and not loopback:
        raise ValueError(f"{shown} is on this machine")
    return value


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """Whom to believe that a provider is itself: the authorities in the file, or the public ones.

    Raises
    ------
    OSError
        The file cannot be read, or holds no certificate.
    """
    return httpx.create_ssl_context() if ca_file is None else ssl.create_default_context(cafile=ca_file)


async def _in_time(load: Coroutine[Any, Any, bytes]) -> bytes:
    """Bound a whole load: a provider may drip its answer, and each read of it would be in time."""
    try:
        async with asyncio.timeout(SECONDS):
            return await load
    except TimeoutError:
        raise SourceError(f"no answer within {SECONDS:g} seconds") from None


async def _fetch(url: str, tls: ssl.SSLContext | None) -> bytes:
    """GET: one answer, 200, within the bound; a redirect is none, for it could lead anywhere."""
    local = is_loopback(urlsplit(url).hostname or "")
    octets = bytearray()
    try:
        async with (
            # A proxy of the environment is on the way to others, never to this machine.
            httpx.AsyncClient(verify=tls or False, trust_env=not local, timeout=SECONDS) as client,
            # Not compressed: a megabyte of that may be a gigabyte.
            client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise SourceError(f"{url} answers {response.status_code}")
            async for part in response.aiter_raw():
                octets += part
                if len(octets) > MAX_BYTES:
                    raise SourceError(f"{url} answers more than {MAX_BYTES} bytes")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceError(f"{url}: {type(error).__name__}: {error}") from error
    return bytes(octets)


def _object(octets: bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(octets)
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise SourceError(f"{where} is no JSON object")
    return document
