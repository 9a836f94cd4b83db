"""PKCS #12: a certificate, its chain and its private key in one file (RFC 7292)."""

from __future__ import annotations

from collections.abc import Sequence
from types import NoneType
from typing import Final, cast, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.keys import PrivateKey, PublicKey, public_key_der
from tiny_ca.exc import Invalid
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.utils.arguments import check_kind

__all__ = ["check_fits_pkcs12", "export_pkcs12"]

# OWASP's figure for PBKDF2-HMAC-SHA256 (Password Storage Cheat Sheet): about a tenth of a second.
_ROUNDS: Final = 600_000
_NO_SUCH_KEY: Final = "PKCS #12 holds RSA, EC and Ed25519 keys, not yet ML-DSA; keep key and certificate as PEM"


def check_fits_pkcs12(key: KeySpec) -> None:
    """Say before a key is made whether a file could hold it.

    Raises
    ------
    Invalid
        It could not.
    """
    if key.algorithm == "mldsa":
        raise Invalid(_NO_SUCH_KEY, field="key", value=str(key))


def export_pkcs12(
    cert: x509.Certificate,
    private_key: PrivateKey,
    *,
    chain: Sequence[x509.Certificate],
    password: bytes | None = None,
    name: str | None = None,
    compatibility: bool = False,
) -> bytes:
    """DER of the file: PBES2 with AES-256-CBC and PBKDF2-HMAC-SHA256, HMAC-SHA256 around it.

    ``compatibility``: 3DES and SHA-1 as in RFC 7292 itself, for Java before 8u301 and Windows before 10 1709. ``name``
    None takes the common name. Without a password the key is in plain text. For the HMAC, by which a password can be
    guessed too, the crypto library stretches it by 2,048 rounds only: take a long one.

    Raises
    ------
    Invalid
        The key is not the certificate's, or of a kind that PKCS #12 files hold nowhere yet (ML-DSA), or the password is
        empty.
    TypeError
        An argument is of another kind.
    """
    check_kind(cert, x509.Certificate, "cert")
    check_kind(private_key, get_args(PrivateKeyTypes), "private_key")
    check_kind(name, (str, NoneType), "name")
    if not isinstance(private_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        raise Invalid(_NO_SUCH_KEY, field="private_key", value=type(private_key).__name__)
    if public_key_der(private_key.public_key()) != _public_key(cert):
        message = f"the private key does not belong to certificate {cert.serial_number:x}"
        raise Invalid(message, field="private_key")
    if not isinstance(password, bytes | None):
        raise Invalid(f"the password is bytes or None, not {type(password).__name__}", field="password")
    if password == b"":
        raise Invalid("the password is empty; give one, or None for a file without encryption", field="password")
    return pkcs12.serialize_key_and_certificates(
        _friendly_name(cert, name),
        private_key,
        cert,
        chain,
        _encryption(password, compatibility=compatibility),
    )


def _encryption(password: bytes | None, *, compatibility: bool) -> KeySerializationEncryption:
    if password is None:
        return NoEncryption()
    builder = PrivateFormat.PKCS12.encryption_builder()
    if compatibility:
        scheme, digest = pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC, hashes.SHA1()  # noqa: S303  # what old stores read
        return builder.key_cert_algorithm(scheme).hmac_hash(digest).build(password)
    strong = builder.key_cert_algorithm(pkcs12.PBES.PBESv2SHA256AndAES256CBC).hmac_hash(hashes.SHA256())
    return strong.kdf_rounds(_ROUNDS).build(password)


def _public_key(cert: x509.Certificate) -> bytes:
    try:
        return public_key_der(cast("PublicKey", cert.public_key()))
    except UNREADABLE as error:
        message = f"the certificate's public key is damaged or of a kind not supported: {error}"
        raise Invalid(message, field="cert") from error


def _friendly_name(cert: x509.Certificate, name: str | None) -> bytes | None:
    try:
        return (_common_name(cert) if name is None else name).encode() or None
    except UnicodeEncodeError as error:
        raise Invalid(f"{name!r} is no text: {error.reason}", field="name", value=name) from error


def _common_name(cert: x509.Certificate) -> str:
    found = cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""
