"""Publishing CRLs, over a real database."""

from __future__ import annotations

import asyncio
import gzip
import sqlite3
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import select
from sqlalchemy.orm import Session

import app.services.crls as crls_module
from app.services.issuance import Issued
from app.services.publication import CRL, LARGE, PublicFile, crl_pem
from tests.unit.app.conftest import OpenCA
from tests.unit.ca_factory.authorities import NOW, make_root
from tiny_ca.ca_factory.crl import build_crl, encoded_entries
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import CRLEntry, RevokedText
from tiny_ca.db.models import CRLRecord
from tiny_ca.db.queries.revocations import revoke, unhold
from tiny_ca.exc import NotFound, RegistryUnavailable

pytestmark = pytest.mark.anyio


async def _issue(ca: OpenCA, count: int = 1) -> list[int]:
    pipeline = ca.pipeline()
    pipeline.start()
    issued: list[Issued] = await asyncio.gather(*(pipeline.submit(ca.order()) for _ in range(count)))
    await pipeline.close()
    return [one.certificate.serial_number for one in issued]


async def _revoke(ca: OpenCA, serial: int) -> None:
    await ca.db.write(revoke, serial, x509.ReasonFlags.key_compromise, now=ca.clock())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were read for CRLs, each time that some were."""
    numbers: list[int] = []
    pack = crls_module._pack

    def counting(rows: Sequence[RevokedText]) -> crls_module._Entries:
        numbers.append(len(rows))
        return pack(rows)

    monkeypatch.setattr(crls_module, "_pack", counting)
    return numbers


def _listed(der: bytes) -> set[int]:
    return {entry.serial_number for entry in x509.load_der_x509_crl(der)}


async def test_a_revocation_is_in_the_crl_that_publish_made(ca: OpenCA) -> None:
    """Once ``publish`` returns, the CRL that is served holds what was committed before the call."""
    (serial,) = await _issue(ca)
    crls = ca.publisher()
    await crls.load()
    assert _listed((await crls.current(ca.issuers.default.id)).der.content) == set()
    await _revoke(ca, serial)
    await crls.publish(ca.issuers.default.id)
    assert _listed((await crls.current(ca.issuers.default.id)).der.content) == {serial}


async def test_revocations_at_once_share_crls(ca: OpenCA) -> None:
    """Thirty revocations at the same time need few CRLs, each answer's CRL holds its own, and numbers only grow."""
    serials = await _issue(ca, 30)
    crls = ca.publisher()
    await crls.load()
    issuer = ca.issuers.default.id
    before = (await crls.current(issuer)).number
    seen: list[tuple[int, bool]] = []

    async def act(serial: int) -> None:
        await _revoke(ca, serial)
        await crls.publish(issuer)
        current = await crls.current(issuer)
        seen.append((current.number, serial in _listed(current.der.content)))

    await asyncio.gather(*map(act, serials))
    assert all(held for _, held in seen)
    assert [number for number, _ in seen] == sorted(number for number, _ in seen)
    assert (await crls.current(issuer)).number - before < 30


async def test_a_revocation_whose_process_died_gets_its_crl(ca: OpenCA) -> None:
    """``refresh`` makes a CRL for a revocation that was committed and never published."""
    (serial,) = await _issue(ca)
    crls = ca.publisher()
    await crls.load()
    ca.clock.forward(timedelta(seconds=5))
    await _revoke(ca, serial)
    assert await crls.refresh() == 1
    assert _listed((await crls.current(ca.issuers.default.id)).der.content) == {serial}
    ca.clock.forward(timedelta(seconds=5))
    assert await crls.refresh() == 0


async def test_a_crl_is_renewed_at_a_third_of_its_life(ca: OpenCA) -> None:
    """Eight of twenty-four hours on, ``refresh`` makes new ones; before, it does nothing."""
    crls = ca.publisher()
    await crls.load()
    ca.clock.forward(timedelta(hours=7, minutes=59))
    assert await crls.refresh() == 0
    ca.clock.forward(timedelta(minutes=2))
    assert await crls.refresh() == len(ca.issuers.signing)


async def test_an_expired_crl_is_replaced_when_asked_for(ca: OpenCA) -> None:
    """A CRL past its nextUpdate is never served when a new one can be made."""
    crls = ca.publisher()
    await crls.load()
    ca.clock.forward(timedelta(hours=25))
    assert (await crls.current(ca.issuers.default.id)).next_update > ca.clock()


