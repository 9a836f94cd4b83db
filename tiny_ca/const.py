"""Closed enumerations and constants that every room shares."""

from __future__ import annotations

from enum import Enum

__all__ = ["ALLOWED_CERT_EXTENSIONS", "CertType"]

ALLOWED_CERT_EXTENSIONS = (".key", ".pem", ".csr")


class CertType(Enum):
    """Category of a certificate; the value is what the registry stores in ``key_type``."""

    CA = "CA"
    USER = "USR"
    SERVICE = "SVC"
    DEVICE = "DEV"
    INTERNAL = "INT"
