"""Every operation, through managers of each kind."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12
from pydantic import ValidationError
from sqlalchemy.orm import Session

from tests.unit.managers.helpers import CA, EC, NAME, Manager, client, stranger
from tiny_ca.ca_factory import CAFileLoader, CertificateFactory
from tiny_ca.ca_factory.keys import key_spec, public_key_der
from tiny_ca.ca_factory.utils.file_loader import certificate_info
from tiny_ca.const import CertType
from tiny_ca.db import BaseDB, CertificateRecord, CertificateStatus, SyncDBHandler
from tiny_ca.db.queries import certificate_by_serial
from tiny_ca.exc import (
    CertNotFound,
    Conflict,
    DBNotInitedError,
    FileAlreadyExists,
    Forbidden,
    Invalid,
    InvalidRangeTimeCertificate,
    NotUniqueCertOwner,
    RegistryUnavailable,
    ValidationCertError,
)
from tiny_ca.managers import CertLifecycleManager
from tiny_ca.models import CAConfig, ClientConfig, KeySpec
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

    def test_overwriting_what_came_in_between(self, manager: Manager) -> None:
        """What others issued under the name since it was looked up is superseded too, and its key goes."""
        manager.meanwhile("issue_certificate", lambda other: other.issue_certificate(client()), waits=False)
        manager.call("issue_certificate", client(), is_overwrite=True)
        assert manager.statuses() == ["valid", "revoked"]
        newest, superseded = (record for record in manager.records() if record.common_name == NAME)
        assert {newest.uuid, superseded.uuid} & manager.folders() == {newest.uuid}

    @pytest.mark.parametrize("effect", ["begin_certificate_folder", "record_certificate", "replace_certificate_folder"])
    def test_two_in_one_folder(self, manager: Manager, effect: str) -> None:
        """Two that overwrite one folder at once do so one after the other: in it is what is valid."""
        manager.call("issue_certificate", client(), uuid_str="web")
        again: dict[str, Any] = {"config": client(), "uuid_str": "web", "is_overwrite": True}
        other = manager.meanwhile(effect, lambda other: other.issue_certificate(**again), waits=True)
        manager.call("issue_certificate", **again)
        other.join(30)
        newest, *_ = manager.records()
        assert manager.statuses() == ["valid", "revoked", "revoked"]
        assert f"{manager.certificate('web').serial_number}" == newest.serial_number
        assert len([name for name in manager.files() if name.endswith(f"{NAME}.key")]) == 1
        assert manager.call("repair") == []

    def test_a_folder_that_is_being_filled(self, manager: Manager) -> None:
        """Who overwrites a folder that another is filling waits for it; neither deletes the other's."""

        def take(other: CertLifecycleManager) -> None:
            with pytest.raises(Conflict):
                other.issue_certificate(client("other.example.org"), uuid_str="web", is_overwrite=True)

        other = manager.meanwhile("save_certificate", take, waits=True)
        first, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        other.join(30)
        # The first one stands and has the folder's name: the other is refused.
        assert manager.certificate("web") == first
        assert (manager.statuses(), manager.statuses("other.example.org")) == (["valid"], [])

    def test_one_name_of_a_folder_in_two_places(self, manager: Manager) -> None:
        """The name of a folder is one certificate's, wherever the folder is."""
        manager.call("issue_certificate", client(), uuid_str="web", cert_path="a")
        with pytest.raises(FileAlreadyExists, match="in 'a'; give another uuid_str"):
            manager.call("issue_certificate", client(), uuid_str="web", cert_path="b", is_overwrite=True)
        assert manager.statuses() == ["valid"]

    def test_a_ca_keeps_its_folder(self, manager: Manager) -> None:
        """Only a CA's certificate takes a CA's folder, also once it is revoked: there may be a CRL to sign yet."""
        paths = manager.call("create_self_signed_ca", CAConfig(common_name="Second", key=EC), uuid_str="second")
        record = manager.eyes.get_by_name("Second")
        assert record is not None
        manager.call("revoke_certificate", int(record.serial_number))
        before = manager.files()
        with pytest.raises(FileAlreadyExists, match="is that of the CA"):
            manager.call("issue_certificate", client(), uuid_str="second", is_overwrite=True)
        assert manager.files() == before
        assert paths[1].exists()

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

    def test_crls_at_once(self, manager: Manager) -> None:
        """A CRL that says more is never replaced by one that says less: its number is the higher one."""
        cert, _, _ = manager.call("issue_certificate", client())

        def revoke(other: CertLifecycleManager) -> None:
            other.revoke_certificate(cert.serial_number)
            other.generate_crl()

        other = manager.meanwhile("build_crl", revoke, waits=True)
        first = manager.call("generate_crl")
        other.join(30)
        saved = x509.load_pem_x509_crl((manager.folder / "crl.pem").read_bytes())
        assert [entry.serial_number for entry in saved] == [cert.serial_number]
        numbers = [crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for crl in (first, saved)]
        assert numbers == sorted(set(numbers))

    def test_crl_numbers_grow_whatever_the_clock_says(self, manager: Manager) -> None:
        """The number is one more than that of the CRL that is there, where that is ahead of the clock."""
        factory = manager.manager.factory
        assert factory is not None
        ahead = factory.build_crl([], crl_number=10**18)
        (manager.folder / "crl.pem").write_bytes(ahead.public_bytes(Encoding.DER))
        crl = manager.call("generate_crl")
        assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 10**18 + 1

    def test_a_crl_replaces_a_crl_only(self, manager: Manager) -> None:
        """A certificate that is called like a CRL is not overwritten by one."""
        manager.call("issue_certificate", client(name="crl"), uuid_str="web")
        with pytest.raises(FileAlreadyExists, match="is no CRL"):
            manager.call("generate_crl", cert_path="web")
        assert manager.certificate("web").serial_number

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

    def test_deletion_finds_the_folder(self, manager: Manager) -> None:
        """Deleted without its path, a certificate's folder is found; one of the same name that is another's stays."""
        cert, _, _ = manager.call("issue_certificate", client(), cert_path="a/web", uuid_str="web")
        assert manager.call("delete_certificate", cert.serial_number) is True
        assert (manager.folder / "a" / "web").is_dir()
        assert not [path for path in manager.files() if "web" in path]

    def test_deletion_of_what_gave_its_folder_away(self, manager: Manager) -> None:
        """A certificate whose folder went to its successor has a record to be deleted, and no files."""
        old, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        manager.call("issue_certificate", client(), uuid_str="web", is_overwrite=True)
        before = manager.files()
        assert manager.call("delete_certificate", old.serial_number) is True
        assert (manager.files(), manager.statuses()) == (before, ["valid"])

    def test_deletion(self, manager: Manager) -> None:
        """Deleting takes row and folder; of an unknown serial there is nothing to delete."""
        cert, _, _ = manager.call("issue_certificate", client(), cert_path="web")
        assert manager.call("delete_certificate", cert.serial_number, cert_path="web") is True
        assert list((manager.folder / "web").iterdir()) == []
        assert manager.call("delete_certificate", cert.serial_number) is False
        assert manager.statuses() == []


