"""``tiny-ca root export | import``: the root's key goes, the service goes on, the key comes back for a ceremony."""

from __future__ import annotations

import sqlite3
import stat
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.api.answers import detail_of_refusal
from tests.made_elsewhere import foreign_ca
from tests.running import CERTIFICATES, RunningService, openssl, tiny_ca

ISSUERS = "/api/v1/issuers"
PASSPHRASE = "correct horse battery staple"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A CA that was just made, and a passphrase in a file."""
    assert tiny_ca(tmp_path, "init")[0] == 0
    (tmp_path / "passphrase").write_text(PASSPHRASE + "\n")
    return tmp_path


def export(folder: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Take the root's key offline."""
    flags = ("--remove", "--out", "root.key", "--passphrase-file", "passphrase")
    return tiny_ca(folder, "root", "export", *(arguments or flags))


def bring(folder: Path, *arguments: str) -> tuple[int, str, list[str]]:
    """Bring it back."""
    return tiny_ca(folder, "root", "import", *(arguments or ("root.key", "--passphrase-file", "passphrase")))


def rows(folder: Path, query: str) -> list[Any]:
    """What the database holds."""
    with sqlite3.connect(folder / "data" / "tiny-ca.db") as connection:
        return connection.execute(query).fetchall()


def stored_key(folder: Path) -> str | None:
    """The root's key as the database has it."""
    ((key,),) = rows(folder, "SELECT private_key_pem FROM issuers WHERE is_root")
    return None if key is None else str(key)


