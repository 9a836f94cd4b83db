"""``tiny-ca import``: folders and databases of other CAs, made by openssl; and openssl as the relying party."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests.foreign_folders import OpensslCA, cfssl_database, easy_rsa_folder, library_database
from tests.integration.moving import issued, place, rows_of, run, told
from tests.running import CERTIFICATES, RunningService, openssl, tiny_ca

ISSUERS = "/api/v1/issuers"


@pytest.fixture(scope="module")
def new_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service that was just made, and nothing in it."""
    made = place(tmp_path_factory.mktemp("new") / "service")
    assert tiny_ca(made, "init")[0] == 0
    return made


@pytest.fixture(scope="module")
def known_ca(tmp_path_factory: pytest.TempPathFactory) -> OpensslCA:
    """A CA of openssl that issued five certificates, of which one has expired and three are revoked."""
    made = OpensslCA(tmp_path_factory.mktemp("known") / "demoCA")
    valid, compromised, held, doubted = (made.issue(f"app{number}.example.org") for number in range(4))
    made.issue_expired()
    made.revoke(compromised, "-crl_reason", "keyCompromise")
    made.revoke(held, "-crl_hold", "holdInstructionReject")
    made.revoke(doubted, "-crl_compromise", "20260101000000Z")
    assert valid == 0x1000
    return made


@pytest.fixture
def folder(new_service: Path, tmp_path: Path) -> Path:
    """The service, to be changed."""
    return Path(shutil.copytree(new_service, tmp_path / "service"))


@pytest.fixture
def ca(known_ca: OpensslCA, tmp_path: Path) -> OpensslCA:
    """The CA, to be changed."""
    return known_ca.copy(tmp_path / "demoCA")


def bring(folder: Path, kind: str, path: Path, *more: str | Path) -> dict[str, Any]:
    """Import, and return what was said of it."""
    done: dict[str, Any] = json.loads(run(folder, "import", kind, path, *more))
    return done


def everything(folder: Path) -> list[Any]:
    """What an import may change."""
    return [
        rows_of(folder, query)
        for query in (
            "SELECT * FROM certificates",
            "SELECT id, crl_number, revocation_count FROM issuers",
            "SELECT count(*) FROM audit",
        )
    ]


def crl_of(client: httpx.Client, name: str, ca: OpensslCA) -> str:
    """The CRL of the imported CA as openssl reads it, verified."""
    issuer = next(one for one in client.get(ISSUERS).json()["items"] if one["common_name"] == name)
    file = ca.folder / "served.crl"
    file.write_bytes(client.get(f"/issuers/{issuer['id']}/crl.der").content)
    text = openssl("crl", "-inform", "DER", "-in", file, "-noout", "-text", "-CAfile", ca.certificate)
    assert "verify OK" in text
    return text


