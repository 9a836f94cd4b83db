"""What makes a public key unfit for a certificate: the wrong kind, the wrong size, or a known weakness of RSA keys.

Not checked: primality of the modulus' factors, moduli shared between keys, and lists of keys known to be compromised.
"""

from __future__ import annotations

import math
from typing import Final

from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from tiny_ca.ca_factory.keys import EC_CURVES, MLDSA_PARAMETER_SETS, RSA_MAX_SIZE, RSA_MIN_SIZE, KeySpec, key_spec
from tiny_ca.exc import Invalid

__all__ = ["check_public_key"]

# CA/Browser Forum BR §6.1.6: the exponent is odd and lies between 2^16 + 1 and 2^256 - 1.
_MIN_EXPONENT: Final = 65537
_MAX_EXPONENT: Final = 2**256 - 1
_FERMAT_ROUNDS: Final = 100  # CA/Browser Forum BR §6.1.1.3: "100 rounds of Fermat's factorization"
_NEW_KEY: Final = "make a new key, best of kind EC P-256"
_TAKEN: Final = (
    f"taken are RSA of {RSA_MIN_SIZE} to {RSA_MAX_SIZE} bits, EC {', '.join(EC_CURVES)}, Ed25519 and "
    f"{', '.join(MLDSA_PARAMETER_SETS)}"
)


def check_public_key(public_key: object, *, field: str) -> KeySpec:
    """Tell the kind of a public key that is fit for a certificate.

    Points of EC keys were checked to lie on their curve when the key was loaded.

    Raises
    ------
    Invalid
        The key is of a kind that is not taken, or weak; the message says why.
    """
    spec = key_spec(public_key)
    if spec is None:
        kind = _kind(public_key)
        raise Invalid(f"{kind} keys are not supported: {_TAKEN}", field=field, value=kind)
    if isinstance(public_key, rsa.RSAPublicKey):
        weakness = _rsa_weakness(public_key)
        if weakness:
            raise Invalid(f"the {spec} key {weakness}; {_NEW_KEY}", field=field, value=str(spec))
    return spec


def _kind(public_key: object) -> str:
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return f"EC {public_key.curve.name}"
    if isinstance(public_key, dsa.DSAPublicKey):
        return f"DSA-{public_key.key_size}"
    return type(public_key).__name__.removesuffix("PublicKey")


def _rsa_weakness(public_key: rsa.RSAPublicKey) -> str | None:
    # The size comes first: it is free, and it bounds the cost of all that follows.
    size = public_key.key_size
    if not RSA_MIN_SIZE <= size <= RSA_MAX_SIZE:
        return f"has a modulus of {size} bits, which is not {RSA_MIN_SIZE} to {RSA_MAX_SIZE}"
    if size % 8:  # CA/Browser Forum BR §6.1.5
        return f"has a modulus of {size} bits, which is not divisible by 8"
    numbers = public_key.public_numbers()
    if not _MIN_EXPONENT <= numbers.e <= _MAX_EXPONENT or numbers.e % 2 == 0:
        return f"has the public exponent {_shown(numbers.e)}, which is not an odd number from 65537 to 2^256 - 1"
    return _modulus_weakness(numbers.n)


def _modulus_weakness(modulus: int) -> str | None:
    factor = math.gcd(modulus, _SMALL_PRIMES_PRODUCT)
    if factor != 1:  # CA/Browser Forum BR §6.1.6: no factor smaller than 752
        smallest = next(prime for prime in _SMALL_PRIMES if factor % prime == 0)
        return f"has a modulus that is divisible by {smallest}"
    if _has_roca_fingerprint(modulus):
        return "was made by a chip or library with the ROCA flaw (CVE-2017-15361), so that it can be factored"
    if _has_close_primes(modulus):
        return "has two primes so close that Fermat's method factors it"
    return None


def _has_roca_fingerprint(modulus: int) -> bool:
    """Whether the modulus is a power of 65537 modulo each of the first primes.

    Nemec, Sys, Svenda, Klinec, Matyas: The Return of Coppersmith's Attack (ACM CCS 2017), §2 and §3: the flawed
    library makes primes ``p = k * M + (65537 ** a mod M)``, M being a product of the first 39 or more primes. So p,
    and with it the product of two, lies in the group that 65537 generates modulo every prime of M. A sound modulus
    does so once in 2^27 keys or rarer.
    """
    rest = modulus % _ROCA_PRODUCT
    return all(group >> (rest % prime) & 1 for prime, group in _ROCA_GROUPS)


def _has_close_primes(modulus: int) -> bool:
    """Whether ``modulus = a^2 - b^2`` for one of the first values of a, beginning with the modulus' square root.

    Round 0 also finds squares. Böck: Fermat Factorization in the Wild (2023), CVE-2022-26320.
    """
    a = math.isqrt(modulus)
    if a * a < modulus:
        a += 1
    candidate = a * a - modulus
    for _ in range(_FERMAT_ROUNDS):
        # A root of thousands of bits is dear; most numbers show already modulo 5040 that they are no square.
        if candidate % _SIEVE in _SQUARES and math.isqrt(candidate) ** 2 == candidate:
            return True
        candidate += 2 * a + 1
        a += 1
    return False


def _primes(below: int) -> tuple[int, ...]:
    return tuple(n for n in range(2, below) if all(n % divisor for divisor in range(2, math.isqrt(n) + 1)))


def _powers_of_65537(prime: int) -> int:
    """Return the group that 65537 generates modulo a prime, as a bit mask."""
    return sum({1 << pow(65537, exponent, prime) for exponent in range(prime - 1)})


def _shown(number: int) -> str:
    return str(number) if number.bit_length() <= 64 else f"of {number.bit_length()} bits"


_SMALL_PRIMES: Final = _primes(752)
_SMALL_PRIMES_PRODUCT: Final = math.prod(_SMALL_PRIMES)
_ROCA_GROUPS: Final = tuple((prime, _powers_of_65537(prime)) for prime in _primes(168)[1:])
_ROCA_PRODUCT: Final = math.prod(prime for prime, _ in _ROCA_GROUPS)
_SIEVE: Final = 5040
_SQUARES: Final = frozenset(n * n % _SIEVE for n in range(_SIEVE))
