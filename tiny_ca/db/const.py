"""Closed enumerations of the registry."""

from __future__ import annotations

from enum import Enum, StrEnum

__all__ = ["CertificateStatus", "RevokeStatus", "Succession"]


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


class Succession(Enum):
    """What recording a certificate does, in the same transaction, to those that had its common name before."""

    SHARED = "shared"
    """Nothing: any number of certificates have the name."""
    UNIQUE = "unique"
    """The name must be free, and no other gets it while this certificate is valid."""
    OVERWRITE = "overwrite"
    """Every valid holder of the name is revoked as superseded."""
    RENEWAL = "renewal"
    """The predecessor stays valid; if it held its name alone, this certificate does from now on."""
    ROTATION = "rotation"
    """The predecessor is revoked as superseded; the name must be free, or have been the predecessor's."""
