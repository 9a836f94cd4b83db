"""Every operation of the lifecycle managers, once. Whatever touches the world goes through ``self._run``.

The core's coroutines await ``self._run(effect, …)`` and each other, nothing else; a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from logging import Logger
from pathlib import Path
from typing import Any
from uuid import uuid4

from cryptography import x509

from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.utils.life_time import CertLifetime
from tiny_ca.const import CertType
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.models import CertificateRecord
from tiny_ca.exc import (
    DBNotInitedError,
    FileAlreadyExists,
    NotUniqueCertOwner,
    RegistryUnavailable,
    ValidationCertError,
)
from tiny_ca.managers.effects import Run
from tiny_ca.models.certificate import CAConfig, ClientConfig
from tiny_ca.settings import DEFAULT_LOGGER
from tiny_ca.storage.base_storage import BaseStorage
from tiny_ca.storage.const import CryptoObject
from tiny_ca.storage.folders import checked_name, checked_path
from tiny_ca.storage.local_storage import LocalStorage

__all__ = ["Lifecycle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where files go: into ``written``, which takes the place of the folder ``uuid`` where there is one already."""

    cert_path: str | Path | None
    uuid: str
    written: str
    replace: bool
    in_place: bool = False

    @property
    def staged(self) -> bool:
        return self.written != self.uuid


@dataclass(frozen=True, slots=True)
class _Made:
    """What was signed, and what is kept beside it."""

    cert: x509.Certificate
    others: tuple[CryptoObject, ...]
    file_name: str
    key_type: CertType