def within_two_seconds(seen: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 2
    while not seen():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def root_of(client: httpx.Client) -> dict[str, Any]:
    """The root."""
    (found,) = [one for one in client.get(ISSUERS).json()["items"] if one["is_root"]]
    return dict(found)


def test_a_ceremony(folder: Path) -> None:
    """While the key is away, leaves go on and no CA can be made; a running service sees it go and come back."""
    with RunningService(folder) as service, service.client() as client:
        root = root_of(client)
        code, _, errors = export(folder)
        assert code == 0, errors
        within_two_seconds(lambda: not root_of(client)["has_key"])
        wish = {"common_name": "New CA"}
        assert "tiny-ca root import" in detail_of_refusal(client.post(ISSUERS, json=wish), 409)
        issuing = next(one["id"] for one in client.get(ISSUERS).json()["items"] if one["default"])
        assert "tiny-ca root import" in detail_of_refusal(client.post(f"{ISSUERS}/{issuing}/revoke"), 409)
        assert "not here" in detail_of_refusal(client.post(f"{ISSUERS}/{root['id']}/crl"), 409)
        assert client.post(CERTIFICATES, json={"common_name": "app.example.org"}).status_code == 201
        assert client.get("/readyz").json()["ready"] is True
        # Its last CRL lasts until the next ceremony, and is the one that is served.
        crl = x509.load_der_x509_crl(client.get(f"/issuers/{root['id']}/crl.der").content)
        assert crl.next_update_utc is not None
        assert crl.next_update_utc > datetime.now(UTC) + timedelta(days=364)
        assert bring(folder)[0] == 0
        within_two_seconds(lambda: bool(root_of(client)["has_key"]))
        made = client.post(ISSUERS, json=wish)
        assert made.status_code == 201, made.text
    actions = rows(folder, "SELECT action, outcome FROM audit WHERE action LIKE 'issuer.key%' ORDER BY id")
    assert actions == [("issuer.key_export", "success"), ("issuer.key_import", "success")]


def test_the_file(folder: Path) -> None:
    """It is the owner's alone, opens with openssl, is the root's key; the database and its log have none of it."""
    before = str(stored_key(folder))
    code, out, errors = export(folder)
    assert (code, '"has_key": false' in out) == (0, True), errors
    file = folder / "root.key"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "scrypt" in openssl("asn1parse", "-in", file)
    public = openssl("pkey", "-in", file, "-passin", f"pass:{PASSPHRASE}", "-pubout")
    ((pem,),) = rows(folder, "SELECT certificate_pem FROM issuers WHERE is_root")
    assert public == openssl("x509", "-pubkey", "-noout", stdin=pem.encode())
    assert stored_key(folder) is None
    secret = before.splitlines()[3].encode()
    assert all(secret not in one.read_bytes() for one in (folder / "data").iterdir())
    assert [one.name for one in folder.iterdir() if one.name.startswith(".root")] == []


def test_a_copy(folder: Path) -> None:
    """Without --remove it is a copy: the key stays."""
    before = stored_key(folder)
    assert export(folder, "--out", "copy.key", "--passphrase-file", "passphrase")[0] == 0
    assert stored_key(folder) == before
    load_pem_private_key((folder / "copy.key").read_bytes(), PASSPHRASE.encode())


def test_a_file_that_is_there(folder: Path) -> None:
    """Nothing is overwritten, and the key stays where it is."""
    (folder / "root.key").write_text("mine")
    code, _, errors = export(folder)
    assert (code, len(errors)) == (1, 1)
    assert "is there already" in errors[0]
    assert (folder / "root.key").read_text() == "mine"
    assert stored_key(folder) is not None


def test_a_folder_that_is_not_there(folder: Path) -> None:
    """What cannot be written keeps the key in its place."""
    code, _, errors = export(folder, "--remove", "--out", "no/root.key", "--passphrase-file", "passphrase")
    assert (code, len(errors)) == (1, 1)
    assert stored_key(folder) is not None


@pytest.mark.parametrize(
    "arguments,code,text",
    [
        (("--remove", "--out", "root.key"), 2, "--passphrase-file"),
        (("--remove", "--out", "root.key", "--passphrase-file", "none"), 2, "cannot be read"),
        (("--remove", "--passphrase-file", "passphrase"), 2, "--out"),
        (("--out", "root.key", "--passphrase-file", "short"), 1, "16 characters"),
        (("--out", "root.key", "--passphrase-file", "passphrase", "--issuer", "0123456789abcdef"), 1, "no root"),
        (("--out", "root.key", "--passphrase-file", "passphrase", "--crl-lifetime", "soon"), 1, "lifetime"),
        (("--out", "root.key", "--passphrase-file", "passphrase", "--data-dir", "elsewhere"), 2, "no CA"),
    ],
    ids=str,
)
def test_wrong_usage(folder: Path, arguments: tuple[str, ...], code: int, text: str) -> None:
    """One line says what is wrong, and nothing happens."""
    (folder / "short").write_text("short\n")
    ended, _, errors = export(folder, *arguments)
    assert (ended, text in "\n".join(errors)) == (code, True), errors
    assert not (folder / "root.key").exists()
    assert not (folder / "elsewhere").exists()
    assert stored_key(folder) is not None


def test_twice(folder: Path) -> None:
    """What is away cannot go again, and what is here cannot come."""
    code, _, errors = bring(folder, "passphrase", "--passphrase-file", "passphrase")
    assert (code, len(errors)) == (1, 1)
    assert export(folder)[0] == 0
    code, _, errors = export(folder, "--remove", "--out", "again.key", "--passphrase-file", "passphrase")
    assert (code, "offline already" in errors[-1]) == (1, True)
    assert bring(folder)[0] == 0
    code, _, errors = bring(folder)
    assert (code, "is here already" in errors[-1]) == (1, True)


def test_what_is_no_root_key(folder: Path) -> None:
    """Only the root's own key comes back, under the passphrase that it left with."""
    assert export(folder)[0] == 0
    (folder / "other.key").write_text(foreign_ca().key_pem(PASSPHRASE))
    (folder / "wrong").write_text("another passphrase\n")
    (folder / "empty").write_text("")
    for file, passphrase, text in (
        ("other.key", "passphrase", "none of the roots"),
        ("root.key", "wrong", "does not open"),
        ("empty", "passphrase", "no private key"),
        ("missing", "passphrase", "cannot be read"),
    ):
        code, _, errors = bring(folder, file, "--passphrase-file", passphrase)
        assert (code, text in errors[-1]) == (1, True), errors
    assert stored_key(folder) is None


def test_the_default_stays(folder: Path) -> None:
    """A root that issues by default keeps its key until another one is the default."""
    with sqlite3.connect(folder / "data" / "tiny-ca.db") as connection:
        connection.execute("UPDATE issuers SET is_default = 0")
        connection.execute("UPDATE issuers SET is_default = 1 WHERE is_root")
    code, _, errors = export(folder)
    assert (code, "default" in errors[-1]) == (1, True)
    assert stored_key(folder) is not None
    assert not (folder / "root.key").exists()
