"""One signed POST to an address that was checked: what a notice goes out by, and nothing comes in by.

The name is resolved once, each of its addresses is checked, and a checked one is connected to: who answers another
question differently (DNS rebinding) gains nothing. Of the answer no more is read than its status, and no redirect is
followed.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

__all__ = ["SIGNATURE_HEADER", "NotDelivered", "Webhook", "is_public", "resolve", "signature"]

SIGNATURE_HEADER: Final = "X-Tiny-CA-Signature"
_SECONDS: Final = 10.0
_MAX_HEAD: Final = 16 * 1024
_MAX_INTERIM: Final = 4
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
# RFC 6052 §2.1, RFC 3056 §2, RFC 4380 §2.6: an IPv4 address is inside, and a gateway would carry us to it.
_TRANSLATED: Final = tuple(map(ipaddress.IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class NotDelivered(Exception):
    """The receiver did not take it; the text says why, and holds nothing secret."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """Every address of a host, as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's, which belongs to nothing near us."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return is_public(str(parsed.ipv4_mapped))
        if parsed.is_site_local or any(parsed in network for network in _TRANSLATED):
            return False
    return parsed.is_global and not (parsed.is_multicast or parsed.is_reserved or parsed.is_unspecified)


def signature(secret: SecretStr, body: bytes, timestamp: int) -> str:
    """``t=<unix seconds>,v1=<hex>``: HMAC-SHA256 over the time, a dot and the body."""
    signed = b"%d." % timestamp + body
    return f"t={timestamp},v1={hmac.new(secret.get_secret_value().encode(), signed, hashlib.sha256).hexdigest()}"


class Webhook:
    """Where the posts go. ``url`` is checked already; ``tls`` is used where it begins with https."""

    def __init__(
        self,
        url: str,
        *,
        secret: SecretStr,
        allow_private_addresses: bool,
        tls: ssl.SSLContext,
        resolver: Resolve = resolve,
        seconds: float = _SECONDS,
    ) -> None:
        parts = urlsplit(url)
        self._host = str(parts.hostname)
        self._tls = tls if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._secret = secret
        self._allow_private = allow_private_addresses
        self._resolve = resolver
        self._seconds = seconds

    async def post(self, body: bytes, *, timestamp: int) -> None:
        """Return once the receiver has answered with a 2xx.

        Raises
        ------
        NotDelivered
            It did not, or not in time, or its address is not one that we connect to.
        """
        try:
            async with asyncio.timeout(self._seconds):
                address = await self._checked_address()
                status = await self._exchange(address, body, timestamp)
        except TimeoutError:
            raise NotDelivered(f"no answer within {self._seconds:g} seconds") from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise NotDelivered(f"{type(error).__name__}: {error}"[:200]) from error
        if 300 <= status < 400:
            raise NotDelivered(f"it answers {status}, and redirects are not followed")
        if not 200 <= status < 300:
            raise NotDelivered(f"it answers {status}")

    async def _checked_address(self) -> str:
        addresses = await self._resolve(self._host, self._port)
        if not addresses:
            raise NotDelivered("its host has no address")
        if self._allow_private:
            return addresses[0]
        for address in addresses:
            if not is_public(address):  # one is enough: a public name with a private address is no accident
                raise NotDelivered(f"its host has the address {address}, which is private: see allow_private_addresses")
        return addresses[0]

    async def _exchange(self, address: str, body: bytes, timestamp: int) -> int:
        reader, writer = await asyncio.open_connection(
            address,
            self._port,
            ssl=self._tls,
            server_hostname=self._host if self._tls else None,
            limit=_MAX_HEAD,
        )
        try:
            writer.write(self._request(body, timestamp) + body)
            await writer.drain()
            return await _status(reader)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _request(self, body: bytes, timestamp: int) -> bytes:
        fields = {
            "Host": self._authority,
            "User-Agent": "tiny-ca",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
            SIGNATURE_HEADER: signature(self._secret, body, timestamp),
            "Connection": "close",
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"POST {self._target} HTTP/1.1\r\n{head}\r\n".encode("ascii")


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the final answer; what comes before it (RFC 9110 §15.2) and after it is not ours to read."""
    for _ in range(_MAX_INTERIM):
        line = await reader.readuntil(b"\n")
        found = _STATUS.fullmatch(line)
        if found is None:
            raise NotDelivered("its answer is no HTTP/1.1")
        status = int(found[1])
        if status >= 200:
            return status
        while (await reader.readuntil(b"\n")).strip():
            pass
    raise NotDelivered("it answers nothing but interim responses")
