"""PostgreSQL gone, hanging, locked, or cut off: 503 in time, what is public goes on, and no restart is needed."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import httpx
import pytest
from cryptography import x509

from app.main import create_app
from app.settings import Settings
from tests.api.answers import problem
from tests.api.asking import csr, fresh_name
from tests.database_proxy import LosingProxy
from tests.postgres import PostgresServer, administer, new_database
from tests.running import CERTIFICATES, RunningService

JSON = {"Accept": "application/json"}
# What a request may wait for the database, and then some: this machine has other things to do.
_LIMIT = 10 + 3
# What is in memory asks the database for three seconds at most, readiness for one.
_SOON = 3 + 2


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """Give a server that may be stopped: nobody else's."""
    with PostgresServer() as server:
        yield server


@contextmanager
def _service(folder: Path, database_url: str) -> Iterator[tuple[RunningService, httpx.Client]]:
    with (
        RunningService(folder, environment={"TINY_CA_DATABASE_URL": database_url}) as service,
        service.client() as client,
    ):
        yield service, client


@pytest.fixture
def database(server: PostgresServer) -> Iterator[str]:
    """Give an empty database of that server."""
    with new_database(server.url) as url:
        yield url


def _query(database: str, statement: str, *values: object) -> list[Any]:
    async def ask() -> list[Any]:
        connection = await asyncpg.connect(database)
        try:
            return list(await connection.fetch(statement, *values))
        finally:
            await connection.close()

    return asyncio.run(ask())


def _within(seconds: float, ask: Callable[[], httpx.Response]) -> httpx.Response:
    began = time.monotonic()
    response = ask()
    assert time.monotonic() - began < seconds
    return response


def _until_ready(client: httpx.Client) -> None:
    until = time.monotonic() + 20
    while (answer := client.get("/readyz")).status_code != 200:
        assert time.monotonic() < until, answer.text


def _assert_public_goes_on(client: httpx.Client) -> None:
    assert _within(_SOON, lambda: client.get("/healthz")).status_code == 200
    assert _within(_SOON, lambda: client.get("/ca.pem")).status_code == 200
    assert _within(_SOON, lambda: client.get("/crl.pem")).status_code == 200
    assert _within(_SOON, lambda: client.get("/crl.pem")).status_code == 200


def _assert_refused(response: httpx.Response) -> None:
    problem(response, 503)
    assert int(response.headers["retry-after"]) >= 1


def test_a_database_that_is_gone(tmp_path: Path, server: PostgresServer, database: str) -> None:
    """Without its database the service issues nothing and says so at once; with it, it issues again."""
    with _service(tmp_path, database) as (_, client):
        assert client.post(CERTIFICATES, content=csr()).status_code == 201
        with server.gone():
            ready = _within(3, lambda: client.get("/readyz"))
            assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "failed: RegistryUnavailable")
            _assert_refused(_within(_LIMIT, lambda: client.post(CERTIFICATES, content=csr())))
            _assert_public_goes_on(client)
        _until_ready(client)
        assert client.post(CERTIFICATES, content=csr()).status_code == 201


def test_a_worker_that_dies_while_the_database_is_gone(tmp_path: Path, server: PostgresServer, database: str) -> None:
    """No other can start in its place until the database is back; its sibling goes on with what is public."""
    with RunningService(tmp_path, "--workers", "2", environment={"TINY_CA_DATABASE_URL": database}) as service:
        service.wait_until_ready()
        until = time.monotonic() + 30
        while service.log.count("service.started") < 2:  # ready is the first of them
            assert time.monotonic() < until, service.log
            time.sleep(0.1)
        before = service.workers()
        with server.gone():
            os.kill(min(before), signal.SIGKILL)
            service.wait_for("worker.cannot_start")
            with service.client() as client:
                assert _within(_SOON, lambda: client.get("/ca.pem")).status_code == 200
        until = time.monotonic() + 30
        while len(service.workers()) < 2 or service.log.count("service.started") < 3:
            assert time.monotonic() < until, service.log
            time.sleep(0.1)
        with service.client() as client:
            _until_ready(client)
            assert client.post(CERTIFICATES, content=csr()).status_code == 201
        assert service.stop() == 0


def test_a_database_that_hangs(tmp_path: Path, server: PostgresServer, database: str) -> None:
    """While the database says nothing, every request is answered in time, and the event loop stays free."""
    with _service(tmp_path, database) as (_, client), ThreadPoolExecutor() as pool:
        assert client.post(CERTIFICATES, content=csr()).status_code == 201
        with server.hanging():
            acts = [pool.submit(_within, _LIMIT, lambda: client.post(CERTIFICATES, content=csr())) for _ in range(4)]
            lists = [pool.submit(_within, _LIMIT, lambda: client.get(CERTIFICATES)) for _ in range(20)]
            ready = _within(3, lambda: client.get("/readyz"))
            assert (ready.status_code, ready.json()["checks"]["database"]) == (503, "no answer within a second")
            _assert_public_goes_on(client)
            for asked in (*acts, *lists):
                _assert_refused(asked.result())
        _until_ready(client)
        assert client.post(CERTIFICATES, content=csr()).status_code == 201


