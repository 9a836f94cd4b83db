"""What a storage keeps."""

from __future__ import annotations

from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

__all__ = ["CryptoObject"]

CryptoObject: TypeAlias = (
    x509.Certificate
    | x509.CertificateSigningRequest
    | x509.CertificateRevocationList
    | PrivateKeyTypes
    | PublicKeyTypes
)
