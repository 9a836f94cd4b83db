"""``tiny-ca db copy``: from one database into another, also in several runs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from app.transfer import copying
from app.transfer.copying import copy_database
from tests.integration.moving import changed, crl_of, issued, place, revoked_by_openssl, run, told
from tests.running import CERTIFICATES, RunningService, tiny_ca
from tiny_ca.db.queries import tables
from tiny_ca.exc import Conflict, NotFound


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SQLite file of a CA with some certificates; nobody changes it."""
    folder = place(tmp_path_factory.mktemp("source"))
    with RunningService(folder) as service, service.client() as client:
        serials = [issued(client, f"app{number}.example.org") for number in range(5)]
        changed(client, serials[0])
    return folder / "data" / "tiny-ca.db"


def _url(file: Path) -> str:
    return f"sqlite:///{file}"


def _change(file: Path, *statements: str) -> None:
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def _cut_after(monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """Let a copy be cut when so many pages of two rows were written."""
    left = pages

    def add(connection: Connection, *arguments: Any) -> None:  # noqa: ANN401  # passed on
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        tables.add_rows(connection, *arguments)

    monkeypatch.setattr(tables, "_PAGE", 2)
    monkeypatch.setattr(copying, "add_rows", add)


def test_a_service_goes_on_in_another_database(tmp_path: Path, postgres_database: str) -> None:
    """From SQLite to PostgreSQL and back: both say the same, and each serves what the one before did."""
    old = place(tmp_path / "old")
    with RunningService(old) as service, service.client() as client:
        revoked, valid = issued(client), issued(client)
        changed(client, revoked)
        line = told(tmp_path, "db", "copy", _url(old / "data" / "tiny-ca.db"), postgres_database, code=2)
        assert "stop it first" in line
    first = json.loads(run(tmp_path, "db", "copy", _url(old / "data" / "tiny-ca.db"), postgres_database))
    assert first["rows"]["certificates"] == 4
    environment = {"TINY_CA_DATABASE_URL": postgres_database}
    with RunningService(place(tmp_path / "new", old), environment=environment) as service, service.client() as client:
        assert len(client.get(CERTIFICATES).json()["items"]) == 4
        assert (revoked_by_openssl(service, revoked), revoked_by_openssl(service, valid)) == (True, False)
        issued(client)  # it is numbered above those that came with a number
        changed(client, valid)
        number = crl_of(service).number
    back = place(tmp_path / "back", old)
    second = json.loads(run(tmp_path, "db", "copy", postgres_database, _url(back / "data" / "tiny-ca.db")))
    assert second["rows"]["certificates"] == 5
    with RunningService(back) as service, service.client() as client:
        crl = crl_of(service)
        assert (set(crl.revoked), crl.number >= number) == ({revoked, valid}, True)
        issued(client)


@pytest.mark.parametrize("pages", [0, 1, 3, 5, 8])
def test_a_copy_that_was_cut_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: int) -> None:
    """Wherever it was; until then no service starts on it, nor is it moved itself, and afterwards it is finished."""
    target = place(tmp_path / "new") / "data" / "tiny-ca.db"
    with monkeypatch.context() as patch:
        _cut_after(patch, pages)
        with pytest.raises(KeyboardInterrupt):
            copy_database(_url(source), _url(target))
    assert "copy that is not finished" in told(tmp_path / "new", "serve", "--port", "0", code=2)
    with pytest.raises(NotFound, match="no CA of this version"):
        copy_database(_url(target), _url(tmp_path / "third.db"))
    copied = copy_database(_url(source), _url(target))
    assert copied.rows["certificates"] == 7
    with pytest.raises(Conflict, match="is not empty"):
        copy_database(_url(source), _url(target))


def test_a_copy_that_differs_is_told(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something changed it on its way: the tables are named, the exit code is not 0, and no service starts on it."""
    target = place(tmp_path / "new") / "data" / "tiny-ca.db"
    with monkeypatch.context() as patch:
        _cut_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            copy_database(_url(source), _url(target))
    _change(target, "CREATE TRIGGER t AFTER INSERT ON tokens BEGIN UPDATE tokens SET name = 'other'; END")
    assert "tokens (1 rows in the source and 1 in the copy)" in told(tmp_path, "db", "copy", _url(source), _url(target))
    assert "copy that is not finished" in told(tmp_path / "new", "serve", "--port", "0", code=2)
    assert "table tokens" in told(tmp_path, "db", "copy", _url(source), _url(target))


def test_what_is_not_copied(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing, into what holds something else, or the copy of another CA; onto itself; from nowhere."""
    other = place(tmp_path / "other") / "data" / "tiny-ca.db"
    assert tiny_ca(tmp_path / "other", "init")[0] == 0
    assert "is not empty" in told(tmp_path, "db", "copy", _url(source), _url(other))
    with monkeypatch.context() as patch:
        _cut_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            copy_database(_url(source), _url(tmp_path / "new.db"))
    assert "of another source" in told(tmp_path, "db", "copy", _url(other), _url(tmp_path / "new.db"))
    assert told(tmp_path, "db", "copy", _url(source), _url(source), code=2)
    assert "no CA of this version" in told(tmp_path, "db", "copy", _url(tmp_path / "none.db"), _url(tmp_path / "a.db"))
    assert not (tmp_path / "none.db").exists()
    assert "cannot be read" in told(tmp_path, "db", "copy", str(source), _url(tmp_path / "a.db"))
    assert "not in mysql" in told(tmp_path, "db", "copy", "mysql://secret@host/name", _url(tmp_path / "a.db"))