class TestSucceeding:
    def test_renewal(self, manager: Manager) -> None:
        """The same key under a new serial number, kept and recorded in a folder of its own; the old one stays valid."""
        old, _, _ = manager.call("issue_certificate", client(serial_type=CertType.DEVICE))
        new = manager.call("renew_certificate", old.serial_number, days_valid=7)
        assert new.public_key() == old.public_key()
        assert new.not_valid_after_utc - new.not_valid_before_utc == timedelta(days=7)
        record = manager.eyes.get_by_serial(new.serial_number)
        assert record is not None
        assert record.key_type == "DEV"
        assert [path.name for path in (manager.folder / str(record.uuid)).iterdir()] == [f"{NAME}.pem"]
        assert manager.statuses() == ["valid", "valid"]
        assert all(manager.call("verify_certificate", cert) for cert in (old, new))
        with pytest.raises(NotUniqueCertOwner):
            manager.call("issue_certificate", client())

    def test_rotation(self, manager: Manager) -> None:
        """A new key; the old certificate is superseded and its folder goes, wherever it was."""
        old, old_key, _ = manager.call("issue_certificate", client(), cert_path="web/a")
        new, key, csr = manager.call("rotate_certificate", old.serial_number, client(san_dns=["www.example.org"]))
        assert key.public_key() == new.public_key() == csr.public_key() != old_key.public_key()
        assert manager.statuses() == ["valid", "revoked"]
        assert list((manager.folder / "web" / "a").iterdir()) == []
        assert [entry.serial_number for entry in manager.call("generate_crl")] == [old.serial_number]
        assert manager.call("verify_certificate", new) is True

    @pytest.mark.parametrize("which", [0, 1])
    def test_rotation_after_renewal(self, manager: Manager, which: int) -> None:
        """Either of two certificates with one key is rotated; the other one stays, and so does the key."""
        first, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        pair = (first, manager.call("renew_certificate", first.serial_number))
        manager.call("rotate_certificate", pair[which].serial_number, client())
        assert manager.call("get_certificate_status", pair[which].serial_number) is CertificateStatus.REVOKED
        assert manager.call("get_certificate_status", pair[1 - which].serial_number) is CertificateStatus.VALID
        assert f"web/{NAME}.key" in manager.files()

    def test_rotation_to_another_name(self, manager: Manager) -> None:
        """Another name must be free; if it is not, the old certificate stays as it was."""
        old, _, _ = manager.call("issue_certificate", client())
        manager.call("issue_certificate", client("b.example.org"))
        before = manager.files()
        with pytest.raises(NotUniqueCertOwner, match=r"b\.example\.org"):
            manager.call("rotate_certificate", old.serial_number, client("b.example.org"))
        assert (manager.files(), manager.statuses()) == (before, ["valid"])
        manager.call("rotate_certificate", old.serial_number, client("c.example.org"))
        assert (manager.statuses(), manager.statuses("c.example.org")) == (["revoked"], ["valid"])

    @pytest.mark.parametrize("operation", ["renew_certificate", "rotate_certificate"])
    def test_what_has_no_successor(self, manager: Manager, operation: str) -> None:
        """An unknown serial is CertNotFound, a revoked certificate ValidationCertError; nothing is made."""
        arguments = [client()] if operation == "rotate_certificate" else []
        cert, _, _ = manager.call("issue_certificate", client())
        manager.call("revoke_certificate", cert.serial_number)
        before = manager.files()
        with pytest.raises(CertNotFound, match="serial number 1"):
            manager.call(operation, 1, *arguments)
        with pytest.raises(ValidationCertError, match="revoked"):
            manager.call(operation, cert.serial_number, *arguments)
        assert (manager.files(), manager.statuses()) == (before, ["revoked"])

    def test_what_expired_has_one(self, manager: Manager) -> None:
        """A certificate that was let expire is renewed or rotated late; there is nothing to revoke."""
        cert, _, _ = manager.call("issue_certificate", client())
        change(manager, cert.serial_number, not_valid_after=datetime.now(UTC) - timedelta(days=1))
        manager.call("renew_certificate", cert.serial_number)
        manager.call("rotate_certificate", cert.serial_number, client())
        assert [record.revocation_date for record in manager.records()] == [None] * 4

    def test_a_ca(self, manager: Manager) -> None:
        """A CA's certificate is renewed as a CA's, a root's beyond its end; no leaf takes its place."""
        root = manager.manager.factory.issuer.certificate  # type: ignore[union-attr]
        cert, _ = manager.call("issue_intermediate_ca", "Issuing", key=EC, days_valid=100)
        for old, days in ((cert, 200), (root, 5000)):
            new = manager.call("renew_certificate", old.serial_number, days_valid=days)
            assert new.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is True
            record = manager.eyes.get_by_serial(new.serial_number)
            assert record is not None
            assert record.key_type == "CA"
            with pytest.raises(ValidationCertError, match="CA"):
                manager.call("rotate_certificate", old.serial_number, client())

    def test_a_key_goes_with_its_last_certificate(self, manager: Manager) -> None:
        """A key that stayed for a renewal goes when that one is superseded too."""
        old, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        manager.call("renew_certificate", old.serial_number)
        manager.call("rotate_certificate", old.serial_number, client())
        assert f"web/{NAME}.key" in manager.files()
        manager.call("issue_certificate", client(), is_overwrite=True)
        assert f"web/{NAME}.key" not in manager.files()
        assert len([name for name in manager.files() if name.endswith(f"{NAME}.key")]) == 1

    def test_deleted_between_other_peoples_files(self, manager: Manager) -> None:
        """Links that lead nowhere and folders that look like files keep nobody from deleting a certificate's own."""
        cert, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        (manager.folder / "web" / "chain.pem").symlink_to("../gone.pem")
        (manager.folder / "web" / "folder.pem").mkdir()
        assert manager.call("delete_certificate", cert.serial_number) is True
        assert {name for name in manager.files() if name.startswith("web/")} == set()

    def test_a_row_without_files_is_not_anybodys(self, manager: Manager) -> None:
        """No UUID is no certificate's: nothing is deleted, and nothing un-revoked."""
        cert, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        manager.call("revoke_certificate", cert.serial_number, REASON)
        manager.call("issue_certificate", client(), uuid_str="web", is_overwrite=True)
        assert manager.eyes.delete_by_uuid(None) is False  # type: ignore[arg-type]
        assert manager.call("get_certificate_status", cert.serial_number) is CertificateStatus.REVOKED


