"""``tiny-ca root export | import``: a root's key leaves this machine, and comes back for a ceremony.

With the settings of the service, on its database; a service that runs notices within about a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import make_url, text
from sqlalchemy.orm import Session

from app import database
from app.client.errors import ClientError
from app.client.files import write_file
from app.services.ca_import import read_key
from app.services.ca_making import ACTOR
from app.services.crls import CRLPublisher
from app.services.issuers import IssuerStore
from app.services.key_files import sealed
from app.services.secrets import key_passphrase
from app.settings import MIN_PASSPHRASE_LENGTH, Settings, SettingsError
from tiny_ca.ca_factory.keys import PrivateKey, PublicKey, public_key_der
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.models import IssuerRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.issuers import list_issuers, locked_issuer, put_issuer_key
from tiny_ca.exc import Conflict, Invalid, NotFound

__all__ = ["CRL_LIFETIME", "RootKey", "export_root", "import_root"]

_T = TypeVar("_T")
_PROBE: Final = b"tiny-ca root key"
_MAX_FILE: Final = 65536
# Its last CRL must outlive the time until the next ceremony: nobody else can sign the next one.
CRL_LIFETIME: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class RootKey:
    """What was done: to the key of which root, and in which file it is."""

    issuer_id: str
    common_name: str
    file: Path
    has_key: bool
    crl_next_update: datetime | None = None


def export_root(
    settings: Settings, file: Path, passphrase: str, *, issuer_id: str | None, remove: bool, crl_lifetime: timedelta
) -> RootKey:
    """Write a root's key, encrypted; with ``remove`` it is taken out of the database once the file is proved.

    Raises
    ------
    SettingsError
        There is no CA here, or the service's passphrase does not open its keys.
    Invalid
        The passphrase is too short.
    NotFound, Conflict
        There is no such root; its key is not here, or issues by default; the file exists or cannot be written.
    """
    if len(passphrase) < MIN_PASSPHRASE_LENGTH:
        raise Invalid(f"a passphrase has at least {MIN_PASSPHRASE_LENGTH} characters", field="passphrase")
    return _with_database(
        settings,
        lambda db: _export(db, settings, file, passphrase, issuer_id=issuer_id, remove=remove, lifetime=crl_lifetime),
    )


def import_root(settings: Settings, file: Path, passphrase: str) -> RootKey:
    """Bring a root's key back; it tells itself which root it belongs to.

    Raises
    ------
    SettingsError
        There is no CA here, or no passphrase of the service.
    Invalid
        The file is no encrypted key, or the passphrase does not open it.
    NotFound, Conflict
        It is the key of none of the roots; it is here already.
    """
    return _with_database(settings, lambda db: _import(db, settings, file, passphrase))


async def _export(
    db: AsyncDBHandler,
    settings: Settings,
    file: Path,
    passphrase: str,
    *,
    issuer_id: str | None,
    remove: bool,
    lifetime: timedelta,
) -> RootKey:
    # 1. The root, its key opened.
    root = _chosen(await db.read(list_issuers), issuer_id)
    if remove and root.is_default:
        message = f"root {root.id} is the default issuer: make another one the default before its key goes"
        raise Conflict(message)
    own = key_passphrase(settings, create=False).value
    issuers = IssuerStore(db, settings.effective_public_url)
    await issuers.load(own)
    stored = str(root.private_key_pem)
    key = cast("PrivateKey", load_pem_private_key(stored.encode(), own.encode()))
    # 2. The file: whole, synced, and nobody else's to read.
    try:
        write_file(file, sealed(key, passphrase), replace=False)
    except ClientError as error:
        raise Conflict(error.message.partition(";")[0]) from error
    # 3. What is on disk opens, and is that key: nothing is taken away before that.
    _prove(read_key(_content(file), passphrase), root)
    if not remove:
        await db.write(insert_audit, [_audit("issuer.key_export", root, removed=False)])
        return RootKey(root.id, root.common_name, file, has_key=True)
    # 4. A CRL that lasts.
    crls = CRLPublisher(db, issuers, lifetime=lifetime, shared=True, clock=_now)
    await crls.publish(root.id)
    crl = crls.peek(root.id)
    # 5. The key goes.
    await db.write(_remove, root.id, stored, _audit("issuer.key_export", root, removed=True))
    await _forget(db)
    return RootKey(root.id, root.common_name, file, has_key=False, crl_next_update=crl.next_update if crl else None)


async def _import(db: AsyncDBHandler, settings: Settings, file: Path, passphrase: str) -> RootKey:
    key = read_key(_content(file), passphrase)
    mine = public_key_der(key.public_key())
    roots = [record for record in await db.read(list_issuers) if record.is_root]
    root = next((record for record in roots if public_key_der(_public_key(record)) == mine), None)
    if root is None:
        names = ", ".join(f"{record.id} ({record.common_name})" for record in roots)
        raise NotFound(f"{file} holds the key of none of the roots here: {names}")
    _prove(key, root)
    issuers = IssuerStore(db, settings.effective_public_url)
    await issuers.load(key_passphrase(settings, create=False).value)  # one passphrase for all keys
    await db.write(_bring, root.id, issuers.encrypt(key), _audit("issuer.key_import", root))
    return RootKey(root.id, root.common_name, file, has_key=True)


def _remove(session: Session, issuer_id: str, stored: str, audit: AuditEntry) -> None:
    if session.get_bind().dialect.name == "sqlite":  # what is deleted is overwritten, not only marked as free
        session.execute(text("PRAGMA secure_delete = ON"))
    if locked_issuer(session, issuer_id).private_key_pem != stored:
        raise Conflict(f"the key of root {issuer_id} was changed by somebody else meanwhile; look, and try again")
    put_issuer_key(session, issuer_id, None)
    insert_audit(session, [audit])


def _bring(session: Session, issuer_id: str, private_key_pem: str, audit: AuditEntry) -> None:
    if locked_issuer(session, issuer_id).private_key_pem is not None:
        raise Conflict(f"the key of root {issuer_id} is here already")
    put_issuer_key(session, issuer_id, private_key_pem)
    insert_audit(session, [audit])


async def _forget(db: AsyncDBHandler) -> None:
    """Let SQLite's log, which still has the page with the key, go too; where a reader is in the way, it goes later."""
    if db.engine.dialect.name == "sqlite":
        async with db.engine.connect() as connection:
            await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _chosen(records: list[IssuerRecord], issuer_id: str | None) -> IssuerRecord:
    roots = [record for record in records if record.is_root]
    if issuer_id is not None:
        roots = [record for record in roots if record.id == issuer_id]
        if not roots:
            raise NotFound(f"there is no root {issuer_id!r}")
    with_key = [record for record in roots if record.private_key_pem is not None]
    if not with_key:
        raise Conflict("the key of no such root is here: it is offline already")
    if len(with_key) > 1:
        names = ", ".join(f"{record.id} ({record.common_name})" for record in with_key)
        raise Conflict(f"there are several roots with a key here; name one with --issuer: {names}")
    return with_key[0]


