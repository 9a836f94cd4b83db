"""Where it listens, and what certificates say of it."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from tests.running import CERTIFICATES, RunningService, make_csr


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _pointers(certificate: x509.Certificate) -> list[str]:
    (access,) = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert point.full_name is not None
    return [access.access_location.value, point.full_name[0].value]


def test_behind_a_proxy(tmp_path: Path) -> None:
    """``--behind-proxy`` lets it listen beyond loopback, and certificates point to the proxy."""
    port = str(_free_port())
    public = ("--behind-proxy", "--public-url", "https://ca.example.org/")
    with RunningService(tmp_path, "--host", "0.0.0.0", "--port", port, *public) as service:  # noqa: S104
        headers = {"Authorization": f"Bearer {service.token}", "Accept": "application/pkix-cert"}
        url = f"http://127.0.0.1:{port}{CERTIFICATES}"
        response = httpx.post(url, content=make_csr(tmp_path), headers=headers, timeout=30)
        assert response.status_code == 201
        assert service.stop() == 0
    for pointer in _pointers(x509.load_der_x509_certificate(response.content)):
        assert pointer.startswith("https://ca.example.org/issuers/")


@pytest.mark.parametrize("host,shown", [("localhost", "localhost"), ("::1", "[::1]")])
def test_loopback(tmp_path: Path, host: str, shown: str) -> None:
    """Loopback by name or over IPv6 needs no TLS; what certificates point to can be fetched."""
    with RunningService(tmp_path, "--host", host) as service, service.client() as client:
        assert service.url.startswith(f"http://{shown}:")
        made = client.post(CERTIFICATES, content=make_csr(tmp_path), headers={"Accept": "application/pkix-cert"})
        for pointer in _pointers(x509.load_der_x509_certificate(made.content)):
            assert httpx.get(pointer, timeout=30).status_code == 200
