"""The service's own certificate: what it holds, when it is renewed, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from app.metrics import Metrics
from app.services.issuance import IssuancePipeline
from app.services.lifecycle import LifecycleService
from app.services.server_certificate import ServerCertificate, names_of
from app.settings import Settings, SettingsError, load_settings
from app.tls import server_context
from tests.unit.app.conftest import OpenCA
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, Profile
from tiny_ca.db.entries import AuditFilter
from tiny_ca.db.queries.audit import page_audit
from tiny_ca.db.queries.certificates import certificate_by_serial
from tiny_ca.db.queries.issuers import change_issuer
from tiny_ca.db.queries.revocations import revoke

pytestmark = pytest.mark.anyio
_URL = "https://ca.example.org"


@asynccontextmanager
async def _open(ca: OpenCA, settings: Settings, server: Profile) -> AsyncIterator[ServerCertificate]:
    pipeline = IssuancePipeline(ca.db, max_batch=1, max_waiting=8, metrics=Metrics(), clock=ca.clock)
    pipeline.start()
    lifecycle = LifecycleService(
        ca.db,
        issuers=ca.issuers,
        crls=ca.publisher(),
        pipeline=pipeline,
        profiles={**BUILT_IN_PROFILES, "server": server},
        clock=ca.clock,
    )
    certificate = ServerCertificate(lifecycle, server_context(), settings, db=ca.db, clock=ca.clock, rng=lambda: 0.5)
    yield certificate
    await certificate.close()
    await pipeline.close()


Opening = Callable[..., AbstractAsyncContextManager[ServerCertificate]]


@pytest.fixture
def opened(ca: OpenCA, settings: Settings) -> Opening:
    """A certificate that has not been asked for yet, under the profile ``server`` or one like it."""

    def open_one(
        server: Profile = BUILT_IN_PROFILES["server"], **changed: object
    ) -> AbstractAsyncContextManager[ServerCertificate]:
        return _open(ca, settings.model_copy(update={"public_url": _URL, **changed}), server)

    return open_one


async def _shown(ca: OpenCA, context: ssl.SSLContext, name: str = "ca.example.org") -> x509.Certificate:
    """What a client that trusts the root is shown."""
    trust = ssl.create_default_context(cadata=ca.issuers.roots.content.decode())
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trust, server_hostname=name)
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return x509.load_der_x509_certificate(der)


def _temporary_files() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("tiny-ca-*"))


async def test_one_like_any_other(ca: OpenCA, opened: Opening) -> None:
    """It is on record and in the audit, good for every name of the service, for a day; its key is in no file."""
    before = _temporary_files()
    async with opened() as own:
        await own.start()
        shown = await _shown(ca, own.context)
        for name in ("localhost", "127.0.0.1"):
            assert await _shown(ca, own.context, name) == shown
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["ca.example.org", "localhost"]
    assert list(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "::1"]
    assert shown.not_valid_after_utc - shown.not_valid_before_utc <= timedelta(hours=24, minutes=1)
    record = await ca.db.read(certificate_by_serial, shown.serial_number)
    assert record is not None
    assert (record.requester, record.profile, record.issuer_id) == ("tiny-ca", "server", ca.issuers.default.id)
    wanted = AuditFilter(serial_number=str(shown.serial_number))
    (row,) = await ca.db.read(page_audit, wanted, limit=10, before_id=None)
    assert (row.actor, row.action, row.outcome) == ("tiny-ca", "certificate.issue", "success")
    assert _temporary_files() == before


async def test_it_is_renewed_at_two_thirds(ca: OpenCA, opened: Opening) -> None:
    """Not before; the new one has another key and is what the next handshake shows."""
    ca.clock.forward(timedelta(hours=-16))  # the client's clock, which is the machine's, must find both valid
    async with opened() as own:
        await own.start()
        first = await _shown(ca, own.context)
        ca.clock.forward(timedelta(hours=15, minutes=59))
        assert await own.look() <= timedelta(minutes=1)
        assert await _shown(ca, own.context) == first
        ca.clock.forward(timedelta(minutes=1))
        await own.look()
        second = await _shown(ca, own.context)
    assert second.not_valid_after_utc > first.not_valid_after_utc
    assert second.public_key() != first.public_key()


async def test_one_that_was_revoked_is_replaced(ca: OpenCA, opened: Opening) -> None:
    """At the next look, long before it is due."""
    async with opened() as own:
        await own.start()
        first = await _shown(ca, own.context)
        await ca.db.write(revoke, first.serial_number, x509.ReasonFlags.key_compromise, now=ca.clock.now)
        await own.look()
        assert await _shown(ca, own.context) != first


async def test_an_issuer_that_is_disabled(ca: OpenCA, opened: Opening) -> None:
    """What prevents the renewal is told while the certificate still lasts, and forgotten when it is mended."""
    async with opened() as own:
        await own.start()
        await ca.db.write(change_issuer, ca.issuers.default.id, enabled=False)
        await ca.issuers.refresh()
        await own.look()
        assert not _trouble(own)
        ca.clock.forward(timedelta(hours=17))
        assert timedelta(0) < await own.look() <= timedelta(hours=1)
        assert "is disabled" in _trouble(own)
        await ca.db.write(change_issuer, ca.issuers.default.id, enabled=True)
        await ca.issuers.refresh()
        await own.look()
        assert not _trouble(own)


def _trouble(own: ServerCertificate) -> str:
    return own.trouble or ""


async def test_a_start_without_an_issuer(ca: OpenCA, opened: Opening) -> None:
    """It is one line that says what to do."""
    await ca.db.write(change_issuer, ca.issuers.default.id, enabled=False)
    await ca.issuers.refresh()
    async with opened() as own:
        with pytest.raises(SettingsError, match=r"TINY_CA_TLS: .* is disabled; give --tls-cert"):
            await own.start()


async def test_a_start_without_a_temporary_folder(opened: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one line too."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    async with opened() as own:
        with pytest.raises(SettingsError, match="TINY_CA_TLS: no temporary file can be written: No such file"):
            await own.start()


async def test_a_profile_that_leaves_no_room_for_loopback(ca: OpenCA, opened: Opening) -> None:
    """Then it is for the name of the URL alone."""
    narrow = replace(BUILT_IN_PROFILES["server"], names=NamePatterns.parse(dns=["*.example.org"], ip_ranges=[]))
    async with opened(narrow) as own:
        await own.start()
        shown = await _shown(ca, own.context)
    names = shown.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [name.value for name in names] == ["ca.example.org"]


async def test_common_names_that_are_unique(ca: OpenCA, opened: Opening) -> None:
    """They are no obstacle: each process has a certificate of its own, for the same names."""
    unique = replace(BUILT_IN_PROFILES["server"], unique_common_name=True)
    async with opened(unique) as one, opened(unique) as other:
        await one.start()
        await other.start()
        assert await _shown(ca, one.context) != await _shown(ca, other.context)


async def test_a_long_backdate(ca: OpenCA, opened: Opening) -> None:
    """A certificate that began long before it was made is not due at once."""
    early = replace(BUILT_IN_PROFILES["server"], backdate=timedelta(days=9))
    async with opened(early) as own:
        await own.start()
        first = await _shown(ca, own.context)
        await own.look()
        assert await _shown(ca, own.context) == first


@pytest.mark.parametrize(
    "given,public",
    [
        ({"host": "192.0.2.7"}, [("ip", "192.0.2.7")]),
        ({"host": "::", "public_url": "https://ca.example.org:8443/pki"}, [("dns", "ca.example.org")]),
        ({"host": "2001:db8::1"}, [("ip", "2001:db8::1")]),
        ({"host": "ca_1.example.org"}, []),
    ],
)
def test_names(given: dict[str, str], public: list[tuple[str, str]]) -> None:
    """The host of the URL, the address it listens on, and loopback; what is no host's name is left out."""
    first, every = names_of(load_settings(**given))
    assert first.items() == public
    assert set(every.items()) == {*public, ("dns", "localhost"), ("ip", "127.0.0.1"), ("ip", "::1")}
