"""Hypothesis strategies for everything that comes from outside: names, serial numbers, damaged CSRs."""

from __future__ import annotations

import ipaddress
import string
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, TypeVar

from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import strategies as st

from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.const import CertType
from tiny_ca.models.certificate import ClientConfig
from tiny_ca.models.key_spec import KeySpec

__all__ = [
    "addresses",
    "alternative_names",
    "cert_types",
    "client_configs",
    "dns_names",
    "email_addresses",
    "labels",
    "moments",
    "mutations",
    "serial_numbers",
    "subjects",
    "texts",
    "uris",
    "windows",
]

_T = TypeVar("_T")

_ALNUM = string.ascii_lowercase + string.digits


def labels() -> st.SearchStrategy[str]:
    """Labels of host names in normal form, without A-labels and what looks like one (RFC 5890 §2.3.1)."""
    return st.builds(
        "{}{}{}".format,
        st.sampled_from(string.ascii_lowercase),
        st.text(_ALNUM + "-", max_size=20),
        st.sampled_from(_ALNUM),
    ).filter(lambda label: label[2:4] != "--")


def dns_names(*, min_labels: int = 1) -> st.SearchStrategy[str]:
    """DNS names in normal form, at most 253 characters."""
    return st.lists(labels(), min_size=min_labels, max_size=6).map(".".join).filter(lambda name: name != "")


def addresses() -> st.SearchStrategy[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Addresses of both families, but none that maps an IPv4 address."""
    return st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).filter(lambda address: not _is_mapped(address))


def _is_mapped(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None


def uris() -> st.SearchStrategy[str]:
    """Absolute URIs with a DNS name as host, and a path without dots to climb."""
    return st.builds(
        "{}://{}/{}".format,
        st.sampled_from(["https", "spiffe", "x+y"]),
        dns_names(),
        st.lists(labels(), max_size=4).map("/".join),
    )


def email_addresses() -> st.SearchStrategy[str]:
    """Mailboxes in normal form."""
    return st.builds("{}@{}".format, labels(), dns_names())


def texts() -> st.SearchStrategy[str]:
    """Any text at all, with what breaks parsers more often than chance would have it."""
    nasty = st.sampled_from(["\0", "\n", "*", "*.", ".", "@", "://", "xn--", "\u212a", "\u3002", "\u202e", "%2e", "\\"])
    return st.lists(st.one_of(st.text(max_size=12), nasty, labels()), max_size=8).map("".join)


def cert_types() -> st.SearchStrategy[CertType]:
    """Any kind of certificate."""
    return st.sampled_from(CertType)


def mutations(originals: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of the originals with some bytes changed, cut out, or put in."""
    place = st.integers(0, 2**16)
    edits = st.tuples(place, st.integers(0, 8), st.binary(max_size=8))
    # The length stays, and with it the structure.
    flips = st.tuples(place, st.just(1), st.binary(min_size=1, max_size=1))
    return st.builds(_edited, st.sampled_from(originals), st.lists(st.one_of(edits, flips), min_size=1, max_size=3))


def _edited(original: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for place, cut, insert in edits:
        at = place % (len(original) + 1)
        original = original[:at] + insert + original[at + cut :]
    return original


def alternative_names() -> st.SearchStrategy[AlternativeNames]:
    """Names of every kind in normal form, none at all among them."""
    return st.builds(
        AlternativeNames,
        dns=_tuples(dns_names()),
        ip=_tuples(addresses()),
        uri=_tuples(uris()),
        email=_tuples(email_addresses()),
    )


def _tuples(values: st.SearchStrategy[_T]) -> st.SearchStrategy[tuple[_T, ...]]:
    return st.lists(values, max_size=3, unique=True).map(tuple)


def subjects() -> st.SearchStrategy[tuple[tuple[x509.ObjectIdentifier, str], ...]]:
    """Attributes of a subject that profiles give, in any order and any script, the empty subject among them."""
    word = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=16)
    values = {
        NameOID.COMMON_NAME: st.one_of(word, dns_names().filter(lambda name: len(name) <= 64)),
        NameOID.ORGANIZATION_NAME: word,
        NameOID.ORGANIZATIONAL_UNIT_NAME: word,
        NameOID.LOCALITY_NAME: word,
        NameOID.STATE_OR_PROVINCE_NAME: word,
        NameOID.COUNTRY_NAME: st.text(string.ascii_uppercase, min_size=2, max_size=2),
    }
    chosen = st.lists(st.sampled_from(list(values)), unique=True)
    return chosen.flatmap(lambda oids: st.tuples(*(st.tuples(st.just(oid), values[oid]) for oid in oids)))


def client_configs() -> st.SearchStrategy[ClientConfig]:
    """Whatever a CA that lasts until 2121 can issue, as a user may spell it, with a key that is made quickly."""
    return (
        st.booleans().flatmap(lambda server: _client_fields(server=server)).map(lambda fields: ClientConfig(**fields))
    )


def _client_fields(*, server: bool) -> st.SearchStrategy[dict[str, Any]]:
    fields = st.fixed_dictionaries(
        {
            "common_name": _hosts() if server else st.one_of(_hosts(), _visible_names()),
            "is_server_cert": st.just(server),
            "is_client_cert": st.booleans(),
            "serial_type": st.sampled_from([kind for kind in CertType if kind is not CertType.CA]),
            "key": st.sampled_from([KeySpec.ec("P-256"), KeySpec.ed25519()]),
        },
        optional={
            "san_dns": st.lists(_spelt_dns_names(), max_size=4),
            "san_ip": st.lists(addresses(), max_size=4),
            "email": st.builds("{}@{}.org".format, labels(), dns_names()),  # no special-use domain (RFC 6761)
            "name": labels(),
        },
    )
    return st.builds(lambda asked, window: asked | window, fields, st.one_of(_windows_from_now(), _dated_windows()))


def _spelt_dns_names() -> st.SearchStrategy[str]:
    plain = st.one_of(dns_names(), st.just("xn--bcher-kva.example"))
    wildcards = dns_names(min_labels=2).map("*.{}".format)
    spellings = st.sampled_from([str, str.upper, str.title, "{}.".format])
    return st.builds(lambda spelt, name: spelt(name), spellings, st.one_of(plain, wildcards))


def _hosts() -> st.SearchStrategy[str]:
    addressed = addresses()
    return st.one_of(
        _spelt_dns_names().filter(lambda name: len(name) <= 64),
        addressed.map(str),
        addressed.map(lambda address: address.exploded.upper()),
    )


def _visible_names() -> st.SearchStrategy[str]:
    """Common names in any script, blanks and punctuation among them, at most 64 bytes of UTF-8."""
    characters = st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"], exclude_characters="*")
    return st.text(characters, min_size=1, max_size=32).filter(lambda name: name.strip() and len(name.encode()) <= 64)


def _windows_from_now() -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"days_valid": st.integers(1, 30_000)})


