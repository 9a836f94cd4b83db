"""Which names a pattern covers."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.strategies import addresses, dns_names, labels, texts
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.names import AlternativeNames, IPAddress
from tiny_ca.exc import Invalid


def _covers_uri(pattern: str, uri: str) -> bool:
    return not list(NamePatterns.parse(uris=[pattern]).uncovered(AlternativeNames(uri=(uri,))))


def _covers_email(pattern: str, mailbox: str) -> bool:
    return not list(NamePatterns.parse(emails=[pattern]).uncovered(AlternativeNames(email=(mailbox,))))


@pytest.mark.parametrize(
    "pattern,name,covered",
    [
        ("a.example", "a.example", True),
        ("A.example.", "a.example", True),
        ("a.example", "b.a.example", False),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "a.b.example.org", True),
        ("*.example.org", "example.org", False),
        ("*.example.org", "evilexample.org", False),
        ("*.example.org", "*.example.org", True),
        ("*.example.org", "*.a.example.org", True),
        ("*.a.example.org", "*.example.org", False),
        ("a.example.org", "*.example.org", False),
        ("*.internal", "a.internal", True),
        ("*", "anything", True),
        ("*", "*.example.org", True),
    ],
)
def test_dns_patterns(pattern: str, name: str, covered: bool) -> None:  # noqa: FBT001
    """``*.x`` covers every depth below x, not x, and only wildcards it covers wholly."""
    assert covered == NamePatterns.parse(dns=[pattern]).covers_dns(name)


@given(label=labels(), domain=dns_names())
def test_a_subtree_is_covered(label: str, domain: str) -> None:
    """Below its domain a pattern covers all, beside it nothing."""
    patterns = NamePatterns.parse(dns=[f"*.{domain}"])
    assert tuple(map(patterns.covers_dns, (f"{label}.{domain}", domain, f"{label}{domain}"))) == (True, False, False)


@pytest.mark.parametrize("pattern", ["", "**.a", "a*.b", "*.*.b.c", "*.", "a.*.b", "\u212aa.b", "*.\u00fc.de", "a b"])
def test_what_is_no_dns_pattern_is_refused(pattern: str) -> None:
    """A pattern that could never cover anything is refused, not kept."""
    with pytest.raises(Invalid) as caught:
        NamePatterns.parse(dns=[pattern])
    assert caught.value.field == "dns"


@given(addresses())
def test_networks_cover_their_family_only(address: IPAddress) -> None:
    """The whole of a family covers its addresses and none of the other's."""
    patterns = NamePatterns.parse(ip_ranges=["0.0.0.0/0"])
    expected = [] if address.version == 4 else [("ip", str(address))]
    assert expected == list(patterns.uncovered(AlternativeNames(ip=(address,))))


@pytest.mark.parametrize("pattern", ["10.0.0.1/8", "x", "10.0.0.0/33", ""])
def test_what_is_no_network_is_refused(pattern: str) -> None:
    """Host bits and non-networks are refused."""
    with pytest.raises(Invalid, match="is no network"):
        NamePatterns.parse(ip_ranges=[pattern])


@pytest.mark.parametrize(
    "pattern,uri,covered",
    [
        ("*", "x://y", True),
        ("spiffe://a.b/ns/*", "spiffe://a.b/ns/x", True),
        ("spiffe://a.b/ns/*", "SPIFFE://A.b/ns/x", True),
        ("spiffe://a.b/ns/*", "https://a.b/ns/x", False),
        ("spiffe://a.b/ns/*", "spiffe://a.b/other", False),
        ("spiffe://a.b/ns/*", "spiffe://a.b/ns/../other", False),
        ("spiffe://a.b/ns/*", "spiffe://a.b/ns/%2E%2e/other", False),
        ("spiffe://a.b/ns/*", "spiffe://a.b/ns/x%2f..%2F..%2fother", False),
        ("spiffe://a.b/ns/*", "spiffe://a.b/ns/..%5cother", False),
        ("spiffe://*.b/*", "spiffe://x.a.b/y", True),
        ("spiffe://*.b/*", "spiffe://b/y", False),
        ("https://*.b/*", "https://evil.c/.b/", False),
        ("https://*.b/*", "https://evil.c?.b/", False),
        ("https://*.b/*", "https://a.b:8443/", False),
        ("https://a.b:8443/x", "https://a.b:8443/x", True),
        ("https://a.b", "https://a.b/", False),
        ("https://[::1]/*", "https://[::1]/x", True),
    ],
)
def test_uri_patterns(pattern: str, uri: str, covered: bool) -> None:  # noqa: FBT001
    """Scheme and host are matched whole, the path by its beginning, and nothing climbs out of it."""
    assert covered == _covers_uri(pattern, uri)


@pytest.mark.parametrize(
    "pattern", ["", "x", "x://", "x://a*b/", "x://u@h/", "x://h\\y/", "x://h/*/y", "x://h?y", "x://*.*.b"]
)
def test_what_is_no_uri_pattern_is_refused(pattern: str) -> None:
    """Stars inside, users and odd hosts are refused."""
    with pytest.raises(Invalid, match="is no URI pattern"):
        NamePatterns.parse(uris=[pattern])


@pytest.mark.parametrize(
    "pattern,mailbox,covered",
    [
        ("*", "a@b", True),
        ("a@B.c", "a@b.c", True),
        ("a@b.c", "A@b.c", False),
        ("@b.c", "x@b.c", True),
        ("@b.c", "x@a.b.c", False),
        ("@*.b.c", "x@a.b.c", True),
        ("@*", "x@y", True),
    ],
)
def test_email_patterns(pattern: str, mailbox: str, covered: bool) -> None:  # noqa: FBT001
    """A mailbox covers itself, ``@domain`` each mailbox of the domain."""
    assert covered == _covers_email(pattern, mailbox)


@pytest.mark.parametrize("pattern", ["", "a", "@", "a@*.b.c", "a b@c", "a@"])
def test_what_is_no_email_pattern_is_refused(pattern: str) -> None:
    """A wildcard beside a local part, and what is no mailbox, are refused."""
    with pytest.raises(Invalid):
        NamePatterns.parse(emails=[pattern])


def test_none_is_no_limit_and_empty_is_nothing() -> None:
    """Without patterns all is covered, with an empty list nothing, kind by kind."""
    names = AlternativeNames.parse(dns=["a"], ip=["::1"], uris=["x://y"], emails=["a@b"])
    assert list(NamePatterns().uncovered(names)) == []
    nothing = NamePatterns.parse(dns=[], ip_ranges=[], uris=[], emails=[])
    assert names.items() == list(nothing.uncovered(names))


@given(texts())
def test_nothing_but_invalid_escapes(pattern: str) -> None:
    """Whatever the text, it is a pattern or Invalid."""
    for kind in ("dns", "ip_ranges", "uris", "emails"):
        try:
            NamePatterns.parse(**{kind: [pattern]})
        except Invalid:
            continue
