"""What the crypto library raises for octets that it cannot decode, often only when a field is first looked at."""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InternalError, UnsupportedAlgorithm

__all__ = ["UNREADABLE"]

# ParseError and UnicodeError are ValueErrors. KeyError: a string type it does not know. InternalError: OpenSSL's own.
# UserWarning: it warns of over-long names, and under ``-W error`` a warning is an exception.
UNREADABLE: Final = (
    ValueError,
    TypeError,
    KeyError,
    UserWarning,
    InternalError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
