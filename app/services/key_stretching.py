"""What a file under a password would cost to open, read from its DER before any of it is done.

PKCS #12 and encrypted PKCS #8 say themselves how often the password shall be hashed; a few octets can ask for hours.
What lies inside an encrypted part is not seen here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tiny_ca.exc import Invalid, TooLarge

__all__ = ["MAX_ROUNDS", "check_stretching"]

# Of a whole file. OpenSSL makes 2,048 rounds, this library 600,000 for the key and as many for the certificates;
# five million of PBKDF2 with SHA-256 take about half a second.
MAX_ROUNDS: Final = 5_000_000
# scrypt's N·r·p is about that many rounds of PBKDF2, in time; a kilobyte of memory for eight of it.
_MAX_SCRYPT: Final = 2**21
_SCRYPT_WEIGHT: Final = 2
_MAX_DEPTH: Final = 24

_INTEGER: Final = 0x02
_OCTETS: Final = 0x04
_CONSTRUCTED: Final = 0x20


class _Unreadable(Exception):
    """Not BER."""


@dataclass(frozen=True, slots=True)
class _Value:
    tag: int
    content: bytes
    children: tuple[_Value, ...]


def check_stretching(encoded: bytes, *, field: str) -> None:
    """Let a file pass that opens in about a second.

    Raises
    ------
    Invalid
        It is no DER, nor BER.
    TooLarge
        It asks for more rounds than are made; ``field`` is what it is called.
    """
    try:
        value, end = _parse(encoded, 0, depth=0)
    except (_Unreadable, IndexError):
        raise Invalid(f"{field} is damaged: it is no DER", field=field) from None
    if end != len(encoded):
        raise Invalid(f"{field} is damaged: {len(encoded) - end} octets follow its end", field=field)
    rounds = sum(_rounds(each, field) for each in _walk(value))
    if rounds > MAX_ROUNDS:
        message = f"{field} asks for {rounds} rounds of hashing its password; at most {MAX_ROUNDS} are made"
        raise TooLarge(message, limit=MAX_ROUNDS, field=field, value=rounds)


def _rounds(value: _Value, field: str) -> int:
    """What one value asks for, by its form, whatever the algorithm: a salt, then numbers (RFC 8018 A, 7292 §4, C)."""
    tags = [child.tag for child in value.children]
    numbers = [int.from_bytes(child.content, "big", signed=True) for child in value.children if child.tag == _INTEGER]
    if tags[:4] == [_OCTETS, _INTEGER, _INTEGER, _INTEGER]:  # RFC 7914 §7: N, r, p
        cost = numbers[0] * numbers[1] * numbers[2]
        if min(numbers[:3]) < 1 or cost > _MAX_SCRYPT:
            message = f"{field} asks for scrypt with N·r·p = {cost}; at most {_MAX_SCRYPT} is taken"
            raise TooLarge(message, limit=_MAX_SCRYPT, field=field, value=cost)
        return cost * _SCRYPT_WEIGHT
    # PBE and PBKDF2 parameters, and MacData after its DigestInfo.
    if tags[:2] == [_OCTETS, _INTEGER] or tags[1:3] == [_OCTETS, _INTEGER]:
        return max(*numbers, 0)
    return 0


def _walk(value: _Value) -> Iterator[_Value]:
    yield value
    for child in value.children:
        yield from _walk(child)


def _parse(encoded: bytes, at: int, *, depth: int) -> tuple[_Value, int]:
    """One value and where it ends. What is wrapped in an OCTET STRING, and reads as BER, counts as its child."""
    if depth > _MAX_DEPTH:
        raise _Unreadable
    tag, length = encoded[at], encoded[at + 1]
    at += 2
    if tag & 0x1F == 0x1F:  # no format that is read here has such tags
        raise _Unreadable
    if length == 0x80:  # X.690 §8.1.3.6: until an end of contents; old exporters write it
        return _parse_indefinite(encoded, at, tag, depth)
    if length > 0x80:
        octets = length & 0x7F
        length = int.from_bytes(encoded[at : at + octets], "big")
        at += octets
    end = at + length
    if end > len(encoded):
        raise _Unreadable
    content = encoded[at:end]
    return _value(tag, content, _children(content, depth) if tag & _CONSTRUCTED else (), depth), end


def _parse_indefinite(encoded: bytes, at: int, tag: int, depth: int) -> tuple[_Value, int]:
    if not tag & _CONSTRUCTED:
        raise _Unreadable
    start, children = at, []
    while encoded[at : at + 2] != b"\0\0":
        child, at = _parse(encoded, at, depth=depth + 1)
        children.append(child)
    return _value(tag, encoded[start:at], tuple(children), depth), at + 2


def _children(content: bytes, depth: int) -> tuple[_Value, ...]:
    children, at = [], 0
    while at < len(content):
        child, at = _parse(content, at, depth=depth + 1)
        children.append(child)
    return tuple(children)


def _value(tag: int, content: bytes, children: tuple[_Value, ...], depth: int) -> _Value:
    if tag == _OCTETS | _CONSTRUCTED:  # X.690 §8.7.3: an OCTET STRING in pieces
        tag, content = _OCTETS, b"".join(child.content for child in children)
        children = ()
    if tag == _OCTETS:
        try:
            children = _children(content, depth)
        except (_Unreadable, IndexError):
            children = ()
    return _Value(tag, content, children)
