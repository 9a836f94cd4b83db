"""After a crash: what was begun and not finished is brought to an end, one way or the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from cryptography import x509

from tiny_ca.const import CertType
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries import certificate_by_serial, superseded_by
from tiny_ca.managers.keeping import ACCOUNTING, Keeping, is_ours, offers
from tiny_ca.models.revocation import REASON_CODES
from tiny_ca.storage.unfinished import UnfinishedFolder

__all__ = ["Repair", "Repairing"]


@dataclass(frozen=True, slots=True)
class Repair:
    """One folder that a process left unfinished, and what became of it; ``serial_number`` None: no certificate in it.

    ``discarded``: the certificate was not recorded, or is superseded by now, and its files are deleted.
    ``finished``: it was, and stands. ``put in place``: it was, under the name of a folder whose place it has now taken.
    """

    uuid: str
    cert_path: str
    serial_number: int | None
    action: Literal["discarded", "finished", "put in place"]


class Repairing(Keeping):
    """What ``Lifecycle.repair`` does."""

    async def _repaired(self, database: BaseDB, *, mend: bool) -> list[Repair]:
        storage = self._accounting_storage()
        repairs = []
        for folder in await self._run(storage.unfinished_certificate_folders):
            found = [await self._recorded(database, serial) for serial in folder.serial_numbers]
            record = next((one for one in found if one is not None), None)
            repairs.append(_repair(folder, record))
            self._logger.info("unfinished folder %s: %s", folder.uuid, repairs[-1].action)
            if mend and (record is None or _is_over(record)):
                await self._run(storage.discard_certificate_folder, folder)
            elif mend and record is not None:
                await self._settle(database, folder, record)
            folder.release()
        if mend:
            await self._run(storage.sweep)
        return repairs

    async def _settle(self, database: BaseDB, folder: UnfinishedFolder, record: CertificateRecord) -> None:
        storage = self._accounting_storage()
        if record.uuid not in {None, folder.uuid}:
            await self._run(
                storage.replace_certificate_folder,
                uuid_str=record.uuid,
                by_uuid=folder.uuid,
                cert_path=folder.cert_path,
            )
        for old in await self._superseded_by(database, record):
            await self._forget(database, old, folder.cert_path, in_place=str(record.uuid))
        await self._run(storage.finish_certificate_folder, folder)

    async def _superseded_by(self, database: BaseDB, record: CertificateRecord) -> list[CertificateRecord]:
        if not offers(database, "read") or not is_ours(database.get_by_serial):
            return []
        registry: Any = database
        found: list[CertificateRecord] = await self._run(registry.read, superseded_by, record)
        return found

    async def _recorded(self, database: BaseDB, serial: int) -> CertificateRecord | None:
        """Ask so that a registry which does not answer is never taken for one that does not know."""
        registry: Any = database
        record: CertificateRecord | None
        if offers(database, "read") and is_ours(database.get_by_serial):
            record = await self._run(registry.read, certificate_by_serial, serial)
        else:
            record = await self._run(registry.get_by_serial, serial=serial)
        return record

    def _accounting_storage(self) -> Any:  # noqa: ANN401  # a storage with more than BaseStorage asks for
        if not offers(self._storage, *ACCOUNTING):
            raise TypeError(
                f"a {type(self._storage).__name__} keeps no account of what was begun: nothing to repair by"
            )
        return self._storage


def _repair(folder: UnfinishedFolder, record: CertificateRecord | None) -> Repair:
    if record is None or _is_over(record):
        return Repair(folder.uuid, folder.cert_path, next(iter(folder.serial_numbers), None), "discarded")
    action: Literal["finished", "put in place"] = "finished" if record.uuid in {None, folder.uuid} else "put in place"
    return Repair(folder.uuid, folder.cert_path, int(record.serial_number), action)


def _is_over(record: CertificateRecord) -> bool:
    """Whether its key is of no use to anybody; a CA's signs CRLs yet."""
    superseded = record.revocation_reason == REASON_CODES[x509.ReasonFlags.superseded]
    return superseded and record.key_type != CertType.CA.value