def _prove(key: PrivateKey, root: IssuerRecord) -> None:
    """That the key is the root's: by its public half, and by a signature that the certificate's key accepts."""
    if public_key_der(key.public_key()) != public_key_der(_public_key(root)):
        raise Conflict(f"the key is not that of root {root.id}; nothing was changed")
    signer = SoftwareSigner(key)
    signer.verify(signer.sign(_PROBE), _PROBE)


def _public_key(record: IssuerRecord) -> PublicKey:
    certificate = x509.load_pem_x509_certificate(record.certificate_pem.encode())
    return cast("PublicKey", certificate.public_key())


def _content(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MAX_FILE)
        return content.decode("ascii")
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", field="file") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{file} is no PEM", field="file") from error


def _audit(action: str, root: IssuerRecord, **detail: Any) -> AuditEntry:  # noqa: ANN401  # JSON
    return AuditEntry(
        at=_now(), actor=ACTOR, action=action, outcome="success", issuer_id=root.id, detail=detail or None
    )


def _with_database(settings: Settings, work: Callable[[AsyncDBHandler], Awaitable[_T]]) -> _T:
    url = make_url(settings.effective_database_url)
    # SQLite would make an empty database.
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").is_file():
        raise _no_ca(settings)

    async def run() -> _T:
        db = database.connect(settings)
        try:
            if not await database.is_current(db):
                raise _no_ca(settings)
            return await work(db)
        finally:
            await db.aclose()

    return asyncio.run(run())


def _no_ca(settings: Settings) -> SettingsError:
    where = "TINY_CA_DATABASE_URL" if settings.database_url else f"TINY_CA_DATA_DIR: {settings.data_dir}"
    return SettingsError(f"{where}: there is no CA of this version; tiny-ca init makes one")


def _now() -> datetime:
    return datetime.now(UTC)
