"""Keys made for callers."""

from __future__ import annotations

import asyncio

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from app.services.keymaker import KeyMaker
from tiny_ca.exc import Invalid, Unavailable
from tiny_ca.models.key_spec import KeySpec

pytestmark = pytest.mark.anyio


async def test_each_caller_gets_a_key_of_its_own() -> None:
    """Ten keys made at once are ten different keys."""
    maker = KeyMaker()
    keys = await asyncio.gather(*(maker.make(KeySpec.ec("P-384")) for _ in range(10)))
    assert all(isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp384r1" for key in keys)
    assert (
        len({key.public_key().public_numbers().x for key in keys if isinstance(key, ec.EllipticCurvePrivateKey)}) == 10
    )


async def test_too_many_waiting_are_turned_away() -> None:
    """Past the bound a caller is told when to come back, and the place is free again afterwards."""
    maker = KeyMaker(at_once=1, max_waiting=1)
    first = asyncio.create_task(maker.make(KeySpec.ec("P-256")))
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await maker.make(KeySpec.ec("P-256"))
    assert refused.value.retry_after == 5
    await first
    await maker.make(KeySpec.ec("P-256"))


async def test_a_kind_that_is_not_made_is_refused() -> None:
    """The thread's exception is the caller's."""
    with pytest.raises(Invalid, match="curves are P-256"):
        await KeyMaker().make(KeySpec.ec("P-192"))


async def test_a_caller_that_left_frees_its_place() -> None:
    """A cancelled caller's key is thrown away and the next one gets its own."""
    maker = KeyMaker(at_once=1, max_waiting=1)
    gone = asyncio.create_task(maker.make(KeySpec.ec("P-256")))
    await asyncio.sleep(0)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert isinstance(await maker.make(KeySpec.ed25519()), object)
