"""Subject alternative names: what a valid name of each kind is, in its one normal form.

DNS names are A-labels in lower case, without a trailing dot (RFC 5280 §4.2.1.6, RFC 1034 §3.5); addresses are
``ipaddress`` objects; URIs are absolute with a host (RFC 5280 §4.2.1.6); mailboxes are ``local@domain`` in ASCII.
Which names somebody may have is a question for ``name_patterns``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import idna
from cryptography import x509

from tiny_ca.exc import Invalid, TooLarge

__all__ = ["MAX_NAMES", "AlternativeNames", "IPAddress", "dns_name", "email_address", "host_name", "ip_address", "uri"]

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_T = TypeVar("_T")

MAX_NAMES: Final = 100
_MAX_DNS_LENGTH: Final = 253
_MAX_URI_LENGTH: Final = 2048
_MAX_EMAIL_LENGTH: Final = 254
# RFC 1034 §3.5 with RFC 1123 §2.1: letters, digits, hyphens inside. No underscore: no host name has one.
_LABEL: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
# RFC 5321 §4.1.2 Dot-string; a Quoted-string local part is refused, nobody has one and parsers disagree on it.
_LOCAL_PART: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
# RFC 3986 §2: what is not listed here is percent-encoded. A backslash above all: browsers read it as a slash.
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+")
# A registered name is looser than a DNS name: SPIFFE trust domains may hold an underscore.
_URI_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
# WHATWG URL §3.5: a host whose last label is a number, decimal or hexadecimal, is an IPv4 address to every browser.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class AlternativeNames:
    """The names of one certificate, each kind in normal form, without duplicates, in the order given."""

    dns: tuple[str, ...] = ()
    ip: tuple[IPAddress, ...] = ()
    uri: tuple[str, ...] = ()
    email: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        *,
        dns: Iterable[str] = (),
        ip: Iterable[str | IPAddress] = (),
        uris: Iterable[str] = (),
        emails: Iterable[str] = (),
        prefix: str = "san_",
    ) -> AlternativeNames:
        """Check and normalise names from outside; duplicates fold into one.

        Raises
        ------
        Invalid
            A name is none; ``field`` is ``prefix`` + the kind.
        TooLarge
            More than ``MAX_NAMES``, counted before duplicates fold.
        """
        given = (tuple(dns), tuple(ip), tuple(uris), tuple(emails))
        count = sum(map(len, given))
        if count > MAX_NAMES:
            message = f"{count} names are more than the {MAX_NAMES} a certificate may have"
            raise TooLarge(message, limit=MAX_NAMES, field=f"{prefix}dns", value=count)
        return cls(
            dns=_unique(dns_name(name, field=f"{prefix}dns") for name in given[0]),
            ip=_unique(ip_address(name, field=f"{prefix}ip") for name in given[1]),
            uri=_unique(uri(name, field=f"{prefix}uri") for name in given[2]),
            email=_unique(email_address(name, field=f"{prefix}email") for name in given[3]),
        )

    @classmethod
    def from_extension(cls, extension: x509.SubjectAlternativeName, *, field: str) -> AlternativeNames:
        """Read and check a SAN extension that somebody else encoded.

        Raises
        ------
        Invalid
            A name is invalid, or of a kind no certificate here has (otherName, directoryName, registeredID …).
        """
        kinds: dict[type[x509.GeneralName], list[x509.GeneralName]] = {
            x509.DNSName: [],
            x509.IPAddress: [],
            x509.UniformResourceIdentifier: [],
            x509.RFC822Name: [],
        }
        for name in extension:
            if type(name) not in kinds:
                message = (
                    f"a {type(name).__name__} as subject alternative name is not supported; use DNS, IP, URI or e-mail"
                )
                raise Invalid(message, field=field, value=type(name).__name__)
            kinds[type(name)].append(name)
        dns, ip, uris, emails = kinds.values()
        return cls.parse(
            dns=[str(name.value) for name in dns],
            ip=[_plain_address(name.value, field=f"{field}.san_ip") for name in ip],
            uris=[str(name.value) for name in uris],
            emails=[str(name.value) for name in emails],
            prefix=f"{field}.san_",
        )

    def with_host(self, host: str | IPAddress) -> AlternativeNames:
        """These names and one more host name or address, unless it is there already."""
        if host in self.dns or host in self.ip:
            return self
        return self.merged(AlternativeNames(dns=(host,)) if isinstance(host, str) else AlternativeNames(ip=(host,)))

    def merged(self, other: AlternativeNames) -> AlternativeNames:
        """These names and the other ones, each once."""
        if self.covers(other):
            return self
        return AlternativeNames(
            dns=_unique((*self.dns, *other.dns)),
            ip=_unique((*self.ip, *other.ip)),
            uri=_unique((*self.uri, *other.uri)),
            email=_unique((*self.email, *other.email)),
        )

    def covers(self, other: AlternativeNames) -> bool:
        """Whether all the other ones are among these."""
        return (
            all(name in self.dns for name in other.dns)
            and all(name in self.ip for name in other.ip)
            and all(name in self.uri for name in other.uri)
            and all(name in self.email for name in other.email)
        )

    def general_names(self) -> list[x509.GeneralName]:
        """Return the names as RFC 5280 GeneralNames, in a fixed order of kinds."""
        return [
            *map(x509.DNSName, self.dns),
            *map(x509.IPAddress, self.ip),
            *map(x509.UniformResourceIdentifier, self.uri),
            *map(x509.RFC822Name, self.email),
        ]

    def items(self) -> list[tuple[str, str]]:
        """``(kind, value)`` of each name, the kind one of ``dns``, ``ip``, ``uri``, ``email``."""
        return [
            *(("dns", name) for name in self.dns),
            *(("ip", str(name)) for name in self.ip),
            *(("uri", name) for name in self.uri),
            *(("email", name) for name in self.email),
        ]

    def __len__(self) -> int:
        """Return how many names there are, of all kinds."""
        return len(self.dns) + len(self.ip) + len(self.uri) + len(self.email)


def dns_name(value: str, *, field: str) -> str:
    """Return the normal form of a DNS name or of a wildcard whose ``*`` is the whole first label.

    Raises
    ------
    Invalid
        Not a DNS name; for an internationalised one the message names the A-label to send instead.
    """
    return _known_dns_name(value) or _checked_dns_name(value, field)


@lru_cache(maxsize=1024)  # each step on the way to a certificate asks anew
def _known_dns_name(value: str) -> str | None:
    """The normal form of what is a DNS name."""
    try:
        return _checked_dns_name(value, "")
    except Invalid:
        return None


def _checked_dns_name(value: str, field: str) -> str:
    # Before lower(): that makes ASCII of some letters which are not, such as the Kelvin sign.
    if not value.isascii():
        raise Invalid(_u_label_message(value), field=field, value=value)
    name = value.lower().removesuffix(".")
    if not name or len(name) > _MAX_DNS_LENGTH:
        message = f"a DNS name has 1 to {_MAX_DNS_LENGTH} characters, got {len(name)}: {_shown(value)}"
        raise Invalid(message, field=field, value=value)
    labels = _host_part(name, value, field).split(".")
    for label in labels:
        _check_label(label, value, field)
    if _NUMBER.fullmatch(labels[-1]):
        message = f"{_shown(value)} is no DNS name: its last label is a number; send an address as IP"
        raise Invalid(message, field=field, value=value)
    return name


def ip_address(value: str | IPAddress, *, field: str) -> IPAddress:
    """Return the address; IPv6 scopes and mapped forms are refused, for they name something else elsewhere.

    Raises
    ------
    Invalid
        Not an IPv4 or IPv6 address.
    """
    try:
        address = ipaddress.ip_address(value)
    except ValueError as error:
        message = f"{_shown(str(value))} is no IPv4 or IPv6 address"
        raise Invalid(message, field=field, value=str(value)) from error
    if isinstance(address, ipaddress.IPv6Address) and (address.scope_id or address.ipv4_mapped):
        message = f"{address} has a scope or maps an IPv4 address; send the plain address"
        raise Invalid(message, field=field, value=str(value))
    return address


def uri(value: str, *, field: str) -> str:
    """Return the URI unchanged, once it is known to be absolute, in ASCII, with a host and no user information.

    Raises
    ------
    Invalid
        Not such a URI (RFC 3986 §3, RFC 5280 §4.2.1.6).
    """
    if len(value) > _MAX_URI_LENGTH or not _URI.fullmatch(value):
        message = f"{_shown(value)} is no absolute URI of at most {_MAX_URI_LENGTH} printable ASCII characters"
        raise Invalid(message, field=field, value=value)
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"{_shown(value)} is no URI: {error}", field=field, value=value) from error
    if not host or parts.username is not None:
        message = f"{_shown(value)} must name a host and no user"
        raise Invalid(message, field=field, value=value)
    # RFC 5280 §4.2.1.6: the authority holds a domain name or an address.
    if ":" in host:
        ip_address(host, field=field)
    elif not _URI_HOST.fullmatch(host):
        message = f"{_shown(value)} has the host {_shown(host)}, which is neither a DNS name nor an address"
        raise Invalid(message, field=field, value=value)
    return value


def email_address(value: str, *, field: str) -> str:
    """Return the mailbox with its domain in lower case.

    Raises
    ------
    Invalid
        Not ``local@domain`` in ASCII (RFC 5280 §4.2.1.6).
    """
    local, _, domain = value.rpartition("@")
    if len(value) > _MAX_EMAIL_LENGTH or len(local) > 64 or not _LOCAL_PART.fullmatch(local):  # RFC 5321 §4.5.3.1.1
        raise Invalid(f"{_shown(value)} is no e-mail address", field=field, value=value)
    domain = dns_name(domain, field=field)
    if domain.startswith("*"):
        raise Invalid(f"{_shown(value)} is no e-mail address: a wildcard domain", field=field, value=value)
    return f"{local}@{domain}"


def host_name(value: str) -> str | IPAddress | None:
    """Read a common name as a host: the DNS name or address in normal form, None where it is neither."""
    if ":" in value or value[-1:].isdigit():  # no other text is an address
        try:
            return ip_address(value, field="common_name")
        except Invalid:
            pass
    try:
        return dns_name(value, field="common_name")
    except Invalid:
        return None


def _unique(values: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(values))


def _plain_address(value: object, *, field: str) -> IPAddress:
    if not isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        message = f"{value} is a network; a subject alternative name holds one address"
        raise Invalid(message, field=field, value=str(value))
    return value


def _host_part(name: str, value: str, field: str) -> str:
    """Return the name without the ``*.`` of a wildcard."""
    if "*" not in name:
        return name
    wildcard, _, rest = name.partition(".")
    if wildcard != "*" or "*" in rest or "." not in rest:
        message = f"{_shown(value)} is no valid wildcard: one '*' as the whole first label, over at least two labels"
        raise Invalid(message, field=field, value=value)
    return rest


def _check_label(label: str, value: str, field: str) -> None:
    if not _LABEL.fullmatch(label):
        message = (
            f"{_shown(value)} is no DNS name: label {_shown(label)} is not 1 to 63 letters, digits and inner hyphens"
        )
        raise Invalid(message, field=field, value=value)
    if label[2:4] == "--":
        _check_a_label(label, value, field)


def _check_a_label(label: str, value: str, field: str) -> None:
    try:
        idna.ulabel(label)
    except idna.IDNAError as error:
        message = f"{_shown(value)} is no DNS name: {_shown(label)} is no A-label (RFC 5890 §2.3.2.1): {error}"
        raise Invalid(message, field=field, value=value) from error


def _u_label_message(value: str) -> str:
    if len(value) > _MAX_DNS_LENGTH:
        return f"a DNS name has 1 to {_MAX_DNS_LENGTH} characters, got {len(value)}: {_shown(value)}"
    wildcard = "*." if value.startswith("*.") else ""
    try:
        a_label = wildcard + idna.encode(value.removeprefix(wildcard).removesuffix("."), uts46=True).decode("ascii")
    except idna.IDNAError as error:
        return f"{_shown(value)} is no DNS name: {error}"
    return f"{_shown(value)} is not ASCII; send its A-label {a_label!r}"


def _shown(value: str) -> str:
    return repr(value if len(value) <= 80 else value[:77] + "...")
