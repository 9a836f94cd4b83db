"""Every operation, through managers of each kind."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.orm import Session

from tests.unit.managers.helpers import CA, EC, NAME, Manager, client
from tiny_ca.ca_factory import CAFileLoader, CertificateFactory
from tiny_ca.ca_factory.keys import public_key_der
from tiny_ca.const import CertType
from tiny_ca.db import BaseDB, CertificateRecord, CertificateStatus, SyncDBHandler
from tiny_ca.db.queries import certificate_by_serial
from tiny_ca.exc import (
    Conflict,
    DBNotInitedError,
    FileAlreadyExists,
    Invalid,
    NotUniqueCertOwner,
    RegistryUnavailable,
    ValidationCertError,
)
from tiny_ca.managers import CertLifecycleManager
from tiny_ca.storage import BaseStorage, LocalStorage

REASON = x509.ReasonFlags.key_compromise


class TestMakingACA:
    def test_files_and_record(self, empty: Manager) -> None:
        """A root is two files that load as a CA, the key for its owner only, and a record of type CA."""
        cert_path, key_path = empty.call("create_self_signed_ca", CA, cert_path="roots")
        assert (cert_path.name, key_path.name) == ("ca.pem", "ca.key")
        assert cert_path.parent.parent == empty.folder / "roots"
        assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
        assert stat.S_IMODE(key_path.parent.stat().st_mode) == 0o700
        (record,) = empty.records()
        assert (record.key_type, record.common_name, record.uuid) == ("CA", "Root", cert_path.parent.name)
        assert str(CAFileLoader(cert_path, key_path).ca_cert.serial_number) == record.serial_number

    def test_second_of_the_name(self, empty: Manager) -> None:
        """A second root of the name is refused, or replaces the first, whose key stays for its last CRL."""
        first = empty.call("create_self_signed_ca", CA)
        with pytest.raises(NotUniqueCertOwner, match="Root"):
            empty.call("create_self_signed_ca", CA)
        second = empty.call("create_self_signed_ca", CA, is_overwrite=True)
        assert empty.statuses("Root") == ["valid", "revoked"]
        assert all(path.exists() for path in (*first, *second))

    def test_needs_no_factory_but_a_database(self, tmp_path: Path) -> None:
        """Without a database a root is not made at all."""
        with pytest.raises(DBNotInitedError):
            CertLifecycleManager().create_self_signed_ca(CA)
        assert list(tmp_path.iterdir()) == []


class TestIssuing:
    def test_three_files_and_a_record(self, manager: Manager) -> None:
        """A certificate comes with its key and CSR, all three in one folder that the record names."""
        cert, key, csr = manager.call("issue_certificate", client(san_dns=["www.example.org"]), cert_path="web")
        record = manager.eyes.get_by_serial(cert.serial_number)
        assert record is not None
        folder = manager.folder / "web" / str(record.uuid)
        assert sorted(path.name for path in folder.iterdir()) == [f"{NAME}.{kind}" for kind in ("csr", "key", "pem")]
        assert (folder / f"{NAME}.pem").read_bytes() == cert.public_bytes(Encoding.PEM)
        assert stat.S_IMODE((folder / f"{NAME}.key").stat().st_mode) == 0o600
        assert public_key_der(key.public_key()) == public_key_der(cert.public_key()) == public_key_der(csr.public_key())
        assert record.key_type == CertType.SERVICE.value
        assert manager.call("verify_certificate", cert) is True
        assert manager.call("get_cert_chain", cert) == [cert, manager.manager.factory._ca.ca_cert]  # type: ignore[union-attr]

    def test_name_of_its_own_for_the_files(self, manager: Manager) -> None:
        """``name`` names the files and nothing else."""
        cert, _, _ = manager.call("issue_certificate", client(name="web"))
        assert {path for path in manager.files() if path.endswith("web.pem")}
        assert b"web" not in cert.subject.public_bytes()

    @pytest.mark.parametrize("common_name", ["a/b", "..", "☃" * 21])
    def test_any_common_name_has_a_file(self, manager: Manager, common_name: str) -> None:
        """A common name that is no file name is kept under one that resembles it, inside the folder."""
        before = manager.folders()
        manager.call("issue_certificate", client(common_name, is_server_cert=False, is_client_cert=True))
        assert len(manager.folders() - before) == 1

    @pytest.mark.parametrize(
        "arguments", [{"uuid_str": "../x"}, {"uuid_str": ""}, {"cert_path": "/etc"}, {"cert_path": "a/../../b"}]
    )
    def test_places_outside_are_refused_first(self, manager: Manager, arguments: dict[str, Any]) -> None:
        """A place outside the storage is refused before anything is made."""
        before = manager.files()
        with pytest.raises(Invalid):
            manager.call("issue_certificate", client(), **arguments)
        assert (manager.files(), manager.statuses()) == (before, [])

    def test_second_of_the_name_is_refused(self, manager: Manager) -> None:
        """While a certificate is valid nobody else gets its name; nothing is left of the attempt."""
        cert, _, _ = manager.call("issue_certificate", client())
        before = manager.files()
        with pytest.raises(NotUniqueCertOwner, match=NAME):
            manager.call("issue_certificate", client())
        assert manager.files() == before
        assert manager.call("revoke_certificate", cert.serial_number) is True
        manager.call("issue_certificate", client())
        assert manager.statuses() == ["valid", "revoked"]

    def test_overwriting_supersedes(self, manager: Manager) -> None:
        """With ``is_overwrite`` the old one is revoked as superseded and its folder goes."""
        old, _, _ = manager.call("issue_certificate", client())
        record = manager.eyes.get_by_serial(old.serial_number)
        new, _, _ = manager.call("issue_certificate", client(), is_overwrite=True)
        assert record is not None
        assert record.uuid not in manager.folders()
        assert manager.statuses() == ["valid", "revoked"]
        (row,) = manager.eyes.get_revoked_certificates()
        assert (int(row.serial_number), row.revocation_reason) == (old.serial_number, 4)
        assert manager.call("get_certificate_status", new.serial_number) is CertificateStatus.VALID
        with pytest.raises(NotUniqueCertOwner):
            manager.call("issue_certificate", client())

    def test_folder_of_its_own_is_replaced(self, manager: Manager) -> None:
        """A folder that is in use is refused, and with ``is_overwrite`` replaced as a whole."""
        manager.call("issue_certificate", client(name="old"), uuid_str="web")
        with pytest.raises(FileAlreadyExists, match="'web'"):
            manager.call("issue_certificate", client("other.example.org"), uuid_str="web")
        new, _, _ = manager.call("issue_certificate", client(name="new"), uuid_str="web", is_overwrite=True)
        assert {path for path in manager.files() if path.startswith("web/")} == {
            f"web/new.{kind}" for kind in ("csr", "key", "pem")
        }
        record = manager.eyes.get_by_serial(new.serial_number)
        assert record is not None
        assert record.uuid == "web"
        assert len(manager.folders()) == 2

    def test_folder_of_another_is_not_taken(self, manager: Manager) -> None:
        """Overwriting takes no folder from a valid certificate of another name."""
        manager.call("issue_certificate", client(), uuid_str="web")
        before = manager.files()
        with pytest.raises(Conflict):
            manager.call("issue_certificate", client("other.example.org"), uuid_str="web", is_overwrite=True)
        assert manager.files() == before
        assert manager.statuses() == ["valid"]

    def test_a_host_named_like_the_ca(self, manager: Manager) -> None:
        """Overwriting does not end a CA for the sake of a certificate of the same name."""
        with pytest.raises(NotUniqueCertOwner, match="CA's"):
            manager.call(
                "issue_certificate", client("Root", is_server_cert=False, is_client_cert=True), is_overwrite=True
            )
        assert manager.statuses("Root") == ["valid"]

    def test_intermediate(self, manager: Manager) -> None:
        """A CA below is kept and registered like any certificate, and can be revoked; its name may be shared."""
        cert, key = manager.call("issue_intermediate_ca", "Issuing", key_size=2048, cert_path="sub")
        manager.call("issue_intermediate_ca", "Issuing", key_size=2048)
        assert public_key_der(cert.public_key()) == public_key_der(key.public_key())
        assert [record.key_type for record in manager.records()] == ["CA"] * 3
        assert {path.split("/")[-1] for path in manager.files() if path.startswith("sub/")} == {
            "Issuing.pem",
            "Issuing.key",
        }
        assert manager.call("revoke_certificate", cert.serial_number) is True

    def test_refused_by_the_registry(self, manager: Manager) -> None:
        """When the database refuses, the caller hears of it and nothing is left on disk."""
        before = manager.files(), manager.folders()
        manager.eyes.engine.dispose()
        with manager.eyes.engine.connect() as connection:
            connection.exec_driver_sql("DROP TABLE certificate_names")
            connection.exec_driver_sql("DROP TABLE certificates")
            connection.commit()
        with pytest.raises(RegistryUnavailable):
            manager.call("issue_certificate", client())
        with pytest.raises(RegistryUnavailable):
            manager.call("issue_intermediate_ca", "Issuing", key_size=2048)
        assert (manager.files(), manager.folders()) == before


class TestRevoking:
    def test_revoked_once(self, manager: Manager) -> None:
        """The first revocation counts; a second one and an unknown serial are False."""
        cert, _, _ = manager.call("issue_certificate", client())
        assert manager.call("revoke_certificate", serial=cert.serial_number, reason=REASON) is True
        assert manager.call("revoke_certificate", cert.serial_number, REASON) is False
        assert manager.call("revoke_certificate", 1) is False

    def test_crl(self, manager: Manager) -> None:
        """The CRL on disk is the one returned, names what was revoked and why, and replaces the one before."""
        cert, _, _ = manager.call("issue_certificate", client())
        empty = manager.call("generate_crl", cert_path="public")
        assert list(empty) == []
        manager.call("revoke_certificate", cert.serial_number, REASON)
        crl = manager.call("generate_crl", cert_path="public", days_valid=7)
        (entry,) = crl
        assert entry.serial_number == cert.serial_number
        assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is REASON
        path = manager.folder / "public" / "crl.pem"
        assert x509.load_pem_x509_crl(path.read_bytes()) == crl
        assert manager.call("verify_crl", crl) is None
        number = x509.CRLNumber
        assert (
            crl.extensions.get_extension_for_class(number).value.crl_number
            > empty.extensions.get_extension_for_class(number).value.crl_number
        )

    def test_no_crl_from_a_dead_database(self, manager: Manager) -> None:
        """A database that does not answer makes no empty CRL."""
        with manager.eyes.engine.connect() as connection:
            connection.exec_driver_sql("DROP TABLE certificate_names")
            connection.exec_driver_sql("DROP TABLE certificates")
            connection.commit()
        with pytest.raises(RegistryUnavailable):
            manager.call("generate_crl")
        assert not (manager.folder / "crl.pem").exists()

    def test_another_cas_crl(self, manager: Manager) -> None:
        """A CRL by another CA of the same name does not verify."""
        cert, key = CertificateFactory.build_self_signed_ca("Root", "Example", "DE", key=EC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(cert.subject)
        now = datetime.now(UTC)
        crl = builder.last_update(now).next_update(now + timedelta(days=1)).sign(key, cert.signature_hash_algorithm)  # type: ignore[arg-type]
        with pytest.raises(ValidationCertError, match="signature"):
            manager.call("verify_crl", crl)


class TestAsking:
    def test_status_by_the_dates(self, manager: Manager) -> None:
        """Status follows the dates, whatever the stored one says."""
        cert, _, _ = manager.call("issue_certificate", client())
        serial = cert.serial_number
        assert manager.call("get_certificate_status", 1) is CertificateStatus.UNKNOWN
        assert manager.call("get_certificate_status", serial) is CertificateStatus.VALID
        change(manager, serial, not_valid_after=datetime.now(UTC) - timedelta(seconds=1))
        assert manager.call("get_certificate_status", serial) is CertificateStatus.EXPIRED
        change(manager, serial, revocation_date=datetime.now(UTC))
        assert manager.call("get_certificate_status", serial) is CertificateStatus.REVOKED

    def test_verification(self, manager: Manager) -> None:
        """Revoked, unknown to the registry, expired there or by another CA: not verified."""
        cert, _, _ = manager.call("issue_certificate", client())
        serial = cert.serial_number
        change(manager, serial, not_valid_after=datetime.now(UTC) - timedelta(seconds=1))
        with pytest.raises(ValidationCertError, match="expired"):
            manager.call("verify_certificate", cert)
        manager.call("revoke_certificate", serial)
        with pytest.raises(ValidationCertError, match="revoked"):
            manager.call("verify_certificate", cert)
        manager.call("delete_certificate", serial)
        with pytest.raises(ValidationCertError, match="unknown"):
            manager.call("verify_certificate", cert)
        stranger, _ = CertificateFactory.build_self_signed_ca(key=EC)
        with pytest.raises(ValidationCertError, match="issued by"):
            manager.call("verify_certificate", stranger)

    def test_lists(self, manager: Manager) -> None:
        """Lists are the registry's: by status and type, in pages, by expiry."""
        cert, _, _ = manager.call("issue_certificate", client(days_valid=5))
        manager.call("issue_certificate", client("b.example.org", serial_type=CertType.DEVICE))
        names = [record.common_name for record in manager.call("list_certificates", limit=2)]
        assert names == ["b.example.org", NAME]
        assert [r.common_name for r in manager.call("list_certificates", key_type="device")] == ["b.example.org"]
        assert [r.common_name for r in manager.call("get_expiring_soon", within_days=6)] == [NAME]
        assert manager.call("refresh_expired_statuses") == 0
        change(manager, cert.serial_number, not_valid_after=datetime.now(UTC) - timedelta(days=1))
        assert manager.call("refresh_expired_statuses") == 1
        assert [r.common_name for r in manager.call("list_certificates", status="expired")] == [NAME]

    def test_deletion(self, manager: Manager) -> None:
        """Deleting takes row and folder; of an unknown serial there is nothing to delete."""
        cert, _, _ = manager.call("issue_certificate", client(), cert_path="web")
        assert manager.call("delete_certificate", cert.serial_number, cert_path="web") is True
        assert list((manager.folder / "web").iterdir()) == []
        assert manager.call("delete_certificate", cert.serial_number) is False
        assert manager.statuses() == []


