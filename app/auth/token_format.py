"""How an API token looks: ``tcat_``, 256 random bits, a checksum, so that scanners find it and typos are told apart."""

from __future__ import annotations

import re
import secrets
import string
import zlib
from typing import Final

__all__ = ["PREFIX", "is_mistyped", "make_token"]

PREFIX: Final = "tcat_"
_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_SECRET_LENGTH: Final = 43  # 256 bits in base 62
_CHECKSUM_LENGTH: Final = 6  # 32 bits
_TOKEN: Final = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_SECRET_LENGTH}}})([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})")


def make_token() -> str:
    """A new token."""
    secret = _base62(secrets.randbits(256), _SECRET_LENGTH)
    return PREFIX + secret + _checksum(secret)


def is_mistyped(token: str) -> bool:
    """Whether it begins as a token does and does not end as one, by its length or checksum: nobody ever made it."""
    found = _TOKEN.fullmatch(token)
    return token.startswith(PREFIX) and (found is None or _checksum(found[1]) != found[2])


def _checksum(secret: str) -> str:
    return _base62(zlib.crc32(secret.encode("ascii")), _CHECKSUM_LENGTH)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))
