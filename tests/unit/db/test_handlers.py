"""The documented methods, through both handlers over both databases."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.unit.db.helpers import DAY, Registry, certificate
from tiny_ca.const import CertType
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.const import RevokeStatus, Succession
from tiny_ca.db.sync_db_manager import DatabaseManager, SyncDBHandler
from tiny_ca.exc import Conflict, NotUniqueCertOwner, RegistryUnavailable

TODAY = datetime.now(UTC)


@pytest.fixture
def lenient(
    db_url: str, handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner
) -> Iterator[Registry]:
    """Give a registry as a user of the library makes it."""
    registry = Registry(handler_class(db_url), runner)
    yield registry
    registry.close()


def test_a_certificate_lives_and_dies(lenient: Registry) -> None:
    """Registered, found, listed, expiring, revoked once, on the CRL, deleted: every answer is the documented one."""
    cert = certificate(expires=TODAY + 10 * DAY)
    serial = cert.serial_number
    assert lenient.call("register_cert_in_db", cert=cert, uuid="u", key_type=CertType.SERVICE) is True
    assert lenient.call("get_by_serial", serial=serial).serial_number == str(serial)
    assert lenient.call("get_by_name", common_name="host.example.org").uuid == "u"
    assert [record.uuid for record in lenient.call("list_all", status="valid", key_type="service")] == ["u"]
    assert [record.uuid for record in lenient.call("get_expiring", within_days=11)] == ["u"]
    assert lenient.call("get_expiring", within_days=9) == []
    reason = x509.ReasonFlags.key_compromise
    assert lenient.call("revoke_certificate", serial_number=serial, reason=reason) == (True, RevokeStatus.OK)
    assert lenient.call("revoke_certificate", serial_number=serial) == (False, RevokeStatus.NOT_FOUND)
    assert lenient.call("get_by_name", "host.example.org") is None
    (row,) = lenient.call("get_revoked_certificates")
    assert (int(row.serial_number), row.revocation_reason) == (serial, 1)
    assert [lenient.call("delete_by_uuid", uuid="u") for _ in range(2)] == [True, False]
    assert lenient.call("get_by_serial", serial) is None


def test_expired_are_marked(lenient: Registry) -> None:
    """Marking gives the number of certificates whose time has passed."""
    lenient.call("register_cert_in_db", certificate(expires=TODAY - DAY), "old")
    lenient.call("register_cert_in_db", certificate(expires=TODAY + DAY), "new")
    assert lenient.call("update_status_expired") == 1
    assert [record.uuid for record in lenient.call("list_all", status="expired")] == ["old"]


def test_certificate_without_common_name_is_an_index_error(lenient: Registry) -> None:
    """The documented IndexError, and nothing recorded."""
    with pytest.raises(IndexError, match="common name"):
        lenient.call("register_cert_in_db", certificate(None), "u")
    assert lenient.call("list_all") == []


def test_repeated_certificate_is_false_and_logged(lenient: Registry, caplog: pytest.LogCaptureFixture) -> None:
    """A constraint that refuses is False to a lenient caller, with the reason in the log."""
    cert = certificate()
    lenient.call("register_cert_in_db", cert, "u")
    with caplog.at_level(logging.ERROR, logger="tiny_ca"):
        assert lenient.call("register_cert_in_db", cert, "v") is False
    assert "register_cert_in_db" in caplog.text


def test_repeated_certificate_is_a_conflict_if_strict(registry: Registry) -> None:
    """A strict registry raises what a lenient one logs."""
    cert = certificate()
    registry.call("register_cert_in_db", cert, "u")
    with pytest.raises(Conflict):
        registry.call("register_cert_in_db", cert, "v")


def test_unique_registration_claims_the_name(lenient: Registry) -> None:
    """A claimed name is refused to the next, lenient or not, until its holder is revoked."""
    holder = certificate(expires=TODAY + DAY)
    lenient.call("record_certificate", holder, "u")
    with pytest.raises(NotUniqueCertOwner, match=r"host\.example\.org"):
        lenient.call("record_certificate", certificate(), "v")
    lenient.call("revoke_certificate", holder.serial_number)
    lenient.call("record_certificate", certificate(), "v")


def test_text_that_a_database_cannot_hold_finds_nothing_strange(registry: Registry) -> None:
    """Quotes, percent signs and other scripts are only text."""
    for name in ("' OR 1=1 --", "100%", "_", "Ünïcødé 证书"):
        assert registry.call("get_by_name", name) is None
        assert registry.call("delete_by_uuid", name) is False


@pytest.mark.parametrize("handler", [SyncDBHandler, AsyncDBHandler])
def test_handlers_keep_the_documented_signatures(handler: type[BaseDB]) -> None:
    """Names, order and defaults of every parameter are BaseDB's."""
    for name in BaseDB.__abstractmethods__:
        documented, actual = (inspect.signature(getattr(kind, name)) for kind in (BaseDB, handler))
        assert list(actual.parameters.values()) == list(documented.parameters.values())


