"""What can be imported, by the name that an operator types."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Kind"]


class Kind(StrEnum):
    """Whose certificates they were; the last is the library this service stands on."""

    OPENSSL = "openssl"
    EASY_RSA = "easy-rsa"
    CFSSL = "cfssl"
    LIBRARY = "library"