def _dated_windows() -> st.SearchStrategy[dict[str, Any]]:
    """Begun in the past or the future, in any zone or none, and not ended before 2061."""
    zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
    starts = st.datetimes(datetime(1950, 1, 2), datetime(2060, 1, 1))  # noqa: DTZ001  # zones follow
    ends = st.integers(date(2061, 1, 1).toordinal(), date(2121, 1, 1).toordinal())
    return st.builds(
        lambda start, zone, end: {"valid_from": start.replace(tzinfo=zone), "days_valid": end - start.toordinal()},
        starts,
        st.one_of(st.none(), zones),
        ends,
    )


def moments() -> st.SearchStrategy[datetime]:
    """Whole seconds of UTC from 1950 to 9999, the turn of 2050 more often than chance would have it."""
    turn = datetime(2050, 1, 1, tzinfo=UTC)
    edge = st.integers(-2, 2).map(lambda seconds: turn + timedelta(seconds=seconds))
    any_moment = st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001  # st adds the zone
    return st.one_of(any_moment.map(lambda moment: moment.replace(microsecond=0)), edge)


def windows() -> st.SearchStrategy[tuple[datetime, datetime]]:
    """``(start, end)``, the end after the start."""
    return (
        st.tuples(moments(), moments()).map(lambda pair: (min(pair), max(pair))).filter(lambda pair: pair[0] < pair[1])
    )


def serial_numbers() -> st.SearchStrategy[int]:
    """Positive, at most 20 octets (RFC 5280 §4.1.2.2)."""
    return st.one_of(st.integers(1, 2**159 - 1), st.integers(0, 158).map(lambda bits: 1 << bits))