def test_a_folder_of_openssl(folder: Path, ca: OpensslCA) -> None:
    """With its CA: the service goes on with its CRL, and knows each certificate; again, nothing is added."""
    first = bring(folder, "openssl", ca.folder)
    assert [first[name] for name in ("certificates", "known", "revocations")] == [5, 0, 3]
    assert len(first["issuers"]) == 1
    before = everything(folder)
    again = bring(folder, "openssl", ca.folder)
    assert [again[name] for name in ("certificates", "known", "revocations", "issuers")] == [0, 5, 0, []]
    assert everything(folder)[0] == before[0]
    statuses = rows_of(
        folder,
        "SELECT serial_number, status, revocation_reason FROM certificates WHERE requester = 'tiny-ca' ORDER BY 1",
    )
    imported = [(int(serial), *rest) for serial, *rest in statuses if int(serial) < 0x2000]
    assert imported == [
        (0x1000, "valid", None),
        (0x1001, "revoked", 1),
        (0x1002, "revoked", 6),
        (0x1003, "revoked", 1),
        (0x1004, "expired", None),
    ]
    with RunningService(folder) as service, service.client() as client:
        text = crl_of(client, "Elsewhere CA", ca)
        for serial, reason in ((0x1001, "Key Compromise"), (0x1002, "Certificate Hold"), (0x1003, "Key Compromise")):
            assert reason in text.partition(f"Serial Number: {serial:X}\n")[2].partition("Serial Number")[0]
        assert text.count("Serial Number:") == 3
        crl = ca.folder / "served.pem"
        openssl("crl", "-inform", "DER", "-in", ca.folder / "served.crl", "-out", crl)
        said = [
            openssl("verify", "-crl_check", "-CAfile", ca.certificate, "-CRLfile", crl, ca.file(serial), check=False)
            for serial in (0x1000, 0x1001)
        ]
        assert said[0].rstrip().endswith("OK")
        assert "certificate revoked" in said[1]
        answer = client.post(f"{CERTIFICATES}/1000/revoke", json={"reason": "superseded"})
        assert answer.status_code == 200
        assert "Serial Number: 1000\n" in crl_of(client, "Elsewhere CA", ca)
        found = client.get(CERTIFICATES, params={"common_name": "app1.example.org"}).json()["items"]
        assert [one["serial_number"] for one in found] == ["1001"]
        issued(client)
    # What was revoked here stays so, though the folder calls it valid.
    assert bring(folder, "openssl", ca.folder)["revocations"] == 0
    assert rows_of(folder, "SELECT status FROM certificates WHERE serial_number = '4096'") == [("revoked",)]


def test_a_ca_that_was_imported_over_http(folder: Path, ca: OpensslCA) -> None:
    """Then the folder's key is not looked at, and the CRL that is out already is followed by one that says more."""
    body = {"certificate": ca.certificate.read_text(), "private_key": ca.key.read_text()}
    with RunningService(folder) as service, service.client() as client:
        assert client.post(ISSUERS, json={**body, "chain": []}).status_code == 201
        assert "Revoked Certificates" in crl_of(client, "Elsewhere CA", ca)
        assert "stop it first" in told(folder, "import", "openssl", ca.folder, code=2)
    ca.key.unlink()
    assert bring(folder, "openssl", ca.folder)["revocations"] == 3
    with RunningService(folder) as service, service.client() as client:
        assert crl_of(client, "Elsewhere CA", ca).count("Serial Number:") == 3


def test_into_postgresql(postgres_database: str, ca: OpensslCA, tmp_path: Path) -> None:
    """As into SQLite; there it may run beside a service, which sees the CA and what it revoked."""
    folder, environment = place(tmp_path / "service"), {"TINY_CA_DATABASE_URL": postgres_database}
    with RunningService(folder, environment=environment) as service, service.client() as client:
        done = json.loads(run(folder, "import", "openssl", ca.folder, **environment))
        assert [done[name] for name in ("certificates", "revocations")] == [5, 3]
        assert client.post(f"{ISSUERS}/{done['issuers'][0]}/crl").status_code == 200
        assert crl_of(client, "Elsewhere CA", ca).count("Serial Number:") == 3
        again = json.loads(run(folder, "import", "openssl", ca.folder, **environment))
        assert [again[name] for name in ("certificates", "known", "revocations")] == [0, 5, 0]


def test_a_dry_run(folder: Path, ca: OpensslCA) -> None:
    """It says the same, and changes nothing."""
    before = everything(folder)
    dry = bring(folder, "openssl", ca.folder, "--dry-run")
    assert everything(folder) == before
    assert {**dry, "dry_run": False} == bring(folder, "openssl", ca.folder)


def test_a_folder_of_easy_rsa(folder: Path, ca: OpensslCA, tmp_path: Path) -> None:
    """Also from the folder above pki; revoked certificates are where easy-rsa moved them."""
    above = easy_rsa_folder(ca, tmp_path / "easy-rsa", [0x1001, 0x1002, 0x1003])
    done, again = (bring(folder, "easy-rsa", path) for path in (above, above / "pki"))
    assert [done[name] for name in ("certificates", "revocations")] == [5, 3]
    assert [again[name] for name in ("certificates", "known", "revocations")] == [0, 5, 0]


