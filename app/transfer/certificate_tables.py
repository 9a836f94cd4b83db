"""SQLite files with a table ``certificates``: those of cfssl's certdb, and those of the library.

cfssl: serial_number (decimal), status (good, revoked), reason, revoked_at, pem; what ``ocsp_responses`` holds is signed
anew by whoever answers OCSP, and is left. The library: what its document says of ``CertificateRecord``.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from app.transfer.files import MAX_FILE
from app.transfer.found import Found, Source, certificate_from_pem, revocation_of, shown
from tiny_ca.const import CertType
from tiny_ca.db.const import CertificateStatus
from tiny_ca.exc import Invalid

__all__ = ["open_cfssl", "open_library"]

_CFSSL: Final = ("serial_number", "status", "reason", "revoked_at", "pem")
_LIBRARY: Final = (
    "serial_number",
    "status",
    "key_type",
    "certificate_pem",
    "revocation_date",
    "revocation_reason",
    "uuid",
)
_TEXT: Final = "utf-8"


def open_cfssl(file: Path) -> Source:
    """The certificates of a certdb of cfssl.

    Raises
    ------
    Invalid
        It is no such file.
    """
    return Source(_rows(file, _CFSSL, _from_cfssl))


def open_library(file: Path) -> Source:
    """The certificates of a database of the library.

    Raises
    ------
    Invalid
        It is no such file.
    """
    return Source(_rows(file, _LIBRARY, _from_library))


def _rows(file: Path, columns: tuple[str, ...], read: Callable[[dict[str, Any], str], Found]) -> Iterator[Found]:
    if not file.is_file():
        raise Invalid(f"{file} is no file", field="file")
    return _walk(file, columns, read)


def _walk(file: Path, columns: tuple[str, ...], read: Callable[[dict[str, Any], str], Found]) -> Iterator[Found]:
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as connection:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4 * MAX_FILE)
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.text_factory = bytes
            _check_table(connection, file, columns)
            cursor = connection.execute(f"SELECT {', '.join(columns)} FROM certificates ORDER BY rowid")  # noqa: S608  # names of ours
            for values in cursor:
                row = dict(zip(columns, map(_text, values), strict=True))
                where = f"{file}, certificates, serial number {shown(row['serial_number'])}"
                yield _checked(read(row, where), row, where)
    except sqlite3.Error as error:
        raise Invalid(f"{file} cannot be read as SQLite: {error}", field="file") from error


def _check_table(connection: sqlite3.Connection, file: Path, columns: tuple[str, ...]) -> None:
    # A view could compute without end.
    kind = connection.execute("SELECT type FROM sqlite_master WHERE name = 'certificates'").fetchone()
    if kind is None or kind[0] != b"table":
        raise Invalid(f"{file} has no table certificates", field="file")
    there = {_text(row[1]) for row in connection.execute("PRAGMA table_info(certificates)")}
    missing = [name for name in columns if name not in there]
    if missing:
        message = f"{file}: table certificates has no {', '.join(missing)}; it is of another program"
        raise Invalid(message, field="file")


def _text(value: object) -> Any:  # noqa: ANN401  # whatever SQLite holds
    """Text may come as octets: cfssl declares it as blob."""
    if isinstance(value, bytes):
        return value.decode(_TEXT, "backslashreplace")
    return value


def _checked(found: Found, row: dict[str, Any], where: str) -> Found:
    if str(found.certificate.serial_number) != str(row["serial_number"]):
        message = f"{where}: its certificate has the serial number {found.certificate.serial_number}"
        raise Invalid(message, field="serial_number")
    return found


def _from_cfssl(row: dict[str, Any], where: str) -> Found:
    certificate = certificate_from_pem(str(row["pem"]).encode(), where)
    match row["status"]:
        case "good":
            return Found(certificate, None, where)
        case "revoked":
            return Found(
                certificate, revocation_of(_time(row["revoked_at"], where), _code(row["reason"], where), where), where
            )
        case status:
            raise Invalid(f"{where}: the status is {shown(status)}, neither good nor revoked", field="status")


def _from_library(row: dict[str, Any], where: str) -> Found:
    certificate = certificate_from_pem(str(row["certificate_pem"]).encode(), where)
    status = str(row["status"]).lower()
    if status not in set(CertificateStatus):
        raise Invalid(f"{where}: the status is {shown(status)}, none of {', '.join(CertificateStatus)}", field="status")
    revocation = None
    if row["revocation_date"] is not None or status == CertificateStatus.REVOKED:
        date = _time(row["revocation_date"], where)
        revocation = revocation_of(date, _code(row["revocation_reason"], where), where)
    uuid = None if row["uuid"] is None else str(row["uuid"])
    return Found(certificate, revocation, where, key_type=_key_type(row["key_type"], where), uuid=uuid)


def _time(value: object, where: str) -> datetime:
    try:
        date = datetime.fromisoformat(str(value))
    except ValueError:
        raise Invalid(f"{where}: {shown(value)} is no time of a revocation", field="revocation_date") from None
    return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)


def _code(value: object, where: str) -> int:
    if value is None:
        return 0
    if not isinstance(value, int):
        raise Invalid(f"{where}: the reason is {shown(value)}, which is no number", field="reason")
    return value


def _key_type(value: object, where: str) -> CertType:
    """By value, as the library writes it, or by name."""
    for one in CertType:
        if str(value).upper() in {one.value, one.name}:
            return one
    known = ", ".join(one.value for one in CertType)
    raise Invalid(f"{where}: the key type is {shown(value)}, which is none of {known}", field="key_type")
