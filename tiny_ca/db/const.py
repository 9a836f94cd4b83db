"""Closed enumerations of the registry."""

from __future__ import annotations

from enum import Enum, StrEnum

__all__ = ["CertificateStatus", "RevokeStatus"]


class CertificateStatus(StrEnum):
    """Lifecycle state as stored in ``certificates.status``; UNKNOWN is an answer, never stored."""

    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


class RevokeStatus(Enum):
    """How an attempt to revoke ended."""

    NOT_FOUND = (
        "The certificate was not revoked because there is no valid certificate with the specified serial number."
    )
    UNKNOWN_ERROR = "The certificate was not revoked due to an internal error. Please review the service logs."
    OK = "success"
