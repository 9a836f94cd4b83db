"""What the clock ends: the application in this process, so that its clock can be moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from app.main import create_app
from app.settings import Settings
from tests.api.answers import issued, problem
from tests.api.asking import csr
from tests.running import CERTIFICATES

pytestmark = pytest.mark.anyio
JSON = {"Accept": "application/json"}


@dataclass
class _Clock:
    """The service's clock. Only this moves: the event loop's own timers, and with them every timeout, go on as ever."""

    ahead: timedelta = timedelta()
    stands: datetime | None = None

    def __call__(self) -> datetime:
        """Tell it."""
        return (self.stands or datetime.now(UTC)) + self.ahead

    def stand(self) -> None:
        """Stop it."""
        self.stands = datetime.now(UTC)


@pytest.fixture
def clock() -> _Clock:
    """A clock that goes right until a test moves it."""
    return _Clock()


@asynccontextmanager
async def _running(folder: Path, clock: _Clock) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(Settings(data_dir=folder), clock=clock)
    async with app.router.lifespan_context(app):
        headers = {"Authorization": f"Bearer {(folder / 'admin-token').read_text().strip()}"}
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://ca", headers=headers) as client:
            yield client


async def _issue(client: httpx.AsyncClient) -> str:
    response = await client.post(CERTIFICATES, content=csr(), headers=JSON, params={"lifetime": "1m"})
    return str(issued(response)["serial_number"])


async def test_an_expired_certificate(tmp_path: Path, clock: _Clock) -> None:
    """Past its end a certificate is expired: in its status, its record and the list, before any job has run."""
    async with _running(tmp_path, clock) as client:
        serial = await _issue(client)
        clock.ahead = timedelta(seconds=61)
        status = (await client.get(f"{CERTIFICATES}/{serial}/status")).json()
        record = (await client.get(f"{CERTIFICATES}/{serial}")).json()
        listed = {
            state: [item["serial_number"] for item in await _items(client, status=state, key_type="SVC")]
            for state in ("valid", "expired")
        }
    assert (status["status"], status["revocation_date"]) == ("expired", None)
    assert record["status"] == "expired"
    assert listed == {"valid": [], "expired": [serial]}


async def test_an_expired_certificate_is_not_revoked(tmp_path: Path, clock: _Clock) -> None:
    """Revoking what has expired is 409."""
    async with _running(tmp_path, clock) as client:
        serial = await _issue(client)
        clock.ahead = timedelta(seconds=61)
        response = await client.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "superseded"})
        assert "expired" in problem(response, 409)["detail"]


async def test_a_revoked_certificate_stays_revoked(tmp_path: Path, clock: _Clock) -> None:
    """Revoked and then expired, it is still called revoked; the same reason again is still 200."""
    async with _running(tmp_path, clock) as client:
        serial = await _issue(client)
        first = await client.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "keyCompromise"})
        clock.ahead = timedelta(seconds=61)
        status = (await client.get(f"{CERTIFICATES}/{serial}/status")).json()
        again = await client.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "keyCompromise"})
    assert status["status"] == "revoked"
    assert (again.status_code, again.json()) == (200, first.json())


async def test_an_expired_crl_is_never_served(tmp_path: Path, clock: _Clock) -> None:
    """When the CRL has ended, because no job ran, a new one is made before anybody gets the old one."""
    async with _running(tmp_path, clock) as client:
        old = x509.load_der_x509_crl((await client.get("/crl.der")).content)
        clock.ahead = timedelta(hours=25)
        new = x509.load_der_x509_crl((await client.get("/crl.der")).content)
    assert old.next_update_utc is not None
    assert new.next_update_utc is not None
    assert old.next_update_utc < clock() < new.next_update_utc


async def test_two_crls_of_one_second(tmp_path: Path, clock: _Clock) -> None:
    """A revocation in the same second as the last CRL is not hidden by 304: the date alone does not tell them apart."""
    clock.stand()
    async with _running(tmp_path, clock) as client:
        before = await client.get("/crl.pem")
        dated = {"If-Modified-Since": before.headers["last-modified"]}
        assert (await client.get("/crl.pem", headers=dated)).status_code == 304
        for status in (200, 304):
            serial = await _issue(client)
            await client.post(f"{CERTIFICATES}/{serial}/revoke")
            after = await client.get("/crl.pem", headers=dated)
            assert after.status_code == 200
            dated = {"If-Modified-Since": after.headers["last-modified"]}
            assert (await client.get("/crl.pem", headers=dated)).status_code == status
            clock.ahead += timedelta(seconds=2)


async def _items(client: httpx.AsyncClient, **params: str) -> list[dict[str, str]]:
    response = await client.get(CERTIFICATES, params=params)
    items: list[dict[str, str]] = response.json()["items"]
    return items
