"""``tiny-ca backup`` and ``tiny-ca restore``: real services, both databases, openssl as the relying party."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.moving import (
    PASSPHRASE,
    changed,
    crl_of,
    issued,
    place,
    revoked_by_openssl,
    rows_of,
    run,
    told,
)
from tests.running import CERTIFICATES, RunningService

WITH = ("--passphrase-file", "passphrase")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA with two certificates, one of them revoked, and its backup; nobody changes it."""
    folder = place(tmp_path_factory.mktemp("original"))
    with RunningService(folder) as service, service.client() as client:
        issued(client)
        changed(client, issued(client))
    run(folder, "backup", "backup", *WITH)
    return folder


@pytest.mark.parametrize("source, target", [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_a_service_moves(tmp_path: Path, postgres_database: str, source: str, target: str) -> None:
    """Taken while it serves, restored elsewhere: every certificate, revocation and token is there, and CRLs go on."""
    urls = {"sqlite": {}, "postgresql": {"TINY_CA_DATABASE_URL": postgres_database}}
    old = place(tmp_path / "old")
    with RunningService(old, environment=urls[source]) as service, service.client() as client:
        valid, revoked, held = (issued(client, f"{name}.example.org") for name in ("valid", "revoked", "held"))
        changed(client, revoked, "keyCompromise")
        changed(client, held, "certificateHold")
        run(old, "backup", "backup", *WITH, **urls[source])
        before = crl_of(service)
        listed = client.get(CERTIFICATES).json()["items"]
        audit = client.get("/api/v1/audit").json()["items"]
        for _ in range(3):  # CRLs that the backup knows nothing of
            changed(client, issued(client))
        last = crl_of(service).number
    assert stat.S_IMODE((old / "backup").stat().st_mode) == 0o600
    assert b"example.org" not in (old / "backup").read_bytes()
    new = place(tmp_path / "new", old)
    run(new, "restore", old / "backup", *WITH, **urls[target])
    with RunningService(new, environment=urls[target]) as service, service.client() as client:
        after = crl_of(service)
        assert after.number > last > before.number
        assert after.revoked == before.revoked
        assert set(after.revoked) == {revoked, held}
        assert [revoked_by_openssl(service, one) for one in (valid, revoked, held)] == [False, True, True]
        assert client.get(CERTIFICATES).json()["items"] == listed
        more = client.get("/api/v1/audit").json()["items"]
        assert (audit[0]["action"], more[0]["action"]) == ("registry.backup", "registry.restore")
        assert more[1:] == audit[1:]  # the row of the backup was written after its moment
        changed(client, issued(client, "new.example.org"))
        assert crl_of(service).number > after.number
    again = json.loads(run(new, "restore", old / "backup", *WITH, **urls[target]))
    assert {name: again[name] for name in ("merged", "issuers", "certificates", "revocations")} == {
        "merged": True,
        "issuers": 0,
        "certificates": 0,
        "revocations": 0,
    }
    with RunningService(new, environment=urls[target]) as service:
        assert len(crl_of(service).revoked) == 3


def test_what_two_services_did_since_is_merged(original: Path, tmp_path: Path) -> None:
    """Revoked in either is revoked, a real revocation goes before a hold, and what was deleted stays away."""
    twin = place(tmp_path / "twin", original)
    shutil.copy(original / "backup", twin / "first")
    run(twin, "restore", "first", *WITH)
    other = place(tmp_path / "other", original)
    run(other, "restore", twin / "first", *WITH)
    with RunningService(twin) as service, service.client() as client:
        here = [issued(client, f"here{number}.example.org") for number in range(3)]
        token = client.post("/api/v1/tokens", json={"name": "gone", "role": "admin"}).json()
    run(twin, "backup", "second", *WITH)
    run(other, "restore", twin / "second", *WITH)
    with RunningService(twin) as service, service.client() as client:
        changed(client, here[0], "certificateHold")
        changed(client, here[1], "keyCompromise")
        there = issued(client, "there.example.org")
        numbers = [crl_of(service).number]
    run(twin, "backup", "third", *WITH)
    with RunningService(other) as service, service.client() as client:
        assert all(one["id"] != token["id"] for one in client.get("/api/v1/tokens").json()["items"])
        changed(client, here[0], "superseded")
        changed(client, here[2], "certificateHold")
        own = issued(client, "own.example.org")
        numbers.append(crl_of(service).number)
        first = crl_of(service).revoked
    run(other, "restore", twin / "third", *WITH)
    run(other, "restore", twin / "third", *WITH)  # again, nothing is added
    with RunningService(other) as service, service.client() as client:
        crl = crl_of(service)
        assert crl.number > max(numbers)
        reasons = {serial: reason for serial, (reason, _) in crl.revoked.items()}
        assert [reasons.get(one) for one in (*here, there, own)] == [
            "superseded",
            "keyCompromise",
            "certificateHold",
            None,
            None,
        ]
        assert first.items() - crl.revoked.items() <= {(here[0], first[here[0]])}  # the earlier date, of the hold
        assert crl.revoked[here[0]][1] <= first[here[0]][1]
        assert client.get(f"{CERTIFICATES}/{there:x}").status_code == 200
        assert client.get(f"{CERTIFICATES}?san=there.example.org").json()["items"] != []
        assert revoked_by_openssl(service, here[1])
    audit = rows_of(
        other, "SELECT count(*), count(DISTINCT request_id || action) FROM audit WHERE request_id IS NOT NULL"
    )
    assert audit[0][0] == audit[0][1]


def test_a_backup_is_of_one_moment(tmp_path: Path) -> None:
    """While certificates are issued, each backup has as many of them as it has audit rows of their issue."""
    folder = place(tmp_path / "busy")
    with RunningService(folder) as service:
        over = threading.Event()

        def issue() -> None:
            with service.client() as client:
                while not over.is_set():
                    issued(client)

        threads = [threading.Thread(target=issue) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(3):
            run(folder, "backup", f"backup{number}", *WITH)
        over.set()
        for thread in threads:
            thread.join()
    counts = []
    for number in range(3):
        new = place(tmp_path / f"new{number}", folder)
        run(new, "restore", folder / f"backup{number}", *WITH)
        ((certificates, audit),) = rows_of(
            new,
            "SELECT (SELECT count(*) FROM certificates WHERE key_type != 'CA'), "
            "(SELECT count(*) FROM audit WHERE action = 'certificate.issue' AND outcome = 'success')",
        )
        assert certificates == audit
        counts.append(certificates)
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def _cut(content: bytes) -> bytes:
    return content[:-1]


def _cut_early(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _empty(_: bytes) -> bytes:
    return b""


def _other(_: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" * 100


def _flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage, said",
    [
        (_cut, "cut off"),
        (_cut_early, "cut off"),
        (_flipped, "changed"),
        (lambda content: content + b"\0", "cut off|changed"),
        (_empty, "no backup"),
        (_other, "no backup"),
        (lambda content: content.replace(b"scrypt:17", b"scrypt:16", 1), "passphrase"),
    ],
)
def test_a_damaged_file_changes_nothing(
    original: Path, tmp_path: Path, damage: Callable[[bytes], bytes], said: str
) -> None:
    """One line says what is wrong with it; no database is made of it."""
    new = place(tmp_path / "new", original)
    (new / "backup").write_bytes(damage((original / "backup").read_bytes()))
    line = told(new, "restore", "backup", *WITH)
    assert re.search(said, line), line
    assert line.startswith("tiny-ca: backup: ")
    assert not (new / "data" / "tiny-ca.db").exists()


def test_both_passphrases(original: Path, tmp_path: Path) -> None:
    """That of the file and that of the CA keys: each is told of early, and nothing is changed without."""
    (tmp_path / "wrong").write_text("incorrect horse battery staple")
    new = place(tmp_path / "new")
    backup = original / "backup"
    assert "the passphrase does not open it" in told(new, "restore", backup, "--passphrase-file", tmp_path / "wrong")
    assert "TINY_CA_KEY_PASSPHRASE" in told(new, "restore", backup, *WITH, code=2)
    (new / "data" / "key-passphrase").write_text("incorrect horse battery staple")
    assert "does not open the key of issuer" in told(new, "restore", backup, *WITH, code=2)
    assert {file.name for file in (new / "data").iterdir()} == {"key-passphrase"}
    assert "nobody is here to ask" in told(new, "restore", backup, code=2)
    (tmp_path / "short").write_text("short")
    assert "at least 16" in told(original, "backup", "short", "--passphrase-file", tmp_path / "short")
    assert "at least 16" in told(original, "backup", "short", code=2, TINY_CA_BACKUP_PASSPHRASE="short")
    assert "at least 16" in told(
        original, "backup", "short", code=2, TINY_CA_BACKUP_PASSPHRASE_FILE=str(tmp_path / "short")
    )
    assert not (original / "short").exists()
    run(original, "backup", "by-setting", TINY_CA_BACKUP_PASSPHRASE=PASSPHRASE)
    run(original, "backup", "by-file", TINY_CA_BACKUP_PASSPHRASE_FILE="passphrase")
    assert "is there already" in told(original, "backup", "by-file", *WITH)
    assert "none/file cannot be written" in told(original, "backup", "none/file", *WITH)
    run(original, "backup", "by-file", "--force", *WITH)
    run(place(tmp_path / "last", original), "restore", original / "by-setting", *WITH)


def test_what_is_no_file(tmp_path: Path) -> None:
    """Nothing, a folder and a FIFO are one line each, and nobody waits."""
    new = place(tmp_path / "new")
    os.mkfifo(new / "fifo")
    for name, said in (("none", "No such file"), ("data", "no regular file"), ("fifo", "no regular file")):
        assert said in told(new, "restore", name, *WITH)


def test_a_server_keeps_a_restore_out(original: Path, tmp_path: Path) -> None:
    """Of a SQLite file; a backup is taken beside it, and there is no CA to be found where there is none."""
    new = place(tmp_path / "new", original)
    run(new, "restore", original / "backup", *WITH)
    with RunningService(new):
        assert "stop it first" in told(new, "restore", original / "backup", *WITH, code=2)
        run(new, "backup", "mine", *WITH)
    assert "there is no CA" in told(place(tmp_path / "none"), "backup", "file", *WITH, code=2)
    assert not (tmp_path / "none" / "data" / "tiny-ca.db").exists()


@pytest.mark.parametrize("table", ["certificates", "issuers"])
def test_a_conflict_is_named_and_changes_nothing(original: Path, tmp_path: Path, table: str) -> None:
    """A serial number or an issuer's id that is another certificate's here: nothing of the backup comes in."""
    other, new = place(tmp_path / "other"), place(tmp_path / "new", original)
    run(other, "init")
    run(new, "restore", original / "backup", *WITH)
    ((foreign,),) = rows_of(other, "SELECT certificate_pem FROM issuers WHERE is_root")
    with sqlite3.connect(new / "data" / "tiny-ca.db") as connection:
        connection.execute("DELETE FROM certificates WHERE revocation_date IS NOT NULL")
        if table == "issuers":
            connection.execute("UPDATE issuers SET certificate_pem = ? WHERE NOT is_root", (foreign,))
            ((name,),) = connection.execute("SELECT id FROM issuers WHERE NOT is_root").fetchall()
        else:
            connection.execute(
                "UPDATE certificates SET certificate_pem = ?, fingerprint_sha256 = NULL WHERE key_type != 'CA'",
                (foreign,),
            )
            ((serial,),) = connection.execute(
                "SELECT serial_number FROM certificates WHERE key_type != 'CA'"
            ).fetchall()
            name = f"{int(serial):x}"
    everything = f"SELECT * FROM {table}"  # noqa: S608  # one of two names
    before = rows_of(new, everything)
    line = told(new, "restore", original / "backup", *WITH)
    assert name in line
    assert line.endswith("nothing was changed")
    assert rows_of(new, everything) == before
