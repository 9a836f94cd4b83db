"""Databases of cfssl and of the library, row by row."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.transfer.certificate_tables import open_cfssl, open_library
from app.transfer.found import Found
from tests.made_elsewhere import foreign_ca
from tiny_ca.const import CertType
from tiny_ca.db.queries.merging import Revocation
from tiny_ca.exc import Invalid

_CA = foreign_ca(serial_number=0xABC)
_CFSSL = {
    "serial_number": "2748",
    "status": "good",
    "reason": 0,
    "revoked_at": "0001-01-01 00:00:00+00:00",
    "pem": _CA.pem,
}
_REVOKED = {**_CFSSL, "status": "revoked", "reason": 4, "revoked_at": "2026-10-01 12:30:00.123456789+02:00"}
_LIBRARY = {
    "serial_number": "2748",
    "status": "valid",
    "key_type": "SVC",
    "certificate_pem": _CA.pem,
    "revocation_date": None,
    "revocation_reason": None,
    "uuid": "5f3a",
}


def _database(file: Path, *rows: dict[str, Any]) -> Path:
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"CREATE TABLE certificates ({', '.join(rows[0])})")
        for row in rows:
            marks = ", ".join("?" * len(row))
            connection.execute(f"INSERT INTO certificates VALUES ({marks})", list(row.values()))  # noqa: S608  # ours
    return file


def test_cfssl(tmp_path: Path) -> None:
    """Text or blob, with or without a fraction and a zone: it is the same."""
    blob = {name: value.encode() if isinstance(value, str) else value for name, value in _REVOKED.items()}
    naive = {**_REVOKED, "revoked_at": "2026-10-01T10:30:00.123456"}
    expected = Revocation(datetime(2026, 10, 1, 10, 30, 0, 123456, UTC), 4)
    for number, row in enumerate((_REVOKED, blob, naive)):
        (found,) = open_cfssl(_database(tmp_path / str(number), row)).entries
        assert isinstance(found, Found)
        assert (found.certificate, found.revocation) == (_CA.certificate, expected)
    (found,) = open_cfssl(_database(tmp_path / "good", _CFSSL)).entries
    assert isinstance(found, Found)
    assert found.revocation is None


@pytest.mark.parametrize("key_type", ["SVC", "service", "SERVICE"])
def test_the_library(tmp_path: Path, key_type: str) -> None:
    """The kind of certificate by value or by name; a date of revocation counts, whatever the status."""
    row = {**_LIBRARY, "key_type": key_type, "status": "expired", "revocation_date": "2026-10-01 10:30:00.000000"}
    (found,) = open_library(_database(tmp_path / "file", row)).entries
    assert isinstance(found, Found)
    assert found.key_type is CertType.SERVICE
    assert (found.uuid, found.revocation) == ("5f3a", Revocation(datetime(2026, 10, 1, 10, 30, tzinfo=UTC), 0))


@pytest.mark.parametrize(
    "change, said",
    [
        ({"status": "unknown"}, "the status is 'unknown', neither good nor revoked"),
        ({"status": None}, "the status is None"),
        ({"serial_number": "2749"}, "its certificate has the serial number 2748"),
        ({"pem": "nothing"}, "no certificate in PEM"),
        ({"pem": b"\x30\x82\x01\x00"}, "is DER"),
        ({"pem": _CA.pem.replace("MII", "AAA", 1)}, "cannot be read as a certificate"),
        ({"status": "revoked"}, "no date of it"),
        ({**_REVOKED, "revoked_at": None}, "None is no time"),
        ({**_REVOKED, "revoked_at": "yesterday"}, "'yesterday' is no time"),
        ({**_REVOKED, "reason": 7}, "7 is no revocation reason"),
        ({**_REVOKED, "reason": "whim"}, "'whim', which is no number"),
        ({"pem": "x" * 2**21}, "cannot be read as SQLite"),
    ],
)
def test_a_row_that_is_none(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    """The refusal names the file, and the row by its serial number."""
    file = _database(tmp_path / "file", {**_CFSSL, **change})
    with pytest.raises(Invalid, match=said) as refusal:
        list(open_cfssl(file).entries)
    assert refusal.value.message.startswith(str(file))
    assert refusal.value.message.isprintable()


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """No SQLite, no such table, a view in its place, other columns, a folder, nothing."""
    (tmp_path / "text").write_text("text" * 1000)
    with closing(sqlite3.connect(tmp_path / "view")) as connection, connection:
        connection.execute("CREATE VIEW certificates AS SELECT 1 AS pem")
    sqlite3.connect(tmp_path / "empty").close()
    (tmp_path / "empty").touch()
    _database(tmp_path / "library", _LIBRARY)
    for name, said in (
        ("text", "cannot be read as SQLite"),
        ("view", "has no table certificates"),
        ("empty", "has no table certificates"),
        ("library", "has no reason, revoked_at, pem; it is of another program"),
        (".", "is no file"),
        ("none", "is no file"),
    ):
        with pytest.raises(Invalid, match=said):
            list(open_cfssl(tmp_path / name).entries)
