"""What the clock ends, and a clock that goes back: the application in this process, so that its clock can be moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
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


async def test_no_cache_keeps_a_crl_past_its_end(tmp_path: Path, clock: _Clock) -> None:
    """Shortly before its end a CRL may be kept until then, and not for the usual minute."""
    async with _running(tmp_path, clock) as client:
        first = await client.get("/crl.der")
        clock.ahead = timedelta(hours=24, seconds=-20)
        last = await client.get("/crl.der")
    assert first.headers["cache-control"] == "public, max-age=60"
    assert last.content == first.content
    assert 0 <= int(last.headers["cache-control"].partition("max-age=")[2]) <= 20


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


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_clock_that_goes_back(tmp_path: Path, clock: _Clock, *, restarted: bool) -> None:
    """After a jump back of an hour, nothing is dated before what was made: certificates, revocations, CRLs, audit."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(_running(tmp_path, clock))
        before = await _made(client)
        clock.ahead = -timedelta(hours=1)
        if restarted:
            await stack.aclose()
            client = await stack.enter_async_context(_running(tmp_path, clock))
        after = await _made(client)
    (earlier, earlier_crl, earlier_acts), (later, later_crl, later_acts) = before, after
    assert later.not_valid_before_utc >= earlier.not_valid_before_utc
    assert later.not_valid_after_utc >= earlier.not_valid_after_utc
    assert later_crl.last_update_utc >= earlier_crl.last_update_utc
    assert _number(later_crl) > _number(earlier_crl)
    assert {entry.serial_number for entry in later_crl} == {earlier.serial_number, later.serial_number}
    assert max(earlier_acts) <= min(at for at in later_acts if at not in earlier_acts)


async def _made(client: httpx.AsyncClient) -> tuple[x509.Certificate, x509.CertificateRevocationList, list[str]]:
    """Issue a certificate and revoke it: it, the CRL that says so, and the moments that the audit names."""
    response = await client.post(CERTIFICATES, content=csr(), headers={"Accept": "application/pkix-cert"})
    certificate = x509.load_der_x509_certificate(response.content)
    revoked = await client.post(f"{CERTIFICATES}/{certificate.serial_number:x}/revoke")
    assert revoked.status_code == 200
    crl = x509.load_der_x509_crl((await client.get("/crl.der")).content)
    acts = (await client.get("/api/v1/audit")).json()["items"]
    return certificate, crl, [act["at"] for act in acts]


def _number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


async def _items(client: httpx.AsyncClient, **params: str) -> list[dict[str, str]]:
    response = await client.get(CERTIFICATES, params=params)
    items: list[dict[str, str]] = response.json()["items"]
    return items
