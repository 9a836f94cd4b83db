"""Starting: what a first run makes, what a second finds, and what stops a start."""

from __future__ import annotations

import os
import sqlite3
import ssl
import stat
import threading
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from tests.running import CERTIFICATES, RunningService, make_csr, openssl, tiny_ca


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _crl_number(service: RunningService) -> int:
    with service.anonymous() as client:
        crl = x509.load_der_x509_crl(client.get("/crl.der").content)
    return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_first_run_keeps_its_secrets_to_itself(tmp_path: Path) -> None:
    """The data folder is 0700 and every file in it 0600, whatever the umask; no secret is printed or logged."""
    umask = os.umask(0)
    try:
        with RunningService(tmp_path, environment={"TINY_CA_LOG_LEVEL": "debug"}, forked=False) as service:
            token, passphrase = service.token, (service.data / "key-passphrase").read_text().strip()
            with service.client() as client:
                assert client.get(CERTIFICATES).status_code == 200
            assert _mode(service.data) == 0o700
            assert {file.name: oct(_mode(file)) for file in service.data.iterdir()} == {
                file.name: "0o600" for file in service.data.iterdir()
            }
    finally:
        os.umask(umask)
    assert token not in service.log
    assert passphrase not in service.log


def test_no_private_key_is_in_plain_text_on_disk(tmp_path: Path) -> None:
    """The CA keys in the database are encrypted PKCS#8 that the passphrase opens and another does not."""
    assert tiny_ca(tmp_path, "init")[0] == 0
    with closing(sqlite3.connect(tmp_path / "data" / "tiny-ca.db")) as database:
        keys = [pem for (pem,) in database.execute("select private_key_pem from issuers")]
    assert len(keys) == 2
    passphrase = (tmp_path / "data" / "key-passphrase").read_text().strip()
    for pem in keys:
        assert pem.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        opened = openssl("pkey", "-noout", "-passin", f"pass:{passphrase}", stdin=pem.encode())
        assert opened == ""
        refused = openssl("pkey", "-noout", "-passin", f"pass:{passphrase}x", stdin=pem.encode(), check=False)
        assert "error" in refused.lower()


def test_a_second_start_finds_everything_again(tmp_path: Path) -> None:
    """Same CA, same token, same certificates; CRL numbers go on."""
    service = RunningService(tmp_path, forked=False)
    service.start()
    token = service.token
    with service.client() as client:
        bundle = client.get("/ca.pem").content
        serial = client.post(CERTIFICATES, content=make_csr(tmp_path), headers={"Accept": "application/json"}).json()[
            "serial_number"
        ]
        number = _crl_number(service)
    assert service.stop() == 0
    service.start()
    with service.client() as client:
        assert client.get("/ca.pem").content == bundle
        assert client.get(f"{CERTIFICATES}/{serial}").status_code == 200
        assert _crl_number(service) == number
        assert client.post(f"{CERTIFICATES}/{serial}/revoke").status_code == 200
        assert _crl_number(service) == number + 1
    assert service.token == token
    assert service.stop() == 0


def test_init_makes_everything_once(tmp_path: Path) -> None:
    """``tiny-ca init`` exits 0, and again changes nothing."""
    assert tiny_ca(tmp_path, "init")[0] == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "data").glob("*-*") if file.suffix != ".db"}
    assert tiny_ca(tmp_path, "init")[0] == 0
    assert {file.name: file.read_bytes() for file in (tmp_path / "data").glob("*-*") if file.suffix != ".db"} == before
    assert set(before) == {"admin-token", "key-passphrase"}