class TestOtherPeoplesCertificates:
    def test_cosigned_is_recorded(self, manager: Manager) -> None:
        """A co-signed certificate is kept and recorded like any other, and can be revoked."""
        cert = manager.call("cosign_certificate", stranger(), days_valid=7)
        assert manager.call("verify_certificate", cert) is True
        assert manager.statuses("stranger.example.org") == ["valid"]
        assert manager.call("revoke_certificate", cert.serial_number) is True

    def test_cosigned_without_a_common_name(self, manager: Manager) -> None:
        """A certificate with names but no common name is recorded without one."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        san = x509.SubjectAlternativeName([x509.DNSName("a.example.org")])
        builder = x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), 7, now, now + timedelta(1))
        source = builder.add_extension(san, critical=True).sign(key, SHA256())
        cert = manager.call("cosign_certificate", source)
        record = manager.eyes.get_by_serial(cert.serial_number)
        assert record is not None
        assert (record.common_name, record.status) == (None, "valid")
        assert f"{record.uuid}/certificate.pem" in manager.files()

    def test_a_ca_is_not_cosigned(self, manager: Manager) -> None:
        """A manager never co-signs a CA; nothing is kept of the attempt."""
        root, _ = CertificateFactory.build_self_signed_ca("Other", key=EC, days_valid=10)
        before = (manager.files(), len(manager.records()))
        with pytest.raises(Forbidden):
            manager.call("cosign_certificate", root)
        assert (manager.files(), len(manager.records())) == before

    def test_inspection_needs_nothing(self, empty: Manager) -> None:
        """Any certificate is inspected, without a CA or a registry."""
        assert empty.call("inspect_certificate", stranger()).common_name == "stranger.example.org"

    def test_export(self, manager: Manager) -> None:
        """A PKCS #12 file holds the key, the certificate and its CA."""
        cert, key, _ = manager.call("issue_certificate", client())
        read = pkcs12.load_pkcs12(manager.call("export_pkcs12", cert, key, b"a password", name="web"), b"a password")
        assert read.cert is not None
        assert (read.cert.certificate, read.cert.friendly_name) == (cert, b"web")
        assert [one.certificate for one in read.additional_certs] == manager.call("get_cert_chain", cert)[1:]


