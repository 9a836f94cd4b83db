"""Units of work on CRLs: give out a number with what the list must say, keep the signed list, find the newest."""

from __future__ import annotations

import sqlite3
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, cast

from cryptography import x509
from sqlalchemy import String, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from tiny_ca.db.entries import CRLSnapshot, RevokedRow
from tiny_ca.db.models import CertificateRecord, CRLRecord, IssuerRecord
from tiny_ca.exc import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Connection, Select, SQLColumnExpression
    from sqlalchemy.orm import Session
    from sqlalchemy.sql.compiler import SQLCompiler

    from tiny_ca.db.entries import ContinuedCRL, CRLEntry, RevokedText

__all__ = [
    "begin_crl",
    "begin_packed_crl",
    "latest_crl",
    "prune_crls",
    "record_crl",
    "revoked_by",
    "revoked_rows",
    "this_update_before",
]

_T = TypeVar("_T")
_Columns: TypeAlias = "Sequence[SQLColumnExpression[Any]]"
# Over PostgreSQL they are worked on in the event loop, some milliseconds for so many.
_ROWS_AT_ONCE: Final = 2000
_PIECE: Final = 1024 * 1024
_OLDEST_FIRST: Final = (CertificateRecord.revocation_date, CertificateRecord.id)
_CLOCKS_DIFFER: Final = timedelta(minutes=10)


def revoked_rows(
    session: Session, *, now: datetime, crl_window: timedelta | None = None, issuer_id: str | None = None
) -> list[RevokedRow]:
    """Return the revoked certificates that have not expired, oldest revocation first.

    ``crl_window`` leaves out what was revoked longer ago: RFC 5280 §3.3 does not allow that, callers of the library
    asked for it. ``issuer_id`` None is every issuer.
    """
    conditions: list[ColumnElement[bool]] = [CertificateRecord.not_valid_after > now]
    if crl_window is not None:
        conditions.append(CertificateRecord.revocation_date > now - crl_window)
    if issuer_id is not None:
        conditions.append(CertificateRecord.issuer_id == issuer_id)
    return _revoked(session, conditions)


def revoked_by(
    session: Session, issuer: x509.Certificate, *, now: datetime, crl_window: timedelta | None = None
) -> list[RevokedRow]:
    """As ``revoked_rows``, of what this CA signed: RFC 5280 §5.3 takes each entry for one of the CRL issuer's own."""
    conditions: list[ColumnElement[bool]] = [
        CertificateRecord.not_valid_after > now,
        CertificateRecord.revocation_date.is_not(None),
    ]
    if crl_window is not None:
        conditions.append(CertificateRecord.revocation_date > now - crl_window)
    records = session.execute(
        select(
            CertificateRecord.serial_number,
            CertificateRecord.revocation_date,
            CertificateRecord.revocation_reason,
            CertificateRecord.certificate_pem,
        )
        .where(*conditions)
        .order_by(CertificateRecord.revocation_date, CertificateRecord.id)
    )
    return [
        RevokedRow(serial, date, reason or 0)
        for serial, date, reason, pem in records
        if date is not None and _is_by(issuer, pem)
    ]


def _is_by(issuer: x509.Certificate, certificate_pem: str) -> bool:
    """Whether the names say so, and the key identifiers, where there are any, do not say otherwise."""
    certificate = x509.load_pem_x509_certificate(certificate_pem.encode())
    if certificate.issuer != issuer.subject:
        return False
    try:
        named = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        return True
    return named is None or named == own


def begin_crl(session: Session, issuer_id: str, *, now: datetime) -> CRLSnapshot[RevokedRow]:
    """Take the issuer's next CRL number and what a CRL with that number must say; see ``begin_packed_crl``."""
    return _begin(session, issuer_id, now, _revoked)


