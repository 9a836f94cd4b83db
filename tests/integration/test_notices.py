"""Notices from a real service to a real receiver: signed as documented, told once, never lost."""

from __future__ import annotations

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.asking import csr
from tests.running import CERTIFICATES, RunningService, tiny_ca

_OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
_SECRET = "what receiver and service share, 32 or more"


def _documented_check() -> Callable[[str, bytes, bytes], bool]:
    found = re.search(r"<!-- signature -->\n\n```python\n(.*?)```", _OPERATIONS.read_text(), re.DOTALL)
    assert found, "docs/operations.md shows no check"
    names: dict[str, Any] = {}
    exec(found[1], names)  # noqa: S102  # our own documentation
    check: Callable[[str, bytes, bytes], bool] = names["is_genuine"]
    return check


class _Receiver(ThreadingHTTPServer):
    """Keeps what docs/operations.md calls genuine, and answers ``status``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 204
        self.asked, self.go_on = threading.Event(), threading.Event()
        self.go_on.set()
        self.notices: list[dict[str, object]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/hook"


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_genuine = _documented_check()
        genuine = is_genuine(self.headers["X-Tiny-CA-Signature"], body, _SECRET.encode())
        forged = is_genuine(self.headers["X-Tiny-CA-Signature"], body + b" ", _SECRET.encode())
        if genuine and not forged:
            self.server.notices.append(json.loads(body))
        self.server.asked.set()
        self.server.go_on.wait(30)
        self.send_response(self.server.status)
        self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[_Receiver]:
    """One that listens."""
    with _Receiver() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _configure(folder: Path, receiver: _Receiver, more: str = "allow_private_addresses = true\n") -> None:
    (folder / "secret").write_text(_SECRET + "\n")
    (folder / "tiny-ca.toml").write_text(f'[notices]\nurl = "{receiver.url}"\nsecret_file = "secret"\n{more}')


def _run(service: RunningService, job: str) -> None:
    with service.client() as client:
        assert client.post(f"/api/v1/jobs/{job}/run").json()["last_error"] is None


def _age(service: RunningService, *, left: timedelta) -> None:
    """Let the certificates have been issued long ago, in the database, which is all that the job reads."""
    ends = datetime.now(UTC).replace(tzinfo=None) + left
    with closing(sqlite3.connect(service.data / "tiny-ca.db")) as database:
        database.execute(
            "update certificates set not_valid_before = ?, not_valid_after = ? where profile = 'server'",
            ((ends - timedelta(days=90)).isoformat(" "), ends.isoformat(" ")),
        )
        # What was claimed is due again after half a minute, which no test waits for.
        database.execute("update notices set next_attempt_at = ? where next_attempt_at is not null", ("2020-01-01",))
        database.commit()


def test_a_notice_arrives_once_and_survives(tmp_path: Path, receiver: _Receiver) -> None:
    """While the receiver is down it waits in the database; after a restart it arrives, with the id it had, once."""
    _configure(tmp_path, receiver)
    service = RunningService(tmp_path, "--config-file", "tiny-ca.toml")
    with service, service.client() as client:
        as_json = {"Accept": "application/json"}
        serial = client.post(CERTIFICATES, content=csr(), headers=as_json).json()["serial_number"]
        _age(service, left=timedelta(days=5))
        receiver.status = 503
        _run(service, "find_expiring")
        _run(service, "send_notices")
        assert 'tiny_ca_notices_total{outcome="failure"} 1.0' in client.get("/metrics").text
        assert "tiny_ca_notices_waiting 1.0" in client.get("/metrics").text
        service.kill()
    receiver.status = 200
    with service, service.client() as client:
        _age(service, left=timedelta(days=5))
        for _ in range(2):
            _run(service, "find_expiring")
            _run(service, "send_notices")
        assert 'tiny_ca_notices_total{outcome="success"} 1.0' in client.get("/metrics").text
        assert "tiny_ca_notices_waiting 0.0" in client.get("/metrics").text
    assert [notice["id"] for notice in receiver.notices] == [f"{serial}.7d"] * 2
    assert receiver.notices[0] == receiver.notices[1]
    assert _SECRET not in service.log
    assert receiver.url not in service.log


def test_the_documented_settings_are_taken(tmp_path: Path) -> None:
    """The settings file that docs/operations.md shows starts the service."""
    found = re.search(r"```toml\n(.*?)```", _OPERATIONS.read_text(), re.DOTALL)
    assert found, "docs/operations.md shows no settings file"
    (tmp_path / "config.toml").write_text(found[1])
    (tmp_path / "webhook-secret").write_text(_SECRET)
    (tmp_path / "blocked-keys.txt").write_text("# none yet\n")
    with RunningService(tmp_path, "--config-file", "config.toml", "--behind-proxy") as service:
        assert service.stop() == 0


@pytest.mark.parametrize("status", [302, 307])
def test_a_receiver_that_redirects_to_loopback(tmp_path: Path, receiver: _Receiver, status: int) -> None:
    """It is asked once, is not followed, and the notice waits."""
    _configure(tmp_path, receiver)
    with RunningService(tmp_path, "--config-file", "tiny-ca.toml") as service, service.client() as client:
        assert client.post(CERTIFICATES, content=csr()).status_code == 201
        _age(service, left=timedelta(days=5))
        receiver.status = status
        _run(service, "find_expiring")
        _run(service, "send_notices")
        assert "redirects are not followed" in service.wait_for(r'\{[^\n]*"event": "notice.failed"[^\n]*\}')[0]
        assert client.get("/readyz").json()["ready"] is True
    assert len(receiver.notices) == 1


def test_a_receiver_that_hangs_holds_no_stop_up(tmp_path: Path, receiver: _Receiver) -> None:
    """The service ends in time while a notice is on its way; it is still there afterwards."""
    _configure(tmp_path, receiver)
    receiver.go_on.clear()
    with RunningService(tmp_path, "--config-file", "tiny-ca.toml") as service:
        with service.client() as client:
            assert client.post(CERTIFICATES, content=csr()).status_code == 201
            _age(service, left=timedelta(days=5))
            _run(service, "find_expiring")
            with pytest.raises(httpx.ReadTimeout):
                client.post("/api/v1/jobs/send_notices/run", timeout=0.5)
        assert receiver.asked.wait(10)
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 10
        receiver.go_on.set()
        with closing(sqlite3.connect(service.data / "tiny-ca.db")) as database:
            assert database.execute("select attempts, delivered_at from notices").fetchall() == [(1, None)]
    assert "Traceback" not in service.log


def test_a_private_address_is_refused_by_default(tmp_path: Path, receiver: _Receiver) -> None:
    """Without the setting, nothing is connected to on loopback; the notice waits."""
    url = f"https://localhost:{receiver.server_address[1]}/"
    (tmp_path / "tiny-ca.toml").write_text(f'[notices]\nurl = "{url}"\nsecret = "{_SECRET}"\n')
    with RunningService(tmp_path, "--config-file", "tiny-ca.toml") as service, service.client() as client:
        assert client.post(CERTIFICATES, content=csr()).status_code == 201
        _age(service, left=timedelta(days=5))
        _run(service, "find_expiring")
        _run(service, "send_notices")
        assert "which is private" in service.wait_for(r'\{[^\n]*"event": "notice.failed"[^\n]*\}')[0]
    assert receiver.notices == []
    assert _SECRET not in service.log


@pytest.mark.parametrize(
    "section,says",
    [
        ('url = "http://hook.example.org/"\nsecret = "S"', "notices: url: http: is not encrypted"),
        ('url = "ftp://hook.example.org/"\nsecret = "S"', "notices.url: it is no URL such as https://"),
        ('url = "https://user:pw@hook.example.org/"\nsecret = "S"', "notices.url: it is no URL"),
        ('url = "https://hook.example.org:99999/"\nsecret = "S"', "notices.url: it is no URL"),
        ('url = "https://hook.example.org/a b"\nsecret = "S"', "notices.url: it is no URL"),
        ('url = "https://hook.example.org/"\nsecret = "short"', "notices.secret: a secret has at least 32"),
        ('url = "https://hook.example.org/"', "notices: give secret or secret_file, one of them"),
        ('url = "https://hook.example.org/"\nsecret_file = "none"', "secret_file: none cannot be read: No such file"),
        ('url = "https://hook.example.org/"\nsecret = "S"\ndays = []', "notices.days: give 1 to 16 thresholds"),
        ('url = "https://hook.example.org/"\nsecret = "S"\ndays = [0]', "notices.days[0]: "),
        ('url = "https://hook.example.org/"\nsecret = "S"\nca_file = "none"', "notices: ca_file: none is no file"),
        ('url = "https://hook.example.org/"\nsecret = "S"\nhook = 1', "notices.hook: not known here"),
    ],
)
def test_wrong_settings_stop_the_start(tmp_path: Path, section: str, says: str) -> None:
    """Exit code 2 and one line that names the entry, and shows neither secret nor password."""
    with_secret = section.replace('secret = "S"', f'secret = "{_SECRET}"')
    (tmp_path / "tiny-ca.toml").write_text(f"[notices]\n{with_secret}\n")
    code, _, (line,) = tiny_ca(tmp_path, "serve", "--config-file", "tiny-ca.toml")
    assert code == 2
    assert says in line
    assert _SECRET not in line
    assert "user:pw" not in line
