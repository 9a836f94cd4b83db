"""How often a caller may come, and whose address counts, over a socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.answers import problem
from tests.api.asking import csr
from tests.running import CERTIFICATES, RunningService, tiny_ca

# One a thousand seconds: no test waits so long, and none is slow enough to be given another.
_LIMITS = """
trusted_proxies = ["127.0.0.1"]
[rate_limits]
requests_per_second = 0.01
requests_burst = 30
failed_logins_per_minute = 0.06
failed_logins_burst = 3
"""
_PUBLIC = ("/ca.pem", "/crl.pem", "/roots.pem", "/healthz", "/openapi.json")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RunningService]:
    """A service behind a proxy that is the test, with tight limits."""
    (tmp_path / "tiny-ca.toml").write_text(_LIMITS)
    with RunningService(tmp_path, "--config-file", "tiny-ca.toml", "--behind-proxy") as running:
        yield running


def _try(service: RunningService, client: str, credential: str = "wrong") -> httpx.Response:
    with service.anonymous() as anybody:
        return anybody.get(CERTIFICATES, headers={"Authorization": f"Bearer {credential}", "X-Forwarded-For": client})


def test_a_principal_past_its_burst(service: RunningService) -> None:
    """429 with Retry-After and a problem document; another principal, and what is public, is served as before."""
    with service.client() as admin:
        wish = {"name": "ci", "permissions": ["certificates:read"]}
        other = admin.post("/api/v1/tokens", json=wish).json()["token"]
        codes = [admin.get("/api/v1/profiles").status_code for _ in range(29)]
        assert codes == [200] * 29
        refused = admin.get("/api/v1/profiles")
        said = problem(refused, 429)
        assert said["detail"].startswith("admin sends more requests than are taken")
        assert 1 <= int(refused.headers["retry-after"]) <= 100
        problem(admin.post(CERTIFICATES, content=csr()), 429)
        assert [admin.get(path).status_code for path in _PUBLIC] == [200] * len(_PUBLIC)
    with service.anonymous() as client:
        assert client.get(CERTIFICATES, headers={"Authorization": f"Bearer {other}"}).status_code == 200
        metrics = client.get("/metrics").text
    assert 'tiny_ca_rate_limited_total{limit="requests"} 2.0' in metrics


def test_failed_logins_of_an_address(service: RunningService) -> None:
    """The fourth wrong token from one address is 429, from another 401; who has a token is let in from everywhere."""
    for _ in range(3):
        problem(_try(service, "192.0.2.1"), 401)
    limited = _try(service, "192.0.2.1")
    assert "192.0.2.1" in problem(limited, 429)["detail"]
    assert 1 <= int(limited.headers["retry-after"]) <= 1000
    problem(_try(service, "192.0.2.2"), 401)
    assert _try(service, "192.0.2.1", service.token).status_code == 200
    with service.anonymous() as client:
        problem(client.get(CERTIFICATES, headers={"X-Forwarded-For": "192.0.2.1"}), 401)  # tries no token
        metrics = client.get("/metrics").text
    assert 'tiny_ca_rate_limited_total{limit="failed_logins"} 1.0' in metrics
    assert "192.0.2" not in metrics


def test_ipv6_addresses_of_one_host(service: RunningService) -> None:
    """Addresses in one /64 count together, those in the next do not."""
    codes = [_try(service, f"2001:db8::{number}").status_code for number in range(1, 6)]
    assert codes == [401, 401, 401, 429, 429]
    assert _try(service, "2001:db8:0:1::1").status_code == 401


def test_whose_address_is_logged_and_audited(service: RunningService) -> None:
    """The client's, as the trusted proxy tells it, not what the client told the proxy."""
    sent = {"X-Forwarded-For": "6.6.6.6, 192.0.2.7", "X-Request-Id": "the-one"}
    with service.client() as client:
        assert client.post(CERTIFICATES, content=csr(), headers=sent).status_code == 201
        (row,) = client.get("/api/v1/audit", params={"request_id": "the-one"}).json()["items"]
    assert row["peer"] == "192.0.2.7"
    line = json.loads(service.wait_for(r'\{[^\n]*"event": "http.request", "request_id": "the-one"[^\n]*\}')[0])
    assert line["client"] == "192.0.2.7"
    assert "6.6.6.6" not in service.log


def test_without_trusted_proxies_nobody_is_believed(tmp_path: Path) -> None:
    """``--behind-proxy`` alone: the address stays the peer's, whatever a header says."""
    with RunningService(tmp_path, "--behind-proxy") as service, service.client() as client:
        sent = {"X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7", "X-Request-Id": "the-one"}
        assert client.post(CERTIFICATES, content=csr(), headers=sent).status_code == 201
        (row,) = client.get("/api/v1/audit", params={"request_id": "the-one"}).json()["items"]
    assert row["peer"] == "127.0.0.1"


def test_limits_can_be_off(tmp_path: Path) -> None:
    """With ``enabled = false`` nobody is counted."""
    (tmp_path / "tiny-ca.toml").write_text(
        "[rate_limits]\nenabled = false\nrequests_burst = 1\nfailed_logins_burst = 1\n"
    )
    with RunningService(tmp_path, "--config-file", "tiny-ca.toml") as service, service.client() as client:
        assert [client.get(CERTIFICATES).status_code for _ in range(20)] == [200] * 20
        assert [_try(service, "").status_code for _ in range(20)] == [401] * 20


@pytest.mark.parametrize(
    "config,says",
    [
        ('trusted_proxies = ["127.0.0.1"]\n', "trusted_proxies: there is no proxy without TINY_CA_BEHIND_PROXY"),
        ('trusted_proxies = ["10.0.0.1/8"]\n', "trusted_proxies: '10.0.0.1/8' is no network"),
        ("[rate_limits]\nrequests_burst = 0\n", "rate_limits.requests_burst: "),
        ("[rate_limits]\nburst = 5\n", "rate_limits.burst: not known here; known are enabled, requests_per_second"),
    ],
)
def test_wrong_settings_stop_the_start(tmp_path: Path, config: str, says: str) -> None:
    """Exit code 2 and one line that names the entry."""
    (tmp_path / "tiny-ca.toml").write_text(config)
    code, _, (line,) = tiny_ca(tmp_path, "serve", "--config-file", "tiny-ca.toml")
    assert code == 2
    assert says in line