class TestSeveralCAs:
    def test_an_intermediate_of_any_kind(self, manager: Manager) -> None:
        """``key`` asks for another kind of key than RSA."""
        for spec in (EC, KeySpec.ed25519(), KeySpec.mldsa("ML-DSA-44")):
            cert, _ = manager.call("issue_intermediate_ca", f"Issuing {spec}", key=spec)
            assert key_spec(cert.public_key()) == spec

    def test_a_crl_lists_its_own(self, manager: Manager) -> None:
        """Over one registry each CA's CRL lists what that CA signed."""
        by_root, _, _ = manager.call("issue_certificate", client())
        cert, key = manager.call("issue_intermediate_ca", "Issuing", key=EC)
        root = manager.manager.factory
        assert root is not None
        below = CertificateFactory(
            SimpleNamespace(
                ca_cert=cert,
                ca_key=key,
                ca_chain=(root.issuer.certificate,),
                base_info=certificate_info(cert),
            )
        )
        manager.manager.factory = below
        by_issuing, _, _ = manager.call("issue_certificate", client("b.example.org", days_valid=30))
        assert manager.call("get_cert_chain", by_issuing) == [by_issuing, cert, root.issuer.certificate]
        for one in (by_root, by_issuing):
            manager.call("revoke_certificate", one.serial_number)
        assert [entry.serial_number for entry in manager.call("generate_crl")] == [by_issuing.serial_number]
        manager.manager.factory = root
        assert [entry.serial_number for entry in manager.call("generate_crl")] == [by_root.serial_number]

    def test_a_revoked_ca_signs_nothing(self, manager: Manager) -> None:
        """Once the registry has the CA as revoked nothing is signed or verified with it; its last CRL still is."""
        cert, _, _ = manager.call("issue_certificate", client())
        ca = manager.manager.factory.issuer.certificate  # type: ignore[union-attr]
        manager.call("revoke_certificate", ca.serial_number)
        before = manager.files()
        for operation, arguments in (
            ("issue_certificate", [client("b.example.org")]),
            ("issue_intermediate_ca", ["Issuing"]),
            ("renew_certificate", [cert.serial_number]),
            ("rotate_certificate", [cert.serial_number, client()]),
            ("cosign_certificate", [stranger()]),
            ("verify_certificate", [cert]),
        ):
            with pytest.raises(ValidationCertError, match=r"CN=Root.* is revoked"):
                manager.call(operation, *arguments)
        assert manager.files() == before
        manager.call("generate_crl")


