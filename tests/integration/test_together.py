"""Several processes over one data folder: workers of one service, and services that start at the same moment."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
from cryptography import x509

from tests.running import CERTIFICATES, RunningService, make_csr

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


def test_services_racing_on_an_empty_folder_are_one_ca(tmp_path: Path) -> None:
    """Two services started at once on one empty folder: both serve, with one CA, one token and one list."""
    with ExitStack() as stack:
        services = [RunningService(tmp_path), RunningService(tmp_path)]
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(stack.enter_context, services))
        clients = [stack.enter_context(service.client()) for service in services]
        bundles = [client.get("/ca.pem").content for client in clients]
        assert bundles[0] == bundles[1]
        assert bundles[0].count(b"-----BEGIN CERTIFICATE-----") == 2
        serial = _issue(clients[0], make_csr(tmp_path))
        assert clients[1].get(f"{CERTIFICATES}/{serial}").status_code == 200
        assert [client.get("/readyz").status_code for client in clients] == [200, 200]
        authorities = clients[0].get(CERTIFICATES, params={"key_type": "CA"}).json()["items"]
        assert len(authorities) == 2
        assert [service.stop() for service in services] == [0, 0]