def test_a_table_that_is_locked(tmp_path: Path, database: str) -> None:
    """While another session holds the table, issuing is 503 in time and reading goes on; then it issues again."""

    async def hold(client: httpx.AsyncClient) -> httpx.Response:
        connection = await asyncpg.connect(database)
        async with connection.transaction():
            await connection.execute("LOCK TABLE certificates IN SHARE MODE")
            asked = asyncio.create_task(client.post(CERTIFICATES, content=csr()))
            await asyncio.sleep(0)
            assert (await client.get(CERTIFICATES)).status_code == 200
            response = await asked
        await connection.close()
        return response

    async def run(service: RunningService) -> httpx.Response:
        headers = {"Authorization": f"Bearer {service.token}"}
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=_LIMIT) as client:
            return await hold(client)

    with _service(tmp_path, database) as (service, client):
        before = _certificates(database)
        _assert_refused(asyncio.run(run(service)))
        assert client.post(CERTIFICATES, content=csr()).status_code == 201
        assert _certificates(database) == before + 1


def test_a_crl_that_ends_while_the_database_is_gone(tmp_path: Path, server: PostgresServer, database: str) -> None:
    """Until its end a CRL is served from memory, after that there is none; a new one comes with the database."""
    ahead = timedelta()

    async def run() -> None:
        nonlocal ahead
        app = create_app(Settings(data_dir=tmp_path, database_url=database), clock=lambda: datetime.now(UTC) + ahead)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://ca") as client,
        ):
            old = x509.load_der_x509_crl((await client.get("/crl.der")).content)
            with server.gone():
                ahead = timedelta(hours=23)
                assert (await client.get("/crl.der")).status_code == 200
                ahead = timedelta(hours=25)
                problem(await client.get("/crl.der"), 503)
                assert (await client.get("/ca.pem")).status_code == 200
            new = x509.load_der_x509_crl((await client.get("/crl.der")).content)
            assert old.next_update_utc is not None
            assert old.next_update_utc < datetime.now(UTC) + ahead < (new.next_update_utc or old.last_update_utc)

    asyncio.run(run())


def test_the_answer_to_a_commit_is_lost(tmp_path: Path, database: str) -> None:
    """Done, but nobody heard of it: 503, and the same request with its key gets the very certificate that was made."""
    name, key = fresh_name(), "the-answer-to-this-one-is-lost"
    headers = {**JSON, "Idempotency-Key": key}
    with LosingProxy(database) as proxy, _service(tmp_path, proxy.url) as (_, client):
        proxy.lose = key.encode()
        body = csr(name)
        _assert_refused(client.post(CERTIFICATES, content=body, headers=headers))
        assert proxy.lost.is_set()
        (row,) = _query(
            database, "SELECT serial_number, certificate_pem FROM certificates WHERE common_name = $1", name
        )
        again = client.post(CERTIFICATES, content=body, headers=headers)
        assert again.status_code == 201
        assert (again.json()["certificate"].strip(), int(again.json()["serial_number"], 16)) == (
            row["certificate_pem"].strip(),
            int(row["serial_number"]),
        )
        assert len(_query(database, "SELECT 1 FROM certificates WHERE common_name = $1", name)) == 1


_FAILS_TWICE = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail_twice() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- What a sequence gave out is not taken back with the transaction.
    IF nextval('tries') <= 2 THEN RAISE EXCEPTION 'in the way' USING ERRCODE = '{code}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail_twice BEFORE INSERT OR UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION fail_twice();
"""


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_what_was_in_another_transactions_way(tmp_path: Path, database: str, code: str) -> None:
    """A serialization failure and a deadlock, twice each, are nobody's failure: issuing, revoking, CRL, tokens."""
    with _service(tmp_path, database) as (_, client):
        issued = client.post(CERTIFICATES, content=csr(), headers=JSON).json()["serial_number"]
        before = _certificates(database)
        acts: list[tuple[str, str, dict[str, Any]]] = [
            ("certificates", CERTIFICATES, {"content": csr()}),
            ("certificates", f"{CERTIFICATES}/{issued}/revoke", {"json": {"reason": "superseded"}}),
            ("crls", f"{CERTIFICATES}/{issued}/revoke", {"json": {"reason": "superseded"}}),
            ("tokens", "/api/v1/tokens", {"json": {"name": "ci", "role": "issuer"}}),
        ]
        for table, path, body in acts:
            administer(database, _FAILS_TWICE.format(code=code, table=table))
            response = client.post(path, **body)
            assert response.status_code in {200, 201}, response.text
            assert _query(database, "SELECT last_value FROM tries")[0]["last_value"] >= 3
            administer(database, f"DROP TRIGGER fail_twice ON {table}; DROP FUNCTION fail_twice; DROP SEQUENCE tries")
        assert _certificates(database) == before + 1
        assert client.get(f"{CERTIFICATES}/{issued}/status").json()["status"] == "revoked"


def _certificates(database: str) -> int:
    return int(_query(database, "SELECT count(*) FROM certificates")[0]["count"])
