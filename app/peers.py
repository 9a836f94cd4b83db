"""Whose request it is where proxies stand between: the one address that logs, the audit and the rate limits hold."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Final, TypeAlias

from pydantic import BeforeValidator
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["FROM_TRUSTED_PROXY", "Network", "PeerMiddleware", "TrustedProxies", "client_address"]

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# RFC 9110 §5.6.2, §5.6.4, and RFC 7239 §4: one pair of an element, and what must come after it.
_PAIR: Final = re.compile(
    r"[ \t]*(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    r'(?:(?P<token>[!#$%&\'*+.^_`|~0-9A-Za-z-]+)|"(?P<quoted>(?:[^"\\]|\\.)*)")[ \t]*(?P<end>[;,]|\Z)'
)
# RFC 7239 §6: an IPv6 address is in brackets; some proxies write X-Forwarded-For with a port too.
_NODE: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<v4>[0-9.]+))(?::[0-9]{1,5})?")


# Of a request's state: whether a proxy that is trusted sent it.
FROM_TRUSTED_PROXY: Final = "from_trusted_proxy"


class _Unreadable(Exception):
    """No address can be read where one must be."""


def _networks(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError('trusted_proxies is a list of networks, such as ["10.0.0.0/8"]')  # noqa: TRY004  # pydantic's
    return tuple(_network(one) for one in value)


def _network(value: object) -> Network:
    if isinstance(value, Network):
        return value
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is no network: write it as text, such as "10.0.0.0/8"')  # noqa: TRY004
    try:
        network = ipaddress.ip_network(value)
    except ValueError as error:
        raise ValueError(f'{value[:80]!r} is no network such as "10.0.0.0/8" or "2001:db8::/32": {error}') from None
    if network.prefixlen == 0:
        raise ValueError(f"{value!r} trusts everybody, who could then be anybody: name the proxies' own networks")
    return network


TrustedProxies = Annotated[tuple[Network, ...], BeforeValidator(_networks)]


def client_address(peer: str, headers: Headers, trusted: Sequence[Network]) -> str:
    """The address next to the trusted proxies, which ``X-Forwarded-For`` or ``Forwarded`` (RFC 7239) tell of.

    What an untrusted peer sends is not looked at. Where the header cannot be read as far as it must be, or the two
    headers differ (the proxy writes one of them, so the other is the client's word), it is the peer itself.
    """
    direct = _address(peer)
    if direct is None:
        return peer
    if not _is_among(direct, trusted):
        return str(direct)
    try:
        found = {
            _nearest_untrusted(nodes, trusted)
            for nodes in (_x_forwarded_for(headers), _forwarded(headers))
            if nodes is not None
        }
    except _Unreadable:
        return str(direct)
    return str(found.pop()) if len(found) == 1 else str(direct)


class PeerMiddleware:
    """Gives a request the address of its client in place of the proxy's, and notes in its state who sent it."""

    def __init__(self, app: ASGIApp, trusted: Sequence[Network]) -> None:
        self._app = app
        self._trusted = tuple(trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        client = scope.get("client")
        if scope["type"] == "http" and client is not None:
            peer = _address(client[0])
            scope.setdefault("state", {})[FROM_TRUSTED_PROXY] = peer is not None and _is_among(peer, self._trusted)
            scope["client"] = (client_address(client[0], Headers(scope=scope), self._trusted), client[1])
        await self._app(scope, receive, send)


def _nearest_untrusted(nodes: Iterator[_Address], trusted: Sequence[Network]) -> _Address:
    """Walk away from us; where all are trusted, it is the farthest."""
    node = None
    for node in nodes:
        if not _is_among(node, trusted):
            return node
    if node is None:
        raise _Unreadable
    return node


def _x_forwarded_for(headers: Headers) -> Iterator[_Address] | None:
    """The addresses, nearest first, read no farther than asked for; None without the header."""
    lines = headers.getlist("x-forwarded-for")
    if not lines:
        return None
    return (_node(part.strip(" \t")) for line in reversed(lines) for part in reversed(line.split(",")))


def _forwarded(headers: Headers) -> Iterator[_Address] | None:
    lines = headers.getlist("forwarded")
    if not lines:
        return None
    return (_node(text) for line in reversed(lines) for text in reversed(_for_values(line)))


def _for_values(line: str) -> list[str]:
    """The ``for`` of each element. A quoted text may hold commas, so that a line is read from its beginning."""
    values: list[str] = []
    element: dict[str, str] = {}
    position = 0
    while True:
        pair = _PAIR.match(line, position)
        if pair is None or pair["name"].lower() in element:  # RFC 7239 §4: each parameter once
            raise _Unreadable
        text = pair["token"] if pair["quoted"] is None else re.sub(r"\\(.)", r"\1", pair["quoted"])
        element[pair["name"].lower()] = text
        position = pair.end()
        if pair["end"] != ";":
            values.append(element.get("for", ""))
            element = {}
        if not pair["end"]:
            return values


def _node(text: str) -> _Address:
    """An address with or without a port; ``unknown`` and obfuscated names (RFC 7239 §6.3) name nobody."""
    node = _NODE.fullmatch(text)
    address = _address(text if node is None else node["v6"] or node["v4"])
    if address is None:
        raise _Unreadable
    return address


def _address(text: str) -> _Address | None:
    if "%" in text:  # a zone, which could be any text, and means nothing elsewhere (RFC 4007 §6)
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _is_among(address: _Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
