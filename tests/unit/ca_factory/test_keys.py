"""Making keys and telling their kind."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tiny_ca.ca_factory.keys import KeySpec, generate_private_key, key_spec, public_key_der
from tiny_ca.exc import Invalid

SPECS = [
    KeySpec.rsa(2048),
    *map(KeySpec.ec, ["P-256", "P-384", "P-521"]),
    KeySpec.ed25519(),
    *map(KeySpec.mldsa, ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]),
]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_key_is_of_the_kind_asked(spec: KeySpec) -> None:
    """A key that was made is told to be of the kind it was asked as, also after a trip through DER."""
    public_key = generate_private_key(spec).public_key()
    assert (spec, spec) == (key_spec(public_key), key_spec(load_der_public_key(public_key_der(public_key))))


@pytest.mark.parametrize(
    "spec,rule",
    [
        (KeySpec.rsa(1024), "in steps of 256, got 1024"),
        (KeySpec.rsa(2049), "in steps of 256, got 2049"),
        (KeySpec.rsa(16384), "2048 to 8192"),
        (KeySpec("rsa"), "got None"),
        (KeySpec.ec("P-224"), "P-256, P-384, P-521, got 'P-224'"),
        (KeySpec.mldsa("ML-DSA-1"), "got 'ML-DSA-1'"),
        (KeySpec("dsa"), "rsa, ec, ed25519 and mldsa, got 'dsa'"),
    ],
)
def test_other_kinds_are_refused(spec: KeySpec, rule: str) -> None:
    """A kind that is not made here is refused with those that are."""
    with pytest.raises(Invalid, match=rule) as caught:
        generate_private_key(spec)
    assert caught.value.field == "key"


def test_an_unknown_kind_is_none() -> None:
    """A key of another kind has no KeySpec."""
    assert key_spec(ec.generate_private_key(ec.SECP256K1()).public_key()) is None
    assert key_spec("no key") is None
