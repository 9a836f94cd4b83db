"""Serial numbers: what they look like and where their randomness comes from (RFC 5280 §4.1.2.2)."""

from __future__ import annotations

import secrets
from typing import ClassVar, Protocol

from tiny_ca.const import CertType

__all__ = ["ISerialGenerator", "SerialGenerator", "SerialWithEncoding"]


class ISerialGenerator(Protocol):
    """What makes serial numbers: positive, at most 20 octets, never the same twice."""

    @classmethod
    def generate(cls, name: str, serial_type: CertType) -> int:
        """Return a new serial number."""
        ...

    @classmethod
    def parse(cls, serial: int) -> tuple[CertType | None, str]:
        """Return what the serial number tells of its certificate."""
        ...


class _PrefixRegistry:
    """Two ASCII letters for each type; 0x41–0x5A as the first octet keeps the integer positive and 160 bits wide."""

    PREFIXES: ClassVar[dict[CertType, int]] = {
        CertType.CA: int.from_bytes(b"CA", "big"),
        CertType.USER: int.from_bytes(b"US", "big"),
        CertType.SERVICE: int.from_bytes(b"SV", "big"),
        CertType.DEVICE: int.from_bytes(b"DE", "big"),
        CertType.INTERNAL: int.from_bytes(b"IN", "big"),
    }
    TYPES: ClassVar[dict[int, CertType]] = {prefix: kind for kind, prefix in PREFIXES.items()}


class SerialWithEncoding:
    """160 bits: ``[16 prefix][48 random][32 name][64 random]``, the random ones from the system's CSPRNG.

    The name field holds up to four ASCII characters, the first in the lowest byte, padded with zeros.
    112 random bits, where CA/Browser Forum BR §7.1 asks for 64.
    """

    RANDOM_BITS = 64
    NAME_BITS = 32
    MAX_NAME_LENGTH = 4
    _FIELD_BITS = 80
    _PREFIX_SHIFT = _FIELD_BITS + RANDOM_BITS

    @classmethod
    def generate(cls, name: str, serial_type: CertType) -> int:
        """Return a fresh serial number that carries the type and the first four characters of ``name``.

        Characters outside printable ASCII are written as ``?``, so that the layout holds for any name.

        Raises
        ------
        KeyError
            The type has no prefix.
        """
        prefix = _PrefixRegistry.PREFIXES[serial_type]
        random = secrets.randbits(cls._FIELD_BITS - cls.NAME_BITS + cls.RANDOM_BITS)
        padding, rest = random >> cls.RANDOM_BITS, random & ((1 << cls.RANDOM_BITS) - 1)
        field = (padding << cls.NAME_BITS) | cls._encode_name(name)
        return (prefix << cls._PREFIX_SHIFT) | (field << cls.RANDOM_BITS) | rest

    @classmethod
    def parse(cls, serial: int) -> tuple[CertType | None, str]:
        """Return ``(type, name prefix)``; the type is None where the prefix is none of ours."""
        kind = _PrefixRegistry.TYPES.get(serial >> cls._PREFIX_SHIFT)
        field = (serial >> cls.RANDOM_BITS) & ((1 << cls.NAME_BITS) - 1)
        letters = field.to_bytes(cls.MAX_NAME_LENGTH, "little").rstrip(b"\0")
        return kind, letters.decode("ascii", errors="replace")

    @classmethod
    def _encode_name(cls, name: str) -> int:
        letters = "".join(c if " " <= c <= "~" else "?" for c in name[: cls.MAX_NAME_LENGTH])
        return int.from_bytes(letters.encode("ascii"), "little")


class SerialGenerator:
    """The library's front door to serial numbers: any ISerialGenerator, SerialWithEncoding unless told otherwise."""

    def __init__(self, generator: type[ISerialGenerator] = SerialWithEncoding) -> None:
        self._generator = generator

    def generate(self, name: str, serial_type: CertType) -> int:
        """Return a new serial number from the chosen generator."""
        return self._generator.generate(name, serial_type)

    def parse(self, serial: int) -> tuple[CertType | None, str]:
        """Return what the chosen generator reads out of ``serial``."""
        return self._generator.parse(serial)
