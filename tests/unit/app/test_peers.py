"""Whose request it is where proxies stand between."""

from __future__ import annotations

import ipaddress
from typing import TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import Headers

from app.peers import Network, TrustedProxies, client_address
from tests.strategies import addresses, texts

_Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_PROXIES = ("10.0.0.0/8", "fd00::/8")
_TRUSTED: tuple[Network, ...] = tuple(map(ipaddress.ip_network, _PROXIES))
_PROXY = "10.0.0.1"


def _is_proxy(address: _Address) -> bool:
    return any(address in network for network in _TRUSTED)


def _clients() -> st.SearchStrategy[_Address]:
    return addresses().filter(lambda address: not _is_proxy(address))


def _proxies() -> st.SearchStrategy[_Address]:
    return st.one_of(st.ip_addresses(network=_PROXIES[0]), st.ip_addresses(network=_PROXIES[1]))


def _anything() -> st.SearchStrategy[str]:
    """What a client could send as a part of the header."""
    return st.one_of(
        texts(), addresses().map(str), st.sampled_from(['"', ",", ";", "for=", "_x", "unknown", "[::1", ""])
    )


def _asked(peer: str, *fields: tuple[str, str]) -> str:
    raw = [(name.lower().encode(), value.encode("utf-8", "replace")) for name, value in fields]
    return client_address(peer, Headers(raw=raw), _TRUSTED)


def _node(address: _Address) -> str:
    return f'"[{address}]:4711"' if address.version == 6 else str(address)


@given(_clients(), st.lists(st.tuples(st.sampled_from(["x-forwarded-for", "forwarded"]), _anything())))
def test_an_untrusted_peer_is_itself(peer: _Address, fields: list[tuple[str, str]]) -> None:
    """Whatever somebody who is no trusted proxy sends, the address is theirs."""
    assert _asked(str(peer), *fields) == str(peer)


@given(st.lists(_anything()), _clients(), st.lists(_proxies()))
def test_the_nearest_untrusted_address_is_the_client(
    before: list[str], client: _Address, after: list[_Address]
) -> None:
    """Of X-Forwarded-For, what the client made up before its own address changes nothing, whatever it is."""
    value = ", ".join([*before, str(client), *map(str, after)])
    assert _asked(_PROXY, ("X-Forwarded-For", value)) == str(client)


@given(st.lists(addresses()), _clients(), st.lists(_proxies()))
def test_forwarded_says_the_same(before: list[_Address], client: _Address, after: list[_Address]) -> None:
    """RFC 7239's Forwarded is read likewise, with brackets, ports, other parameters and in several lines."""
    elements = [f"proto=https;For={_node(address)};by=_us" for address in [*before, client, *after]]
    assert _asked(_PROXY, ("Forwarded", ", ".join(elements))) == str(client)
    assert _asked(_PROXY, *(("Forwarded", element) for element in elements)) == str(client)


@given(_anything(), _clients())
def test_a_client_cannot_hide_behind_quotes(made_up: str, client: _Address) -> None:
    """What a client puts before the proxy's element makes the address the client's or the proxy's, never another."""
    answer = _asked(_PROXY, ("Forwarded", f"for=6.6.6.6;x={made_up}, for={_node(client)}"))
    assert answer in {str(client), _PROXY}


@given(st.lists(st.tuples(st.sampled_from(["x-forwarded-for", "forwarded"]), _anything())))
def test_the_answer_is_always_an_address(fields: list[tuple[str, str]]) -> None:
    """No text of a header reaches a log or the audit: what comes out is an address in its one form."""
    answer = _asked(_PROXY, *fields)
    assert str(ipaddress.ip_address(answer)) == answer
    assert "%" not in answer


@pytest.mark.parametrize(
    "value",
    [
        "",
        "unknown",
        "_hidden",
        "1.2.3.4.5",
        "1.2.3.4, ",
        "1.2.3",
        "fe80::1%eth0",
        "[::1",
        "1.2.3.4:x",
        "::1]",
        "\uff10.0.0.1",
    ],
)
def test_what_is_no_address_is_the_peer(value: str) -> None:
    """A proxy's own last word that is no address makes the request the proxy's."""
    assert _asked(_PROXY, ("X-Forwarded-For", value)) == _PROXY
    assert _asked(_PROXY, ("Forwarded", f'for="{value}"')) == _PROXY


@pytest.mark.parametrize("value", ["for=1.2.3.4;for=5.6.7.8", 'for="1.2.3.4', "for", "for=1.2.3.4;", "proto=http", ""])
def test_a_broken_forwarded_is_the_peer(value: str) -> None:
    """RFC 7239 §4: a parameter twice, an open quote, no value, no ``for``."""
    assert _asked(_PROXY, ("Forwarded", value)) == _PROXY


def test_two_headers_that_differ_are_the_peer() -> None:
    """A proxy writes one of the two; the other is then the client's own word, and nobody can say which it is."""
    fields = ("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.2")
    assert _asked(_PROXY, *fields) == _PROXY
    assert _asked(_PROXY, fields[0], ("Forwarded", "for=192.0.2.1")) == "192.0.2.1"


@pytest.mark.parametrize(
    "peer,sent,answer",
    [
        (_PROXY, "10.1.1.1, 10.2.2.2", "10.1.1.1"),
        (_PROXY, "192.0.2.1:4711", "192.0.2.1"),
        (_PROXY, "[2001:DB8::1]:4711", "2001:db8::1"),
        (_PROXY, "::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.9", "192.0.2.1", "192.0.2.9"),
    ],
)
def test_forms_of_an_address(peer: str, sent: str, answer: str) -> None:
    """Proxies all the way, ports, upper case, and IPv4 in IPv6: each has one form."""
    assert _asked(peer, ("X-Forwarded-For", sent)) == answer


def test_without_a_header_it_is_the_peer() -> None:
    """A trusted proxy that says nothing asks for itself; a socket without an address stays as it is."""
    assert _asked(_PROXY) == _PROXY
    assert _asked("", ("X-Forwarded-For", "192.0.2.1")) == ""


@pytest.mark.parametrize("wrong", ["10.0.0.0/8", ["10.0.0.1/8"], ["proxy.example.org"], [10], ["0.0.0.0/0"], ["::/0"]])
def test_networks_that_are_none(wrong: object) -> None:
    """What is no list of networks, has host bits, or would trust everybody, is refused with what is right."""
    with pytest.raises(ValidationError, match=r"networks|no network|trusts everybody"):
        TypeAdapter(TrustedProxies).validate_python(wrong)