class TestCollaborators:
    @pytest.mark.parametrize(
        "operation", ["issue_certificate", "generate_crl", "verify_crl", "verify_certificate", "get_cert_chain"]
    )
    def test_without_a_factory(self, empty: Manager, operation: str) -> None:
        """Without a factory it is a ValueError that names it, before anything is touched."""
        arguments = [] if operation == "generate_crl" else [object()]
        with pytest.raises(ValueError, match="factory"):
            empty.call(operation, *arguments)
        assert not empty.folder.exists()

    @pytest.mark.parametrize("factory", [None, object(), CertificateFactory])
    def test_factory_of_another_type(self, empty: Manager, factory: Any) -> None:  # noqa: ANN401 - wrong ones
        """What is no CertificateFactory cannot be set."""
        with pytest.raises(TypeError, match="factory"):
            empty.manager.factory = factory

    def test_without_a_database(self, manager: Manager) -> None:
        """Without a database every operation that needs one says so."""
        bare = type(manager.manager)(factory=manager.manager.factory)
        manager.manager._core._db, database = None, manager.manager._core._db
        for operation, arguments in (
            ("issue_certificate", [client()]),
            ("issue_intermediate_ca", ["Issuing"]),
            ("revoke_certificate", [1]),
            ("get_certificate_status", [1]),
            ("list_certificates", []),
            ("get_expiring_soon", []),
            ("refresh_expired_statuses", []),
            ("generate_crl", []),
            ("verify_certificate", [object()]),
            ("delete_certificate", [1]),
        ):
            with pytest.raises(DBNotInitedError):
                manager.call(operation, *arguments)
        manager.manager._core._db = database
        assert bare.factory is manager.manager.factory


