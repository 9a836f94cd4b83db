"""The disk full or read-only, the database locked: refused with 503, nothing half done, and well again afterwards."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from tests.api.answers import problem
from tests.running import CERTIFICATES, RunningService, make_csr, tiny_ca

_DER = {"Accept": "application/pkix-cert"}
_CLIENTS = 8
_SIZE = "4m"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of its own of 4 MiB, where we may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = os.geteuid() == 0 and not subprocess.call(
        ["mount", "-t", "tmpfs", "-o", f"size={_SIZE}", "tmpfs", folder], stderr=subprocess.DEVNULL
    )
    yield folder
    if mounted:
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def _full(service: RunningService) -> Iterator[None]:
    """Fill the file system of the data folder; where that is not a small one of ours, keep files from growing."""
    if service.folder.is_mount():
        filler = service.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        yield
        filler.unlink()
        return
    size = max(file.stat().st_size for file in service.data.iterdir())
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size + 65536, resource.RLIM_INFINITY))
    yield
    resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, unlimited)


def _recorded(service: RunningService) -> set[int]:
    with closing(sqlite3.connect(f"file:{service.data / 'tiny-ca.db'}?mode=ro", uri=True)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        return {int(serial) for (serial,) in database.execute("select serial_number from certificates")}


def _issue_until_refused(service: RunningService, csr: bytes) -> list[int]:
    """One client: certificates, one after the other, until there are none; the serial numbers it got."""
    got: list[int] = []
    with service.client() as client:
        while True:
            response = client.post(CERTIFICATES, content=csr, headers=_DER)
            if response.status_code != 201:
                problem(response, 503)
                return got
            got.append(x509.load_der_x509_certificate(response.content).serial_number)
            assert len(got) < 5000


@pytest.mark.timeout(180)
def test_a_full_disk_under_load(small_disk: Path) -> None:
    """Eight clients run into the full disk: each is told 503, what each got is on record, and room again is enough."""
    csr = make_csr(small_disk)
    with RunningService(small_disk) as service, service.client() as client:
        before = _recorded(service)
        with _full(service), ThreadPoolExecutor(_CLIENTS) as pool:
            got = list(pool.map(lambda _: _issue_until_refused(service, csr), range(_CLIENTS)))
            assert client.get("/healthz").status_code == 200
            assert client.get("/ca.pem").status_code == 200
            assert client.get(CERTIFICATES, params={"limit": 1}).status_code == 200
        serials = [serial for one in got for serial in one]
        assert len(set(serials)) == len(serials)
        assert _recorded(service) == before | set(serials)
        response = client.post(CERTIFICATES, content=csr, headers=_DER)
        assert response.status_code == 201
        after = x509.load_der_x509_certificate(response.content).serial_number
        assert _recorded(service) == before | {*serials, after}
        assert service.stop() == 0


def test_a_disk_that_is_read_only(small_disk: Path) -> None:
    """The service does not start on a disk that it cannot write to, and says so in one line; then it starts again."""
    if not small_disk.is_mount():
        pytest.skip("only root may make a disk read-only, and root writes to every folder")
    csr = make_csr(small_disk)
    with RunningService(small_disk) as service, service.client() as client:
        assert client.post(CERTIFICATES, content=csr).status_code == 201
    before = _recorded(service)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, _, lines = tiny_ca(small_disk, "serve")
    assert (code, len(lines)) == (2, 1)
    assert "TINY_CA_DATA_DIR" in lines[0]
    assert "Read-only file system" in lines[0]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    with RunningService(small_disk) as service, service.client() as client:
        assert client.post(CERTIFICATES, content=csr).status_code == 201
        assert len(_recorded(service)) == len(before) + 1


def test_a_revocation_while_the_database_is_locked(tmp_path: Path) -> None:
    """While nobody can write, revoking and every kind of issuing are 503; afterwards nothing of it has happened."""
    csr = make_csr(tmp_path)
    with RunningService(tmp_path) as service, service.client() as client:
        serial = client.post(CERTIFICATES, content=csr, headers={"Accept": "application/json"}).json()["serial_number"]
        before, crl = _recorded(service), client.get("/crl.der").content
        requests = [
            client.build_request("POST", CERTIFICATES, content=csr),
            client.build_request("POST", CERTIFICATES, json={"common_name": "app.example.org"}),
            client.build_request("POST", f"{CERTIFICATES}/{serial}/revoke", json={"reason": "keyCompromise"}),
            # A refusal without its audit row would be none.
            client.build_request("POST", CERTIFICATES, content=csr, params={"lifetime": "399d"}),
        ]
        with closing(sqlite3.connect(service.data / "tiny-ca.db", isolation_level=None)) as holder:
            holder.execute("begin immediate")
            with ThreadPoolExecutor(len(requests)) as pool:
                answers = list(pool.map(client.send, requests))
            holder.execute("rollback")
        for answer in answers:
            problem(answer, 503)
            assert b"-----BEGIN" not in answer.content
        assert client.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "valid"
        assert _recorded(service) == before
        assert client.get("/crl.der").content == crl
        assert _answers_after(client, csr, serial) == [201, 200]


def _answers_after(client: httpx.Client, csr: bytes, serial: str) -> list[int]:
    issued = client.post(CERTIFICATES, content=csr)
    revoked = client.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "keyCompromise"})
    return [issued.status_code, revoked.status_code]