class Lifecycle:
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
        self._storage = storage if storage is not None else LocalStorage()
        self._factory = None if factory is None else _checked_factory(factory)
        self._db = db_handler
        self._logger = logger or DEFAULT_LOGGER
        self._run = run

    @property
    def factory(self) -> CertificateFactory | None:
        """What signs; None until it is set. TypeError for anything but a CertificateFactory."""
        return self._factory

    @factory.setter
    def factory(self, factory: CertificateFactory) -> None:
        self._factory = _checked_factory(factory)

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
        old = await self._holder(database, config.common_name, CertType.CA, is_overwrite=is_overwrite)
        place = await self._place(cert_path, uuid_str, is_overwrite=is_overwrite)
        build = CertificateFactory.build_self_signed_ca
        cert, key = await self._run(build, **_arguments(config), logger=self._logger)
        files = await self._keep(database, place, _Made(cert, (key,), "ca", CertType.CA), old=old)
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
            The folder ``uuid_str`` is in use and ``is_overwrite`` is False.
        """
        factory, database = self._needed_factory(), self._needed_database()
        file_name = _file_name(config)
        old = await self._holder(database, config.common_name, config.serial_type, is_overwrite=is_overwrite)
        place = await self._place(cert_path, uuid_str, is_overwrite=is_overwrite)
        cert, key, csr = await self._run(factory.issue_certificate, **_arguments(config))
        await self._keep(database, place, _Made(cert, (key, csr), file_name, config.serial_type), old=old)
        return cert, key, csr

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
    ) -> tuple[x509.Certificate, PrivateKey]:
        """Make a CA below this one, keep its ``.pem`` and ``.key``, register it as a CA.

        Its common name may be another's: a CA and its successor often share one.
        """
        factory, database = self._needed_factory(), self._needed_database()
        place = await self._place(cert_path, uuid_str, is_overwrite=False)
        cert, key = await self._run(
            factory.issue_intermediate_ca,
            common_name=common_name,
            key_size=key_size,
            days_valid=days_valid,
            valid_from=valid_from,
            path_length=path_length,
            organization=organization,
            country=country,
        )
        await self._keep(database, place, _Made(cert, (key,), _derived_name(common_name), CertType.CA), unique=False)
        return cert, key

    async def revoke_certificate(self, serial: int, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified) -> bool:
        """Revoke a valid certificate; False where there is none with that serial."""
        database = self._needed_database()
        revoked, outcome = await self._run(database.revoke_certificate, serial_number=serial, reason=reason)
        self._logger.info("revoking %x as %s: %s", serial, reason.value, outcome.name)
        return revoked

    async def generate_crl(
        self, cert_path: str | Path | None = None, days_valid: int = 1
    ) -> x509.CertificateRevocationList:
        """Sign a CRL of everything revoked and put it in the place of ``crl.pem``."""
        factory, database = self._needed_factory(), self._needed_database()
        rows: list[Any] = await self._run(_revoked_source(database))
        crl = await self._run(factory.build_crl, rows, days_valid=days_valid)
        await self._run(
            self._storage.save_certificate,
            cert=crl,
            file_name="crl",
            cert_path=cert_path,
            is_add_uuid=False,
            is_overwrite=True,
        )
        return crl

    async def verify_crl(self, crl: x509.CertificateRevocationList) -> None:
        """Check that this CA signed the CRL and that it is current; ValidationCertError says what is wrong."""
        await self._run(self._needed_factory().verify_crl, crl)

    async def get_certificate_status(self, serial: int) -> CertificateStatus:
        """UNKNOWN, REVOKED, EXPIRED or VALID, by dates and not by what the last background job wrote."""
        record = await self._run(self._needed_database().get_by_serial, serial=serial)
        return _status(record)

    async def verify_certificate(self, cert: x509.Certificate) -> bool:
        """Return True for a certificate of this CA that is valid now and not revoked.

        Raises
        ------
        ValidationCertError
            Issuer, window or signature is wrong, it is revoked, or the registry does not know it.
        """
        factory, database = self._needed_factory(), self._needed_database()
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

    async def delete_certificate(self, serial: int, cert_path: str | Path | None = None) -> bool:
        """Delete folder and row; False for an unknown serial, or where either could not be deleted.

        The row of a revoked certificate is its place on the CRL: deleting it before it expires un-revokes it.
        """
        database = self._needed_database()
        record = await self._run(database.get_by_serial, serial=serial)
        if record is None or record.uuid is None:
            return False
        # The folder first: a row without files can be deleted again, a key without a row is forgotten.
        if not await self._run(self._storage.delete_certificate_folder, uuid_str=record.uuid, cert_path=cert_path):
            return False
        return await self._run(database.delete_by_uuid, uuid=record.uuid)

    async def _holder(
        self, database: BaseDB, common_name: str, key_type: CertType, *, is_overwrite: bool
    ) -> CertificateRecord | None:
        """Return the valid certificate that is to be superseded, None where the name is free."""
        holder = await self._run(database.get_by_name, common_name=common_name)
        if holder is None:
            return None
        cure = "revoke it first, or pass is_overwrite=True"
        if is_overwrite and (holder.key_type == CertType.CA.value) != (key_type is CertType.CA):
            cure = "it is a CA's, which only a CA's replaces" if key_type is not CertType.CA else "it is no CA's"
        elif is_overwrite:
            return holder
        raise NotUniqueCertOwner(
            f"certificate {int(holder.serial_number):x} is valid and named {common_name!r}; {cure}"
        )

    async def _place(self, cert_path: str | Path | None, uuid_str: str | None, *, is_overwrite: bool) -> _Place:
        checked_path(cert_path, "cert_path")
        fresh = str(uuid4())
        place = _Place(cert_path=cert_path, uuid=fresh, written=fresh, replace=is_overwrite)
        if uuid_str is None:
            return place
        checked_name(uuid_str, "uuid_str")
        if not _offers(self._storage, "has_certificate_folder") or not await self._has_folder(uuid_str, cert_path):
            # A storage that cannot say what is there overwrites in place, and then nothing can be taken back.
            blind = is_overwrite and not _offers(self._storage, "has_certificate_folder")
            return replace(place, uuid=uuid_str, written=uuid_str, in_place=blind)
        if not is_overwrite:
            raise FileAlreadyExists(f"the folder {uuid_str!r} is in use; pass is_overwrite=True to replace it")
        return replace(place, uuid=uuid_str)

    async def _keep(
        self, database: BaseDB, place: _Place, made: _Made, *, old: CertificateRecord | None = None, unique: bool = True
    ) -> list[Path]:
        """Keep the files, then the record, or neither; only then does the old certificate go. Return the paths."""
        paths: list[Path] = []
        uuid = place.uuid
        try:
            # 1. The files, in a folder that nobody is told of before the certificate is recorded.
            for file in (made.cert, *made.others):
                path, folder = await self._run(
                    self._storage.save_certificate,
                    cert=file,
                    file_name=made.file_name,
                    cert_path=place.cert_path,
                    uuid_str=place.written,
                    is_overwrite=place.in_place,
                )
                paths.append(Path(path))
                uuid = place.uuid if place.staged else folder or uuid
            # 2. The record and, in the same transaction where the registry can, the end of the old certificate.
            ended = await self._register(database, made, uuid, unique=unique, replace=place.replace)
        except BaseException:  # whatever it was: without a record there must be no key
            if paths and not place.in_place:
                await self._delete_folder(place.written, place.cert_path)
            raise
        # 3. The new one stands.
        if old is not None and not ended:
            await self._supersede(database, old)
        if place.staged:
            paths = await self._put_in_place(place, paths)
        # A CA's key stays: there may be a CRL to sign yet.
        if old is not None and old.uuid not in {None, uuid} and made.key_type is not CertType.CA:
            await self._delete_folder(str(old.uuid), place.cert_path)
        return paths

    async def _register(self, database: BaseDB, made: _Made, uuid: str, *, unique: bool, replace: bool) -> bool:
        """Record; return whether that also ended the certificates it replaces. Raises where nothing was recorded."""
        entry: dict[str, Any] = {"cert": made.cert, "uuid": uuid, "key_type": made.key_type}
        if unique and _offers(database, "register_unique"):
            registry: Any = database
            await self._run(registry.register_unique, **entry, **({"replace": True} if replace else {}))
            return True
        if not await self._run(database.register_cert_in_db, **entry):
            message = f"the registry did not record certificate {made.cert.serial_number:x}; its log says why"
            raise RegistryUnavailable(message)
        return False

    async def _supersede(self, database: BaseDB, old: CertificateRecord) -> None:
        serial = int(old.serial_number)
        revoked, outcome = await self._run(
            database.revoke_certificate, serial_number=serial, reason=x509.ReasonFlags.superseded
        )
        if not revoked:
            self._logger.warning("certificate %x was replaced but is not revoked: %s", serial, outcome.name)

    async def _put_in_place(self, place: _Place, paths: list[Path]) -> list[Path]:
        storage: Any = self._storage
        folder: Path = await self._run(
            storage.replace_certificate_folder,
            uuid_str=place.uuid,
            by_uuid=place.written,
            cert_path=place.cert_path,
        )
        return [folder / path.name for path in paths]

    async def _has_folder(self, uuid: str, cert_path: str | Path | None) -> bool:
        storage: Any = self._storage
        answer: bool = await self._run(storage.has_certificate_folder, uuid_str=uuid, cert_path=cert_path)
        return answer

    async def _delete_folder(self, uuid: str, cert_path: str | Path | None) -> None:
        """Delete a folder that may be gone already, or be elsewhere."""
        if _offers(self._storage, "has_certificate_folder") and not await self._has_folder(uuid, cert_path):
            return
        await self._run(self._storage.delete_certificate_folder, uuid_str=uuid, cert_path=cert_path)

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


def _offers(collaborator: object, *methods: str) -> bool:
    """Tell whether its class has what BaseDB and BaseStorage do not ask for."""
    return all(callable(getattr(type(collaborator), method, None)) for method in methods)


def _revoked_source(database: BaseDB) -> Callable[[], Any]:
    """Where the registry can say that it could not be asked, ask it so: an empty CRL would say that all is well."""
    registry: Any = database
    source: Callable[[], Any] = (
        registry.require_revoked if _offers(database, "require_revoked") else registry.get_revoked_certificates
    )
    return source


def _arguments(config: CAConfig | ClientConfig) -> dict[str, Any]:
    """Return the factory's arguments; ``key`` only where it is asked for, it is no documented one."""
    return config.model_dump(exclude={"name"} if config.key is not None else {"name", "key"})


def _file_name(config: ClientConfig) -> str:
    return _derived_name(config.common_name) if config.name is None else checked_name(config.name, "name")


def _derived_name(common_name: str) -> str:
    """Return a file name that looks like the common name, whatever is in that."""
    name = common_name.replace("/", "_")
    return f"_{name}" if name in {".", ".."} else name


def _status(record: CertificateRecord | None) -> CertificateStatus:
    if record is None:
        return CertificateStatus.UNKNOWN
    if record.revocation_date is not None:
        return CertificateStatus.REVOKED
    expired = CertLifetime.normalize_dt(record.not_valid_after) < datetime.now(UTC)
    return CertificateStatus.EXPIRED if expired else CertificateStatus.VALID