class TestOtherPeoplesParts:
    """A registry and a storage that have the documented methods and no more."""

    @pytest.fixture
    def plain(self, tmp_path: Path) -> Iterator[CertLifecycleManager]:
        """Give a manager over them, with a CA."""
        handler = SyncDBHandler(f"sqlite:///{tmp_path / 'ca.db'}")
        manager = CertLifecycleManager(plain_storage(tmp_path / "pki"), db_handler=plain_registry(handler))
        paths = manager.create_self_signed_ca(CA)
        manager.factory = CertificateFactory(CAFileLoader(*paths))
        yield manager
        handler.close()

    def test_unique_and_superseded(self, plain: CertLifecycleManager, tmp_path: Path) -> None:
        """The rule of one valid certificate for a name holds, and overwriting revokes the old one."""
        old, _, _ = plain.issue_certificate(client(), uuid_str="a")
        with pytest.raises(NotUniqueCertOwner):
            plain.issue_certificate(client())
        plain.issue_certificate(client(), is_overwrite=True)
        assert plain.get_certificate_status(old.serial_number) is CertificateStatus.REVOKED
        assert [entry.serial_number for entry in plain.generate_crl()] == [old.serial_number]
        assert not (tmp_path / "pki" / "a").exists()

    def test_not_recorded(self, plain: CertLifecycleManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A registration that answers False is an error, and the files go."""
        before = set((tmp_path / "pki").iterdir())
        monkeypatch.setattr(plain._core._db, "register_cert_in_db", lambda **_: False)
        with pytest.raises(RegistryUnavailable, match="did not record"):
            plain.issue_certificate(client())
        assert set((tmp_path / "pki").iterdir()) == before


def plain_registry(handler: SyncDBHandler) -> BaseDB:
    """Hide what BaseDB does not ask for; the methods take only the documented keywords."""
    names = sorted(BaseDB.__abstractmethods__)
    methods = {name: staticmethod(getattr(handler, name)) for name in names}
    made: BaseDB = type("PlainRegistry", (BaseDB,), methods)()
    return made


def plain_storage(folder: Path) -> BaseStorage:
    """Hide what BaseStorage does not ask for."""
    storage = LocalStorage(folder)
    methods = {name: staticmethod(getattr(storage, name)) for name in sorted(BaseStorage.__abstractmethods__)}
    made: BaseStorage = type("PlainStorage", (BaseStorage,), methods)()
    return made


def change(manager: Manager, serial: int, **columns: object) -> None:
    """Make a record say something else than its certificate."""

    def unit(session: Session) -> None:
        record = certificate_by_serial(session, serial)
        assert isinstance(record, CertificateRecord)
        for name, value in columns.items():
            setattr(record, name, value)

    assert isinstance(manager.eyes, SyncDBHandler)
    manager.eyes.write(unit)
