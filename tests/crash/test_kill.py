"""A process that is killed at any moment: what a client holds, the database knows; and the service starts again."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from tests.running import CERTIFICATES, RunningService, make_csr

_ROUNDS = 20
_CLIENTS = 32
_HEAD_END = b"\r\n\r\n"


@pytest.fixture
def anyio_backend() -> str:
    """Plain asyncio streams."""
    return "asyncio"


async def _issue_until_it_dies(port: int, token: str, csr: bytes, received: list[bytes], first: asyncio.Event) -> None:
    """Ask for one certificate after the other on one connection; note each in the moment it has come whole."""
    request = (
        f"POST {CERTIFICATES}?profile=ci HTTP/1.1\r\nHost: ca\r\nAuthorization: Bearer {token}\r\n"
        f"Accept: application/pkix-cert\r\nContent-Length: {len(csr)}\r\n\r\n"
    ).encode() + csr
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            while True:
                writer.write(request)
                head = await reader.readuntil(_HEAD_END)
                assert head.startswith(b"HTTP/1.1 201 "), head
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                received.append(await reader.readexactly(int(length.partition(b":")[2])))
                first.set()
        finally:
            writer.close()


async def _load_and_kill(service: RunningService, csr: bytes, seconds: float) -> list[bytes]:
    received: list[bytes] = []
    port = int(service.url.rpartition(":")[2])
    first = asyncio.Event()
    work = [_issue_until_it_dies(port, service.token, csr, received, first) for _ in range(_CLIENTS)]
    clients = [asyncio.create_task(client) for client in work]
    # Under load means under load: the kill comes some time after the first answer, wherever the service is then.
    await first.wait()
    await asyncio.sleep(seconds)
    service.process.kill()
    await asyncio.gather(*clients)
    return received


def _unrecorded(database: Path, certificates: Iterable[bytes]) -> list[str]:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    with contextlib.closing(connection):
        known = {serial for (serial,) in connection.execute("select serial_number from certificates")}
    serials = (str(x509.load_der_x509_certificate(der).serial_number) for der in certificates)
    return [serial for serial in serials if serial not in known]


@pytest.mark.timeout(300)
def test_no_client_holds_a_certificate_that_is_not_on_record(tmp_path: Path) -> None:
    """Twenty times kill -9 under load of 32 clients: what came out is recorded, and each start is clean."""
    csr = make_csr(tmp_path)
    service = RunningService(tmp_path, environment={"TINY_CA_LOG_LEVEL": "warning"})
    everything: list[bytes] = []
    for number in range(_ROUNDS):
        service.start()
        everything += asyncio.run(_load_and_kill(service, csr, seconds=0.02 + 0.013 * number))
        service.kill()
    service.start()
    try:
        assert len(everything) >= _ROUNDS
        assert len(set(everything)) == len(everything)
        assert _unrecorded(service.data / "tiny-ca.db", everything) == []
        with service.client() as client:
            assert client.get("/readyz").json()["ready"] is True
            serial = x509.load_der_x509_certificate(everything[-1]).serial_number
            assert client.get(f"{CERTIFICATES}/{serial:x}").status_code == 200
    finally:
        assert service.stop() == 0
    assert "Traceback" not in service.log


def test_a_revocation_that_was_answered_survives(tmp_path: Path) -> None:
    """Killed right after the answer, the service still has the revocation, and the next CRL holds it."""
    csr = make_csr(tmp_path)
    service = RunningService(tmp_path)
    service.start()
    with service.client() as client:
        serial = client.post(CERTIFICATES, content=csr, headers={"Accept": "application/json"}).json()["serial_number"]
        before = x509.load_der_x509_crl(client.get("/crl.der").content)
        assert client.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "superseded"}).status_code == 200
    service.kill()
    service.start()
    try:
        with service.client() as client:
            crl = x509.load_der_x509_crl(client.get("/crl.der").content)
    finally:
        service.stop()
    assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
    assert _number(crl) > _number(before)


def test_a_kill_during_the_first_start_leaves_nothing_half_made(tmp_path: Path) -> None:
    """Killed at many moments of its first run, it starts clean the next time, with one root and one issuer."""
    for milliseconds in range(500, 1250, 150):
        folder = tmp_path / str(milliseconds)
        folder.mkdir()
        service = RunningService(folder)
        service.spawn()
        time.sleep(milliseconds / 1000)  # not for luck: wherever it is then, it must not matter
        service.kill()
        service.start()
        try:
            with service.client() as client:
                assert client.get("/readyz").json()["ready"] is True
                items = client.get(CERTIFICATES, params={"key_type": "CA"}).json()["items"]
                assert len(items) == 2
        finally:
            service.stop()


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_an_onlooker_costs_no_certificate(tmp_path: Path) -> None:
    """Another process opens and closes the database while it is served from; what is answered after that is durable.

    POSIX drops all locks of a process on a file when it closes any descriptor of it: a service that lost its locks so
    would have its WAL deleted by the onlooker, and go on writing into nothing.
    """
    csr = make_csr(tmp_path)
    service = RunningService(tmp_path)
    service.start()
    with ThreadPoolExecutor(20) as pool, service.client() as client:  # so many connections to the database
        list(pool.map(lambda _: client.post(CERTIFICATES, content=csr), range(20)))
        list(pool.map(lambda _: client.get(CERTIFICATES), range(20)))
    look = "import sqlite3; sqlite3.connect('data/tiny-ca.db').execute('select count(*) from certificates').fetchone()"
    subprocess.run([sys.executable, "-c", look], cwd=tmp_path, check=True, capture_output=True)
    assert (service.data / "tiny-ca.db-wal").exists()
    with service.client() as client:
        headers = {"Accept": "application/pkix-cert"}
        received = [client.post(CERTIFICATES, content=csr, headers=headers).content for _ in range(5)]
    service.kill()
    assert _unrecorded(service.data / "tiny-ca.db", received) == []