class TestBadInput:
    @pytest.mark.parametrize(
        "fields",
        [
            {"common_name": "c" * 65},
            {"common_name": "ü" * 40},
            {"common_name": ""},
            {"email": "nobody"},
            {"san_ip": ["10.0.0.256"]},
            {"commonname": "typo.example.org"},
        ],
        ids=lambda fields: next(iter(fields)),
    )
    def test_configs(self, fields: dict[str, Any]) -> None:
        """A wrong or mistyped field is told by its name."""
        with pytest.raises(ValidationError, match=next(iter(fields))):
            ClientConfig(**fields)

    @pytest.mark.parametrize("country", ["DEU", "D", "D1", "Ä1"])
    def test_countries(self, country: str) -> None:
        """A country is two letters (ISO 3166-1)."""
        with pytest.raises(ValidationError, match="country"):
            CAConfig(country=country)

    @pytest.mark.parametrize(
        "fields, error, says",
        [
            ({"days_valid": 0}, InvalidRangeTimeCertificate, "days_valid is 0"),
            ({"days_valid": -1}, InvalidRangeTimeCertificate, "days_valid is -1"),
            ({"days_valid": 4000}, InvalidRangeTimeCertificate, "after the CA itself"),
            ({"common_name": "bücher.example.org"}, Invalid, "xn--bcher-kva"),
            ({"common_name": "two words"}, Invalid, "two words"),
            ({"san_dns": ["a_b.example.org"]}, Invalid, "a_b"),
            ({"valid_from": datetime(2020, 1, 1)}, InvalidRangeTimeCertificate, "2020"),  # noqa: DTZ001
        ],
        ids=str,
    )
    def test_what_no_certificate_holds(
        self, manager: Manager, fields: dict[str, Any], error: type[Invalid], says: str
    ) -> None:
        """The value is named, and nothing is left on disk or in the registry."""
        before = (manager.files(), len(manager.records()))
        with pytest.raises(error, match=says):
            manager.call("issue_certificate", client(**fields))
        assert (manager.files(), len(manager.records())) == before

    def test_duplicate_names_fold(self, manager: Manager) -> None:
        """A name that comes twice, in whatever case, is there once."""
        cert, _, _ = manager.call("issue_certificate", client(san_dns=["a.example.org", "A.example.org", NAME]))
        assert manager.call("inspect_certificate", cert).san_dns == ["a.example.org", NAME]

    def test_a_naive_moment_is_utc(self, manager: Manager) -> None:
        """``valid_from`` without a zone is taken as UTC, exactly, be it before the CA's own beginning."""
        moment = datetime.now(UTC).replace(microsecond=0, tzinfo=None) - timedelta(days=3)
        cert, _, _ = manager.call("issue_certificate", client(valid_from=moment))
        assert cert.not_valid_before_utc == moment.replace(tzinfo=UTC)

    def test_a_tampered_certificate(self, manager: Manager) -> None:
        """One octet changed, and the signature does not verify."""
        cert, _, _ = manager.call("issue_certificate", client())
        octets = cert.public_bytes(Encoding.DER)
        tampered = x509.load_der_x509_certificate(octets.replace(b"nginx.", b"mginx.", 1))
        with pytest.raises(ValidationCertError, match="signature"):
            manager.call("verify_certificate", tampered)

    @pytest.mark.parametrize("reason", [1, "key_compromise", x509.ReasonFlags.remove_from_crl])
    def test_reasons(self, manager: Manager, reason: object) -> None:
        """What is no reason to revoke is refused, with those that are; the certificate stays valid."""
        cert, _, _ = manager.call("issue_certificate", client())
        with pytest.raises(Invalid, match="key_compromise"):
            manager.call("revoke_certificate", cert.serial_number, reason)
        assert manager.statuses() == ["valid"]

    def test_a_database_that_goes_away(self, manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
        """A registry that does not record, as documented with False, leaves nothing on disk."""
        before = manager.files()
        database = manager.manager._core._db
        assert database is not None
        monkeypatch.setattr(database, "register_cert_in_db", lambda **_: False)
        with pytest.raises(RegistryUnavailable, match="did not record"):
            manager.call("issue_certificate", client())
        assert manager.files() == before

    @pytest.mark.parametrize(
        "operation, arguments, says",
        [
            ("create_self_signed_ca", [client()], "config is of type CAConfig, not ClientConfig"),
            ("issue_certificate", [{}], "config is of type ClientConfig, not dict"),
            ("rotate_certificate", [1, None], "config is of type ClientConfig, not NoneType"),
            ("rotate_certificate", ["x", client()], "serial is of type int, not str"),
            ("renew_certificate", ["abc"], "serial is of type int, not str"),
            ("revoke_certificate", ["1"], "serial is of type int, not str"),
            ("get_certificate_status", [None], "serial is of type int, not NoneType"),
            ("delete_certificate", [True], "serial is of type int, not bool"),
            ("cosign_certificate", [None], "cert is of type Certificate, not NoneType"),
            ("verify_certificate", [b"-----BEGIN"], "cert is of type Certificate, not bytes"),
            ("inspect_certificate", ["x"], "cert is of type Certificate, not str"),
            ("get_cert_chain", ["x"], "cert is of type Certificate, not str"),
            ("verify_crl", [stranger()], "crl is of type CertificateRevocationList, not Certificate"),
            ("issue_certificate", [client(), None, 5], "uuid_str is of type str, not int"),
            ("issue_intermediate_ca", [5], "common_name is of type str, not int"),
            ("issue_intermediate_ca", ["a", "2048"], "key_size is of type int, not str"),
            ("list_certificates", [None, 3], "key_type is of type str or CertType or None, not int"),
            ("export_pkcs12", [None, None], "cert is of type Certificate, not NoneType"),
        ],
    )
    def test_what_is_of_another_kind(self, manager: Manager, operation: str, arguments: list[Any], says: str) -> None:
        """An object of another kind is a TypeError that names the argument; nothing is left."""
        before = manager.files()
        with pytest.raises(TypeError, match=says):
            manager.call(operation, *arguments)
        assert manager.files() == before

    def test_numbers_beyond_any(self, manager: Manager) -> None:
        """A limit beyond every list is none, an offset beyond it leaves nothing; a path has its bound."""
        assert len(manager.call("list_certificates", limit=10**30)) == 1
        assert manager.call("list_certificates", offset=10**30) == []
        with pytest.raises(Invalid, match="0 to 255"):
            manager.call("issue_intermediate_ca", "Deep", path_length=10**30, key=EC)


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
    def plain(self, tmp_path: Path, db_url: str) -> Iterator[CertLifecycleManager]:
        """Give a manager over them, with a CA."""
        handler = SyncDBHandler(db_url)
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


class TestOthersFiles:
    """What is one certificate's to replace or delete, and what stands beside it."""

    def test_a_folder_named_like_a_file(self, manager: Manager) -> None:
        """A folder inside that is called as the certificate's files are is another's all the same."""
        one, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        manager.call("issue_certificate", client("two.example.org"), cert_path="web", uuid_str=f"{NAME}.key.d")
        manager.call("issue_certificate", client("three.example.org"), cert_path="web", uuid_str=f"{NAME}.d")
        before = {path for path in manager.files() if "two" in path or "three" in path}
        assert manager.call("delete_certificate", one.serial_number) is True
        assert {path for path in manager.files() if path.startswith("web/")} == before

    def test_deletion_leaves_what_is_below(self, manager: Manager) -> None:
        """Of two folders of one name each certificate's own goes, and what others keep in it stays."""
        one, _, _ = manager.call("issue_certificate", client(), cert_path="team", uuid_str="web")
        two, _, _ = manager.call("issue_certificate", client("two.example.org"), cert_path="web")
        before = {path for path in manager.files() if "two.example.org" in path}
        assert manager.call("delete_certificate", one.serial_number) is True
        assert {path for path in manager.files() if "two.example.org" in path} == before
        assert not [path for path in manager.files() if path.startswith("team/")]
        assert manager.call("get_certificate_status", two.serial_number) is CertificateStatus.VALID

    def test_rotation_leaves_what_is_below(self, manager: Manager) -> None:
        """The old certificate's folder holds another's: its own files go, the other's stay."""
        one, _, _ = manager.call("issue_certificate", client(), uuid_str="web")
        manager.call("issue_certificate", client("two.example.org"), cert_path="web")
        before = {path for path in manager.files() if "two.example.org" in path}
        manager.call("rotate_certificate", one.serial_number, client())
        after = manager.files()
        assert {path for path in after if "two.example.org" in path} == before
        assert f"web/{NAME}.key" not in after

    def test_a_folder_with_folders_is_not_replaced(self, manager: Manager) -> None:
        """``uuid_str`` names where others keep theirs: refused before anything is signed."""
        manager.call("issue_certificate", client("two.example.org"), cert_path="web")
        before = manager.files()
        with pytest.raises(Invalid, match="which is not its own"):
            manager.call("issue_certificate", client(), uuid_str="web", is_overwrite=True)
        assert (manager.files(), manager.statuses()) == (before, [])

    @pytest.mark.parametrize("kind", ["file", "link"])
    def test_what_is_no_folder_is_not_replaced(self, manager: Manager, tmp_path: Path, kind: str) -> None:
        """A file, or a link that leads out of the storage: refused before anything is signed."""
        target = manager.folder / "web"
        if kind == "file":
            target.write_text("mine")
        else:
            target.symlink_to(tmp_path)
        with pytest.raises(Invalid):
            manager.call("issue_certificate", client(), uuid_str="web", is_overwrite=True)
        assert manager.statuses() == []
        assert manager.call("repair") == []
        assert target.is_symlink() == (kind == "link")