def test_sessions_are_plain_ones(tmp_path: Path) -> None:
    """DatabaseManager gives sessions that a script may use as it likes."""
    manager = DatabaseManager(f"sqlite:///{tmp_path / 'ca.db'}")
    with manager.session() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM certificates").scalar() == 0
    manager.close()


def _claim(url: str, der: bytes) -> str:
    handler = SyncDBHandler(url)
    try:
        handler.record_certificate(x509.load_der_x509_certificate(der), der.hex()[-20:])
    except NotUniqueCertOwner:
        return "refused"
    finally:
        handler.close()
    return "recorded"


def test_of_processes_that_claim_one_name_exactly_one_wins(db_url: str) -> None:
    """Four processes open a new database and claim one name at once: one succeeds, the others are refused."""
    certs = [certificate(expires=TODAY + DAY).public_bytes(Encoding.DER) for _ in range(4)]
    with get_context("spawn").Pool(4) as pool:
        outcomes = pool.starmap(_claim, [(db_url, der) for der in certs], chunksize=1)
    assert sorted(outcomes) == ["recorded", "refused", "refused", "refused"]


def _overwrite(url: str, der: bytes) -> int:
    handler = SyncDBHandler(url)
    certificate = x509.load_der_x509_certificate(der)
    ended = handler.record_certificate(certificate, der.hex()[-20:], succession=Succession.OVERWRITE)
    handler.close()
    return len(ended)


def test_of_processes_that_overwrite_one_name_each_ends_the_one_before(db_url: str) -> None:
    """Four processes overwrite one name at once: all succeed, and the last one alone is valid."""
    certs = [certificate(expires=TODAY + DAY).public_bytes(Encoding.DER) for _ in range(4)]
    with get_context("spawn").Pool(4) as pool:
        ended = pool.starmap(_overwrite, [(db_url, der) for der in certs], chunksize=1)
    assert sorted(ended) == [0, 1, 1, 1]
    handler = SyncDBHandler(db_url)
    assert sorted(record.status for record in handler.list_all()) == ["revoked", "revoked", "revoked", "valid"]
    handler.close()


def test_memory_database_is_one_database(
    handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner
) -> None:
    """Every session of an in-memory registry sees the same tables."""
    registry = Registry(handler_class("sqlite://", strict=True), runner)
    registry.call("register_cert_in_db", certificate(expires=TODAY + timedelta(days=1)), "u")
    assert len(registry.call("list_all")) == 1
    registry.close()


def test_tables_are_only_made_if_wanted(
    tmp_path: Path, handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner
) -> None:
    """Without create_all a registry leaves the schema to migrations, and says that it is missing."""
    registry = Registry(handler_class(f"sqlite:///{tmp_path / 'ca.db'}", strict=True, create_all=False), runner)
    with pytest.raises(RegistryUnavailable, match="no such table"):
        registry.call("list_all")
    registry.close()


def test_replacing_a_name(lenient: Registry) -> None:
    """Replacing ends the holder as superseded and takes its folder; a CA's certificate only for a CA's."""
    old, new, host = (certificate(expires=TODAY + DAY) for _ in range(3))
    lenient.call("record_certificate", old, "u", CertType.CA)
    with pytest.raises(NotUniqueCertOwner):
        lenient.call("record_certificate", host, "v", CertType.SERVICE, succession=Succession.OVERWRITE)
    lenient.call("record_certificate", new, "u", CertType.CA, succession=Succession.OVERWRITE)
    before, after = (lenient.call("get_by_serial", cert.serial_number) for cert in (old, new))
    assert (before.status, before.revocation_reason, before.uuid) == ("revoked", 4, None)
    assert (after.status, after.unique_name, after.uuid) == ("valid", "host.example.org", "u")
    assert [int(row.serial_number) for row in lenient.call("require_revoked")] == [old.serial_number]
