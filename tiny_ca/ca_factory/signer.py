"""Who signs: one protocol over private keys. Software keys here; PKCS#11 and KMS are one more file each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final, Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.keys import PrivateKey, PublicKey, key_spec
from tiny_ca.exc import ErrorLoadCert

__all__ = ["Signer", "SoftwareSigner"]

# RFC 4055 §5: the parameters of RSA algorithms are NULL; RFC 5758 §3.2, RFC 8410 §3 and RFC 9881 §2: absent.
_SHA256_WITH_RSA: Final = der.sequence(der.object_identifier("1.2.840.113549.1.1.11"), der.NULL)
# The digest is as strong as the curve (RFC 5480 §4).
_ECDSA: Final[dict[str, tuple[bytes, hashes.HashAlgorithm]]] = {
    "P-256": (der.sequence(der.object_identifier("1.2.840.10045.4.3.2")), hashes.SHA256()),
    "P-384": (der.sequence(der.object_identifier("1.2.840.10045.4.3.3")), hashes.SHA384()),
    "P-521": (der.sequence(der.object_identifier("1.2.840.10045.4.3.4")), hashes.SHA512()),
}
_ED25519: Final = der.sequence(der.object_identifier("1.3.101.112"))
_MLDSA: Final = {
    "ML-DSA-44": der.sequence(der.object_identifier("2.16.840.1.101.3.4.3.17")),
    "ML-DSA-65": der.sequence(der.object_identifier("2.16.840.1.101.3.4.3.18")),
    "ML-DSA-87": der.sequence(der.object_identifier("2.16.840.1.101.3.4.3.19")),
}


class Signer(Protocol):
    """A private key that signs. It may be called from any thread, several at once, and may take its time."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        ...

    @property
    def algorithm_identifier(self) -> bytes:
        """DER of the AlgorithmIdentifier that goes into what is signed (RFC 5280 §4.1.1.2)."""
        ...

    def sign(self, data: bytes) -> bytes:
        """Return the signature over ``data`` as it goes into the BIT STRING."""
        ...

    def sign_large(self, parts: Sequence[bytes | memoryview]) -> bytes:
        """As ``sign``, over megabytes that come in parts."""
        ...

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature of this key's.

        Raises
        ------
        InvalidSignature
            It is none.
        """
        ...


class SoftwareSigner:
    """A private key in this process's memory; its ``repr`` tells the kind of key and nothing else."""

    def __init__(self, private_key: PrivateKey) -> None:
        spec = key_spec(private_key.public_key())
        if spec is None:
            message = f"a {type(private_key).__name__} cannot sign here; use RSA, P-256/384/521, Ed25519 or ML-DSA"
            raise ErrorLoadCert(message, field="ca_key")
        self._private_key = private_key
        self._spec = spec
        self._digest: hashes.HashAlgorithm = hashes.SHA256()
        match spec.algorithm:
            case "rsa":
                self._algorithm_identifier = _SHA256_WITH_RSA
            case "ec":
                self._algorithm_identifier, self._digest = _ECDSA[str(spec.curve)]
            case "mldsa":
                self._algorithm_identifier = _MLDSA[str(spec.parameter_set)]
            case _:
                self._algorithm_identifier = _ED25519

    def __repr__(self) -> str:
        return f"SoftwareSigner({self._spec})"

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        return self._private_key.public_key()

    @property
    def algorithm_identifier(self) -> bytes:
        """DER of the AlgorithmIdentifier that belongs to the key."""
        return self._algorithm_identifier

    def sign(self, data: bytes) -> bytes:
        """Sign with the one algorithm that belongs to the key."""
        return self._sign(data, self._digest)

    def sign_large(self, parts: Sequence[bytes | memoryview]) -> bytes:
        """As ``sign``; where there is a digest, the interpreter is free while it is computed."""
        if not isinstance(self._private_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
            return self.sign(der.joined(parts))
        digest = hashlib.new(self._digest.name)
        for piece in der.pieces(parts):
            digest.update(piece)
        return self._sign(digest.digest(), Prehashed(self._digest))

    def _sign(self, data: bytes, digest: hashes.HashAlgorithm | Prehashed) -> bytes:
        key = self._private_key
        match key:
            case rsa.RSAPrivateKey():
                return key.sign(data, padding.PKCS1v15(), digest)
            case ec.EllipticCurvePrivateKey():
                return key.sign(data, ec.ECDSA(digest))
            case _:  # Ed25519 and ML-DSA digest by themselves
                return key.sign(data)

    def verify(self, signature: bytes, data: bytes) -> None:
        """Check a signature of this key's; raises InvalidSignature."""
        key = self.public_key
        match key:
            case rsa.RSAPublicKey():
                key.verify(signature, data, padding.PKCS1v15(), self._digest)
            case ec.EllipticCurvePublicKey():
                key.verify(signature, data, ec.ECDSA(self._digest))
            case _:
                key.verify(signature, data)
