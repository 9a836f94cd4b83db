"""What a name of each kind is, in its one normal form."""

from __future__ import annotations

import ipaddress

import pytest
from cryptography import x509
from hypothesis import given

from tests.strategies import addresses, dns_names, email_addresses, texts, uris
from tiny_ca.ca_factory.names import (
    MAX_NAMES,
    AlternativeNames,
    IPAddress,
    dns_name,
    email_address,
    host_name,
    ip_address,
    uri,
)
from tiny_ca.exc import Invalid, TooLarge


@given(dns_names())
def test_dns_names_are_folded(name: str) -> None:
    """Case and a trailing dot do not make another name."""
    assert name == dns_name(name, field="f") == dns_name(name.upper() + ".", field="f")


@given(dns_names(min_labels=2))
def test_wildcards_stand_over_two_labels(name: str) -> None:
    """``*.`` before a name of at least two labels is a name."""
    assert f"*.{name}" == dns_name(f"*.{name}", field="f")


@pytest.mark.parametrize("value", ["*", "*.", "*.com", "*a.b.c", "a*.b.c", "a.*.b", "*.*.b.c", "**.b.c", "a.b.*"])
def test_other_wildcards_are_refused(value: str) -> None:
    """A star elsewhere, or over a single label, is refused with the rule."""
    with pytest.raises(Invalid, match="is no valid wildcard: one '\\*' as the whole first label") as caught:
        dns_name(value, field="san_dns")
    assert ("san_dns", value) == (caught.value.field, caught.value.value)


@pytest.mark.parametrize(
    "value",
    [
        "", ".", "a..b", ".a", "a.b..", "-a.b", "a-.b", "a_b.c", "a b", "a\0b", "a\nb", "a.b\n", "a" * 64, "a" * 300,
        ".".join(["a" * 62] * 5), "1.2.3.4", "a.1", "a.0x7f", "a.0x", "xn--", "xn--a", "xn--abc-.de", "ab--cd.de",
        "xn---bbk.de", "xn--ls8h.la",
    ],
)  # fmt: skip
def test_what_is_no_dns_name_is_refused(value: str) -> None:
    """Wrong lengths, characters, numbers at the end, labels that only look like A-labels: refused, and shown short."""
    with pytest.raises(Invalid) as caught:
        dns_name(value, field="f")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "value,a_label",
    [
        ("b\u00fccher.de", "xn--bcher-kva.de"),
        ("B\u00dcCHER.de.", "xn--bcher-kva.de"),
        ("*.b\u00fccher.de", "*.xn--bcher-kva.de"),
        ("\u212aa.de", "ka.de"),
    ],
)
def test_u_labels_are_refused_with_their_a_label(value: str, a_label: str) -> None:
    """An internationalised name is refused, naming what to send; so is a letter whose lower case is ASCII."""
    with pytest.raises(Invalid, match="is not ASCII; send its A-label") as caught:
        dns_name(value, field="f")
    assert repr(a_label) in caught.value.message
    assert a_label == dns_name(a_label, field="f")


@pytest.mark.parametrize("value", ["\u00e4" * 300, "\u00e4..b", "\ud800.de", "\U0001f4a9.la"])
def test_what_has_no_a_label_is_refused(value: str) -> None:
    """Where no A-label exists there is still a refusal."""
    with pytest.raises(Invalid):
        dns_name(value, field="f")


@given(addresses())
def test_addresses_are_read(address: IPAddress) -> None:
    """Addresses of both families come back, from text and from objects."""
    assert address == ip_address(str(address), field="f") == ip_address(address, field="f")


@pytest.mark.parametrize(
    "value", ["", "1.2.3", "1.2.3.04", "1.2.3.4/8", "::ffff:1.2.3.4", "fe80::1%eth0", "[::1]", "::1\n"]
)
def test_other_addresses_are_refused(value: str) -> None:
    """Networks, scopes, mapped addresses and octal octets are refused."""
    with pytest.raises(Invalid):
        ip_address(value, field="f")