async def test_an_expired_crl_is_not_served_when_none_can_be_made(ca: OpenCA, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the database gone, a current CRL is served from memory and an expired one is refused."""
    crls = ca.publisher(shared=True)
    await crls.load()

    async def gone(*_args: object, **_kwargs: object) -> None:
        raise RegistryUnavailable("no connection")

    monkeypatch.setattr(AsyncDBHandler, "write", gone)
    monkeypatch.setattr(AsyncDBHandler, "read", gone)
    assert (await crls.current(ca.issuers.default.id)).number == 1
    ca.clock.forward(timedelta(hours=25))
    with pytest.raises(RegistryUnavailable):
        await crls.current(ca.issuers.default.id)


async def test_another_process_sees_the_newest(ca: OpenCA) -> None:
    """A publisher that shares its database serves what another one published."""
    (serial,) = await _issue(ca)
    one, other = ca.publisher(shared=True), ca.publisher(shared=True)
    await one.load()
    await other.load()
    await _revoke(ca, serial)
    await one.publish(ca.issuers.default.id)
    assert _listed((await other.current(ca.issuers.default.id)).der.content) == {serial}


async def test_numbers_grow_across_restarts(ca: OpenCA) -> None:
    """A publisher that starts anew goes on above what was published, even after a CRL that was never finished."""
    first = ca.publisher()
    await first.load()
    number = (await first.current(ca.issuers.default.id)).number
    second = ca.publisher()
    await second.load()
    assert (await second.current(ca.issuers.default.id)).number == number
    await second.publish(ca.issuers.default.id)
    assert (await second.current(ca.issuers.default.id)).number > number


async def test_a_large_crl_is_continued(ca: OpenCA, monkeypatch: pytest.MonkeyPatch, read: list[int]) -> None:
    """It has all that it had, byte for byte, and what was revoked since; only that is read."""
    serials = await _issue(ca, 3)
    issuer = ca.issuers.default.id
    crls = ca.publisher()
    await crls.load()
    for serial in serials[:2]:
        await _revoke(ca, serial)
    await crls.publish(issuer)
    before = encoded_entries((await crls.current(issuer)).der.content).tobytes()
    monkeypatch.setattr(crls_module, "LARGE", 1)
    read.clear()
    await _revoke(ca, serials[2])
    await crls.publish(issuer)
    crl = (await crls.current(issuer)).der.content
    assert _listed(crl) == set(serials)
    assert encoded_entries(crl).tobytes().startswith(before)
    assert x509.load_der_x509_crl(crl).is_signature_valid(ca.issuers.default.signer.public_key)
    assert read == [1]


async def test_each_process_continues_what_it_knows(ca: OpenCA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Be it older than what another one made: what came since is more then."""
    monkeypatch.setattr(crls_module, "LARGE", 1)
    serials = await _issue(ca, 4)
    issuer = ca.issuers.default.id
    publishers = [ca.publisher(shared=True) for _ in range(2)]
    for publisher in publishers:
        await publisher.load()
    for number, serial in enumerate(serials):
        await _revoke(ca, serial)
        await publishers[number // 2].publish(issuer)
        served = (await ca.publisher(shared=True).current(issuer)).der.content
        assert _listed(served) == set(serials[: number + 1])


@pytest.mark.parametrize("why", ["an hour", "another process", "a lifted hold"])
async def test_a_large_crl_is_read_whole_again(
    ca: OpenCA, monkeypatch: pytest.MonkeyPatch, read: list[int], why: str
) -> None:
    """After an hour, in a process that never did, and after what is no revocation: what has expired leaves it then."""
    monkeypatch.setattr(crls_module, "LARGE", 1)
    issuer = ca.issuers.default.id
    serials = await _issue(ca, 3)
    crls = ca.publisher()
    await crls.load()
    await ca.db.write(revoke, serials[0], x509.ReasonFlags.certificate_hold, now=ca.clock())
    for serial in serials[1:]:
        await _revoke(ca, serial)
        await crls.publish(issuer)
    read.clear()
    if why == "an hour":
        ca.clock.forward(timedelta(minutes=59))
        await crls.publish(issuer)
        assert read == []
        ca.clock.forward(timedelta(minutes=1))
        await crls.publish(issuer)
    elif why == "another process":
        crls = ca.publisher()
        await crls.load()
        await crls.publish(issuer)
    else:
        await ca.db.write(unhold, serials[0], now=ca.clock())
        await crls.publish(issuer)
    left = serials[1:] if why == "a lifted hold" else serials
    assert _listed((await crls.current(issuer)).der.content) == set(left)
    assert sum(read) == len(left)
    await crls.publish(issuer)
    assert sum(read) == len(left)


async def test_a_crl_that_is_damaged_is_not_continued(
    ca: OpenCA, monkeypatch: pytest.MonkeyPatch, read: list[int]
) -> None:
    """The list is read instead, and the revocation is published."""
    monkeypatch.setattr(crls_module, "LARGE", 1)
    issuer = ca.issuers.default.id
    serials = await _issue(ca, 2)
    crls = ca.publisher()
    await crls.load()
    await _revoke(ca, serials[0])
    await crls.publish(issuer)
    known = await crls.current(issuer)
    crls._current[issuer] = replace(known, der=replace(known.der, content=b"\x30\x03\x02\x01\x01"))
    read.clear()
    await _revoke(ca, serials[1])
    await crls.publish(issuer)
    assert _listed((await crls.current(issuer)).der.content) == set(serials)
    assert read == [2]


def _copy(source: str, target: str) -> None:
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)


@pytest.mark.parametrize("lost", [1, 2])
async def test_a_database_that_fell_back(
    ca: OpenCA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lost: int
) -> None:
    """It lacks the last transactions: what it has counts, though memory has a higher number, or the same one."""
    monkeypatch.setattr(crls_module, "LARGE", 1)
    issuer = ca.issuers.default.id
    serials = await _issue(ca, 5)
    crls = ca.publisher(shared=True)
    await crls.load()
    database, standby = str(ca.db.engine.url.database), str(tmp_path / "standby.db")
    await _revoke(ca, serials[0])
    await crls.publish(issuer)
    await asyncio.to_thread(_copy, database, standby)
    for serial in serials[1 : 1 + lost]:
        await _revoke(ca, serial)
        await crls.publish(issuer)
    await asyncio.to_thread(_copy, standby, database)
    ca.clock.forward(timedelta(seconds=1))
    revoked = {serials[0]}
    for serial in reversed(serials[1:]):
        await _revoke(ca, serial)
        revoked.add(serial)
        await crls.publish(issuer)
        assert _listed((await crls.current(issuer)).der.content) == revoked


async def test_a_large_file_is_compressed_when_that_is_asked_for() -> None:
    """It takes as long as all the rest."""
    file = PublicFile.of(b"0" * LARGE, CRL, NOW)
    assert not isinstance(file.gzipped, bytes)
    compressed = await file.compressed()
    assert compressed is not None
    assert (len(compressed) < LARGE, gzip.decompress(compressed)) == (True, file.content)


async def test_an_unknown_issuer_is_not_found(ca: OpenCA) -> None:
    """Asking for the CRL of nobody is NotFound, not an empty CRL."""
    with pytest.raises(NotFound):
        await ca.publisher().current("0" * 16)


async def test_a_publisher_that_was_paused_brings_nothing_older(ca: OpenCA) -> None:
    """A CRL that was begun before a newer one, and is recorded after it, is served by nobody.

    It has the lower number, so the lease of the job that makes CRLs need not be looked at when they are recorded.
    """
    (serial,) = await _issue(ca)
    issuer = ca.issuers.default.id
    paused, other = ca.publisher(shared=True), ca.publisher(shared=True)
    await paused.load()
    begun, go_on, sign = threading.Event(), threading.Event(), crls_module._sign

    def late(*args: Any) -> CRLEntry:  # noqa: ANN401  # passed on as they are
        begun.set()
        assert go_on.wait(20)
        return sign(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crls_module, "_sign", late)
        publishing = asyncio.create_task(paused.publish(issuer))
        await asyncio.to_thread(begun.wait, 20)
    await _revoke(ca, serial)
    await other.publish(issuer)
    newer = await other.current(issuer)
    go_on.set()
    await publishing
    older = await ca.db.read(_numbers, issuer)
    assert newer.number == max(older)
    assert newer.number - 1 in older
    for publisher in (paused, other, ca.publisher(shared=True)):
        served = await publisher.current(issuer)
        assert (served.number, _listed(served.der.content)) == (newer.number, {serial})


async def test_each_process_learns_what_others_made(ca: OpenCA, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one in which nobody asks for CRLs, and no job makes them: metrics and readiness look at what it knows."""
    monkeypatch.setattr(crls_module, "_WATCH_SECONDS", 0.01)
    issuer = ca.issuers.default.id
    one, other = ca.publisher(shared=True), ca.publisher(shared=True)
    for publisher in (one, other):
        await publisher.load()
    other.watch()
    await one.publish(issuer)
    until = time.monotonic() + 20
    while other.peek(issuer) != one.peek(issuer):
        assert time.monotonic() < until
        await asyncio.sleep(0.01)
    await other.close()


def _numbers(session: Session, issuer_id: str) -> list[int]:
    return list(session.scalars(select(CRLRecord.number).where(CRLRecord.issuer_id == issuer_id)))


def test_pem_is_the_crypto_librarys() -> None:
    """It is put together here: for a large CRL theirs reads all of it first."""
    issuer = make_root()
    der = build_crl((), issuer=issuer, crl_number=1, this_update=NOW, next_update=NOW + timedelta(days=1))
    assert crl_pem(der) == x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)
