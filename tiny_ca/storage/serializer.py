"""Objects to bytes, and what the file is called. No file is touched here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, TypeGuard, get_args

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tiny_ca.storage.const import CryptoObject

__all__ = ["SerializedObject", "Serializer"]

_PRIVATE: Final = get_args(PrivateKeyTypes)
_PUBLIC: Final = get_args(PublicKeyTypes)
_WITH_TRADITIONAL_FORM: Final = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, dsa.DSAPrivateKey)


@dataclass(frozen=True, slots=True)
class SerializedObject:
    """The bytes of a file, how its name ends, and whether others may read it."""

    data: bytes
    suffix: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Serializer:
    """How objects are encoded. With a passphrase take PKCS8: the traditional form derives its key with one MD5."""

    encoding: Encoding = Encoding.PEM
    private_format: PrivateFormat = PrivateFormat.TraditionalOpenSSL
    public_format: PublicFormat = PublicFormat.SubjectPublicKeyInfo
    encryption_algorithm: KeySerializationEncryption = NoEncryption()  # noqa: RUF009  # immutable

    def overridden(
        self,
        encoding: Encoding | None,
        private_format: PrivateFormat | None,
        public_format: PublicFormat | None,
        encryption_algorithm: KeySerializationEncryption | None,
    ) -> Serializer:
        """Return this one with whatever is not None in its place."""
        return replace(
            self,
            encoding=encoding or self.encoding,
            private_format=private_format or self.private_format,
            public_format=public_format or self.public_format,
            encryption_algorithm=encryption_algorithm or self.encryption_algorithm,
        )

    def serialize(self, obj: CryptoObject) -> SerializedObject:
        """Encode; a key whose kind has no traditional form (Ed25519, ML-DSA) is written as PKCS#8 in its place.

        Raises
        ------
        TypeError
            It is no certificate, CSR, CRL or key.
        ValueError
            The kind of object cannot be written in that combination of encoding, format and encryption.
        """
        if isinstance(obj, x509.Certificate | x509.CertificateRevocationList):
            return SerializedObject(obj.public_bytes(self.encoding), ".pem")
        if isinstance(obj, x509.CertificateSigningRequest):
            return SerializedObject(obj.public_bytes(self.encoding), ".csr")
        if _is_private(obj):
            form = self.private_format
            if form is PrivateFormat.TraditionalOpenSSL and not isinstance(obj, _WITH_TRADITIONAL_FORM):
                form = PrivateFormat.PKCS8
            data = obj.private_bytes(self.encoding, form, self.encryption_algorithm)
            return SerializedObject(data, ".key", secret=True)
        if _is_public(obj):
            return SerializedObject(obj.public_bytes(self.encoding, self.public_format), ".pub")
        raise TypeError(f"a storage keeps certificates, CSRs, CRLs and keys, not a {type(obj).__name__}")


# The aliases hold abstract classes in a typing.Union, which mypy does not take in isinstance.
def _is_private(obj: object) -> TypeGuard[PrivateKeyTypes]:
    return isinstance(obj, _PRIVATE)


def _is_public(obj: object) -> TypeGuard[PublicKeyTypes]:
    return isinstance(obj, _PUBLIC)
