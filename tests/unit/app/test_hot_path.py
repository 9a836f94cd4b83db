"""What a batch of certificates costs, counted: statements, commits, hops to threads, calls. None may grow unseen."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from sqlalchemy import Engine, event

from app.api.views import _names as names_of
from app.api.views import certificate_view
from app.auth.caller import Caller
from app.main import open_ca
from app.services import issuance
from app.services.idempotency import Idempotency
from app.services.issuance import IssuanceOrder, IssuancePipeline, Issued
from app.settings import Settings
from tests.strategies import alternative_names, subjects
from tests.unit.app.conftest import ADMIN, Clock, OpenCA
from tests.unit.ca_factory.authorities import NOW, P256, ask, make_root, private_key
from tiny_ca.ca_factory.csr import parse_csr
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.const import CertType
from tiny_ca.db.entries import CertificateEntry, IdempotencyClaim
from tiny_ca.exc import Forbidden, Invalid

pytestmark = pytest.mark.anyio


@pytest.fixture
async def any_ca(tmp_path: Path, db_url: str) -> AsyncIterator[OpenCA]:
    """A CA that was just made, over each database in turn."""
    db, issuers = await open_ca(Settings(data_dir=tmp_path / "data", database_url=db_url))
    yield OpenCA(db, issuers, Clock())
    await db.aclose()


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """How often each kind of statement is executed, and each kind of hop made, by anybody while the block runs."""
    seen: Counter[str] = Counter()

    def statement(_connection: object, _cursor: object, sql: str, *_: object) -> None:
        seen[sql.split(maxsplit=3)[2] if sql.startswith("INSERT INTO") else sql.split(maxsplit=1)[0]] += 1

    def commit(_connection: object) -> None:
        seen["COMMIT"] += 1

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", statement)
        event.remove(Engine, "commit", commit)


@contextmanager
def calls() -> Iterator[Counter[str]]:
    """How often this thread calls a function of Python's (``call``) and another (``c_call``) while the block runs."""
    seen: Counter[str] = Counter()

    def noted(_frame: object, event: str, _argument: object) -> None:
        seen[event] += 1

    sys.setprofile(noted)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def _order(issuer: Issuer, name: str) -> IssuanceOrder:
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(private_key(P256, "leaf"), SHA256())
        .public_bytes(Encoding.PEM)
    )
    return IssuanceOrder(
        read=lambda: CertificateRequest.from_csr(parse_csr(csr)),
        profile=BUILT_IN_PROFILES["server"],
        issuer=issuer,
        caller=Caller(ADMIN, "r-1"),
    )


