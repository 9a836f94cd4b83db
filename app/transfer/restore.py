"""``tiny-ca restore``: a backup into an empty database, or merged into one that is not, in one transaction.

A merge adds what is missing and never un-revokes. Tokens, notices and whatever else was deleted or changed here since
are left as they are: a token that was deleted does not come back.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import Connection, func, select
from sqlalchemy.orm import Session

from app import database
from app.client.output import progress
from app.lock import no_server
from app.services.ca_making import ACTOR
from app.services.secrets import key_passphrase, prepare_data_dir
from app.settings import Settings, SettingsError
from app.transfer.archive import Head, Page, read_head, read_pages
from app.transfer.envelope import Seal, SealedReader, read_seal
from app.transfer.files import open_regular
from app.transfer.registry import opened, transaction
from tiny_ca.const import CertType
from tiny_ca.db.entries import AuditEntry, CertificateEntry
from tiny_ca.db.models import (
    AuditRecord,
    BlockedKey,
    CertificateRecord,
    CRLRecord,
    IdempotencyKey,
    IssuerRecord,
    UsedIdentityToken,
)
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.crls import latest_crl
from tiny_ca.db.queries.merging import (
    Incoming,
    Merged,
    Revocation,
    add_missing_audit,
    advance_crls,
    merge_certificates,
    merge_issuers,
)
from tiny_ca.db.queries.tables import add_missing_rows, add_rows, is_empty, raise_sequences
from tiny_ca.exc import Conflict, Invalid, Malformed
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Restored", "restore"]

# Of these a merge adds what is missing: once blocked or used, always.
_ADDED: Final = frozenset(table.__tablename__ for table in (BlockedKey, UsedIdentityToken, IdempotencyKey))
_BUFFER: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Restored:
    """What came in: ``certificates`` are those that were not here before, ``revocations`` those that are new here."""

    taken_at: datetime
    merged: bool
    issuers: int
    certificates: int
    revocations: int


@dataclass(slots=True)
class _Contents:
    """What the first reading of a file found: nothing is changed before all of it was read once."""

    head: Head
    rows: int = 0
    issuers: list[dict[str, Any]] = field(default_factory=list)
    crl_numbers: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class _Done:
    issuers: int = 0
    merged: Merged = field(default_factory=Merged)


def restore(settings: Settings, file: Path, passphrase: str) -> Restored:
    """Bring a backup in; all of it or, on any error, nothing.

    Raises
    ------
    SettingsError
        A server holds the database; the passphrase of the CA keys is not there, or does not open those of the backup.
    Malformed, Invalid
        The file is no backup, was cut off or changed; the passphrase does not open it.
    Conflict
        The database has something else where the backup has something, or the backup is of another version.
    """
    with _opened(file) as content, _naming(file):
        # 1. All of the file, before anything is changed.
        seal = read_seal(content, passphrase)
        start = content.tell()
        contents = _contents(_lines(content, start, seal))
        _check_revision(contents.head)
        _check_keys(settings, contents.issuers)
        # 2. Its rows.
        prepare_data_dir(settings.data_dir)
        with no_server(settings.effective_database_url):
            lines = _lines(content, start, seal)
            return asyncio.run(_restore(settings.effective_database_url, contents, lines))


async def _restore(database_url: str, contents: _Contents, lines: BinaryIO) -> Restored:
    async with opened(database_url) as db, transaction(db) as connection:
        return await connection.run_sync(_bring_in, contents, lines)


def _bring_in(connection: Connection, contents: _Contents, lines: BinaryIO) -> Restored:
    now = datetime.now(UTC)
    head = read_head(lines)
    is_new = database.revision(connection) is None
    # An older backup is filled into the schema that it is of, and what was changed in the schema since is done to it.
    database.upgrade_within(connection, head.revision if is_new else None)
    is_merge = not is_new and not is_empty(connection)
    if not is_new and head.revision != database.head():
        raise Conflict(
            f"it is of schema {head.revision}, and the database of {database.head()}: restore it into a new database, "
            "and merge a backup of that one"
        )
    with Session(bind=connection) as session, progress("restore", contents.rows) as advance:
        pages = _counted(read_pages(lines), advance)
        done = _merge(session, pages, now) if is_merge else _fill(connection, pages)
        raise_sequences(connection)
        database.upgrade_within(connection)
        _advance(session, contents, done.merged, now)
        result = Restored(
            taken_at=head.taken_at,
            merged=is_merge,
            issuers=done.issuers,
            certificates=done.merged.added,
            revocations=done.merged.revocations.total(),
        )
        insert_audit(session, [_audit(result, now)])
        session.flush()
        return result


def _fill(connection: Connection, pages: Iterator[Page]) -> _Done:
    done = _Done()
    for page in pages:
        add_rows(connection, page.table, page.columns, page.rows)
        if page.table.name == IssuerRecord.__tablename__:
            done.issuers += len(page.rows)
        if page.table.name == CertificateRecord.__tablename__:
            done.merged.added += len(page.rows)
            revoked = page.columns.index("revocation_date")
            done.merged.revocations[None] += sum(row[revoked] is not None for row in page.rows)
    return done


def _merge(session: Session, pages: Iterator[Page], now: datetime) -> _Done:
    done = _Done()
    up_to_id = session.scalar(select(func.max(AuditRecord.id))) or 0
    for page in pages:
        name = page.table.name
        if name == IssuerRecord.__tablename__:
            done.issuers += len(merge_issuers(session, page.columns, page.rows))
        elif name == CertificateRecord.__tablename__:
            done.merged.add(merge_certificates(session, [_incoming(row) for row in _named(page)], now=now))
        elif name == AuditRecord.__tablename__:
            add_missing_audit(session, _named(page), up_to_id=up_to_id)
        elif name == CRLRecord.__tablename__:
            newer = [row for row in page.rows if _is_newer(session, dict(zip(page.columns, row, strict=True)))]
            add_missing_rows(session.connection(), page.table, page.columns, newer)
        elif name in _ADDED:
            add_missing_rows(session.connection(), page.table, page.columns, page.rows)
    return done


def _incoming(row: dict[str, Any]) -> Incoming:
    certificate = x509.load_pem_x509_certificate(row["certificate_pem"].encode())
    entry = CertificateEntry.of(
        certificate,
        key_type=CertType(row["key_type"]),
        created_at=row["created_at"],
        uuid=row["uuid"],
        issuer_id=row["issuer_id"],
        profile=row["profile"],
        requester=row["requester"],
        unique_name=row["unique_name"],
    )
    date = row["revocation_date"]
    revocation = None if date is None else Revocation(date, row["revocation_reason"] or 0)
    return Incoming(entry, revocation, f"{entry.common_name!r} in the backup")


def _is_newer(session: Session, crl: dict[str, Any]) -> bool:
    """Whether a CRL is above those here and not older: of two registries that lived on, each has its own numbers."""
    newest = latest_crl(session, crl["issuer_id"])
    return newest is None or (bool(crl["number"] > newest.number) and bool(crl["this_update"] >= newest.this_update))


def _advance(session: Session, contents: _Contents, merged: Merged, now: datetime) -> None:
    """RFC 5280 §5.2.3: CRL numbers only grow, and those that were given out after the backup are not known here.

    Each took a commit at least, so there were fewer of them than milliseconds.
    """
    since = max((now - contents.head.taken_at) // timedelta(milliseconds=1), 0)
    for issuer in contents.issuers:
        advance_crls(
            session,
            issuer["id"],
            crl_number=max(issuer["crl_number"], contents.crl_numbers.get(issuer["id"], 0)) + since,
            crl_this_update=issuer["crl_this_update"],
            revocations=merged.revocations[issuer["id"]],
        )


def _contents(lines: BinaryIO) -> _Contents:
    contents = _Contents(read_head(lines))
    for page in read_pages(lines):
        contents.rows += len(page.rows)
        if page.table.name == IssuerRecord.__tablename__:
            contents.issuers += _named(page)
        if page.table.name == CRLRecord.__tablename__:
            for crl in _named(page):
                known = contents.crl_numbers.get(crl["issuer_id"], 0)
                contents.crl_numbers[crl["issuer_id"]] = max(known, crl["number"])
    return contents


def _check_revision(head: Head) -> None:
    if not database.is_known(head.revision):
        raise Conflict(f"its schema is {head.revision}, which is newer than this program")


def _check_keys(settings: Settings, issuers: list[dict[str, Any]]) -> None:
    """The keys stay encrypted as they are: the service must have the passphrase that opens them."""
    with_key = [issuer for issuer in issuers if issuer["private_key_pem"] is not None]
    if not with_key:
        return
    try:
        passphrase = key_passphrase(settings, create=False).value
    except SettingsError as error:
        message = f"{error}; the CA keys in a backup are encrypted under it, and it is not in the backup"
        raise SettingsError(message) from error
    for issuer in with_key:
        try:
            load_pem_private_key(issuer["private_key_pem"].encode(), passphrase.encode())
        except (ValueError, TypeError, UnsupportedAlgorithm):
            message = (
                f"TINY_CA_KEY_PASSPHRASE: it does not open the key of issuer {issuer['common_name']!r} in the backup"
            )
            raise SettingsError(message) from None


def _audit(result: Restored, now: datetime) -> AuditEntry:
    detail = {
        "taken_at": rfc3339(result.taken_at),
        "merged": result.merged,
        "issuers": result.issuers,
        "certificates": result.certificates,
        "revocations": result.revocations,
    }
    return AuditEntry(at=now, actor=ACTOR, action="registry.restore", outcome="success", detail=detail)


def _named(page: Page) -> list[dict[str, Any]]:
    return [dict(zip(page.columns, row, strict=True)) for row in page.rows]


def _counted(pages: Iterator[Page], advance: Callable[[int], None]) -> Iterator[Page]:
    for page in pages:
        yield page
        advance(len(page.rows))


def _lines(content: BinaryIO, start: int, seal: Seal) -> BinaryIO:
    content.seek(start)
    return io.BufferedReader(SealedReader(content, seal), _BUFFER)


def _opened(file: Path) -> BinaryIO:
    try:
        return open_regular(file)
    except FileNotFoundError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}", field="file") from error


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Say which file is meant; nothing was changed."""
    try:
        yield
    except (Malformed, Invalid, Conflict) as error:
        error.message = f"{file}: {error.message}; nothing was changed"
        raise
    except OSError as error:
        raise Invalid(f"{file} cannot be read: {error.strerror}; nothing was changed", field="file") from error