def begin_packed_crl(
    session: Session,
    issuer_id: str,
    *,
    now: datetime,
    pack: Callable[[Sequence[RevokedText]], _T],
    since: ContinuedCRL | None = None,
) -> CRLSnapshot[_T]:
    """Take the issuer's next CRL number, and what becomes of the rows that a CRL with that number must say.

    ``pack`` gets some rows at a time, in their order: of a million, all at once would take hundreds of megabytes.

    ``since`` is a CRL that may be continued: where it is on record here, and nothing but revocations came after it,
    these are all that is read. Where a hold was lifted, a reason replaced, or other registries were merged, the list is
    read as a whole.

    A number is spent even when its CRL is never signed: gaps are allowed, repeats are not (RFC 5280 §5.2.3).

    Raises
    ------
    NotFound
        No such issuer.
    """

    def read(session: Session, conditions: Sequence[ColumnElement[bool]], order: _Columns) -> Iterator[_T]:
        found = session.connection().execute(
            _in_order(_Compact(CertificateRecord.revocation_date), conditions, order),
            execution_options={"yield_per": _ROWS_AT_ONCE},
        )
        return (pack(cast("Sequence[RevokedText]", rows)) for rows in found.partitions())

    return _begin(session, issuer_id, now, read, since=since)


def _begin(
    session: Session,
    issuer_id: str,
    now: datetime,
    read: Callable[[Session, Sequence[ColumnElement[bool]], _Columns], Iterable[_T]],
    *,
    since: ContinuedCRL | None = None,
) -> CRLSnapshot[_T]:
    # 1. The UPDATE locks the issuer until the commit, so the next number is given out with a later snapshot, never an
    #    earlier one: the CRL with the highest number always knows most. A clock that went back moves no CRL back.
    whole_second = now.replace(microsecond=0)
    allotted = session.execute(
        update(IssuerRecord)
        .where(IssuerRecord.id == issuer_id)
        .values(
            crl_number=IssuerRecord.crl_number + 1,
            crl_this_update=case(
                (IssuerRecord.crl_this_update > whole_second, IssuerRecord.crl_this_update), else_=whole_second
            ),
        )
        .returning(IssuerRecord.crl_number, IssuerRecord.crl_this_update, IssuerRecord.revocation_count)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if allotted is None:
        message = f"there is no issuer {issuer_id!r}"
        raise NotFound(message)
    number, this_update, revocation_count = allotted

    # 2. What came after the CRL that is continued, in the order of the index it is read from.
    revoked: Iterable[_T]
    whole = False
    if since is not None and _is_complete(session, issuer_id, since, revocation_count):
        revoked = read(session, _numbered(issuer_id, since.revocation_count), (CertificateRecord.revocation_number,))
    # 3. Or all. RFC 5280 §3.3: an entry stays until it has been on one CRL issued after its certificate expired.
    else:
        whole = True
        conditions: list[ColumnElement[bool]] = [CertificateRecord.issuer_id == issuer_id]
        published = session.scalar(_newest(issuer_id).with_only_columns(CRLRecord.this_update))
        if published is not None:
            conditions.append(CertificateRecord.not_valid_after >= published)
        revoked = read(session, conditions, _OLDEST_FIRST)
    return CRLSnapshot(
        issuer_id=issuer_id,
        number=number,
        this_update=this_update or whole_second,
        revocation_count=revocation_count,
        revoked=tuple(revoked),
        whole=whole,
    )


def _is_complete(session: Session, issuer_id: str, since: ContinuedCRL, until: int) -> bool:
    """Whether that CRL, and the certificates revoked since that have a number, are all that there is to say."""
    # 1. A database that has fallen back, to a standby or a backup, may not know what is in that CRL.
    is_on_record = session.scalar(
        select(CRLRecord.created_at).where(CRLRecord.issuer_id == issuer_id, CRLRecord.number == since.number)
    )
    if is_on_record != since.created_at:
        return False
    # 2. Each of them has a number of its own; whatever else was counted left no row with its number.
    numbered = _numbered(issuer_id, since.revocation_count)
    found = session.scalar(select(func.count()).where(*numbered, CertificateRecord.revocation_number <= until))
    if found != until - since.revocation_count:
        return False
    # 3. The library of an older release counts nothing.
    uncounted = select(CertificateRecord.id).where(
        CertificateRecord.issuer_id == issuer_id,
        CertificateRecord.revocation_date >= since.this_update - _CLOCKS_DIFFER,
        CertificateRecord.revocation_number.is_(None),
    )
    return session.scalar(uncounted.limit(1)) is None


def _numbered(issuer_id: str, since: int) -> list[ColumnElement[bool]]:
    return [
        CertificateRecord.issuer_id == issuer_id,
        CertificateRecord.revocation_number > since,
        CertificateRecord.revocation_date.is_not(None),
    ]


def record_crl(session: Session, entry: CRLEntry) -> None:
    """Keep a signed CRL; the newest is the one with the highest number, in whatever order they arrive.

    Raises
    ------
    Conflict
        The issuer has a CRL with that number, or does not exist.
    """
    connection = session.connection()
    driver = connection.connection.driver_connection
    try:
        if isinstance(driver, sqlite3.Connection) and len(entry.der) > _PIECE:
            _insert_in_pieces(connection, driver, entry)
        else:
            connection.execute(insert(CRLRecord), asdict(entry))
    except IntegrityError as error:
        message = f"CRL {entry.number} of issuer {entry.issuer_id} was not kept: it exists, or its issuer does not"
        raise Conflict(message) from error


def _insert_in_pieces(connection: Connection, driver: sqlite3.Connection, entry: CRLEntry) -> None:
    """As a parameter, the driver copies it with the interpreter held: fifty milliseconds for fifty megabytes."""
    length = func.zeroblob(len(entry.der))
    row = connection.execute(insert(CRLRecord).values(**asdict(entry) | {"der": length})).lastrowid
    try:
        with driver.blobopen(CRLRecord.__tablename__, "der", row) as blob:
            for at in range(0, len(entry.der), _PIECE):
                blob.write(entry.der[at : at + _PIECE])
    except sqlite3.Error as error:  # as SQLAlchemy tells of what goes through it
        raise OperationalError("write a CRL in pieces", None, error) from error


def latest_crl(session: Session, issuer_id: str) -> CRLRecord | None:
    """Return the issuer's CRL with the highest number."""
    return session.scalar(_newest(issuer_id))


def this_update_before(session: Session, issuer_id: str, number: int) -> datetime | None:
    """Return the thisUpdate of the CRL before this one, None where there is none."""
    return session.scalar(_newest(issuer_id).where(CRLRecord.number < number).with_only_columns(CRLRecord.this_update))


def prune_crls(session: Session, issuer_id: str, *, keep: int) -> int:
    """Delete all but the newest ``keep`` (at least one) of the issuer; return how many went."""
    oldest_kept = _newest(issuer_id).with_only_columns(CRLRecord.number).offset(max(keep, 1) - 1)
    deleted = session.execute(
        delete(CRLRecord)
        .where(CRLRecord.issuer_id == issuer_id, CRLRecord.number < oldest_kept.scalar_subquery())
        .returning(CRLRecord.number)
        .execution_options(synchronize_session=False)
    )
    return len(deleted.all())


def _revoked(
    session: Session, conditions: Sequence[ColumnElement[bool]], order: _Columns = _OLDEST_FIRST
) -> list[RevokedRow]:
    rows = session.connection().execute(_in_order(CertificateRecord.revocation_date, conditions, order))
    return [RevokedRow(serial, date, reason or 0) for serial, date, reason in rows]


def _in_order(
    moment: SQLColumnExpression[Any], conditions: Sequence[ColumnElement[bool]], order: _Columns
) -> Select[Any]:
    return (
        select(CertificateRecord.serial_number, moment, CertificateRecord.revocation_reason)
        .where(CertificateRecord.revocation_date.is_not(None), *conditions)
        .order_by(*order)
    )


class _Compact(FunctionElement[str]):
    """A moment as ``YYYYMMDDHHMMSSZ``: to read it as a datetime costs more than all the rest of an entry."""

    type = String()
    inherit_cache = True


@compiles(_Compact, "sqlite")
def _compact_in_sqlite(element: _Compact, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401  # the interface
    # Of the stored text without its fraction, by which strftime would round up.
    return f"strftime('%Y%m%d%H%M%SZ', substr({compiler.process(element.clauses, **options)}, 1, 19))"


@compiles(_Compact, "postgresql")
def _compact_in_postgresql(element: _Compact, compiler: SQLCompiler, **options: Any) -> str:  # noqa: ANN401
    return f"to_char({compiler.process(element.clauses, **options)}, 'YYYYMMDDHH24MISS\"Z\"')"


def _newest(issuer_id: str) -> Select[CRLRecord]:
    return select(CRLRecord).where(CRLRecord.issuer_id == issuer_id).order_by(CRLRecord.number.desc()).limit(1)
