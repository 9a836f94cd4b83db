"""Which public keys may be in a certificate."""

from __future__ import annotations

from pathlib import Path

import badkeys
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa, x25519
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.vectors import make_keys
from tiny_ca.ca_factory.key_quality import check_public_key
from tiny_ca.ca_factory.keys import EC_CURVES
from tiny_ca.exc import Invalid

VECTORS = Path(make_keys.__file__).parent / "keys"
WEAK = [
    ("rsa-1024", "has a modulus of 1024 bits, which is not 2048 to 8192"),
    ("rsa-2052-odd-size", "has a modulus of 2052 bits, which is not divisible by 8"),
    ("rsa-2048-e3", "has the public exponent 3, which is not an odd number from 65537"),
    ("rsa-2048-e-257-bits", "has the public exponent of 257 bits, which is not"),
    ("rsa-2048-small-factor", "has a modulus that is divisible by 751"),
    ("rsa-2048-even", "has a modulus that is divisible by 2"),
    ("rsa-2048-close-primes", "has two primes so close"),
    ("rsa-2048-square", "has two primes so close"),
    ("rsa-2048-roca", "the ROCA flaw (CVE-2017-15361)"),
    ("rsa-4096-roca", "the ROCA flaw (CVE-2017-15361)"),
]


def _refusal(public_key: object) -> Invalid:
    with pytest.raises(Invalid) as caught:
        check_public_key(public_key, field="csr.public_key")
    return caught.value


def _rsa_of(modulus: int) -> rsa.RSAPublicKey:
    return rsa.RSAPublicNumbers(65537, modulus).public_key()


def _vector(name: str) -> rsa.RSAPublicKey:
    key = load_pem_public_key((VECTORS / f"{name}.pem").read_bytes())
    assert isinstance(key, rsa.RSAPublicKey)
    return key


@pytest.mark.parametrize("name", list(EC_CURVES))
def test_takes_the_nist_curves(name: str) -> None:
    """P-256, P-384 and P-521 are taken."""
    spec = check_public_key(ec.generate_private_key(EC_CURVES[name]).public_key(), field="key")
    assert f"EC {name}" == str(spec)


def test_takes_ed25519_and_mldsa() -> None:
    """Ed25519 and each parameter set of ML-DSA are taken."""
    keys = [ed25519.Ed25519PrivateKey, mldsa.MLDSA44PrivateKey, mldsa.MLDSA65PrivateKey, mldsa.MLDSA87PrivateKey]
    specs = [str(check_public_key(kind.generate().public_key(), field="key")) for kind in keys]  # type: ignore[attr-defined]
    assert specs == ["Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]


@pytest.mark.parametrize("size", [2048, 3072])
def test_takes_fresh_rsa_keys(size: int) -> None:
    """An RSA key just made by OpenSSL has no weakness, for badkeys neither."""
    key = rsa.generate_private_key(65537, size).public_key()
    assert f"RSA-{size}" == str(check_public_key(key, field="key"))
    assert badkeys.checkrsa(key.public_numbers().n, checks=["fermat", "roca", "smallfactors"]) == {}


def test_refuses_other_kinds() -> None:
    """A key of a kind that is not taken is refused by its name, with the kinds that are."""
    keys = {
        "EC secp256k1": ec.generate_private_key(ec.SECP256K1()).public_key(),
        "EC brainpoolP256r1": ec.generate_private_key(ec.BrainpoolP256R1()).public_key(),
        "DSA-2048": dsa.generate_private_key(2048).public_key(),
        "Ed448": ed448.Ed448PrivateKey.generate().public_key(),
        "X25519": x25519.X25519PrivateKey.generate().public_key(),
    }
    for kind, key in keys.items():
        refusal = _refusal(key)
        assert ("csr.public_key", kind) == (refusal.field, refusal.value)
        assert refusal.message.startswith(
            f"{kind} keys are not supported: taken are RSA of 2048 to 8192 bits, EC P-256"
        )


@pytest.mark.parametrize("name,reason", WEAK)
def test_refuses_weak_rsa_keys(name: str, reason: str) -> None:
    """Each weakness of an RSA key is refused, naming it and the cure."""
    refusal = _refusal(_vector(name))
    assert reason in refusal.message
    assert refusal.message.endswith("make a new key, best of kind EC P-256")


def test_takes_the_sound_vector() -> None:
    """The vector without a fault is taken, so it is the faults that the others are refused for."""
    assert str(check_public_key(_vector("rsa-2048-sound"), field="key")) == "RSA-2048"


@pytest.mark.parametrize("size", [2047, 8193, 16384])
def test_refuses_sizes_just_outside(size: int) -> None:
    """The bounds of the modulus hold to the bit."""
    assert f"modulus of {size} bits, which is not 2048 to 8192" in _refusal(_rsa_of((1 << size) - 1)).message


@pytest.mark.parametrize(
    "name,check",
    [
        ("rsa-2048-close-primes", "fermat"),
        ("rsa-2048-square", "fermat"),
        ("rsa-2048-roca", "roca"),
        ("rsa-4096-roca", "roca"),
        ("rsa-2048-small-factor", "smallfactors"),
    ],
)
def test_badkeys_agrees(name: str, check: str) -> None:
    """What we call weak, badkeys calls weak for the same reason."""
    numbers = _vector(name).public_numbers()
    assert [check] == list(badkeys.checkrsa(numbers.n, numbers.e, checks=[check]))


def test_the_script_still_makes_the_vectors() -> None:
    """make_keys.py writes each vector as it stands, byte for byte."""
    assert {path.name: path.read_bytes() for path in VECTORS.glob("*.pem")} == make_keys.vectors()
