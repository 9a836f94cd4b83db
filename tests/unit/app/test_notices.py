"""Which certificates are told of, when, and how often."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from cryptography import x509
from pydantic import SecretStr

from app.metrics import Metrics
from app.services.notices import Notices
from app.services.webhook import Webhook
from tests.unit.app.conftest import OpenCA
from tests.unit.app.receiving import OK, Receiver, receiving
from tests.unit.db.helpers import entry
from tiny_ca.db import queries
from tiny_ca.db.queries.notices import waiting_notices

pytestmark = pytest.mark.anyio
_DAY = timedelta(days=1)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """One that takes everything."""
    async with receiving() as receiver:
        yield receiver


@pytest.fixture
def notices(ca: OpenCA, receiver: Receiver) -> Notices:
    """Notices for 30, 7 and 1 days."""
    return _notices(ca, receiver)


def _notices(ca: OpenCA, receiver: Receiver, metrics: Metrics | None = None) -> Notices:
    webhook = Webhook(
        f"http://127.0.0.1:{receiver.port}/",
        secret=SecretStr("x" * 32),
        allow_private_addresses=True,
        tls=ssl.create_default_context(),
    )
    return Notices(ca.db, webhook=webhook, days=(30, 7, 1), metrics=metrics or Metrics(), clock=ca.clock)


def _told(receiver: Receiver) -> list[str]:
    """The ids since the last call."""
    ids = [json.loads(body)["id"] for _, body in receiver.requests]
    receiver.requests.clear()
    return ids


async def _keep(ca: OpenCA, serial: int, lifetime: timedelta, *, left: timedelta) -> None:
    """Keep a certificate of which so much is left now; the helper's live 365 days, so its beginning is set."""
    made = entry(f"h{serial}.example.org", serial=serial, expires=ca.clock.now + left)
    begins = made.not_valid_after - lifetime
    await ca.db.write(
        queries.insert_certificates,
        [type(made)(**{**{name: getattr(made, name) for name in made.__slots__}, "not_valid_before": begins})],
        now=ca.clock.now,
    )


async def _run(notices: Notices) -> None:
    await notices.find()
    await notices.send()


