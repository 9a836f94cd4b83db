"""Several processes over one data folder: workers of one service, and services that start at the same moment."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import httpx
from cryptography import x509

from tests.running import CERTIFICATES, RunningService, make_csr, tiny_ca

_MOST_CONNECTIONS = 200


@contextmanager
def _each_worker(service: RunningService, serial: str) -> Iterator[dict[bool, httpx.Client]]:
    """A connection to each of two workers: the one that revoked a certificate (True), and the other (False)."""
    found: dict[bool, httpx.Client] = {}
    with ExitStack() as stack:
        for _ in range(_MOST_CONNECTIONS):
            client = stack.enter_context(service.client())
            counted = re.search(r"^tiny_ca_certificates_revoked_total", client.get("/metrics").text, re.MULTILINE)
            found.setdefault(counted is not None, client)
            if len(found) == 2:
                break
        assert set(found) == {True, False}, f"one worker never answered, nor revoked {serial}"
        yield found


def _is_revoked(client: httpx.Client, serial: str) -> bool:
    crl = x509.load_der_x509_crl(client.get("/crl.der").content)
    return crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None


def _issue(client: httpx.Client, csr: bytes) -> str:
    response = client.post(CERTIFICATES, content=csr, headers={"Accept": "application/json"})
    assert response.status_code == 201
    return str(response.json()["serial_number"])


def test_a_revocation_is_seen_by_both_workers(tmp_path: Path) -> None:
    """What one worker revoked is in the CRL of both, and in the status that both tell, whichever was asked."""
    csr = make_csr(tmp_path)
    with RunningService(tmp_path, "--workers", "2") as service:
        service.wait_until_ready()
        with service.client() as client:
            first = _issue(client, csr)
            assert client.post(f"{CERTIFICATES}/{first}/revoke").status_code == 200
        with _each_worker(service, first) as workers:
            assert {one: _is_revoked(client, first) for one, client in workers.items()} == {True: True, False: True}
            for one, client in workers.items():
                serial = _issue(client, csr)
                assert client.post(f"{CERTIFICATES}/{serial}/revoke").status_code == 200
                other = workers[not one]
                assert _is_revoked(other, serial)
                assert other.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "revoked"


def test_of_services_racing_on_an_empty_folder_one_serves(tmp_path: Path) -> None:
    """Of services started at once over one SQLite file, one serves; the others say so in one line and exit 2."""
    with RunningService(tmp_path) as service:
        with ThreadPoolExecutor(2) as pool:
            ends = list(pool.map(lambda _: tiny_ca(tmp_path, "serve", "--port", "0"), range(2)))
        for code, _, lines in ends:
            assert (code, len(lines)) == (2, 1)
            assert "another tiny-ca serves" in lines[0]
        with service.anonymous() as client:
            assert client.get("/readyz").status_code == 200


def test_a_ca_that_one_worker_revoked(tmp_path: Path) -> None:
    """Once the issuing CA is revoked no worker issues with it, and each refusal is audited."""
    with RunningService(tmp_path, "--workers", "2") as service, ExitStack() as stack:
        service.wait_until_ready()
        clients = [stack.enter_context(service.client()) for _ in range(16)]
        authorities = clients[0].get(CERTIFICATES, params={"key_type": "CA"}).json()["items"]
        (issuing,) = [one for one in authorities if one["profile"] == "intermediate"]
        assert clients[0].post(f"{CERTIFICATES}/{issuing['serial_number']}/revoke").status_code == 200
        csr = make_csr(tmp_path)
        assert [client.post(CERTIFICATES, content=csr).status_code for client in clients] == [409] * 16
        until = time.monotonic() + 5  # an answer is a second old at most
        while {client.get("/readyz").status_code for client in clients} != {503}:
            assert time.monotonic() < until
    with closing(sqlite3.connect(service.data / "tiny-ca.db")) as database:
        refused = database.execute("SELECT count(*) FROM audit WHERE outcome = 'refused' AND rule = 'conflict'")
        assert refused.fetchone() == (16,)


def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    """When the parent is killed its workers end, the port is free, and the service starts again on it."""
    with RunningService(tmp_path, "--workers", "2") as service:
        service.wait_until_ready()
        workers = service.workers()
        assert len(workers) == 2
        service.kill()
        port = service.url.rpartition(":")[2]
        with RunningService(tmp_path, "--workers", "2", "--port", port) as again:
            again.wait_until_ready()
            assert again.url == service.url
            assert not workers & again.workers()
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """A worker that is killed is started anew; the other one answers meanwhile."""
    with RunningService(tmp_path, "--workers", "2") as service:
        service.wait_until_ready()
        before = service.workers()
        os.kill(min(before), signal.SIGKILL)
        service.wait_for("worker.died")
        with service.anonymous() as client:
            assert client.get("/healthz").status_code == 200
        until = time.monotonic() + 20
        while len(service.workers()) < 2:
            assert time.monotonic() < until, service.log
        assert min(before) not in service.workers()
        assert service.stop() == 0
