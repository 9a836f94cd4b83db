"""CAs that were not made here: their certificates, keys, PEM and PKCS #12 as others write them."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

__all__ = ["ForeignCA", "foreign_ca"]

_ALL = ("digital_signature", "key_cert_sign", "crl_sign")
_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@dataclass(frozen=True)
class ForeignCA:
    """A CA and those above it, root last."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    above: tuple[ForeignCA, ...] = ()

    @property
    def pem(self) -> str:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def chain(self) -> list[str]:
        """The certificates above it."""
        return [one.pem for one in self.above]

    def key_pem(self, password: str | None = None) -> str:
        """The key, encrypted where there is a password."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, _encryption(password)).decode()

    def pkcs12(self, password: str) -> str:
        """All of it in one file, base64."""
        above = [one.certificate for one in self.above]
        content = pkcs12.serialize_key_and_certificates(b"ca", self.key, self.certificate, above, _encryption(password))
        return base64.b64encode(content).decode()

    def body(self, password: str | None = "password", **more: Any) -> dict[str, Any]:  # noqa: ANN401, S107  # JSON
        """What imports it, as PEM."""
        body = {"certificate": self.pem, "chain": self.chain, "private_key": self.key_pem(password)}
        return {**body, **({} if password is None else {"private_key_password": password}), **more}


def foreign_ca(
    name: str | None = None,
    parent: ForeignCA | None = None,
    *,
    ca: bool = True,
    path_length: int | None = None,
    usages: Iterable[str] = _ALL,
    starts: timedelta = timedelta(days=-1),
    lasts: timedelta = timedelta(days=100),
    serial_number: int | None = None,
    more: Iterable[tuple[x509.ExtensionType, bool]] = (),
    signed_by: ForeignCA | None = None,
) -> ForeignCA:
    """A CA below another, or a root; ``signed_by`` signs it in the parent's name."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name or f"Elsewhere {secrets.token_hex(4)}")])
    start = datetime.now(UTC) + starts
    authority = key if parent is None else (signed_by or parent).key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if parent is None else parent.certificate.subject)
        .public_key(key.public_key())
        .serial_number(serial_number or x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + lasts)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), critical=True)
        .add_extension(x509.KeyUsage(**{usage: usage in set(usages) for usage in _USAGES}), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()), critical=False)
    )
    for value, critical in more:
        builder = builder.add_extension(value, critical=critical)
    above = () if parent is None else (parent, *parent.above)
    return ForeignCA(builder.sign(authority, hashes.SHA256()), key, above)


def _encryption(password: str | None) -> KeySerializationEncryption:
    return NoEncryption() if password is None else BestAvailableEncryption(password.encode())
