"""Which names somebody may have: patterns, the same for a profile's policy and for a caller's limits."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from tiny_ca.ca_factory.names import AlternativeNames, IPAddress, dns_name, email_address
from tiny_ca.exc import Invalid

__all__ = ["NamePatterns"]

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_Pattern = TypeVar("_Pattern", bound=str | IPNetwork)
# A slash or backslash may come percent-encoded: some servers decode it before they resolve dots.
_CLIMBS = re.compile(r"(^|[/\\]|%2f|%5c)(\.|%2e){1,2}([/\\?#]|%2f|%5c|$)", re.IGNORECASE)
# The host as ``names.uri`` takes it, with an optional wildcard or port; the path without further stars or blanks.
_URI_PATTERN = re.compile(
    r"([a-z][a-z0-9+.-]*)://((?:\*\.)?[A-Za-z0-9_.-]+(?::[0-9]+)?|\[[0-9A-Fa-f:.]+\](?::[0-9]+)?|\*)((?:/[^*\s]*\*?)?)"
)


@dataclass(frozen=True, slots=True)
class NamePatterns:
    """Patterns for each kind of name; None is no limit, an empty tuple allows none of that kind.

    ``dns``: a name itself, ``*.x`` for every depth below x but not x, ``*`` for all. The literal ``*.y`` of a
    wildcard certificate must itself be covered: by ``*.x`` where y is x or below it.
    ``ip_ranges``: networks. ``uris``: ``scheme://host-pattern/prefix*`` with DNS patterns for the host.
    ``emails``: a mailbox, or ``@domain`` with a DNS pattern for the domain.
    """

    dns: tuple[str, ...] | None = None
    ip_ranges: tuple[IPNetwork, ...] | None = None
    uris: tuple[str, ...] | None = None
    emails: tuple[str, ...] | None = None

    @classmethod
    def parse(
        cls,
        *,
        dns: Iterable[str] | None = None,
        ip_ranges: Iterable[str] | None = None,
        uris: Iterable[str] | None = None,
        emails: Iterable[str] | None = None,
    ) -> NamePatterns:
        """Check and normalise patterns from a file or a request.

        Raises
        ------
        Invalid
            A pattern is none; ``field`` names the kind.
        """
        return cls(
            dns=None if dns is None else tuple(_dns_pattern(pattern, field="dns") for pattern in dns),
            ip_ranges=None if ip_ranges is None else tuple(map(_network, ip_ranges)),
            uris=None if uris is None else tuple(map(_uri_pattern, uris)),
            emails=None if emails is None else tuple(map(_email_pattern, emails)),
        )

    def uncovered(self, names: AlternativeNames) -> Iterator[tuple[str, str]]:
        """Each ``(kind, value)`` that no pattern covers."""
        yield from (("dns", name) for name in names.dns if not self.covers_dns(name))
        yield from (("ip", str(name)) for name in names.ip if not self._covers_ip(name))
        yield from (("uri", name) for name in names.uri if not self._covers_uri(name))
        yield from (("email", name) for name in names.email if not self._covers_email(name))

    def beyond(self, narrower: NamePatterns) -> Iterator[tuple[str, str | None]]:
        """Each ``(field, pattern)`` of other patterns that allows a name these do not; None: they have no limit."""
        yield from _beyond("names", self.dns, narrower.dns, _dns_covers)
        yield from _beyond("ip_ranges", self.ip_ranges, narrower.ip_ranges, _network_covers)
        yield from _beyond("uris", self.uris, narrower.uris, _uri_pattern_covers)
        yield from _beyond("emails", self.emails, narrower.emails, _email_covers)

    def covers_dns(self, name: str) -> bool:
        """Whether a DNS name in normal form, or a wildcard, is covered."""
        return self.dns is None or any(_dns_covers(pattern, name) for pattern in self.dns)

    def _covers_ip(self, address: IPAddress) -> bool:
        return self.ip_ranges is None or any(address in network for network in self.ip_ranges)

    def _covers_uri(self, uri: str) -> bool:
        return self.uris is None or any(_uri_covers(pattern, uri) for pattern in self.uris)

    def _covers_email(self, mailbox: str) -> bool:
        return self.emails is None or any(_email_covers(pattern, mailbox) for pattern in self.emails)


def _beyond(
    field: str,
    wider: tuple[_Pattern, ...] | None,
    narrower: tuple[_Pattern, ...] | None,
    covers: Callable[[_Pattern, _Pattern], bool],
) -> Iterator[tuple[str, str | None]]:
    if wider is None:
        return
    if narrower is None:
        yield field, None
        return
    for pattern in narrower:
        if not any(covers(one, pattern) for one in wider):
            yield field, str(pattern)


def _network_covers(wider: IPNetwork, narrower: IPNetwork) -> bool:
    if isinstance(wider, ipaddress.IPv4Network):
        return isinstance(narrower, ipaddress.IPv4Network) and narrower.subnet_of(wider)
    return isinstance(narrower, ipaddress.IPv6Network) and narrower.subnet_of(wider)


def _uri_pattern_covers(wider: str, narrower: str) -> bool:
    if wider in {"*", narrower}:
        return True
    if narrower == "*":
        return False
    scheme, host, path = _split_uri(wider)
    their_scheme, their_host, their_path = _split_uri(narrower)
    # A star at the end of the narrower path stands for what begins so: that must be within the wider one's beginning.
    fits = path.endswith("*") and their_path.removesuffix("*").startswith(path[:-1])
    return (fits or path == their_path) and scheme == their_scheme and _dns_covers(host, their_host)


def _dns_covers(pattern: str, name: str) -> bool:
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    return name == pattern


def _uri_covers(pattern: str, uri: str) -> bool:
    if pattern == "*":
        return True
    scheme, host, path = _split_uri(pattern)
    their_scheme, authority, their_path = _split_uri(uri)
    if _CLIMBS.search(their_path):  # its beginning would be covered, and it would mean something else
        return False
    fits = their_path.startswith(path[:-1]) if path.endswith("*") else their_path == path
    return fits and their_scheme == scheme and _dns_covers(host, authority)


def _split_uri(uri: str) -> tuple[str, str, str]:
    scheme, _, rest = uri.partition("://")
    end = next((at for at, char in enumerate(rest) if char in "/?#"), len(rest))
    return scheme.lower(), rest[:end].lower(), rest[end:]


def _email_covers(pattern: str, mailbox: str) -> bool:
    if pattern == "*":
        return True
    if pattern.startswith("@"):
        return _dns_covers(pattern[1:], mailbox.rpartition("@")[2])
    return mailbox == pattern


def _dns_pattern(pattern: str, *, field: str) -> str:
    if pattern == "*":
        return pattern
    if not pattern.startswith("*."):
        return dns_name(pattern, field=field)
    # ``*.x`` as a pattern may stand over a single label (``*.internal``), which no wildcard name may.
    domain = pattern.removeprefix("*.")
    if "*" in domain:
        message = f"{pattern!r} is no DNS pattern: a '*' only stands first, for every depth below the rest"
        raise Invalid(message, field=field, value=pattern)
    return "*." + dns_name(domain, field=field)


def _network(pattern: str) -> IPNetwork:
    try:
        return ipaddress.ip_network(pattern)
    except ValueError as error:
        message = f"{pattern!r} is no network such as '10.0.0.0/8': {error}"
        raise Invalid(message, field="ip_ranges", value=pattern) from error


def _uri_pattern(pattern: str) -> str:
    if pattern == "*":
        return pattern
    found = _URI_PATTERN.fullmatch(pattern)
    if not found:
        message = f"{pattern!r} is no URI pattern such as 'spiffe://*.example.org/ns/*'"
        raise Invalid(message, field="uris", value=pattern)
    scheme, host, path = found.groups()
    return f"{scheme}://{host.lower()}{path}"


def _email_pattern(pattern: str) -> str:
    if pattern == "*":
        return pattern
    local, at, domain = pattern.rpartition("@")
    if not at:
        message = f"{pattern!r} is no e-mail pattern such as 'a@example.org' or '@example.org'"
        raise Invalid(message, field="emails", value=pattern)
    if local:
        return email_address(pattern, field="emails")
    return f"@{_dns_pattern(domain, field='emails')}"