def test_two_first_runs_at_once_make_one_ca(tmp_path: Path) -> None:
    """Three processes racing on an empty folder end with one root and one issuer, and all succeed."""
    codes: list[int] = []
    racers = [threading.Thread(target=lambda: codes.append(tiny_ca(tmp_path, "init")[0])) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert codes == [0, 0, 0]
    with closing(sqlite3.connect(tmp_path / "data" / "tiny-ca.db")) as database:
        assert database.execute("select count(*) from issuers").fetchone() == (2,)
        assert database.execute("select count(*) from certificates").fetchone() == (2,)


def test_a_profiles_file_is_enforced(tmp_path: Path) -> None:
    """What the file narrows is refused, what it adds can be used."""
    (tmp_path / "profiles.toml").write_text(
        "[profiles.server]\ndns = ['*.example.org']\nmax_lifetime = '90d'\nwildcards = false\n"
        "[profiles.web]\nextends = 'server'\nkeys = ['rsa:3072-4096']\n"
    )
    with (
        RunningService(tmp_path, "--profiles-file", "profiles.toml", forked=False) as service,
        service.client() as client,
    ):
        inside = make_csr(tmp_path)
        assert client.post(CERTIFICATES, content=inside).status_code == 201
        outside = client.post(CERTIFICATES, content=make_csr(tmp_path, common_name="app.example.com"))
        assert (outside.status_code, outside.json()["rule"]) == (403, "names")
        long = client.post(CERTIFICATES, content=inside, params={"lifetime": "91d"})
        assert (long.status_code, long.json()["rule"]) == (403, "max_lifetime")
        wild = client.post(CERTIFICATES, content=make_csr(tmp_path, common_name="*.a.example.org"))
        assert (wild.status_code, wild.json()["rule"]) == (403, "wildcards")
        key = client.post(CERTIFICATES, content=inside, params={"profile": "web"})
        assert (key.status_code, key.json()["rule"]) == (403, "key")


def test_a_lost_passphrase_stops_the_start(tmp_path: Path) -> None:
    """Without the passphrase, or with another one, the start ends with a line that says so; nothing is made anew."""
    assert tiny_ca(tmp_path, "init")[0] == 0
    passphrase = tmp_path / "data" / "key-passphrase"
    kept = passphrase.read_text()
    passphrase.unlink()
    code, _, lines = tiny_ca(tmp_path, "serve")
    assert (code, len(lines)) == (2, 1)
    assert "TINY_CA_KEY_PASSPHRASE" in lines[0]
    assert not passphrase.exists()
    passphrase.write_text("another passphrase that is long enough\n")
    code, _, lines = tiny_ca(tmp_path, "serve")
    assert (code, len(lines)) == (2, 1)
    assert "does not open the key" in lines[0]
    passphrase.write_text(kept)
    assert tiny_ca(tmp_path, "init")[0] == 0


def test_a_token_file_taken_away_is_not_made_anew(tmp_path: Path) -> None:
    """Who moved the token to a vault can still use it, and no second one appears."""
    assert tiny_ca(tmp_path, "init")[0] == 0
    file = tmp_path / "data" / "admin-token"
    token = file.read_text().strip()
    file.unlink()
    with RunningService(tmp_path, forked=False) as service:
        answer = httpx.get(service.url + CERTIFICATES, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
    assert not file.exists()


def test_secrets_from_the_environment(tmp_path: Path) -> None:
    """Passphrase and token that are set are used, and neither is written to disk."""
    token = "tcat_given-by-the-operator-0123456789abcdef"
    environment = {"TINY_CA_KEY_PASSPHRASE": "a passphrase of some length", "TINY_CA_ADMIN_TOKEN": token}
    with RunningService(tmp_path, environment=environment, forked=False) as service:
        answer = httpx.get(service.url + CERTIFICATES, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
    assert {file.name for file in service.data.iterdir()} <= {
        f"tiny-ca.db{end}" for end in ("", "-wal", "-shm", ".lock")
    }


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """The second service on a port says that it is taken, and exits 2."""
    with RunningService(tmp_path, forked=False) as service:
        port = service.url.rpartition(":")[2]
        code, _, lines = tiny_ca(tmp_path, "serve", "--port", port)
    assert (code, len(lines)) == (2, 1)
    assert "TINY_CA_PORT: cannot listen on" in lines[0]


def test_https_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    """Beyond loopback with TLS: clients that trust the root connect."""
    with RunningService(tmp_path, forked=False) as service, service.client() as client:
        made = client.post(
            CERTIFICATES,
            json={"common_name": "ca.example.org", "san_ip": ["127.0.0.1"]},
            headers={"Accept": "application/pem-certificate-chain"},
        )
        key, _, chain = made.text.partition("-----END PRIVATE KEY-----\n")
        (tmp_path / "tls.key").write_text(key + "-----END PRIVATE KEY-----\n")
        (tmp_path / "tls.pem").write_text(chain)
        (tmp_path / "roots.pem").write_bytes(client.get("/roots.pem").content)
    arguments = ("--host", "0.0.0.0", "--tls-cert", "tls.pem", "--tls-key", "tls.key")  # noqa: S104  # with TLS
    with RunningService(tmp_path, *arguments, forked=False) as service:
        port = service.url.rpartition(":")[2]
        trust = ssl.create_default_context(cafile=str(tmp_path / "roots.pem"))
        answer = httpx.get(f"https://127.0.0.1:{port}/readyz", verify=trust)
        assert answer.json()["ready"] is True


def test_workers_share_one_ca(tmp_path: Path) -> None:
    """Two worker processes over one SQLite file: a revocation that was answered is in the CRL whoever serves it."""
    with RunningService(tmp_path, "--workers", "2", forked=False) as service:
        service.wait_until_ready()
        for _ in range(5):
            with service.client() as client:
                answer = client.post(CERTIFICATES, content=make_csr(tmp_path), headers={"Accept": "application/json"})
                serial = answer.json()["serial_number"]
            with service.client() as client:
                assert client.post(f"{CERTIFICATES}/{serial}/revoke").status_code == 200
            for _ in range(4):  # a connection each, so that both get their turn
                with service.anonymous() as client:
                    crl = x509.load_der_x509_crl(client.get("/crl.der").content)
                assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
        assert service.stop() == 0


@pytest.mark.parametrize(
    "line",
    ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "token=tcat_0123456789ab", "Bearer eyJhbGciOiJFUzI1NiJ9.e30.AA"],
    ids=["key", "token", "identity"],
)
def test_every_log_of_the_tests_is_searched(tmp_path: Path, line: str) -> None:
    """What ``RunningService`` looks for when it stops, it finds."""
    service = RunningService(tmp_path)
    service.log = f'{{"event": "x", "value": "{line}"}}'
    with pytest.raises(AssertionError, match="the log shows a secret"):
        service._check_log()
