"""The layout of serial numbers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import cert_types, texts
from tiny_ca.const import CertType
from tiny_ca.utils.serial_generator import SerialGenerator, SerialWithEncoding


@given(name=texts(), kind=cert_types())
def test_any_name_keeps_the_layout(name: str, kind: CertType) -> None:
    """Whatever the name, the number is positive, has 20 octets (RFC 5280 §4.1.2.2) and tells its type."""
    serial = SerialWithEncoding.generate(name, kind)
    assert serial.bit_length() + 1 == 160  # the highest bit is the sign
    assert kind == SerialWithEncoding.parse(serial)[0]


@given(name=st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)), kind=cert_types())
def test_parse_gives_back_what_generate_put_in(name: str, kind: CertType) -> None:
    """The type and up to four printable ASCII characters come back."""
    assert (kind, name[:4]) == SerialGenerator().parse(SerialGenerator().generate(name, kind))


def test_other_characters_become_question_marks() -> None:
    """A character outside printable ASCII is written as '?'."""
    assert SerialWithEncoding.parse(SerialWithEncoding.generate("\u00e4b\0\n", CertType.CA)) == (CertType.CA, "?b??")


def test_the_first_character_is_in_the_lowest_byte() -> None:
    """The name's field holds the first character lowest, and zeros where the name is shorter."""
    field = SerialWithEncoding.generate("ab", CertType.DEVICE) >> 64 & 0xFFFFFFFF
    assert field == 0x00006261


def test_prefixes_are_the_first_letters_of_the_type() -> None:
    """The first two octets are CA, US, SV, DE, IN."""
    octets = [SerialWithEncoding.generate("x", kind).to_bytes(20, "big")[:2] for kind in CertType]
    assert octets == [b"CA", b"US", b"SV", b"DE", b"IN"]


def test_a_foreign_serial_has_no_type() -> None:
    """A serial number that is not ours has no type, whatever its size or sign."""
    assert [SerialWithEncoding.parse(serial)[0] for serial in (0, 1, 1 << 200, -5)] == [None] * 4


def test_112_bits_are_random() -> None:
    """Of a hundred numbers for one name each random bit is now 0, now 1."""
    serials = [SerialWithEncoding.generate("name", CertType.USER) for _ in range(100)]
    changing = 0
    for serial in serials:
        changing |= serial ^ serials[0]
    assert changing == ((1 << 48) - 1) << 96 | (1 << 64) - 1
