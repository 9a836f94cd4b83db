"""Files and record of one certificate: both or neither, and only then does the old certificate go.

    begin folder -> files -> record (and, in its transaction, the end of the old one) -> put in place -> finish folder

Like the rest of the core, nothing here awaits anything but ``self._run`` and itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from logging import Logger
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from cryptography import x509

from tiny_ca.const import CertType
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.const import Succession
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries import certificate_by_uuid, superseded_with_key, valid_with_key
from tiny_ca.db.sync_db_manager import SyncDBHandler
from tiny_ca.exc import FileAlreadyExists, RegistryUnavailable
from tiny_ca.managers.effects import Run
from tiny_ca.storage.base_storage import BaseStorage
from tiny_ca.storage.const import CryptoObject
from tiny_ca.storage.folders import checked_name, checked_path
from tiny_ca.storage.unfinished import StorageLock, UnfinishedFolder

__all__ = ["ACCOUNTING", "SHARED", "Heir", "Keeping", "Made", "is_ours", "offers"]

# What a storage offers that can say, after a crash, what was begun.
ACCOUNTING: Final = (
    "begin_certificate_folder",
    "finish_certificate_folder",
    "discard_certificate_folder",
    "unfinished_certificate_folders",
    "sweep",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    """Where files go: into ``written``, which takes the place of the folder ``uuid`` where there is one already."""

    cert_path: str | Path | None
    uuid: str
    written: str
    in_place: bool = False

    @property
    def staged(self) -> bool:
        return self.written != self.uuid


@dataclass(frozen=True, slots=True)
class Made:
    """What was signed, and what is kept beside it."""

    cert: x509.Certificate
    others: tuple[CryptoObject, ...]
    file_name: str
    key_type: CertType


@dataclass(frozen=True, slots=True)
class Heir:
    """What a new certificate does to those before it; ``old`` is the one that it replaces or renews."""

    succession: Succession
    old: CertificateRecord | None = None

    @property
    def predecessor(self) -> int | None:
        """The serial number of the one that is renewed or rotated."""
        by_name = self.succession in {Succession.UNIQUE, Succession.OVERWRITE, Succession.SHARED}
        return None if by_name or self.old is None else int(self.old.serial_number)

    @property
    def ends_old(self) -> bool:
        """Whether the old one is revoked once the new one stands."""
        return self.old is not None and self.succession in {Succession.OVERWRITE, Succession.ROTATION}


SHARED: Final = Heir(Succession.SHARED)


class Keeping:
    """A storage, and how effects are done; the registry comes with each call, for an operation may need none."""

    def __init__(self, storage: BaseStorage, logger: Logger, run: Run) -> None:
        self._storage = storage
        self._logger = logger
        self._run = run

    async def _lock_storage(self) -> StorageLock | None:
        """Wait for the storage's lock; None where it has none."""
        if not offers(self._storage, "lock_folders"):
            return None
        storage: Any = self._storage
        while True:  # in short turns: what waits in a thread must not keep the one that is waited for from getting one
            lock: StorageLock | None = await self._run(storage.lock_folders)
            if lock is not None:
                return lock

    async def _place(
        self,
        database: BaseDB,
        cert_path: str | Path | None,
        uuid_str: str | None,
        *,
        is_overwrite: bool = False,
        key_type: CertType = CertType.SERVICE,
    ) -> _Place:
        steps = checked_path(cert_path, "cert_path")
        fresh = str(uuid4())
        place = _Place(cert_path=cert_path, uuid=fresh, written=fresh)
        if uuid_str is None:
            return place
        checked_name(uuid_str, "uuid_str")
        await self._check_holder(database, uuid_str, "/".join(steps), key_type)
        if not offers(self._storage, "has_certificate_folder") or not await self._has_folder(uuid_str, cert_path):
            # A storage that cannot say what is there overwrites in place, and then nothing can be taken back.
            blind = is_overwrite and not offers(self._storage, "has_certificate_folder")
            return replace(place, uuid=uuid_str, written=uuid_str, in_place=blind)
        if not is_overwrite:
            raise FileAlreadyExists(f"the folder {uuid_str!r} is in use; pass is_overwrite=True to replace it")
        if offers(self._storage, "check_replaceable"):
            storage: Any = self._storage
            await self._run(storage.check_replaceable, uuid_str=uuid_str, cert_path=cert_path)
        return replace(place, uuid=uuid_str)

    async def _check_holder(self, database: BaseDB, uuid: str, cert_path: str, key_type: CertType) -> None:
        """A name of a folder is one certificate's, and a CA's key stays: there may be a CRL to sign yet."""
        if not offers(database, "read") or not is_ours(database.get_by_serial):
            return
        registry: Any = database
        holder: CertificateRecord | None = await self._run(registry.read, certificate_by_uuid, uuid)
        if holder is None:
            return
        serial = int(holder.serial_number)
        if holder.key_type == CertType.CA.value and key_type is not CertType.CA:
            raise FileAlreadyExists(f"the folder {uuid!r} is that of the CA {serial:x}; give another uuid_str")
        if offers(self._storage, "locate_certificate_folder"):
            storage: Any = self._storage
            found = await self._run(storage.locate_certificate_folder, uuid_str=uuid, serial_number=serial)
            if found not in {None, cert_path}:
                message = f"the folder {uuid!r} is that of certificate {serial:x}, in {found!r}; give another uuid_str"
                raise FileAlreadyExists(message)

    async def _keep(self, database: BaseDB, place: _Place, made: Made, heir: Heir) -> list[Path]:
        """Keep the files, then the record, or neither; only then does the old certificate go. Return the paths."""
        # 1. A folder that is known to be unfinished, for whoever repairs after us if we die.
        unfinished = await self._begin_folder(place)
        try:
            return await self._fill(database, place, made, heir, unfinished)
        finally:
            if unfinished:
                unfinished.release()

    async def _fill(
        self, database: BaseDB, place: _Place, made: Made, heir: Heir, unfinished: UnfinishedFolder | None
    ) -> list[Path]:
        paths: list[Path] = []
        uuid = place.uuid
        try:
            # 2. The files, in a folder that nobody is told of before the certificate is recorded.
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
            # 3. The record and, in the same transaction where the registry can, the end of the old certificate.
            ended = await self._register(database, made, uuid, heir)
        except BaseException:  # whatever it was: without a record there must be no key
            if (unfinished or paths) and not place.in_place:
                await self._delete_folder(place.written, place.cert_path)
            raise
        # 4. The new one stands.
        if ended is None:
            ended = await self._superseded(database, heir)
        if place.staged:
            paths = await self._put_in_place(place, paths)
        for old in ended:
            await self._forget(database, old, place.cert_path, in_place=uuid)
        # The mark goes last: whoever repairs after us ends what we have not.
        await self._finish_folder(unfinished)
        return paths

    async def _forget(
        self, database: BaseDB, old: CertificateRecord, cert_path: str | Path | None, *, in_place: str
    ) -> None:
        """Delete the files of what was superseded; a CA's stay, and a key that a valid certificate has.

        ``in_place``: the new certificate's folder, which may have had its name.
        """
        if old.key_type == CertType.CA.value or await self._shares_key(database, old):
            return
        for ended in (old, *await self._with_its_key(database, old)):
            blind = ended.uuid == in_place and not offers(self._storage, "delete_certificate_files")
            if not blind and not await self._delete_files(ended, cert_path):
                self._logger.warning("the files of superseded certificate %s are still there", ended.serial_number)

    async def _begin_folder(self, place: _Place) -> UnfinishedFolder | None:
        if place.in_place or not offers(self._storage, *ACCOUNTING):
            return None
        storage: Any = self._storage
        begun: UnfinishedFolder = await self._run(
            storage.begin_certificate_folder, uuid_str=place.written, cert_path=place.cert_path
        )
        return begun

    async def _finish_folder(self, folder: UnfinishedFolder | None) -> None:
        if folder is not None:
            storage: Any = self._storage
            await self._run(storage.finish_certificate_folder, folder)

    async def _register(self, database: BaseDB, made: Made, uuid: str, heir: Heir) -> list[CertificateRecord] | None:
        """Record; return the certificates that this ended, None where the registry ends none by itself.

        Raises where nothing was recorded.
        """
        entry: dict[str, Any] = {"cert": made.cert, "uuid": uuid, "key_type": made.key_type}
        if offers(database, "record_certificate") and is_ours(database.register_cert_in_db):
            registry: Any = database
            ended: list[CertificateRecord] = await self._run(
                registry.record_certificate, **entry, succession=heir.succession, predecessor=heir.predecessor
            )
            return ended
        if not await self._run(database.register_cert_in_db, **entry):
            message = f"the registry did not record certificate {made.cert.serial_number:x}; its log says why"
            raise RegistryUnavailable(message)
        return None

    async def _superseded(self, database: BaseDB, heir: Heir) -> list[CertificateRecord]:
        """Revoke the old certificate, if it is to end; return it."""
        if heir.old is None or not heir.ends_old:
            return []
        serial = int(heir.old.serial_number)
        revoked, outcome = await self._run(
            database.revoke_certificate, serial_number=serial, reason=x509.ReasonFlags.superseded
        )
        if not revoked:
            self._logger.warning("certificate %x was replaced but is not revoked: %s", serial, outcome.name)
        return [heir.old]

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

    async def _shares_key(self, database: BaseDB, old: CertificateRecord) -> bool:
        """Tell whether another valid certificate has the old one's key: its renewal, or what it renewed."""
        if not offers(database, "read") or not is_ours(database.get_by_serial):
            return False
        registry: Any = database
        others = await self._run(registry.read, valid_with_key, old, now=datetime.now(UTC))
        return bool(others)

    async def _with_its_key(self, database: BaseDB, old: CertificateRecord) -> list[CertificateRecord]:
        """The superseded certificates of the same key: what kept their files is gone."""
        if not offers(database, "read") or not is_ours(database.get_by_serial):
            return []
        registry: Any = database
        found: list[CertificateRecord] = await self._run(registry.read, superseded_with_key, old)
        return found

    async def _delete_files(self, record: CertificateRecord, cert_path: str | Path | None) -> bool:
        """Delete a certificate's files, wherever they are; False where they could not be deleted."""
        if record.uuid is None:
            return True
        if offers(self._storage, "delete_certificate_files"):
            storage: Any = self._storage
            deleted: bool = await self._run(
                storage.delete_certificate_files,
                uuid_str=record.uuid,
                serial_number=int(record.serial_number),
                cert_path=cert_path,
            )
            return deleted
        return await self._run(self._storage.delete_certificate_folder, uuid_str=record.uuid, cert_path=cert_path)

    async def _delete_folder(self, uuid: str, cert_path: str | Path | None) -> None:
        """Delete a folder that may be gone already, or be elsewhere."""
        if offers(self._storage, "has_certificate_folder") and not await self._has_folder(uuid, cert_path):
            return
        await self._run(self._storage.delete_certificate_folder, uuid_str=uuid, cert_path=cert_path)


def is_ours(method: object) -> bool:
    """Tell whether a documented method of a registry is our handlers' own: who replaced it wants it to be called."""
    return getattr(method, "__func__", None) in {
        getattr(handler, getattr(method, "__name__", ""), None) for handler in (SyncDBHandler, AsyncDBHandler)
    } - {None}


def offers(collaborator: object, *methods: str) -> bool:
    """Tell whether its class has what BaseDB and BaseStorage do not ask for."""
    return all(callable(getattr(type(collaborator), method, None)) for method in methods)