@contextmanager
def hops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What is handed to threads while the block runs."""
    handed: list[object] = []
    loop = asyncio.get_running_loop()
    run = loop.run_in_executor

    def noted(executor: Any, function: Callable[..., Any], *args: Any) -> Any:  # noqa: ANN401  # as asyncio has it
        handed.append(function)
        return run(executor, function, *args)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "run_in_executor", noted)
        yield handed


async def _issue(pipeline: IssuancePipeline, orders: list[IssuanceOrder]) -> list[Issued]:
    waiting = [asyncio.create_task(pipeline.submit(order)) for order in orders]
    await asyncio.sleep(0)  # all of them are in the queue before the first is looked at
    return await asyncio.gather(*waiting)


@pytest.mark.parametrize("certificates", [1, 50])
async def test_statements_of_a_batch(any_ca: OpenCA, certificates: int) -> None:
    """One look at what stands in the way, one insert for each table and one commit, whatever the size of the batch."""
    pipeline = any_ca.pipeline()
    pipeline.start()
    orders = [any_ca.order(f"{number}.example.org") for number in range(certificates)]
    with counted() as seen:
        await _issue(pipeline, orders)
    await pipeline.close()

    begin = {"BEGIN": 1} if any_ca.db.engine.dialect.name == "sqlite" else {}  # asyncpg begins by itself
    tables = {"certificates": 1, "certificate_names": 1, "audit": 1}
    assert dict(seen) == begin | {"SELECT": 1} | tables | {"COMMIT": 1}


async def test_those_who_arrive_one_after_the_other_share_a_batch(ca: OpenCA) -> None:
    """Requests that the event loop reads in turns, none far behind the last, are one commit: nobody begins without."""
    pipeline = ca.pipeline()
    pipeline.start()
    orders = [ca.order(f"{number}.example.org") for number in range(20)]
    with counted() as seen:
        waiting = []
        for order in orders:
            waiting.append(asyncio.create_task(pipeline.submit(order)))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)
    await pipeline.close()
    assert seen["COMMIT"] == 1


@pytest.mark.parametrize("certificates", [1, 50])
async def test_hops_of_a_batch(ca: OpenCA, certificates: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """To one thread, which signs all of them and records all of them."""
    pipeline = ca.pipeline()
    pipeline.start()
    with hops(monkeypatch) as handed:
        await _issue(pipeline, [ca.order(f"{number}.example.org") for number in range(certificates)])
    await pipeline.close()
    assert len(handed) == 1


# Of Python 3.11, where they are 552 and 317, and 539 and 315; later ones make some of them part of their callers. A
# cache that is full just then costs some more.
@pytest.mark.parametrize("certificates,python,native", [(1, 600, 340), (50, 545, 320)])
def test_calls_for_each_certificate(certificates: int, python: int, native: int) -> None:
    """From CSR to record, of the second batch on: a budget of calls, the same on each machine."""
    issuer = make_root()
    first, second = (
        [_order(issuer, f"{secrets.token_hex(8)}.example.org") for _ in range(certificates)] for _ in range(2)
    )
    issuance._make_all(first, NOW, frozenset())
    with calls() as seen:
        made = issuance._make_all(second, NOW, frozenset())
    assert all(isinstance(one, Issued) for one in made)
    assert seen["call"] <= python * certificates
    assert seen["c_call"] <= native * certificates


async def test_idempotency_keys_are_looked_up_together(any_ca: OpenCA) -> None:
    """A batch of a thousand parts asks for their keys in a few statements, not in a thousand."""
    idempotency = Idempotency(any_ca.db, any_ca.clock)
    caller = any_ca.order().caller
    callers = [
        replace(caller, claim=IdempotencyClaim(actor="admin", key=f"k {number}", request_sha256="0" * 64))
        for number in range(1000)
    ]
    with counted() as seen:
        assert await asyncio.gather(*map(idempotency.earlier, callers)) == [None] * 1000
    assert seen["SELECT"] == 2


@settings(deadline=None)
@given(names=alternative_names(), subject=subjects().filter(bool))
def test_a_record_is_what_its_certificate_says(names: AlternativeNames, subject: tuple[Any, ...]) -> None:
    """What is put on record and answered from the plan is what would be read from the certificate."""
    order = IssuanceOrder(
        read=lambda: ask(subject=subject, names=names),
        profile=BUILT_IN_PROFILES["client"],
        issuer=make_root(),
        caller=Caller(ADMIN, "r-1"),
    )
    (made,) = issuance._make_all([order], NOW, frozenset())
    assert not isinstance(made, issuance._Repeated)
    if not isinstance(made, Issued):  # a common name that looks like a host and is none, or more names than may be
        assert isinstance(made.error, Forbidden | Invalid)
        return
    assert made.entry == CertificateEntry.of(
        made.certificate,
        key_type=CertType(made.entry.key_type),
        created_at=NOW,
        issuer_id=order.issuer.id,
        profile=order.profile.name,
        requester="admin",
    )
    read = {**certificate_view(made.entry, made.certificate, NOW), "san": names_of(made.certificate)}
    assert certificate_view(made.entry, made.certificate, NOW, made.plan) == read
