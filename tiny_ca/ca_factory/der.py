"""DER, as much as certificates and CRLs need to be put together (X.690 §8–§11), and to be taken apart again."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeVar

__all__ = [
    "NULL",
    "TRUE",
    "bit_string",
    "content",
    "contents",
    "context",
    "enumerated",
    "implicit",
    "integer",
    "joined",
    "large_sequence",
    "object_identifier",
    "octet_string",
    "pieces",
    "sequence",
    "time",
]

NULL: Final = b"\x05\x00"
TRUE: Final = b"\x01\x01\xff"

# Of a memoryview the parts are views too: nothing is copied.
_Encoded = TypeVar("_Encoded", bytes, memoryview)
_AT_ONCE: Final = 1024 * 1024
_UTC_TIME: Final = range(1950, 2050)


def sequence(*parts: bytes) -> bytes:
    """SEQUENCE of what is already encoded."""
    return _value(0x30, b"".join(parts))


def large_sequence(parts: Iterable[bytes | memoryview]) -> list[bytes | memoryview]:
    """The parts of a SEQUENCE, to be ``joined`` once: of a list of fifty megabytes each copy counts."""
    content = list(parts)
    return [_head(0x30, sum(map(len, content))), *content]


def joined(parts: Iterable[bytes | memoryview]) -> bytes:
    """Join some at a time: in one call, megabytes would keep every other thread from the interpreter meanwhile."""
    whole = io.BytesIO()  # its value is not copied
    for part in pieces(parts):
        whole.write(part)
    return whole.getvalue()


def pieces(parts: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """Yield the same octets, at most a megabyte at a time."""
    for part in parts:
        view = memoryview(part)
        for at in range(0, len(view), _AT_ONCE):
            yield view[at : at + _AT_ONCE]


def context(number: int, content: bytes) -> bytes:
    """``[number]``, constructed: an EXPLICIT tag around an encoded value."""
    return _value(0xA0 | number, content)


def implicit(number: int, content: bytes) -> bytes:
    """``[number]`` in place of the tag of a primitive value."""
    return _value(0x80 | number, content)


def integer(number: int) -> bytes:
    """INTEGER of a number that is not negative, with a zero octet where the first bit would make it so."""
    return _value(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def enumerated(number: int) -> bytes:
    """ENUMERATED of a small number."""
    return _value(0x0A, number.to_bytes(1, "big"))


def octet_string(content: bytes) -> bytes:
    """OCTET STRING."""
    return _value(0x04, content)


def bit_string(content: bytes) -> bytes:
    """BIT STRING of whole octets."""
    return _value(0x03, b"\x00" + content)


@lru_cache(maxsize=256)
def object_identifier(dotted: str) -> bytes:
    """OBJECT IDENTIFIER from its dotted form."""
    first, second, *rest = map(int, dotted.split("."))
    return _value(0x06, b"".join(map(_base128, (first * 40 + second, *rest))))


def time(moment: datetime) -> bytes:
    """UTCTime through 2049, GeneralizedTime from 2050 on, in whole seconds of UTC (RFC 5280 §4.1.2.5).

    UTCTime knows no year before 1950: 49 is 2049.
    """
    utc = moment if moment.tzinfo is UTC else moment.astimezone(UTC)
    year = utc.year
    if year in _UTC_TIME:
        fields = (year % 100, utc.month, utc.day, utc.hour, utc.minute, utc.second)
        return b"\x17\x0d%02d%02d%02d%02d%02d%02dZ" % fields
    return _value(0x18, f"{utc.year:04}{utc:%m%d%H%M%SZ}".encode("ascii"))  # %Y pads no year before 1000


def contents(encoded: _Encoded) -> Iterator[_Encoded]:
    """Take a constructed value apart: each value in it with its tag and length. A parser must have read it before."""
    at, end = _content(encoded, 0)
    while at < end:
        # As ``_content``, without a call for each: a certificate has dozens.
        start, length = at + 2, encoded[at + 1]
        if length >= 0x80:
            start += length & 0x7F
            length = int.from_bytes(encoded[at + 2 : start], "big")
        yield encoded[at : start + length]
        at = start + length


def content(encoded: _Encoded) -> _Encoded:
    """Return what is inside one value, without its tag and length. A parser must have read it before."""
    start, end = _content(encoded, 0)
    return encoded[start:end]


def _content(encoded: bytes | memoryview, at: int) -> tuple[int, int]:
    """Where the content of the value at a place begins and ends; tags of one octet are all there are."""
    first = encoded[at + 1]
    if first < 0x80:
        return at + 2, at + 2 + first
    start = at + 2 + (first & 0x7F)
    return start, start + int.from_bytes(encoded[at + 2 : start], "big")


def _value(tag: int, content: bytes) -> bytes:
    length = len(content)
    return bytes((tag, length)) + content if length < 0x80 else _head(tag, length) + content


def _head(tag: int, length: int) -> bytes:
    """Tag and length of a value."""
    if length < 0x80:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets


def _base128(number: int) -> bytes:
    octets = [number & 0x7F]
    while number := number >> 7:
        octets.append(0x80 | number & 0x7F)
    return bytes(reversed(octets))
