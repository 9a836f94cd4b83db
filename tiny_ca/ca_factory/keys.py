"""Kinds of keys: their names, how to make one, how to tell one. What makes a key *bad* is in ``key_quality``."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Final, TypeAlias, cast

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tiny_ca.ca_factory import der
from tiny_ca.exc import Invalid
from tiny_ca.models.key_spec import KeySpec

__all__ = [
    "EC_CURVES",
    "MLDSA_PARAMETER_SETS",
    "RSA_MAX_SIZE",
    "RSA_MIN_SIZE",
    "KeySpec",
    "PrivateKey",
    "PublicKey",
    "generate_private_key",
    "key_identifier",
    "key_spec",
    "public_key_der",
]

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey
    | ec.EllipticCurvePrivateKey
    | ed25519.Ed25519PrivateKey
    | mldsa.MLDSA44PrivateKey
    | mldsa.MLDSA65PrivateKey
    | mldsa.MLDSA87PrivateKey
)
PublicKey: TypeAlias = (
    rsa.RSAPublicKey
    | ec.EllipticCurvePublicKey
    | ed25519.Ed25519PublicKey
    | mldsa.MLDSA44PublicKey
    | mldsa.MLDSA65PublicKey
    | mldsa.MLDSA87PublicKey
)

RSA_MIN_SIZE: Final = 2048
RSA_MAX_SIZE: Final = 8192
_RSA_PUBLIC_EXPONENT: Final = 65537

EC_CURVES: Final[dict[str, ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_CURVE_NAMES: Final = {curve.name: name for name, curve in EC_CURVES.items()}

MLDSA_PARAMETER_SETS: Final[
    dict[str, type[mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey]]
] = {
    "ML-DSA-44": mldsa.MLDSA44PrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey,
}
_MLDSA_PUBLIC: Final = (
    ("ML-DSA-44", mldsa.MLDSA44PublicKey),
    ("ML-DSA-65", mldsa.MLDSA65PublicKey),
    ("ML-DSA-87", mldsa.MLDSA87PublicKey),
)


_EC_SPECS: Final = {name: KeySpec.ec(curve) for name, curve in _CURVE_NAMES.items()}
_OTHER_SPECS: Final = {"ed25519": KeySpec.ed25519(), **{name: KeySpec.mldsa(name) for name, _ in _MLDSA_PUBLIC}}


def generate_private_key(spec: KeySpec) -> PrivateKey:
    """Make a private key of this kind. RSA-4096 takes seconds: never on an event loop.

    Raises
    ------
    Invalid
        The size, curve or parameter set is not one that is made here; ``field`` is ``key``.
    """
    match spec.algorithm:
        case "rsa":
            if spec.size is None or not RSA_MIN_SIZE <= spec.size <= RSA_MAX_SIZE or spec.size % 256:
                raise _unsupported(
                    spec, f"RSA sizes are {RSA_MIN_SIZE} to {RSA_MAX_SIZE} bits in steps of 256, got {spec.size}"
                )
            return rsa.generate_private_key(_RSA_PUBLIC_EXPONENT, spec.size)
        case "ec":
            curve = EC_CURVES.get(spec.curve or "")
            if curve is None:
                raise _unsupported(spec, f"curves are {', '.join(EC_CURVES)}, got {spec.curve!r}")
            return ec.generate_private_key(curve)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "mldsa":
            kind = MLDSA_PARAMETER_SETS.get(spec.parameter_set or "")
            if kind is None:
                raise _unsupported(
                    spec, f"parameter sets are {', '.join(MLDSA_PARAMETER_SETS)}, got {spec.parameter_set!r}"
                )
            return kind.generate()
        case other:
            message = f"key algorithms are rsa, ec, ed25519 and mldsa, got {other!r}"
            raise Invalid(message, field="key", value=other)


def key_spec(public_key: object) -> KeySpec | None:
    """Tell the kind of a public key; None for a kind that is not taken here (DSA, X25519, secp256k1 …)."""
    kind = _kind(type(public_key))  # type: ignore[arg-type]  # mypy takes no class for hashable
    if kind == "rsa":
        return KeySpec.rsa(cast("rsa.RSAPublicKey", public_key).key_size)
    if kind == "ec":
        return _EC_SPECS.get(cast("ec.EllipticCurvePublicKey", public_key).curve.name)
    return _OTHER_SPECS.get(kind)


@cache
def _kind(public_key: type) -> str:
    """The name of a class of keys: those of the crypto library are abstract, and asked one by one it takes its time."""
    kinds = (
        ("rsa", rsa.RSAPublicKey),
        ("ec", ec.EllipticCurvePublicKey),
        ("ed25519", ed25519.Ed25519PublicKey),
        *_MLDSA_PUBLIC,
    )
    return next((name for name, kind in kinds if issubclass(public_key, kind)), "")


def public_key_der(public_key: PublicKey) -> bytes:
    """Encode as SubjectPublicKeyInfo (RFC 5280 §4.1.2.7)."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def key_identifier(public_key_info: bytes) -> bytes:
    """SHA-1 of the key in a SubjectPublicKeyInfo (RFC 5280 §4.2.1.2, method 1): a name for it, which proves nothing."""
    _, bit_string = der.contents(public_key_info)
    return hashlib.sha1(der.content(bit_string)[1:], usedforsecurity=False).digest()  # behind the count of unused bits


def _unsupported(spec: KeySpec, message: str) -> Invalid:
    return Invalid(message, field="key", value=str(spec))
