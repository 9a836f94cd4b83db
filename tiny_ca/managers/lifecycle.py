"""Every operation of the lifecycle managers, once. Whatever touches the world goes through ``self._run``.

The core's coroutines await ``self._run(effect, …)`` and each other, nothing else; a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from logging import Logger
from pathlib import Path
from typing import Any

from cryptography import x509

from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.utils.life_time import CertLifetime
from tiny_ca.ca_factory.utils.serial import CertSerialParser
from tiny_ca.const import CertType
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.const import CertificateStatus, Succession
from tiny_ca.db.entries import common_name_of
from tiny_ca.db.models import CertificateRecord
from tiny_ca.exc import (
    CertNotFound,
    DBNotInitedError,
    NotUniqueCertOwner,
    ValidationCertError,
)
from tiny_ca.managers.alone import alone
from tiny_ca.managers.effects import Run
from tiny_ca.managers.keeping import SHARED, Heir, Made, is_ours, offers
from tiny_ca.managers.repair import Repair, Repairing
from tiny_ca.models.certificate import CAConfig, CertificateDetails, ClientConfig
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.settings import DEFAULT_LOGGER
from tiny_ca.storage.base_storage import BaseStorage
from tiny_ca.storage.folders import checked_name
from tiny_ca.storage.local_storage import LocalStorage
from tiny_ca.utils.arguments import check_kind

__all__ = ["Lifecycle"]


class Lifecycle(Repairing):
    """Collaborators and operations. ``run`` decides how an effect is done: here and now, or off the event loop."""

    def __init__(
        self,
        storage: BaseStorage | None = None,
        factory: CertificateFactory | None = None,
        db_handler: BaseDB | None = None,
        logger: Logger | None = None,
        *,
        run: Run,
    ) -> None:
        super().__init__(storage if storage is not None else LocalStorage(), logger or DEFAULT_LOGGER, run)
        self._factory = None if factory is None else _checked_factory(factory)
        self._db = db_handler

    @property
    def factory(self) -> CertificateFactory | None:
        """What signs; None until it is set. TypeError for anything but a CertificateFactory."""
        return self._factory

    @factory.setter
    def factory(self, factory: CertificateFactory) -> None:
        self._factory = _checked_factory(factory)

    @alone
    async def create_self_signed_ca(
        self,
        config: CAConfig,
        cert_path: str | Path | None = None,
        uuid_str: str | None = None,
        is_overwrite: bool = False,  # noqa: FBT001, FBT002  # the documented signature
    ) -> tuple[Path, Path]:
        """Make a root, keep it as ``ca.pem`` and ``ca.key``, register it. Return both paths.

        Raises
        ------
        NotUniqueCertOwner
            A valid certificate has that common name; with ``is_overwrite`` it is revoked as superseded instead.
        FileAlreadyExists
            The folder ``uuid_str`` is in use and ``is_overwrite`` is False.
        """
        database = self._needed_database()
        check_kind(config, CAConfig, "config")
        heir = await self._heir(database, config.common_name, CertType.CA, is_overwrite=is_overwrite)
        place = await self._place(database, cert_path, uuid_str, is_overwrite=is_overwrite, key_type=CertType.CA)
        build = CertificateFactory.build_self_signed_ca
        cert, key = await self._run(build, **_arguments(config), logger=self._logger)
        files = await self._keep(database, place, Made(cert, (key,), "ca", CertType.CA), heir)
        return files[0], files[1]

    async def issue_certificate(
        self,
        config: ClientConfig,
        cert_path: str | Path | None = None,
        uuid_str: str | None = None,
        is_overwrite: bool = False,  # noqa: FBT001, FBT002
    ) -> tuple[x509.Certificate, PrivateKey, x509.CertificateSigningRequest]:
        """Make a key and a certificate, keep ``.pem``, ``.key`` and ``.csr`` in one folder, register it.

        Raises
        ------
        NotUniqueCertOwner
            A valid certificate has that common name; with ``is_overwrite`` it is revoked as superseded instead.
        FileAlreadyExists
            The folder ``uuid_str`` is in use and ``is_overwrite`` is False, or is that of a CA.
        """
        # Otherwise the folder is new, and no other one goes: any number of these may go on at once.
        if uuid_str is None and not is_overwrite:
            return await self._issued(config, cert_path, None, is_overwrite=False)
        return await self._issued_alone(config, cert_path, uuid_str, is_overwrite=is_overwrite)

    async def _issued(
        self, config: ClientConfig, cert_path: str | Path | None, uuid_str: str | None, *, is_overwrite: bool
    ) -> tuple[x509.Certificate, PrivateKey, x509.CertificateSigningRequest]:
        factory, database = await self._signing()
        check_kind(config, ClientConfig, "config")
        file_name = _file_name(config)
        heir = await self._heir(database, config.common_name, config.serial_type, is_overwrite=is_overwrite)
        place = await self._place(database, cert_path, uuid_str, is_overwrite=is_overwrite, key_type=config.serial_type)
        cert, key, csr = await self._run(factory.issue_certificate, **_arguments(config))
        await self._keep(database, place, Made(cert, (key, csr), file_name, config.serial_type), heir)
        return cert, key, csr

    @alone
    async def _issued_alone(
        self, config: ClientConfig, cert_path: str | Path | None, uuid_str: str | None, *, is_overwrite: bool
    ) -> tuple[x509.Certificate, PrivateKey, x509.CertificateSigningRequest]:
        return await self._issued(config, cert_path, uuid_str, is_overwrite=is_overwrite)

    @alone
    async def issue_intermediate_ca(  # noqa: PLR0913, PLR0917  # the documented signature
        self,
        common_name: str,
        key_size: int = 4096,
        days_valid: int = 1825,
        valid_from: datetime | None = None,
        path_length: int | None = 0,
        organization: str | None = None,
        country: str | None = None,
        cert_path: str | Path | None = None,
        uuid_str: str | None = None,
        *,
        key: KeySpec | None = None,
    ) -> tuple[x509.Certificate, PrivateKey]:
        """Make a CA below this one, keep its ``.pem`` and ``.key``, register it as a CA.

        Its common name may be another's: a CA and its successor often share one. ``key`` asks for any kind of key, and
        goes before ``key_size``.

        Raises
        ------
        Forbidden
            This CA's path length leaves no room for it.
        InvalidRangeTimeCertificate
            The validity is empty, past, or outlives this CA.
        FileAlreadyExists
            The folder ``uuid_str`` is in use.
        """
        factory, database = await self._signing()
        place = await self._place(database, cert_path, uuid_str, key_type=CertType.CA)
        cert, private_key = await self._run(
            factory.issue_intermediate_ca,
            common_name=common_name,
            key_size=key_size,
            days_valid=days_valid,
            valid_from=valid_from,
            path_length=path_length,
            organization=organization,
            country=country,
            key=key,
        )
        await self._keep(database, place, Made(cert, (private_key,), _derived_name(common_name), CertType.CA), SHARED)
        return cert, private_key

    async def renew_certificate(
        self, serial: int, days_valid: int = 365, valid_from: datetime | None = None
    ) -> x509.Certificate:
        """Sign the certificate again for a new window; its key stays where it is, and the old one stays valid.

        Raises
        ------
        CertNotFound
            No certificate has that serial number.
        ValidationCertError
            It is revoked, or another CA's.
        InvalidRangeTimeCertificate
            The validity is empty, past, or outlives the CA.
        """
        factory, database = await self._signing()
        old = await self._successable(database, serial)
        place = await self._place(database, None, None)
        source = x509.load_pem_x509_certificate(old.certificate_pem.encode())
        cert = await self._run(factory.renew_certificate, source, days_valid=days_valid, valid_from=valid_from)
        made = Made(cert, (), _derived_name(old.common_name), CertType(old.key_type))
        await self._keep(database, place, made, Heir(Succession.RENEWAL, old))
        return cert

    @alone
    async def rotate_certificate(
        self, serial: int, config: ClientConfig
    ) -> tuple[x509.Certificate, PrivateKey, x509.CertificateSigningRequest]:
        """Make a new key and certificate; once they stand, the old certificate is revoked as superseded.

        Raises
        ------
        CertNotFound
            No certificate has that serial number.
        ValidationCertError
            It is revoked, or a CA's.
        NotUniqueCertOwner
            ``config`` has another common name, and a valid certificate has that already.
        """
        factory, database = await self._signing()
        check_kind(config, ClientConfig, "config")
        file_name = _file_name(config)
        old = await self._successable(database, serial)
        if old.key_type == CertType.CA.value:
            message = f"certificate {serial:x} is a CA's, which no end-entity certificate replaces"
            raise ValidationCertError(message, field="serial", value=f"{serial:x}")
        if config.common_name != old.common_name:
            await self._check_free(database, config.common_name)
        place = await self._place(database, None, None)
        cert, key, csr = await self._run(factory.issue_certificate, **_arguments(config))
        made = Made(cert, (key, csr), file_name, config.serial_type)
        await self._keep(database, place, made, Heir(Succession.ROTATION, old))
        return cert, key, csr

    async def cosign_certificate(
        self, cert: x509.Certificate, days_valid: int | None = None, valid_from: datetime | None = None
    ) -> x509.Certificate:
        """Sign somebody else's certificate as this CA's, keep and register it; never a CA's. As the factory's.

        Raises
        ------
        Forbidden, Invalid, InvalidRangeTimeCertificate
            As ``CertificateFactory.cosign_certificate``.
        """
        factory, database = await self._signing()
        place = await self._place(database, None, None)
        signed = await self._run(factory.cosign_certificate, cert, days_valid=days_valid, valid_from=valid_from)
        kind, _ = CertSerialParser.typed(signed)
        made = Made(signed, (), _derived_name(common_name_of(signed)), kind or CertType.SERVICE)
        await self._keep(database, place, made, SHARED)
        return signed

    async def export_pkcs12(
        self,
        cert: x509.Certificate,
        private_key: PrivateKey,
        password: bytes | None = None,
        name: str | None = None,
        *,
        compatibility: bool = False,
    ) -> bytes:
        """DER of a PKCS #12 file with certificate, key and chain; as ``CertificateFactory.export_pkcs12``."""
        return await self._run(
            self._needed_factory().export_pkcs12,
            cert,
            private_key,
            password=password,
            name=name,
            compatibility=compatibility,
        )

    async def inspect_certificate(self, cert: x509.Certificate) -> CertificateDetails:
        """Read a certificate of any issuer into plain values; as ``CertificateFactory.inspect_certificate``."""
        return await self._run(CertificateFactory.inspect_certificate, cert)

    async def revoke_certificate(self, serial: int, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified) -> bool:
        """Revoke a valid certificate; False where there is none with that serial."""
        check_kind(serial, int, "serial")
        database = self._needed_database()
        revoked, outcome = await self._run(database.revoke_certificate, serial_number=serial, reason=reason)
        self._logger.info("revoking %x as %s: %s", serial, reason.value, outcome.name)
        return revoked

    async def generate_crl(
        self, cert_path: str | Path | None = None, days_valid: int = 1
    ) -> x509.CertificateRevocationList:
        """Sign a CRL of everything revoked and put it in the place of ``crl.pem``.

        Its number is higher than that one's (RFC 5280 §5.2.3).

        Raises
        ------
        FileAlreadyExists
            ``crl.pem`` is no CRL there.
        """
        return await self._publish(self._needed_factory(), self._needed_database(), cert_path, days_valid)

    @alone
    async def _publish(
        self, factory: CertificateFactory, database: BaseDB, cert_path: str | Path | None, days_valid: int
    ) -> x509.CertificateRevocationList:
        # Numbered and listed under the lock: of two, the one with the higher number says no less.
        before = await self._saved_crl(cert_path)
        rows: list[Any] = await self._run(_revoked_source(database, factory))
        crl = await self._run(factory.build_crl, rows, days_valid=days_valid, crl_number=_number_after(before))
        await self._run(
            self._storage.save_certificate,
            cert=crl,
            file_name="crl",
            cert_path=cert_path,
            is_add_uuid=False,
            is_overwrite=True,
        )
        return crl

    async def _saved_crl(self, cert_path: str | Path | None) -> x509.CertificateRevocationList | None:
        if not offers(self._storage, "saved_crl"):
            return None
        storage: Any = self._storage
        crl: x509.CertificateRevocationList | None = await self._run(
            storage.saved_crl, file_name="crl", cert_path=cert_path
        )
        return crl

    async def verify_crl(self, crl: x509.CertificateRevocationList) -> None:
        """Check that this CA signed the CRL and that it is current; ValidationCertError says what is wrong."""
        await self._run(self._needed_factory().verify_crl, crl)

    async def get_certificate_status(self, serial: int) -> CertificateStatus:
        """UNKNOWN, REVOKED, EXPIRED or VALID, by dates and not by what the last background job wrote."""
        check_kind(serial, int, "serial")
        record = await self._run(self._needed_database().get_by_serial, serial=serial)
        return _status(record)

    async def verify_certificate(self, cert: x509.Certificate) -> bool:
        """Return True for a certificate of this CA that is valid now and not revoked.

        Raises
        ------
        ValidationCertError
            Issuer, window or signature is wrong, it or its CA is revoked, or the registry does not know it.
        """
        factory, database = await self._signing()
        await self._run(factory.validate_cert, cert)
        record = await self._run(database.get_by_serial, serial=cert.serial_number)
        status = _status(record)
        if status is not CertificateStatus.VALID:
            message = f"certificate {cert.serial_number:x} is {status.value} in the registry; it must be valid"
            raise ValidationCertError(message, field="status", value=status.value)
        return True

    async def get_cert_chain(self, cert: x509.Certificate) -> list[x509.Certificate]:
        """The certificate, its CA, and that CA's issuers as far as they are known; root last."""
        return await self._run(self._needed_factory().get_cert_chain, cert)

    async def list_certificates(
        self,
        status: str | None = None,
        key_type: str | CertType | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> list[CertificateRecord]:
        """Return records, newest first; ``key_type`` is a CertType, its value or its name in any case."""
        list_all = self._needed_database().list_all
        return await self._run(list_all, status=status, key_type=key_type, limit=limit, offset=offset)

    async def get_expiring_soon(self, within_days: int = 30) -> list[CertificateRecord]:
        """Return the valid records that expire within so many days, soonest first."""
        return await self._run(self._needed_database().get_expiring, within_days=within_days)

    async def refresh_expired_statuses(self) -> int:
        """Mark as expired whatever has; return how many."""
        return await self._run(self._needed_database().update_status_expired)

    @alone
    async def delete_certificate(self, serial: int, cert_path: str | Path | None = None) -> bool:
        """Delete folder and row; False for an unknown serial, or where either could not be deleted.

        A folder that is not below ``cert_path`` is looked for in the whole storage.

        The row of a revoked certificate is its place on the CRL: deleting it before it expires un-revokes it.
        """
        check_kind(serial, int, "serial")
        database = self._needed_database()
        record = await self._run(database.get_by_serial, serial=serial)
        if record is None:
            return False
        # The folder first: a row without files can be deleted again, a key without a row is forgotten.
        if not await self._delete_files(record, cert_path):
            return False
        if record.uuid is None:  # its folder went to the one that replaced it
            registry: Any = database
            return offers(database, "delete_by_serial") and await self._run(registry.delete_by_serial, serial)
        return await self._run(database.delete_by_uuid, uuid=record.uuid)

    @alone
    async def repair(self, *, mend: bool = True) -> list[Repair]:
        """Find the folders that dead processes left unfinished; unless ``mend`` is False, bring them to an end.

        What other processes are working on is left alone, and so is every folder that no manager made.

        Raises
        ------
        TypeError
            The storage keeps no account of what was begun.
        """
        return await self._repaired(self._needed_database(), mend=mend)

    async def _successable(self, database: BaseDB, serial: int) -> CertificateRecord:
        """Return the record of a certificate that may be renewed or rotated."""
        check_kind(serial, int, "serial")
        record = await self._recorded(database, serial)
        if record is None:
            raise CertNotFound(f"there is no certificate with the serial number {serial:x}")
        if _status(record) is CertificateStatus.REVOKED:
            message = f"certificate {serial:x} is revoked; issue a new one instead"
            raise ValidationCertError(message, field="serial", value=f"{serial:x}")
        return record

    async def _check_free(self, database: BaseDB, common_name: str) -> None:
        holder = await self._run(database.get_by_name, common_name=common_name)
        if holder is not None:
            serial = int(holder.serial_number)
            raise NotUniqueCertOwner(f"certificate {serial:x} is valid and named {common_name!r}; revoke it first")

    async def _heir(self, database: BaseDB, common_name: str, key_type: CertType, *, is_overwrite: bool) -> Heir:
        """Tell what a new certificate of that name would do to the valid one that has it.

        Raises
        ------
        NotUniqueCertOwner
            There is one, and it must not be overwritten.
        """
        succession = Succession.OVERWRITE if is_overwrite else Succession.UNIQUE
        holder = await self._run(database.get_by_name, common_name=common_name)
        if holder is None:
            return Heir(succession)
        cure = "revoke it first, or pass is_overwrite=True"
        if is_overwrite and (holder.key_type == CertType.CA.value) != (key_type is CertType.CA):
            cure = "it is a CA's, which only a CA's replaces" if key_type is not CertType.CA else "it is no CA's"
        elif is_overwrite:
            return Heir(succession, holder)
        raise NotUniqueCertOwner(
            f"certificate {int(holder.serial_number):x} is valid and named {common_name!r}; {cure}"
        )

    async def _signing(self) -> tuple[CertificateFactory, BaseDB]:
        """Return what signs and records, once it is known that the CA itself is not revoked.

        Raises
        ------
        ValidationCertError
            The registry has the CA's certificate as revoked.
        """
        factory, database = self._needed_factory(), self._needed_database()
        for certificate in (factory.issuer.certificate, *factory.issuer.chain):
            record = await self._recorded(database, certificate.serial_number)
            if record is not None and _status(record) is CertificateStatus.REVOKED:
                name = certificate.subject.rfc4514_string()
                message = f"the CA {name!r} is revoked: nobody would believe what it signs; set another factory"
                raise ValidationCertError(message, field="factory", value=name)
        return factory, database

    def _needed_factory(self) -> CertificateFactory:
        if self._factory is None:
            raise ValueError("this needs a CA: set the manager's factory to a CertificateFactory first")
        return self._factory

    def _needed_database(self) -> BaseDB:
        if self._db is None:
            raise DBNotInitedError("this needs a registry: make the manager with a db_handler")
        return self._db


def _checked_factory(factory: object) -> CertificateFactory:
    if not isinstance(factory, CertificateFactory):
        raise TypeError(f"factory must be a CertificateFactory, not a {type(factory).__name__}")
    return factory


def _revoked_source(database: BaseDB, factory: CertificateFactory) -> Callable[[], Any]:
    """Where the registry can say that it could not be asked, ask it so: an empty CRL would say that all is well."""
    registry: Any = database
    source: Callable[[], Any] = registry.get_revoked_certificates
    if offers(database, "require_revoked") and is_ours(source):
        return partial(registry.require_revoked, factory.issuer.certificate)
    return source


def _number_after(crl: x509.CertificateRevocationList | None) -> int:
    """The microseconds since 1970, or one more than the last number where a clock has gone back."""
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    try:
        return now if crl is None else max(now, _crl_number(crl) + 1)
    except (*UNREADABLE, x509.ExtensionNotFound):
        return now


def _crl_number(crl: x509.CertificateRevocationList) -> int:
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def _arguments(config: CAConfig | ClientConfig) -> dict[str, Any]:
    """Return the factory's arguments; ``key`` only where it is asked for, it is no documented one."""
    return config.model_dump(exclude={"name"} if config.key is not None else {"name", "key"})


def _file_name(config: ClientConfig) -> str:
    return _derived_name(config.common_name) if config.name is None else checked_name(config.name, "name")


def _derived_name(common_name: str | None) -> str:
    """Return a file name that looks like the common name, whatever is in that."""
    name = (common_name or "certificate").replace("/", "_").replace("\0", "_")
    return f"_{name}" if name in {".", ".."} else name


def _status(record: CertificateRecord | None) -> CertificateStatus:
    if record is None:
        return CertificateStatus.UNKNOWN
    if record.revocation_date is not None:
        return CertificateStatus.REVOKED
    expired = CertLifetime.normalize_dt(record.not_valid_after) < datetime.now(UTC)
    return CertificateStatus.EXPIRED if expired else CertificateStatus.VALID
