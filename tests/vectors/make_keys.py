"""Rebuilds ``keys/*.pem``: RSA public keys that no certificate should have. ``python tests/vectors/make_keys.py``.

Seeded, so that every run writes the same bytes; a test checks that it still does. No private part is kept.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

FOLDER = Path(__file__).parent / "keys"
_F4 = 65537
_SMALL = [n for n in range(2, 2000) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1))]


def vectors() -> dict[str, bytes]:
    """Return the PEM text of each vector by its file name."""
    rng = random.Random("tiny-ca weak keys")  # noqa: S311 - the same keys each time are the purpose
    p, q = _prime(rng, 1024), _prime(rng, 1024)
    keys = {
        # Sound but for one thing each.
        "rsa-1024": (_F4, _prime(rng, 512) * _prime(rng, 512)),
        "rsa-2052-odd-size": (_F4, _prime(rng, 1026) * _prime(rng, 1026)),
        "rsa-2048-e3": (3, p * q),
        "rsa-2048-e-257-bits": (2**256 + 1, p * q),
        "rsa-2048-small-factor": (_F4, 751 * _prime(rng, 2038)),
        "rsa-2048-even": (_F4, p * q + 1),
        # CVE-2022-26320: the second prime is the next one after the first.
        "rsa-2048-close-primes": (_F4, p * _next_prime(p)),
        "rsa-2048-square": (_F4, p * p),
        # Nemec et al., The Return of Coppersmith's Attack, table 1: 126 primes for 2048 bits, 225 for 4096.
        "rsa-2048-roca": (_F4, _roca_prime(rng, 1024, 126) * _roca_prime(rng, 1024, 126)),
        "rsa-4096-roca": (_F4, _roca_prime(rng, 2048, 225) * _roca_prime(rng, 2048, 225)),
        "rsa-2048-sound": (_F4, p * q),
    }
    return {f"{name}.pem": _pem(exponent, modulus) for name, (exponent, modulus) in keys.items()}


def _prime(rng: random.Random, bits: int) -> int:
    while True:
        # The two highest bits are set, so that a product of two has twice the bits.
        candidate = rng.getrandbits(bits) | 3 << (bits - 2) | 1
        if _is_prime(candidate):
            return candidate


def _next_prime(after: int) -> int:
    candidate = after + 2
    while not _is_prime(candidate):
        candidate += 2
    return candidate


def _roca_prime(rng: random.Random, bits: int, primes: int) -> int:
    """Return ``k * M + (65537 ** a mod M)``, §2.1 of the paper."""
    product = math.prod(_SMALL[:primes])
    low, high = (3 << (bits - 2)) // product + 1, (1 << bits) // product - 1
    while True:
        candidate = rng.randint(low, high) * product + pow(_F4, rng.getrandbits(64), product)
        if _is_prime(candidate):
            return candidate


def _is_prime(number: int) -> bool:
    # Fermat's test to two bases is enough for random numbers; nobody relies on these keys.
    return all(number % prime for prime in _SMALL) and all(pow(base, number - 1, number) == 1 for base in (2, 3))


def _pem(exponent: int, modulus: int) -> bytes:
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, pem in vectors().items():
        (FOLDER / name).write_bytes(pem)
