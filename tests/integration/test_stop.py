"""Told to stop: what is in flight is answered, nothing new is taken, and the end comes within ten seconds."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography import x509

from tests.running import CERTIFICATES, RunningService, make_csr, openssl

_CLIENTS = 8


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    """A service that the test stops."""
    with RunningService(tmp_path) as running:
        yield running


def _connect(service: RunningService) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=20)


def _begun(service: RunningService, length: int, accept: str = "application/pkix-cert") -> socket.socket:
    """A request whose head was read and whose body is waited for: in flight, beyond doubt."""
    connection = _connect(service)
    head = (
        f"POST {CERTIFICATES} HTTP/1.1\r\nHost: ca\r\nAuthorization: Bearer {service.token}\r\n"
        f"Accept: {accept}\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
    )
    connection.sendall(head.encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    return connection


def _answer(connection: socket.socket) -> tuple[bytes, bytes]:
    """Status line and body of the one answer; the server closes after it."""
    received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], body


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_what_is_in_flight_is_answered(service: RunningService, how: signal.Signals) -> None:
    """Requests that had begun when the signal came get their certificates; the exit code is 0."""
    csr = make_csr(service.folder)
    with ExitStack() as stack:
        connections = [stack.enter_context(_begun(service, len(csr))) for _ in range(_CLIENTS)]
        service.process.send_signal(how)
        for connection in connections:
            connection.sendall(csr)
        answers = [_answer(connection) for connection in connections]
    assert [status for status, _ in answers] == [b"HTTP/1.1 201 Created"] * _CLIENTS
    assert len({x509.load_der_x509_certificate(body).serial_number for _, body in answers}) == _CLIENTS
    assert service.process.wait(10) == 0
    service.stop()  # reads the log to its end
    assert "Traceback" not in service.log


def test_idle_connections_hold_nothing_up(service: RunningService) -> None:
    """Connections that are kept alive, or never said a word, do not delay the end."""
    with ExitStack() as stack:
        client = stack.enter_context(service.client())
        assert client.get("/healthz").status_code == 200
        for _ in range(_CLIENTS):
            stack.enter_context(_connect(service))
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 5


def test_a_key_that_takes_long_holds_nothing_up(service: RunningService) -> None:
    """An RSA-8192 key in the making is given up in time: exit code 0 within ten seconds."""
    body = b'{"common_name": "app.example.org", "key": {"algorithm": "rsa", "size": 8192}}'
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(_begun(service, len(body), "application/json"))
            connection.sendall(body)
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 10


def test_workers_stop_too(tmp_path: Path) -> None:
    """With two workers, SIGTERM to the parent ends all of them with 0."""
    with RunningService(tmp_path, "--workers", "2") as service:
        service.wait_until_ready()
        began = time.monotonic()
        assert service.stop() == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in service.log


def test_who_waits_at_a_worker_is_told(tmp_path: Path) -> None:
    """A key that takes too long is given up by a worker as by a single process: 503 with Retry-After, and a problem."""
    body = b'{"common_name": "app.example.org", "key": {"algorithm": "rsa", "size": 8192}}'
    with RunningService(tmp_path, "--workers", "2") as service, ExitStack() as stack:
        service.wait_until_ready()
        connections = [stack.enter_context(_begun(service, len(body), "application/json")) for _ in range(6)]
        for connection in connections:
            connection.sendall(body)
        service.process.send_signal(signal.SIGTERM)
        answers = [_answer(connection) for connection in connections]
        assert service.process.wait(10) == 0
        service.stop()  # reads the log to its end
        assert {status for status, _ in answers} <= {b"HTTP/1.1 503 Service Unavailable", b"HTTP/1.1 201 Created"}
        refused = [json.loads(answer) for status, answer in answers if b" 503 " in status]
        assert refused
        assert {problem["type"] for problem in refused} == {"urn:tiny-ca:error:unavailable"}
        assert "Traceback" not in service.log


def test_openssl_takes_what_came_last(service: RunningService) -> None:
    """A certificate that was answered during the stop is as good as any other."""
    csr = make_csr(service.folder)
    with service.anonymous() as client:
        (service.folder / "ca.pem").write_bytes(client.get("/ca.pem").content)
    with _begun(service, len(csr)) as connection:
        service.process.send_signal(signal.SIGTERM)
        connection.sendall(csr)
        _, body = _answer(connection)
    assert service.process.wait(10) == 0
    service.stop()  # reads the log to its end
    (service.folder / "app.der").write_bytes(body)
    said = openssl("verify", "-x509_strict", "-CAfile", service.folder / "ca.pem", service.folder / "app.der")
    assert said == f"{service.folder}/app.der: OK\n"