def test_a_key_under_a_passphrase(folder: Path, ca: OpensslCA, tmp_path: Path) -> None:
    """It is told in a file; nothing is imported without, or with a wrong one."""
    key = tmp_path / "encrypted.key"
    openssl("pkey", "-in", ca.key, "-aes256", "-passout", "pass:the passphrase", "-out", key)
    given = ("--ca-cert", ca.certificate, "--ca-key", key)
    assert "nobody is here to ask" in told(folder, "import", "openssl", ca.folder, *given, code=2)
    (tmp_path / "word").write_text("wrong")
    assert "does not open" in told(
        folder, "import", "openssl", ca.folder, *given, "--ca-passphrase-file", tmp_path / "word"
    )
    (tmp_path / "word").write_text("the passphrase\n")
    assert bring(folder, "openssl", ca.folder, *given, "--ca-passphrase-file", tmp_path / "word")["certificates"] == 5
    assert all("BEGIN ENCRYPTED" in key for (key,) in rows_of(folder, "SELECT private_key_pem FROM issuers"))


@pytest.mark.parametrize("kind, make", [("cfssl", cfssl_database), ("library", library_database)])
def test_a_database(
    folder: Path, ca: OpensslCA, tmp_path: Path, kind: str, make: Callable[[OpensslCA, Path, dict[int, int]], Path]
) -> None:
    """Of cfssl, or of the library: its CA is given, and what others signed is left out."""
    file = make(ca, tmp_path / "certs.db", {0x1001: 1, 0x1002: 4})
    with closing(sqlite3.connect(file)) as connection, connection:
        other = OpensslCA(tmp_path / "other", "Another CA", serial="9000")
        serial = other.issue()
        pem = other.certificates()[serial].public_bytes(Encoding.PEM)
        row = connection.execute("SELECT * FROM certificates LIMIT 1").fetchone()
        names = [one[1] for one in connection.execute("PRAGMA table_info(certificates)")]
        values = dict(zip(names, row, strict=True)) | {"serial_number": str(serial)}
        values |= {"pem": pem} if kind == "cfssl" else {"certificate_pem": pem.decode(), "uuid": None, "id": None}
        marks = ", ".join("?" * len(names))
        connection.execute(f"INSERT INTO certificates VALUES ({marks})", [values[one] for one in names])  # noqa: S608
    assert "is no issuer here" in told(folder, "import", kind, file, "--ca-cert", ca.certificate)
    done = bring(folder, kind, file, "--ca-cert", ca.certificate, "--ca-key", ca.key)
    assert [done[name] for name in ("certificates", "revocations", "other_issuers")] == [5, 2, 1]
    revoked = rows_of(
        folder,
        "SELECT revocation_reason, revocation_date FROM certificates WHERE revocation_date IS NOT NULL ORDER BY 1",
    )
    assert revoked == [(1, "2026-10-01 10:00:00.000000"), (4, "2026-10-01 10:00:00.000000")]
    assert bring(folder, kind, file)["certificates"] == 0
    assert "it is of another program" in told(folder, "import", "library" if kind == "cfssl" else "cfssl", file)


def _with(ca: OpensslCA, old: str, new: str) -> None:
    text = ca.index.read_text()
    assert old in text
    ca.index.write_text(text.replace(old, new, 1))


def _der(ca: OpensslCA) -> None:
    openssl("x509", "-in", ca.file(0x1001), "-outform", "DER", "-out", ca.file(0x1000))


def _loop(ca: OpensslCA) -> None:
    ca.file(0x1001).unlink()
    ca.file(0x1001).symlink_to(ca.file(0x1001).name)


def _giant(ca: OpensslCA) -> None:
    os.truncate(ca.file(0x1001), 10 * 1024**3)


def _giant_index(ca: OpensslCA) -> None:
    os.truncate(ca.index, 2 * 1024**3)


