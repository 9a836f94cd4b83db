"""The database in trouble while certificates are asked for: 503, nothing leaves, nothing is lost, and it passes."""

from __future__ import annotations

import resource
import sqlite3
from contextlib import closing
from pathlib import Path

import httpx

from tests.running import CERTIFICATES, RunningService, make_csr


def _recorded(service: RunningService) -> int:
    with closing(sqlite3.connect(f"file:{service.data / 'tiny-ca.db'}?mode=ro", uri=True)) as database:
        (count,) = database.execute("select count(*) from certificates").fetchone()
    return int(count)


def _assert_unavailable(answer: httpx.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) >= 1
    assert b"BEGIN CERTIFICATE" not in answer.content
    assert answer.json()["type"] == "urn:tiny-ca:error:unavailable"


def test_a_locked_database(tmp_path: Path) -> None:
    """While another process holds the write lock, issuing answers 503 and reading goes on; then all is well."""
    csr = make_csr(tmp_path)
    with RunningService(tmp_path) as service, service.client() as client:
        before = _recorded(service)
        with closing(sqlite3.connect(service.data / "tiny-ca.db", isolation_level=None)) as holder:
            holder.execute("begin immediate")
            _assert_unavailable(client.post(CERTIFICATES, content=csr))
            assert client.get(CERTIFICATES).status_code == 200
            assert client.get("/ca.pem").status_code == 200
            assert client.get("/crl.pem").status_code == 200
            holder.execute("rollback")
        assert _recorded(service) == before
        assert client.post(CERTIFICATES, content=csr).status_code == 201
        assert _recorded(service) == before + 1


def test_a_full_disk(tmp_path: Path) -> None:
    """When the disk takes no more, issuing answers 503; with room again, certificates come, and none was lost."""
    csr = make_csr(tmp_path)
    with RunningService(tmp_path) as service, service.client() as client:
        issued = 0
        # The kernel refuses to let this process's files grow: what a full disk looks like from inside.
        size = max(file.stat().st_size for file in service.data.iterdir())
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (size + 65536, resource.RLIM_INFINITY))
        answer = client.post(CERTIFICATES, content=csr)
        while answer.status_code == 201:
            issued += 1
            assert issued < 1000
            answer = client.post(CERTIFICATES, content=csr)
        _assert_unavailable(answer)
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert client.post(CERTIFICATES, content=csr).status_code == 201
        assert _recorded(service) == 2 + issued + 1
    assert service.process.returncode == 0