def test_addresses_have_one_form() -> None:
    """Two spellings of an IPv6 address are one name."""
    parsed = AlternativeNames.parse(ip=["2001:DB8::1", "2001:db8:0:0::1"])
    assert (ipaddress.ip_address("2001:db8::1"),) == parsed.ip


@given(uris())
def test_uris_are_kept(value: str) -> None:
    """A URI with a host comes back unchanged."""
    assert value == uri(value, field="f")


@pytest.mark.parametrize(
    "value",
    [
        "", "nothing", "urn:x:y", "https://", "https:///x", "https://u@h/", "https://@h/", "https://h:99999/",
        "https://h\\.example.org/", "https://h%2f.example.org/", "https://a b/", "https://h/\n", "https://h/%zz",
        "https://[::1", "https://[fe80::1%25e]/", "https://h;x/", "https://h/\u00e4", "https://h/" + "a" * 2048,
    ],
)  # fmt: skip
def test_other_uris_are_refused(value: str) -> None:
    """Without a host, with a user, or with what parsers read in two ways, a URI is refused."""
    with pytest.raises(Invalid):
        uri(value, field="f")


@pytest.mark.parametrize("value", ["https://[2001:db8::1]:8443/x?y#z", "spiffe://trust_domain/ns/a%20b"])
def test_odd_but_good_uris_are_kept(value: str) -> None:
    """IPv6 hosts, ports and SPIFFE's underscores are fine."""
    assert value == uri(value, field="f")


@given(email_addresses())
def test_mailboxes_fold_the_domain_only(value: str) -> None:
    """The domain is folded to lower case, the local part is left alone."""
    local, _, domain = value.partition("@")
    assert f"{local.upper()}@{domain}" == email_address(value.upper(), field="f")


@pytest.mark.parametrize(
    "value", ["", "a", "@b", "a@", "a@b@c.d", "a b@c", "a@*.b.c", '"a"@b', "a@b\n", "a" * 65 + "@b"]
)
def test_other_mailboxes_are_refused(value: str) -> None:
    """What is not local@domain is refused."""
    with pytest.raises(Invalid):
        email_address(value, field="f")


@given(texts())
def test_nothing_but_invalid_escapes(value: str) -> None:
    """Whatever the text, each reader returns it in a form that it would return again, or raises Invalid."""
    for read in (dns_name, ip_address, uri, email_address):
        try:
            normal = str(read(value, field="f"))
        except Invalid:
            continue
        assert normal.isascii()
        assert normal == str(read(normal, field="f"))


def test_a_common_name_may_be_a_host() -> None:
    """A DNS name or an address is told from words."""
    values = [host_name(value) for value in ("A.example", "::1", "John Smith", "", "::ffff:1.2.3.4")]
    assert ["a.example", ipaddress.ip_address("::1"), None, None, None] == values


def test_101_names_are_too_many_though_they_be_one() -> None:
    """Names are counted before duplicates fold; as many as the limit fold into one."""
    with pytest.raises(TooLarge) as caught:
        AlternativeNames.parse(dns=["a"] * (MAX_NAMES + 1))
    assert (caught.value.limit, caught.value.value, caught.value.field) == (MAX_NAMES, MAX_NAMES + 1, "san_dns")
    assert len(AlternativeNames.parse(dns=["a"] * MAX_NAMES)) == 1


def test_names_survive_the_extension() -> None:
    """Names written into an extension are read back the same."""
    names = (
        AlternativeNames.parse(dns=["b", "a"], ip=["::1"], uris=["x://y"], emails=["a@b"]).with_host("c").with_host("a")
    )
    assert names == AlternativeNames.from_extension(x509.SubjectAlternativeName(names.general_names()), field="csr")
    kinds = [("dns", "b"), ("dns", "a"), ("dns", "c"), ("ip", "::1"), ("uri", "x://y"), ("email", "a@b")]
    assert kinds == names.items()
