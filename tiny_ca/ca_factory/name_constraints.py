"""Name constraints of CAs (RFC 5280 §4.2.1.10): what a CA may be limited to, and which names break what is above them.

A subtree is text as the standard has it: ``example.org`` is a DNS name and all below it; of e-mails and URIs it is that
host alone, ``.example.org`` the hosts below it, ``a@example.org`` one mailbox. A kind that no permitted subtree speaks
of is not limited.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

from cryptography import x509

from tiny_ca.ca_factory.names import MAX_NAMES, dns_name, email_address
from tiny_ca.exc import Invalid, TooLarge

__all__ = ["NameConstraints", "Subtrees", "described", "name_constraints_of", "outside", "violations"]

IPNetwork: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subtrees:
    """The subtrees of each kind, in normal form."""

    dns: tuple[str, ...] = ()
    ip_ranges: tuple[IPNetwork, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()

    @classmethod
    def parse(
        cls,
        *,
        dns: Iterable[str] = (),
        ip_ranges: Iterable[str] = (),
        emails: Iterable[str] = (),
        uris: Iterable[str] = (),
        prefix: str = "permitted_",
    ) -> Subtrees:
        """Check and normalise subtrees from outside; duplicates fold into one.

        Raises
        ------
        Invalid
            One is none; ``field`` is ``prefix`` + the kind.
        """
        return cls(
            dns=_unique(_dns(one, f"{prefix}dns") for one in dns),
            ip_ranges=_unique(_network(one, f"{prefix}ip_ranges") for one in ip_ranges),
            emails=_unique(_email(one, f"{prefix}emails") for one in emails),
            uris=_unique(_uri(one, f"{prefix}uris") for one in uris),
        )

    def general_names(self) -> list[x509.GeneralName]:
        """Return the bases as they are encoded, in a fixed order of kinds."""
        return [
            *map(x509.DNSName, self.dns),
            *map(x509.IPAddress, self.ip_ranges),
            *map(x509.RFC822Name, self.emails),
            *map(x509.UniformResourceIdentifier, self.uris),
        ]

    def __len__(self) -> int:
        """Return how many there are, of all kinds."""
        return len(self.dns) + len(self.ip_ranges) + len(self.emails) + len(self.uris)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameConstraints:
    """What a CA may sign names in, and what it may not; at least one subtree, at most ``MAX_NAMES``.

    Raises
    ------
    Invalid
        There is no subtree: the standard forbids to say nothing.
    TooLarge
        There are too many.
    """

    permitted: Subtrees = Subtrees()
    excluded: Subtrees = Subtrees()

    def __post_init__(self) -> None:
        count = len(self.permitted) + len(self.excluded)
        if not count:
            raise Invalid("name constraints need at least one subtree", field="permitted_dns")
        if count > MAX_NAMES:
            message = f"{count} subtrees are more than the {MAX_NAMES} a CA may have"
            raise TooLarge(message, limit=MAX_NAMES, field="permitted_dns", value=count)

    @classmethod
    def from_extension(cls, extension: x509.NameConstraints, *, field: str) -> NameConstraints:
        """Read what another certificate says.

        Raises
        ------
        Invalid
            A subtree is of a kind that is not signed here (directoryName, otherName …), or no subtree.
        """
        return cls(
            permitted=_subtrees(extension.permitted_subtrees, field),
            excluded=_subtrees(extension.excluded_subtrees, field),
        )

    def to_extension(self) -> x509.NameConstraints:
        """Return the value of the extension."""
        return x509.NameConstraints(
            permitted_subtrees=self.permitted.general_names() or None,
            excluded_subtrees=self.excluded.general_names() or None,
        )


def name_constraints_of(certificate: x509.Certificate) -> x509.NameConstraints | None:
    """What a CA certificate says, of whatever kind; its extensions must be readable."""
    try:
        return certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None


def described(bases: Iterable[x509.GeneralName] | None) -> list[str]:
    """Each subtree as ``kind:base``, of whatever kind; other CAs know more than are signed here."""
    return [
        f"{_KINDS[type(base)]}:{_shown(base)}" if type(base) in _KINDS else f"other:{type(base).__name__}"
        for base in bases or ()
    ]


def violations(
    names: Iterable[x509.GeneralName], subject: x509.Name, above: Iterable[x509.Certificate]
) -> Iterator[tuple[str, str, str]]:
    """Each ``(kind, name, why)`` that a CA above forbids. A URI without a DNS host breaks any constraint on URIs."""
    given: list[x509.GeneralName] = [*names, *([x509.DirectoryName(subject)] if subject.rdns else [])]
    for certificate in above:
        constraints = name_constraints_of(certificate)
        if constraints is None:
            continue
        authority = certificate.subject.rfc4514_string()
        permitted, excluded = constraints.permitted_subtrees or [], constraints.excluded_subtrees or []
        for name in given:
            kind = _KINDS.get(type(name), type(name).__name__)
            mine = [base for base in permitted if type(base) is type(name)]
            if mine and not any(_covers(base, name) for base in mine):
                yield kind, _shown(name), f"the CA {authority!r} permits only {', '.join(map(_shown, mine))}"
            for base in excluded:
                if type(base) is type(name) and _touches(base, name):
                    yield kind, _shown(name), f"the CA {authority!r} excludes {_shown(base) or 'all of that kind'}"


def outside(constraints: NameConstraints, above: Iterable[x509.Certificate]) -> Iterator[tuple[str, str, str]]:
    """Each ``(kind, subtree, why)`` that a CA shall be permitted and those above it are not: it could never be used."""
    for certificate in above:
        known = name_constraints_of(certificate)
        for name in constraints.permitted.general_names() if known is not None and known.permitted_subtrees else ():
            mine = [base for base in (known and known.permitted_subtrees) or () if type(base) is type(name)]
            if mine and not any(_covers(base, name) for base in mine):
                authority = certificate.subject.rfc4514_string()
                yield (
                    _KINDS[type(name)],
                    _shown(name),
                    (f"the CA {authority!r} is permitted only {', '.join(map(_shown, mine))}"),
                )


def _covers(base: x509.GeneralName, name: x509.GeneralName) -> bool:
    """Whether a name, or a subtree of the same kind, lies in the subtree."""
    match base, name:
        case x509.IPAddress(), x509.IPAddress():
            return _network_covers(base.value, name.value)
        case x509.DirectoryName(), x509.DirectoryName():
            return _directory_covers(base.value, name.value)
        case x509.DNSName(), x509.DNSName():
            return _dns_covers(base.value.lower(), name.value.lower())
        case x509.RFC822Name(), x509.RFC822Name():
            return _email_covers(base.value, name.value)
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            host = _uri_host(name.value)
            return host is not None and _host_covers(base.value.lower(), host)
        case _:
            return False


def _touches(base: x509.GeneralName, name: x509.GeneralName) -> bool:
    """Whether an excluded subtree holds the name, or one that it stands for, or it cannot be told."""
    match base, name:
        case x509.DNSName(), x509.DNSName() if name.value.startswith("*."):
            # *.y stands for a.y, so it is no way around "a.y is excluded"; verifiers differ here.
            return _covers(base, name) or base.value.lower().lstrip(".").partition(".")[2] == name.value[2:].lower()
        case x509.UniformResourceIdentifier(), x509.UniformResourceIdentifier():
            return _uri_host(name.value) is None or _covers(base, name)
        case _:
            return type(name) not in _KINDS or _covers(base, name)


def _dns_covers(base: str, name: str) -> bool:
    # RFC 5280 §4.2.1.10: labels added on the left. A leading dot is none of it, and others read it as "only below".
    return not base or name == base or name.endswith(base if base.startswith(".") else f".{base}")


def _host_covers(base: str, host: str) -> bool:
    # §4.2.1.10: of URIs and mailboxes a host is that host, and a leading dot means every host below.
    return not base or (host.endswith(base) if base.startswith(".") else host == base)


def _email_covers(base: str, mailbox: str) -> bool:
    base_local, _, base_host = base.rpartition("@")
    local, _, host = mailbox.rpartition("@")
    if base_local:  # the part before the @ has letter case (RFC 5321 §2.4)
        return (base_local, base_host.lower()) == (local, host.lower())
    return _host_covers(base_host.lower(), host.lower())


def _network_covers(base: object, name: object) -> bool:
    if isinstance(base, ipaddress.IPv4Network):
        return isinstance(name, ipaddress.IPv4Address | ipaddress.IPv4Network) and _as_network4(name).subnet_of(base)
    if isinstance(base, ipaddress.IPv6Network):
        return isinstance(name, ipaddress.IPv6Address | ipaddress.IPv6Network) and _as_network6(name).subnet_of(base)
    return False


def _as_network4(name: ipaddress.IPv4Address | ipaddress.IPv4Network) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(name)


def _as_network6(name: ipaddress.IPv6Address | ipaddress.IPv6Network) -> ipaddress.IPv6Network:
    return ipaddress.IPv6Network(name)


def _directory_covers(base: x509.Name, name: x509.Name) -> bool:
    """Whether the RDNs of the base begin the name (RFC 5280 §7.1: letter case and blanks make no other name)."""
    return [_folded(rdn) for rdn in base.rdns] == [_folded(rdn) for rdn in name.rdns[: len(base.rdns)]]


def _folded(rdn: x509.RelativeDistinguishedName) -> frozenset[tuple[str, str]]:
    return frozenset((each.oid.dotted_string, " ".join(str(each.value).casefold().split())) for each in rdn)


def _uri_host(uri: str) -> str | None:
    """The DNS host of a URI, or of a subtree of URIs; None for an address or none: not to be judged (§4.2.1.10)."""
    if "://" not in uri:
        return uri.lower()
    host = _authority(uri)
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host.rstrip(".") or None
    return None


def _authority(uri: str) -> str:
    try:
        return urlsplit(uri).hostname or ""
    except ValueError:
        return ""


def _subtrees(bases: Iterable[x509.GeneralName] | None, field: str) -> Subtrees:
    found: dict[type[x509.GeneralName], list[str]] = {kind: [] for kind in _SIGNED}
    for base in bases or ():
        if type(base) not in found:
            message = f"a name constraint on a {type(base).__name__} is not supported; use DNS, IP, e-mail or URI"
            raise Invalid(message, field=field, value=type(base).__name__)
        found[type(base)].append(str(base.value))
    dns, ip_ranges, emails, uris = found.values()
    return Subtrees.parse(dns=dns, ip_ranges=ip_ranges, emails=emails, uris=uris, prefix=f"{field}.")


def _dns(value: str, field: str) -> str:
    if value.startswith((".", "*")):
        bare = value.lstrip("*.")
        message = f"{value[:80]!r}: a DNS constraint holds a name and all below it; write {bare[:80]!r}"
        raise Invalid(message, field=field, value=value)
    return dns_name(value, field=field)


def _network(value: str, field: str) -> IPNetwork:
    try:
        if "%" in value:
            raise ValueError("it has a scope, which means something on one machine only")  # noqa: TRY301  # as the others
        return ipaddress.ip_network(value)
    except ValueError as error:
        message = f"{value[:80]!r} is no network such as '10.0.0.0/8': {error}"
        raise Invalid(message, field=field, value=value) from error


def _email(value: str, field: str) -> str:
    local, at, domain = value.rpartition("@")
    if at and not local:
        message = (
            f"{value[:80]!r}: write {domain[:80]!r} for every mailbox of a host, '.{domain[:80]}' for all below it"
        )
        raise Invalid(message, field=field, value=value)
    return email_address(value, field=field) if at else _host(value, field)


def _uri(value: str, field: str) -> str:
    if any(char in value for char in ":/@"):
        message = f"{value[:80]!r}: a constraint of URIs is a host: 'example.org', or '.example.org' for all below it"
        raise Invalid(message, field=field, value=value)
    return _host(value, field)


def _host(value: str, field: str) -> str:
    dot = "." if value.startswith(".") else ""
    name = dns_name(value.removeprefix("."), field=field)
    if name.startswith("*"):
        message = f"{value[:80]!r}: constraints know no '*'; '.{name.removeprefix('*.')}' is every host below it"
        raise Invalid(message, field=field, value=value)
    return dot + name


def _shown(name: x509.GeneralName) -> str:
    return name.value.rfc4514_string() if isinstance(name, x509.DirectoryName) else str(name.value)


def _unique(values: Iterable[_T]) -> tuple[_T, ...]:
    return tuple(dict.fromkeys(values))


# The kinds that certificates made here hold; the order is that of ``Subtrees``.
_SIGNED: Final[tuple[type[x509.GeneralName], ...]] = (
    x509.DNSName,
    x509.IPAddress,
    x509.RFC822Name,
    x509.UniformResourceIdentifier,
)
_KINDS: Final[dict[type[x509.GeneralName], str]] = {
    x509.DNSName: "dns",
    x509.IPAddress: "ip",
    x509.RFC822Name: "email",
    x509.UniformResourceIdentifier: "uri",
    x509.DirectoryName: "directory",
}
