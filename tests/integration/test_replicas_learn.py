"""Two services over one PostgreSQL database: what is changed on one holds on the other within a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest
from cryptography import x509

from tests.api.answers import issued
from tests.api.asking import csr
from tests.postgres import new_database
from tests.running import CERTIFICATES, DATABASE_URL, RunningService

_ISSUERS = "/api/v1/issuers"
_JSON = {"Accept": "application/json"}
_PROMISED = 1.0
# What a loaded machine may take more is printed, not failed.
_PATIENCE = 3.0


class _Pair:
    """The admin on one replica, and on the other; between an act on the first and its effect on the second."""

    def __init__(self, here: httpx.Client, there: httpx.Client) -> None:
        self.here = here
        self.there = there

    def soon(self, what: str, holds: Callable[[], bool]) -> None:
        """Ask until it holds, counted from the answer that has just come."""
        began = time.monotonic()
        while True:
            held = holds()
            took = time.monotonic() - began
            if held:
                break
            assert took < _PATIENCE, f"{what}: not seen for {took:.1f} seconds"
            time.sleep(0.02)  # as a client that polls
        late = " (late)" if took > _PROMISED else ""
        print(f"{what}: seen after {took:.3f} s{late}")  # noqa: T201  # shown with -s, and where a test fails


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[_Pair]:
    """Two replicas of which everybody has asked something already."""
    folder = tmp_path_factory.mktemp("replicas")
    with ExitStack() as stack:
        environment = {DATABASE_URL: stack.enter_context(new_database(postgres_url))}
        services = [stack.enter_context(RunningService(folder, environment=environment)) for _ in range(2)]
        clients = [stack.enter_context(service.client()) for service in services]
        for client in clients:
            assert client.get("/crl.der").status_code == 200
        yield _Pair(*clients)


def _new_issuer(pair: _Pair, name: str) -> str:
    made = pair.here.post(_ISSUERS, json={"common_name": name})
    assert made.status_code == 201, made.text
    return str(made.json()["id"])


def test_a_new_issuer(pair: _Pair) -> None:
    """It issues on the other replica."""
    issuer = _new_issuer(pair, "New")
    asked = {"common_name": "app.example.org", "issuer_id": issuer}
    pair.soon("a new issuer", lambda: pair.there.post(CERTIFICATES, json=asked).status_code == 201)
    assert pair.there.get(f"/issuers/{issuer}.der").status_code == 200


def test_the_default_issuer(pair: _Pair) -> None:
    """What names no issuer is issued by the new one."""
    issuer = _new_issuer(pair, "Default")
    answer = pair.here.patch(f"{_ISSUERS}/{issuer}", json={"default": True})
    assert answer.status_code == 200, answer.text

    def by_the_new_one() -> bool:
        return bool(issued(pair.there.post(CERTIFICATES, content=csr(), headers=_JSON))["issuer_id"] == issuer)

    pair.soon("the default issuer", by_the_new_one)
    assert pair.there.get("/ca.pem").content == pair.here.get("/ca.pem").content


def test_a_disabled_issuer(pair: _Pair) -> None:
    """It issues nothing there either."""
    issuer = _new_issuer(pair, "Disabled")
    asked = {"common_name": "app.example.org", "issuer_id": issuer}
    pair.soon("a new issuer", lambda: pair.there.post(CERTIFICATES, json=asked).status_code == 201)
    assert pair.here.patch(f"{_ISSUERS}/{issuer}", json={"enabled": False}).status_code == 200
    pair.soon("a disabled issuer", lambda: pair.there.post(CERTIFICATES, json=asked).status_code == 409)


def test_a_deleted_token(pair: _Pair) -> None:
    """It opens nothing there, although it was let in there a moment ago."""
    made = pair.here.post("/api/v1/tokens", json={"name": "gone", "permissions": ["certificates:read"]}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    assert pair.there.get(CERTIFICATES, headers=headers).status_code == 200
    assert pair.here.delete(f"/api/v1/tokens/{made['id']}").status_code == 200
    pair.soon("a deleted token", lambda: pair.there.get(CERTIFICATES, headers=headers).status_code == 401)


def test_a_revoked_certificate(pair: _Pair) -> None:
    """Its status, and the CRL that says so, are there at once."""
    made = issued(pair.here.post(CERTIFICATES, content=csr(), headers=_JSON))
    serial, issuer = made["serial_number"], made["issuer_id"]
    assert pair.here.post(f"{CERTIFICATES}/{serial}/revoke").status_code == 200

    def in_the_crl() -> bool:
        crl = x509.load_der_x509_crl(pair.there.get(f"/issuers/{issuer}/crl.der").content)
        return crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None

    pair.soon("a revoked certificate's CRL", in_the_crl)
    assert pair.there.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "revoked"


def test_a_crl_on_demand(pair: _Pair) -> None:
    """A CRL that was asked for is the one that is served."""
    issuer = _new_issuer(pair, "Listed")
    pair.soon("a new issuer", lambda: pair.there.get(f"/issuers/{issuer}/crl.der").status_code == 200)
    made = pair.here.post(f"{_ISSUERS}/{issuer}/crl")
    assert made.status_code in {200, 201}, made.text
    newest = pair.here.get(f"/issuers/{issuer}/crl.der").content
    pair.soon("a CRL", lambda: pair.there.get(f"/issuers/{issuer}/crl.der").content == newest)
