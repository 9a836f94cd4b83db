"""Certificate requests: sound ones, and ones that a sound client would not make."""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509.oid import NameOID

from tests.vectors import make_keys

__all__ = ["EC_KEY", "RSA_KEY", "Key", "csr", "fresh_key", "fresh_name", "weak_csr"]

Key: TypeAlias = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey

EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)


def fresh_key() -> ec.EllipticCurvePrivateKey:
    """A key that no other test has: one that is revoked as compromised is blocked for all."""
    return ec.generate_private_key(ec.SECP256R1())


def fresh_name(suffix: str = "example.org") -> str:
    """A host that no other test asks for."""
    return f"{uuid.uuid4().hex[:12]}.{suffix}"


def csr(
    common_name: str | None = "app.example.org",
    *names: x509.GeneralName,
    key: Key = EC_KEY,
    subject: Sequence[tuple[x509.ObjectIdentifier, str]] = (),
    extensions: Sequence[x509.ExtensionType] = (),
    encoding: Encoding = Encoding.PEM,
) -> bytes:
    """A CSR; without ``names`` it has the common name alone."""
    given = (*subject, *([] if common_name is None else [(NameOID.COMMON_NAME, common_name)]))
    with warnings.catch_warnings(action="ignore"):  # what the service refuses must first be made
        attributes = [x509.NameAttribute(oid, value, _validate=False) for oid, value in given]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    hashed = isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return builder.sign(key, hashes.SHA256() if hashed else None).public_bytes(encoding)


def weak_csr(vector: str) -> bytes:
    """A CSR whose RSA-2048 modulus is replaced by one of ``tests/vectors/keys``; its signature no longer fits.

    The service looks at the key first: nobody has the private key to sign this one with.
    """
    weak = load_pem_public_key((Path(make_keys.__file__).parent / "keys" / f"{vector}.pem").read_bytes())
    assert isinstance(weak, rsa.RSAPublicKey)
    sound = csr(key=RSA_KEY, encoding=Encoding.DER)
    old, new = (_octets(key.public_numbers().n) for key in (RSA_KEY.public_key(), weak))
    assert len(old) == len(new)
    assert sound.count(old) == 1
    return sound.replace(old, new)


def _octets(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