def _fifo(ca: OpensslCA) -> None:
    ca.file(0x1001).unlink()
    os.mkfifo(ca.file(0x1001))


def _fifo_index(ca: OpensslCA) -> None:
    ca.index.unlink()
    os.mkfifo(ca.index)


def _forged(ca: OpensslCA) -> None:
    """The certificate of another CA of the same name."""
    other = OpensslCA(ca.folder.parent / "forger", serial="1001")
    other.issue()
    shutil.copy(other.file(0x1001), ca.file(0x1001))


@pytest.mark.parametrize(
    "damage, said",
    [
        (lambda ca: _with(ca, "\tunknown", ""), "index.txt, line 1 has 5 columns"),
        (lambda ca: _with(ca, "R\t", "Q\t"), "index.txt, line 2: the status is 'Q'"),
        (lambda ca: _with(ca, "\t1002\t", "\t10G2\t"), "index.txt, line 3: the serial number '10G2'"),
        (lambda ca: _with(ca, ",keyCompromise", ",boredom"), "index.txt, line 2: 'boredom' is no reason"),
        (lambda ca: ca.file(0x1001).unlink(), "1001 ("),
        (lambda ca: ca.file(0x1000).unlink(), "1000 ("),
        (lambda ca: shutil.copy(ca.file(0x1000), ca.file(0x1001)), "1001.pem has the serial number 1000"),
        (lambda ca: ca.file(0x1001).write_text("nothing"), "1001.pem is no certificate in PEM"),
        (_der, "1000.pem is DER"),
        (_loop, "1001.pem cannot be read: Too many levels of symbolic links"),
        (_giant, "1001.pem is larger than"),
        (_giant_index, "index.txt is larger than"),
        (_fifo, "1001.pem is no regular file"),
        (_forged, "line 2: its issuer is 'CN=Elsewhere CA', whose key did not sign it"),
        (_fifo_index, "index.txt is no regular file"),
        (lambda ca: ca.index.unlink(), "index.txt cannot be read: No such file"),
        (lambda ca: (ca.folder / "crlnumber").write_text("ten"), "crlnumber holds 'ten'"),
        (lambda ca: ca.key.unlink(), "is no issuer here"),
    ],
)
def test_what_is_not_as_it_should_be(
    folder: Path, ca: OpensslCA, damage: Callable[[OpensslCA], object], said: str
) -> None:
    """One line names the file, the line and the value; nothing is imported, the CA neither."""
    damage(ca)
    before = everything(folder)
    assert said in told(folder, "import", "openssl", ca.folder)
    assert everything(folder) == before


def test_what_expired_without_a_file_is_left_out(folder: Path, ca: OpensslCA) -> None:
    """No CRL needs it any more; how many there were is said."""
    ca.file(0x1004).unlink()
    done = bring(folder, "openssl", ca.folder)
    assert (done["certificates"], done["expired_without_certificate"]) == (4, 1)


def test_another_certificate_with_the_serial_number(folder: Path, ca: OpensslCA, tmp_path: Path) -> None:
    """Two CAs that number from 1000: the second one's are refused, by number."""
    bring(folder, "openssl", ca.folder)
    other = OpensslCA(tmp_path / "other", "Another CA")
    other.issue()
    before = everything(folder)
    line = told(folder, "import", "openssl", other.folder)
    assert "1000 (" in line
    assert "other certificates with these serial numbers" in line
    assert everything(folder) == before


def test_a_number_of_crls_that_is_higher(folder: Path, ca: OpensslCA) -> None:
    """Whatever the folder's next CRL was called, ours are above it."""
    (ca.folder / "crlnumber").write_text("3FFFFFFFFFFFFFF0\n")
    bring(folder, "openssl", ca.folder)
    numbers = rows_of(folder, "SELECT crl_number FROM issuers WHERE common_name = 'Elsewhere CA'")
    assert numbers == [(0x3FFFFFFFFFFFFFF0,)]