async def test_each_threshold_is_told_once(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """A certificate of 90 days, looked at each half day until after its end: 30, 7 and 1 days, once each."""
    await _keep(ca, 0xAB, 90 * _DAY, left=40 * _DAY)
    seen: dict[str, float] = {}
    for half_days in range(90):
        await _run(notices)
        seen |= dict.fromkeys(_told(receiver), 40 - half_days / 2)
        ca.clock.forward(_DAY / 2)
    assert seen == {"ab.30d": 30, "ab.7d": 7, "ab.1d": 1}


async def test_what_was_passed_meanwhile_is_told_once(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """A service that was down tells the nearest threshold of those that passed, and the later ones in their time."""
    await _keep(ca, 1, 365 * _DAY, left=40 * _DAY)
    await _run(notices)
    assert _told(receiver) == []
    ca.clock.forward(35 * _DAY)
    await _run(notices)
    await _run(notices)
    assert _told(receiver) == ["1.7d"]
    ca.clock.forward(4.5 * _DAY)
    await _run(notices)
    assert _told(receiver) == ["1.1d"]


async def test_what_ended_meanwhile_is_told_too(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """A certificate that passed its thresholds and its end while the service was down is told of once."""
    await _run(notices)  # it has looked before
    await _keep(ca, 1, 365 * _DAY, left=20 * _DAY)
    ca.clock.forward(60 * _DAY)
    await _run(notices)
    assert _told(receiver) == ["1.1d"]
    await _run(notices)
    assert _told(receiver) == []


async def test_the_first_look_tells_nothing_old(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """Where notices were just switched on, what has ended long ago is nobody's concern."""
    await _keep(ca, 1, 365 * _DAY, left=-2 * _DAY)
    await _keep(ca, 2, 365 * _DAY, left=2 * _DAY)
    await _run(notices)
    assert _told(receiver) == ["2.7d"]


async def test_a_revoked_certificate_is_not_told_of(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """Nobody has to renew it."""
    await _keep(ca, 1, 365 * _DAY, left=5 * _DAY)
    await ca.db.write(queries.revoke, 1, x509.ReasonFlags.superseded, now=ca.clock.now)
    await _run(notices)
    assert _told(receiver) == []


@pytest.mark.parametrize(
    "lifetime,told",
    [
        (timedelta(minutes=15), []),
        (timedelta(hours=47), []),
        (2 * _DAY, ["1.1d"]),
        (13 * _DAY, ["1.1d"]),
        (14 * _DAY, ["1.7d", "1.1d"]),
        (59 * _DAY, ["1.7d", "1.1d"]),
        (60 * _DAY, ["1.30d", "1.7d", "1.1d"]),
    ],
)
async def test_a_short_life_has_fewer_thresholds(
    ca: OpenCA, notices: Notices, receiver: Receiver, lifetime: timedelta, told: list[str]
) -> None:
    """A threshold longer than half of a certificate's whole life is none for it."""
    await _keep(ca, 1, lifetime, left=lifetime)
    seen = []
    for _ in range(2 * lifetime.days + 3):
        await _run(notices)
        seen += _told(receiver)
        ca.clock.forward(_DAY / 2)
    assert seen == told


async def test_more_than_a_page(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """All of 1,203 certificates are told of, also behind 600 too short-lived for it; one run sends 100."""
    base = entry("h.example.org", serial=1, expires=ca.clock.now + _DAY / 2)
    rows = [
        type(base)(
            **{
                **{name: getattr(base, name) for name in base.__slots__},
                "serial_number": str(serial),
                "fingerprint_sha256": str(serial),
                "names": (),
                "not_valid_before": ca.clock.now - (1.2 * _DAY if serial <= 600 else 90 * _DAY),
            }
        )
        for serial in range(1, 1804)
    ]
    await ca.db.write(queries.insert_certificates, rows, now=ca.clock.now)
    assert await notices.find() == 1203
    assert await notices.find() == 0
    assert await notices.send() == 100
    while await notices.send():
        pass
    assert sorted(_told(receiver)) == sorted(f"{serial:x}.1d" for serial in range(601, 1804))


async def test_a_receiver_that_is_down_loses_nothing(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """Each attempt sends the same body; a run ends with a failure; what waited arrives when it is up again."""
    await _keep(ca, 1, 365 * _DAY, left=5 * _DAY)
    await _keep(ca, 2, 365 * _DAY, left=5 * _DAY)
    receiver.answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    await notices.find()
    for _ in range(12):
        assert await notices.send() == 0
        ca.clock.forward(timedelta(hours=1))
    bodies = [body for _, body in receiver.requests]
    assert (len(bodies), len(set(bodies))) == (12, 2)
    assert await ca.db.read(waiting_notices) == 2
    _told(receiver)
    receiver.answer = OK
    assert await _notices(ca, receiver).send() == 2  # as after a restart
    assert sorted(_told(receiver)) == ["1.7d", "2.7d"]
    assert await ca.db.read(waiting_notices) == 0


async def test_what_a_notice_says(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """The certificate by serial number, names, issuer, profile, requester and dates, and an id of its own."""
    pipeline = ca.pipeline()
    pipeline.start()
    issued = await pipeline.submit(ca.order("app.example.org"))
    await pipeline.close()
    ca.clock.forward(89 * _DAY + _DAY / 2)
    await _run(notices)
    ((_, body),) = receiver.requests
    said = json.loads(body)
    certificate = issued.certificate
    serial = f"{certificate.serial_number:x}"
    assert said == {
        "id": f"{serial}.1d",
        "type": "certificate.expiring",
        "created_at": ca.clock.now.replace(microsecond=0).isoformat().replace("+00:00", "Z"),
        "threshold_days": 1,
        "certificate": {
            "serial_number": serial,
            "common_name": "app.example.org",
            "san": ["app.example.org"],
            "profile": "server",
            "issuer_id": issued.issuer.id,
            "requester": "admin",
            "fingerprint_sha256": issued.entry.fingerprint_sha256,
            "not_valid_before": certificate.not_valid_before_utc.isoformat().replace("+00:00", "Z"),
            "not_valid_after": certificate.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        },
    }


async def test_each_replica_counts_what_waits(ca: OpenCA, notices: Notices, receiver: Receiver) -> None:
    """Also what another one put into the outbox, and sent."""
    metrics = Metrics()
    idle = _notices(ca, receiver, metrics)
    await _keep(ca, 1, 365 * _DAY, left=5 * _DAY)
    seen = []
    for step in (notices.find, notices.send):
        await step()
        await idle.count()
        seen.append(metrics.registry.get_sample_value("tiny_ca_notices_waiting"))
    assert seen == [1, 0]
