"""DER as certificates and CRLs need it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from tiny_ca.ca_factory import der


@pytest.mark.parametrize(
    "moment,expected",
    [
        (datetime(1950, 1, 1, tzinfo=UTC), b"\x17\x0d500101000000Z"),
        (datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x17\x0d991231235959Z"),
        (datetime(2049, 12, 31, 23, 59, 59, 999999, tzinfo=UTC), b"\x17\x0d491231235959Z"),
        (datetime(2050, 1, 1, tzinfo=UTC), b"\x18\x0f20500101000000Z"),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), b"\x18\x0f99991231235959Z"),
        (datetime(1949, 12, 31, tzinfo=UTC), b"\x18\x0f19491231000000Z"),
        (datetime(999, 1, 2, tzinfo=UTC), b"\x18\x0f09990102000000Z"),
        (datetime(2050, 1, 1, 1, tzinfo=timezone(timedelta(hours=2))), b"\x17\x0d491231230000Z"),
    ],
)
def test_time(moment: datetime, expected: bytes) -> None:
    """UTCTime is for 1950 to 2049, GeneralizedTime for every other year, both in whole seconds of UTC."""
    assert expected == der.time(moment)


@given(st.integers(0, 2**160))
def test_integers_read_back(number: int) -> None:
    """An INTEGER reads back as the number, and is not negative; its octets are the fewest."""
    encoded = der.integer(number)

    assert number == int.from_bytes(encoded[2:], "big", signed=True)
    assert len(encoded[2:]) == number.bit_length() // 8 + 1


@given(
    st.tuples(
        st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**64), max_size=8), st.integers(0, 2**32)
    ).map(lambda parts: ".".join(map(str, (parts[0], parts[1], *parts[2], parts[3]))))
)
def test_object_identifiers_are_the_crypto_librarys(dotted: str) -> None:
    """An OBJECT IDENTIFIER is encoded as the crypto library encodes it."""
    usage = x509.ExtendedKeyUsage([x509.ObjectIdentifier(dotted)]) if _fits(dotted) else None

    if usage is not None:
        assert usage.public_bytes() == der.sequence(der.object_identifier(dotted))


def _fits(dotted: str) -> bool:
    """The crypto library takes object identifiers of up to 63 octets and 128 bits an arc."""
    return len(der.object_identifier(dotted)) <= 64


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_a_sequence_comes_apart(parts: list[bytes]) -> None:
    """What was put together comes apart again, whatever the lengths."""
    encoded = [der.octet_string(part) for part in parts]

    assert encoded == list(der.contents(der.sequence(*encoded)))
    assert encoded == list(der.contents(der.context(3, b"".join(encoded))))


@pytest.mark.parametrize(
    "size,header",
    [(0, "0400"), (127, "047f"), (128, "048180"), (255, "0481ff"), (256, "04820100"), (65536, "0483010000")],
)
def test_lengths_are_the_shortest(size: int, header: str) -> None:
    """A length takes the fewest octets there are for it (X.690 §10.1)."""
    encoded = der.octet_string(bytes(size))

    assert bytes.fromhex(header) == encoded[: len(encoded) - size]


def test_small_values() -> None:
    """The values without a length to speak of."""
    assert der.enumerated(9) == b"\x0a\x01\x09"
    assert der.bit_string(b"\xab") == b"\x03\x02\x00\xab"
    assert der.TRUE + der.NULL == b"\x01\x01\xff\x05\x00"
