"""The command line against the real service: what it writes, prints, sends and answers with."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from tests.recording import RecordingProxy
from tests.running import CERTIFICATES, RunningService, make_csr, openssl, tiny_ca


class Client:
    """The command in a folder of its own, with the admin's token in a file."""

    def __init__(self, folder: Path, service: RunningService) -> None:
        self.folder = folder
        self.service = service
        self.url = service.url
        self.token_file = folder / "token"
        self.token_file.write_text(service.token)

    def run(self, *arguments: str | Path, token: bool = True, **environment: str) -> tuple[int, str, list[str]]:
        """Exit code, standard output, lines of standard error."""
        given = ("--token-file", str(self.token_file)) if token else ()
        home = {"HOME": str(self.folder / "home"), "XDG_CONFIG_HOME": ""}
        return tiny_ca(self.folder, *map(str, arguments), *given, **{"TINY_CA_URL": self.url, **home, **environment})

    def ok(self, *arguments: str | Path, token: bool = True) -> Any:  # noqa: ANN401  # whatever it printed
        """The JSON it printed; it succeeded, and complained of nothing."""
        code, out, lines = self.run(*arguments, token=token)
        assert (code, lines) == (0, [])
        return json.loads(out)

    def fails(self, code: int, *arguments: str | Path, token: bool = True, **environment: str) -> str:
        """The one line it complained in; it printed nothing."""
        found, out, lines = self.run(*arguments, token=token, **environment)
        assert (found, out, len(lines)) == (code, "", 1), lines
        assert lines[0].startswith("tiny-ca: ")
        return lines[0]


@pytest.fixture
def client(tmp_path: Path, service: RunningService) -> Client:
    """A client of the shared service."""
    return Client(tmp_path, service)


@pytest.fixture
def proxy(client: Client) -> Iterator[RecordingProxy]:
    """What the client sends goes through it."""
    with RecordingProxy(client.url) as recording:
        client.url = recording.url
        yield recording


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _public_key(pem: bytes) -> object:
    return x509.load_pem_x509_certificate(pem).public_key()


class TestIssue:
    def test_key_and_chain(self, client: Client) -> None:
        """The key is PKCS #8, 0600; the certificate is for it and verifies with its chain; no secret is shown."""
        made = client.ok(
            "issue", "app.example.org", "--san", "www.example.org", "--san", "IP:10.1.2.3", "--lifetime", "2h"
        )
        key, chain = client.folder / "app.example.org.key", client.folder / "app.example.org.pem"
        assert (made["key_file"], made["certificate_file"]) == (key.name, chain.name)
        assert (_mode(key), _mode(chain)) == (0o600, 0o600)
        private_key = load_pem_private_key(key.read_bytes(), None)
        assert private_key.public_key() == _public_key(chain.read_bytes())
        assert sorted(made["san"]) == ["10.1.2.3", "app.example.org", "www.example.org"]
        assert "PRIVATE KEY" not in json.dumps(made)
        assert client.run("ca", "--out", "ca.pem", token=False) == (0, "", [])
        assert "OK" in openssl("verify", "-x509_strict", "-CAfile", client.folder / "ca.pem", chain)
        assert chain.read_text().count("BEGIN CERTIFICATE") == 2
        assert {file.name for file in client.folder.iterdir()} == {key.name, chain.name, "ca.pem", "token"}

    @pytest.mark.parametrize(
        "kind,says",
        [("rsa:3072", "3072 bit"), ("ed25519", "ED25519"), ("ec:P-384", "secp384r1"), ("mldsa:ML-DSA-65", "")],
    )
    def test_kinds_of_keys(self, client: Client, kind: str, says: str) -> None:
        """The key is of the kind that was asked for."""
        made = client.ok("issue", "app.example.org", "--key", kind, "--out", "mine.crt")
        assert made["key_file"] == "mine.key"
        assert made["public_key"]["algorithm"] == kind.partition(":")[0]
        if says:
            assert says in openssl("pkey", "-in", client.folder / "mine.key", "-noout", "-text")

    def test_the_key_is_never_sent(self, client: Client, proxy: RecordingProxy) -> None:
        """Whatever makes keys, no request holds one; the token is in the Authorization header and nowhere else."""
        (client.folder / "names").write_text("one.example.org\ntwo.example.org\n")
        client.ok("issue", "app.example.org")
        client.ok("issue", "--batch", "names")
        client.ok("renew", "app.example.org.pem", "--new-key")
        assert proxy.count("POST") == 3
        for request in proxy.requests:
            assert b"PRIVATE" not in request
            assert b"BEGIN CERTIFICATE REQUEST" in request
            assert request.count(client.service.token.encode()) == 1
            assert b"Authorization: Bearer " + client.service.token.encode() in request

    def test_a_key_is_not_overwritten(self, client: Client, proxy: RecordingProxy) -> None:
        """Without --force nothing is asked for and nothing changes; with it, both files are new."""
        client.ok("issue", "app.example.org")
        before = [(client.folder / f"app.example.org.{end}").read_bytes() for end in ("key", "pem")]
        asked = len(proxy.requests)
        assert "app.example.org.key is there already" in client.fails(2, "issue", "app.example.org")
        assert len(proxy.requests) == asked
        assert [(client.folder / f"app.example.org.{end}").read_bytes() for end in ("key", "pem")] == before
        client.ok("issue", "app.example.org", "--force")
        after = [(client.folder / f"app.example.org.{end}").read_bytes() for end in ("key", "pem")]
        assert before[0] != after[0]
        assert before[1] != after[1]

    def test_a_certificate_with_a_key_in_its_file(self, client: Client) -> None:
        """A file that holds a key is not overwritten by a certificate either."""
        make_csr(client.folder)
        (client.folder / "all.pem").write_bytes((client.folder / "app.key").read_bytes())
        line = client.fails(2, "issue", "--csr", "app.csr", "--out", "all.pem")
        assert "all.pem holds a private key" in line

    def test_a_refusal_leaves_nothing(self, client: Client) -> None:
        """Neither key nor certificate nor a temporary file is left of a request that was refused."""
        client.fails(3, "issue", "app.example.org", "--lifetime", "9000d")
        assert {file.name for file in client.folder.iterdir()} == {"token"}

    @pytest.mark.parametrize("name", ["../escape", "a/b", ".hidden", "-dash"])
    def test_a_name_is_no_path(self, client: Client, name: str) -> None:
        """Files stay in their folder, whatever the name."""
        (client.folder / "inside").mkdir()
        client.run("issue", "--profile", "client", "--out-dir", "inside", "--", name)
        assert {file.name for file in client.folder.iterdir()} == {"token", "inside"}
        assert not any(file.name.startswith((".", "-")) for file in (client.folder / "inside").iterdir())

    def test_from_a_csr(self, client: Client) -> None:
        """A CSR made elsewhere is certified; no key is made."""
        make_csr(client.folder, common_name="csr.example.org")
        made = client.ok("issue", "--csr", "app.csr", "--lifetime", "1h")
        assert made["certificate_file"] == "app.pem"
        assert made["common_name"] == "csr.example.org"
        assert (client.folder / "app.pem").exists()

    def test_a_csr_with_a_key_beside_it_is_not_sent(self, client: Client, proxy: RecordingProxy) -> None:
        """A file that holds a private key stays here."""
        csr = make_csr(client.folder)
        (client.folder / "both.pem").write_bytes(csr + (client.folder / "app.key").read_bytes())
        assert "private key" in client.fails(2, "issue", "--csr", "both.pem")
        assert proxy.requests == []

    def test_batch(self, client: Client) -> None:
        """Each name or JSON object gets its files; what is refused gets none, a line, and its exit code."""
        lines = [
            "# comment",
            "",
            "a.example.org",
            '{"name": "b.example.org", "san": ["c.example.org"], "lifetime": "1h"}',
        ]
        (client.folder / "names").write_text("\n".join([*lines, '{"name": "d.example.org", "lifetime": "9000d"}']))
        code, out, errors = client.run("issue", "--batch", "names", "--profile", "server")
        assert code == 3
        assert errors[0].startswith("tiny-ca: d.example.org: a lifetime of 9000d")
        assert [(one["name"], one["status"]) for one in json.loads(out)] == [
            ("a.example.org", 201),
            ("b.example.org", 201),
            ("d.example.org", 403),
        ]
        for name in ("a.example.org", "b.example.org"):
            key, chain = client.folder / f"{name}.key", client.folder / f"{name}.pem"
            assert _mode(key) == 0o600
            assert load_pem_private_key(key.read_bytes(), None).public_key() == _public_key(chain.read_bytes())
        assert {file.stem for file in client.folder.iterdir()} == {"a.example.org", "b.example.org", "names", "token"}

    def test_a_large_batch(self, client: Client, proxy: RecordingProxy) -> None:
        """More than one request's worth is sent in several."""
        names = [f"n{number}.example.org" for number in range(250)]
        (client.folder / "names").write_text("\n".join(names))
        made = client.ok("issue", "--batch", "names", "--out-dir", "token/..")
        assert [one["name"] for one in made] == names
        assert proxy.count("POST") == 3

    @pytest.mark.parametrize(
        "text,says",
        [
            ("", "no names"),
            ("a\nA/\nA_", "same files"),
            ('{"nam": "x"}', "nam is not known"),
            ('{"name": ["x"]}', "line 1"),
            ("{", "line 1 is no JSON"),
        ],
    )
    def test_a_wrong_batch(self, client: Client, proxy: RecordingProxy, text: str, says: str) -> None:
        """It is read whole before anything is sent."""
        (client.folder / "names").write_text(text)
        assert says in client.fails(2, "issue", "--batch", "names")
        assert proxy.requests == []


class TestTrouble:
    def test_a_busy_service_is_asked_again(self, client: Client, proxy: RecordingProxy) -> None:
        """503 passes; the request is the same one, with the same idempotency key."""
        proxy.busy = 2
        client.ok("issue", "app.example.org")
        keys = {re.search(rb"(?i)idempotency-key: (\S+)", request) for request in proxy.requests}
        assert len(proxy.requests) == 3
        assert len({key[1] for key in keys if key}) == 1

    def test_a_lost_answer_makes_no_second_certificate(self, client: Client, proxy: RecordingProxy) -> None:
        """The certificate that was made while the connection broke is the one that is written."""
        proxy.losing = 1
        made = client.ok("issue", "lost.example.org")
        listed = client.ok("list", "--common-name", "lost.example.org")
        assert [one["serial_number"] for one in listed] == [made["serial_number"]]

    def test_retries_are_bounded(self, client: Client, proxy: RecordingProxy) -> None:
        """It gives up after as many as it was told."""
        proxy.busy = 100
        client.fails(1, "list", "--retries", "2")
        assert len(proxy.requests) == 3

    def test_nobody_there(self, client: Client) -> None:
        """A service that is not there is exit code 1, and its address is told."""
        assert "http://127.0.0.1:1 does not answer" in client.fails(
            1, "list", "--url", "http://127.0.0.1:1", "--retries", "1"
        )

    def test_somebody_else_there(self, client: Client) -> None:
        """An address that answers, but is no tiny-ca, is told so."""
        client.fails(4, "list", "--url", f"{client.url}/nowhere")

    def test_redirects_are_not_followed(self, client: Client, proxy: RecordingProxy) -> None:
        """The token goes to the address that was given, and to no other."""
        proxy.redirects_to = client.service.url
        assert f"redirects to {client.service.url}" in client.fails(2, "list")
        assert len(proxy.requests) == 1


class TestExitCodes:
    @pytest.mark.parametrize(
        "code,arguments,says",
        [
            (2, ("list", "--stauts", "valid"), "--stauts"),
            (2, ("list", "--status", "fine"), "fine"),
            (2, ("issue",), "NAME"),
            (2, ("issue", "a.example.org", "--key", "dsa"), "dsa"),
            (2, ("issue", "a.example.org", "--san", "DNS:a b"), "san.dns"),
            (2, ("issue", "a.example.org", "--lifetime", "soon"), "field lifetime"),
            (2, ("issue", "a.example.org", "--profile", "none"), "field profile"),
            (2, ("show", "xyz"), "no serial number"),
            (2, ("renew", "nowhere.pem"), "nowhere.pem"),
            (2, ("renew", "token", "--exec", "/no/such/program"), "--exec"),
            (3, ("issue", "a.example.org", "--lifetime", "9000d"), "rule max_lifetime"),
            (3, ("issue", "a.example.org", "--profile", "narrow", "--key", "ed25519"), "rule key"),
            (4, ("show", "abcdef"), "abcdef"),
            (4, ("revoke", "abcdef"), "abcdef"),
            (4, ("profile", "show", "none"), "server"),
            (4, ("token", "delete", "none"), "none"),
            (5, ("token", "delete", "admin"), "rotate-admin"),
        ],
    )
    def test_refusals(self, client: Client, code: int, arguments: tuple[str, ...], says: str) -> None:
        """One line that names what was wrong, nothing on standard output, and the documented code."""
        assert says in client.fails(code, *arguments)

    def test_the_request_id_is_told(self, client: Client) -> None:
        """An operator finds the refusal in the log."""
        line = client.fails(3, "issue", "a.example.org", "--lifetime", "9000d")
        found = re.search(r"request ([0-9a-f]{32})\)$", line)
        assert found
        client.service.wait_for(found[1])

    def test_not_authenticated(self, client: Client) -> None:
        """No token and a wrong one are 6."""
        assert "TINY_CA_TOKEN" in client.fails(6, "list", token=False)
        wrong = "tcat_somebody-elses-token-0123456789abcdef"
        assert wrong not in client.fails(6, "list", token=False, TINY_CA_TOKEN=wrong)

    def test_help_names_them(self, client: Client) -> None:
        """``--help`` says what the exit codes are."""
        code, out, _ = client.run("issue", "--help", token=False)
        assert code == 0
        assert "Exit codes: 0 done, 1 failed" in " ".join(out.split())


class TestSettings:
    def test_a_config_file(self, client: Client) -> None:
        """URL and token come from ~/.config/tiny-ca/client.toml; its token file is meant from its folder."""
        folder = client.folder / "home" / ".config" / "tiny-ca"
        folder.mkdir(parents=True)
        (folder / "client.toml").write_text(f"url = '{client.url}'\ntoken_file = 'secret'\n")
        (folder / "secret").write_text(client.service.token)
        assert client.run("profile", "list", token=False, TINY_CA_URL="")[0] == 0

    def test_xdg_config_home(self, client: Client) -> None:
        """XDG_CONFIG_HOME is honoured."""
        (client.folder / "xdg" / "tiny-ca").mkdir(parents=True)
        file = client.folder / "xdg" / "tiny-ca" / "client.toml"
        file.write_text(f"url = '{client.url}'\ntoken = '{client.service.token}'\n")
        file.chmod(0o600)
        xdg = str(client.folder / "xdg")
        assert client.run("profile", "list", token=False, TINY_CA_URL="", XDG_CONFIG_HOME=xdg)[0] == 0
        file.chmod(0o644)
        line = client.fails(2, "profile", "list", token=False, TINY_CA_URL="", XDG_CONFIG_HOME=xdg)
        assert f"chmod 600 {file}" in line

    def test_flags_go_before_the_environment(self, client: Client) -> None:
        """And the environment before the file."""
        (client.folder / "c.toml").write_text("url = 'http://127.0.0.1:1'\ntoken_file = 'nowhere'\n")
        wrong = {"TINY_CA_URL": "http://127.0.0.1:1", "TINY_CA_TOKEN": "x"}
        flags = ("--limit", "1", "--config", "c.toml")
        assert client.run("list", *flags, "--url", client.url, token=True, **wrong)[0] == 0
        assert client.run("list", *flags, token=False, TINY_CA_TOKEN=client.service.token)[0] == 0

    @pytest.mark.parametrize(
        "text,says",
        [
            ("url = ", "no TOML"),
            ("ulr = 'http://x'", "ulr is not known"),
            ("url = 1", "must be a string"),
            ("insecure_http = 'yes'", "must be true or false"),
            ("token = 'x'\ntoken_file = 'y'", "not both"),
            ("token_file = 'nowhere'", "nowhere cannot be read"),
            ("ca_file = 'nowhere'", "nowhere is no file"),
        ],
    )
    def test_a_wrong_config(self, client: Client, text: str, says: str) -> None:
        """It is told, and nothing else is tried."""
        (client.folder / "c.toml").write_text(text)
        (client.folder / "c.toml").chmod(0o600)
        assert says in client.fails(2, "list", "--config", "c.toml", token=False)

    def test_no_service_named(self, client: Client) -> None:
        """Without a URL the line says all three places for one."""
        line = client.fails(2, "list", TINY_CA_URL="")
        assert all(place in line for place in ("--url", "TINY_CA_URL", "client.toml"))

    @pytest.mark.parametrize("url", ["http://user:hunter2@127.0.0.1", "http://u:hunter2@h:x/", "http://u:hunt/er2@h?q"])
    def test_a_url_with_a_password(self, client: Client, url: str) -> None:
        """It is refused, and not repeated."""
        assert "er2" not in client.fails(2, "list", "--url", url)

    @pytest.mark.parametrize(
        "url", ["ftp://ca", "ca.example.org", "http://", "http://[::1", "http://a b", "http://h/?q"]
    )
    def test_no_url(self, client: Client, url: str) -> None:
        """What is no URL of a service is told so."""
        assert "--url" in client.fails(2, "list", "--url", url)

    @pytest.mark.parametrize(
        "host",
        ["ca.example.org", "192.0.2.1", "[2001:db8::1]", "localhost.example.org", "ca.localhost", "127.0.0.1.nip.io"],
    )
    def test_plain_http_to_another_machine(self, client: Client, host: str) -> None:
        """A token is not sent where anybody on the way could read it."""
        line = client.fails(2, "list", "--url", f"http://{host}:8000")
        assert "--insecure-http" in line
        assert client.service.token not in line

    def test_plain_http_where_it_was_allowed(self, client: Client) -> None:
        """By flag, by the config, to this machine, and where no token is sent."""
        port = client.url.rpartition(":")[2]
        elsewhere = f"http://0.0.0.0:{port}"  # leads here, and is no loopback address
        client.fails(2, "list", "--url", elsewhere)
        client.ok("list", "--url", elsewhere, "--insecure-http")
        (client.folder / "c.toml").write_text("insecure_http = true\n")
        client.ok("list", "--url", elsewhere, "--config", "c.toml")
        client.ok("list", "--url", f"http://localhost:{port}")
        assert client.run("ca", "--url", elsewhere, token=False)[0] == 0

    def test_the_service_ignores_the_clients_variables(self, tmp_path: Path) -> None:
        """Set for the client, in the environment or in ``.env``, they do not stop the service."""
        (tmp_path / ".env").write_text("TINY_CA_URL=http://127.0.0.1:8000\nTINY_CA_TOKEN=tcat_x\n")
        assert tiny_ca(tmp_path, "init")[0] == 0
        (tmp_path / ".env").unlink()
        assert tiny_ca(tmp_path, "init", TINY_CA_URL="http://127.0.0.1:8000", TINY_CA_TOKEN="tcat_x")[0] == 0

    def test_https(self, tmp_path: Path, client: Client) -> None:
        """``--ca-file`` says whom to trust; without it a service with its own CA is not trusted, nor sent the token."""
        made = client.ok("issue", "ca.example.org", "--san", "127.0.0.1", "--out", "tls.pem")
        assert client.run("ca", "--roots", "--out", "roots.pem", token=False)[0] == 0
        home = tmp_path / "service"
        home.mkdir()
        flags = ("--tls-cert", str(tmp_path / made["certificate_file"]), "--tls-key", str(tmp_path / made["key_file"]))
        with RunningService(home, *flags) as secure:
            other = Client(tmp_path, secure)
            assert "--ca-file" in other.fails(1, "list")
            other.ok("list", "--ca-file", "roots.pem")


class TestReading:
    def test_pages_are_followed(self, client: Client) -> None:
        """More certificates than a page holds are all listed, once each; --limit takes the newest."""
        csr = make_csr(client.folder, common_name="pages.example.org").decode()
        with client.service.client() as api:
            for _ in range(2):
                answer = api.post(f"{CERTIFICATES}/batch", json={"requests": [{"csr": csr, "lifetime": "1h"}] * 550})
                assert answer.status_code == 200
        listed = client.ok("list", "--common-name", "pages.example.org")
        assert len({one["serial_number"] for one in listed}) == 1100
        assert client.ok("list", "--common-name", "pages.example.org", "--limit", "1001") == listed[:1001]
        assert client.ok("list", "--common-name", "nobody.example.org") == []

    def test_filters(self, client: Client) -> None:
        """Each narrows the list; moments are also said as from now."""
        made = client.ok("issue", "filters.example.org", "--lifetime", "2h")
        for flags in (
            ("--status", "valid"),
            ("--profile", "server"),
            ("--key-type", "SVC"),
            ("--san", "filters.example.org"),
            ("--issuer", made["issuer_id"]),
            ("--requester", "admin"),
            ("--expires-before", "3h"),
            ("--expires-after", "1h"),
            ("--spki-sha256", made["spki_sha256"]),
        ):
            found = client.ok("list", "--common-name", "filters.example.org", *flags)
            assert [one["serial_number"] for one in found] == [made["serial_number"]], flags
        for flags in (("--status", "revoked"), ("--expires-before", "1h"), ("--profile", "ci")):
            assert client.ok("list", "--common-name", "filters.example.org", *flags) == []

    def test_show_and_revoke(self, client: Client) -> None:
        """A certificate is shown by its serial number, revoked with a reason, and is on the CRL from then on."""
        serial = client.ok("issue", "app.example.org")["serial_number"]
        assert client.ok("show", serial.upper())["status"] == "valid"
        code, pem, _ = client.run("show", serial, "--pem")
        assert (code, pem) == (0, (client.folder / "app.example.org.pem").read_text())
        revoked = client.ok("revoke", serial, "--reason", "keyCompromise")
        assert (revoked["status"], revoked["revocation_reason"]) == ("revoked", "keyCompromise")
        assert client.run("crl", "--der", "--out", "crl.der", token=False) == (0, "", [])
        crl = x509.load_der_x509_crl((client.folder / "crl.der").read_bytes())
        assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None
        client.fails(5, "revoke", serial, "--reason", "superseded")
        client.fails(5, "renew", "app.example.org.pem")

    def test_ca_and_crl(self, client: Client) -> None:
        """They print what the service publishes; ``--json`` describes it."""
        with client.service.anonymous() as anybody:
            bundle, roots = anybody.get("/ca.pem").text, anybody.get("/roots.pem").text
        assert client.run("ca", token=False)[1] == bundle
        assert client.run("ca", "--roots", token=False)[1] == roots
        described = client.ok("ca", "--json", token=False)
        assert "".join(one["certificate"] for one in described) == bundle
        issuer = described[0]["fingerprint_sha256"][:16]
        by_issuer = x509.load_pem_x509_crl(client.run("crl", "--issuer", issuer, token=False)[1].encode())
        assert by_issuer.issuer == x509.load_pem_x509_certificate(described[0]["certificate"].encode()).subject
        assert client.ok("crl", "--json", token=False)["crl_number"] >= 1
        client.fails(4, "crl", "--issuer", "../../healthz", token=False)

    def test_audit(self, client: Client) -> None:
        """Rows are listed by filter, and exported one JSON object a line, newest first."""
        serial = client.ok("issue", "audit.example.org")["serial_number"]
        (row,) = client.ok("audit", "list", "--serial", serial)
        assert (row["action"], row["outcome"]) == ("certificate.issue", "success")
        code, out, lines = client.run("audit", "export", "--format", "jsonl", "--since", row["at"])
        assert (code, lines) == (0, [])
        rows = [json.loads(line) for line in out.splitlines()]
        assert row in rows
        assert [one["id"] for one in rows] == sorted((one["id"] for one in rows), reverse=True)

    def test_profiles(self, client: Client) -> None:
        """All are listed; one is shown."""
        assert {"server", "ci"} <= {one["name"] for one in client.ok("profile", "list")}
        assert client.ok("profile", "show", "narrow")["dns"] == ["*.example.org"]


class TestTokens:
    def test_pages_are_followed(self, tmp_path: Path) -> None:
        """More tokens than a page holds are all listed, once each."""
        with RunningService(tmp_path) as service:
            with closing(sqlite3.connect(service.data / "tiny-ca.db")) as database, database:
                database.executemany(
                    "INSERT INTO tokens (id, name, token_sha256, created_at, grants) VALUES (?, 'old', ?, ?, ?)",
                    [
                        (f"{n:016x}", f"{n:064x}", "2026-01-01 00:00:00.000000", '{"permissions": []}')
                        for n in range(1500)
                    ],
                )
            listed = Client(tmp_path, service).ok("token", "list")
        assert len({one["id"] for one in listed}) == len(listed) == 1501
        assert listed[0]["id"] == "admin"

    def test_made_used_and_deleted(self, client: Client) -> None:
        """A token is shown once, opens what it grants and nothing else, and nothing once it is deleted."""
        made = client.ok("token", "create", "ci", "--role", "issuer", "--dns", "*.ci.example.org", "--expires", "1d")
        assert made["names"] == ["*.ci.example.org"]
        assert made["token"] not in json.dumps(client.ok("token", "list"))
        allowed = {"token": False, "TINY_CA_TOKEN": made["token"]}
        assert client.run("issue", "a.ci.example.org", **allowed)[0] == 0
        assert "rule limits.names" in client.fails(3, "issue", "a.example.com", **allowed)
        assert client.ok("token", "delete", made["id"]) == {"deleted": made["id"]}
        time.sleep(1.1)
        client.fails(6, "list", **allowed)

    def test_into_a_file(self, client: Client) -> None:
        """With ``--out`` it is in a file 0600 and not in the output; a file that is there is not overwritten."""
        made = client.ok("token", "create", "ci", "--permission", "profiles:read", "--out", "new")
        assert "token" not in made
        assert _mode(client.folder / "new") == 0o600
        assert client.run("profile", "list", "--token-file", "new", token=False)[0] == 0
        client.fails(2, "token", "create", "ci", "--permission", "profiles:read", "--out", "new")

    def test_rotate_admin(self, tmp_path: Path) -> None:
        """A running service takes the new token at once and the old one no longer than a second; it is audited."""
        with RunningService(tmp_path) as service:
            old = service.token
            assert httpx.get(service.url + CERTIFICATES, headers={"Authorization": f"Bearer {old}"}).status_code == 200
            code, out, lines = tiny_ca(tmp_path, "token", "rotate-admin")
            assert (code, lines) == (0, [])
            assert json.loads(out) == {"token_file": "data/admin-token"}
            assert service.token != old
            assert service.token not in out
            assert _mode(service.data / "admin-token") == 0o600
            client = Client(tmp_path, service)
            rows = client.ok("audit", "list", "--action", "token.rotate")
            assert [row["outcome"] for row in rows] == ["success"]
            time.sleep(1.1)
            assert httpx.get(service.url + CERTIFICATES, headers={"Authorization": f"Bearer {old}"}).status_code == 401
            assert service.stop() == 0
            service.start()  # and the next start finds the same token
            assert Client(tmp_path, service).ok("audit", "list", "--action", "token.rotate") == rows
        assert service.token not in service.log
        assert {file.name for file in service.data.iterdir() if file.name.startswith(".")} == set()

    @pytest.mark.parametrize("variable", ["TINY_CA_ADMIN_TOKEN", "TINY_CA_ADMIN_TOKEN_FILE"])
    def test_a_token_of_the_operators_is_not_rotated(self, tmp_path: Path, variable: str) -> None:
        """Who gives the token changes it; nothing is written."""
        assert tiny_ca(tmp_path, "init")[0] == 0
        before = (tmp_path / "data" / "admin-token").read_text()
        code, out, lines = tiny_ca(
            tmp_path, "token", "rotate-admin", **{variable: "data/admin-token-of-the-operators-own"}
        )
        assert (code, out, len(lines)) == (2, "", 1)
        assert "TINY_CA_ADMIN_TOKEN" in lines[0]
        assert (tmp_path / "data" / "admin-token").read_text() == before

    def test_two_rotations_at_once(self, tmp_path: Path) -> None:
        """Whichever came last, the token in the file is the one that opens."""
        with RunningService(tmp_path) as service:
            racers = [threading.Thread(target=tiny_ca, args=(tmp_path, "token", "rotate-admin")) for _ in range(3)]
            for racer in racers:
                racer.start()
            for racer in racers:
                racer.join()
            rows = Client(tmp_path, service).ok("audit", "list", "--action", "token.rotate")
        assert len(rows) == 3

    def test_rotate_without_a_ca(self, tmp_path: Path) -> None:
        """Where no CA is, none is made."""
        code, _, lines = tiny_ca(tmp_path, "token", "rotate-admin")
        assert (code, len(lines)) == (2, 1)
        assert "tiny-ca init" in lines[0]
        assert not (tmp_path / "data").exists()


def _on_a_terminal(client: Client, *arguments: str) -> tuple[int, str]:
    """Run the command with a terminal as its standard output and error; what it wrote there."""
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TINY_CA_")}
    root = str(Path(__file__).parents[2])
    environment |= {"TINY_CA_URL": client.url, "PYTHONPATH": root, "COLUMNS": "80", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-m", "app", *arguments, "--token-file", str(client.token_file)],
        cwd=client.folder, env=environment, stdin=follower, stdout=follower, stderr=follower,
    )  # fmt: skip
    os.close(follower)
    written = b""
    while select.select([leader], [], [], 30)[0]:
        try:
            part = os.read(leader, 65536)
        except OSError:  # Linux: the last one on the other side is gone
            break
        if not part:
            break
        written += part
    os.close(leader)
    return process.wait(30), written.decode()


class TestOnATerminal:
    def test_a_table(self, client: Client) -> None:
        """People get a table: columns with heads, serial numbers in one piece, and no JSON."""
        serial = client.ok("issue", "table.example.org")["serial_number"]
        code, text = _on_a_terminal(client, "list", "--common-name", "table.example.org")
        assert code == 0
        assert "serial number" in text
        assert serial in text
        assert "{" not in text
        assert '"' not in text

    def test_json_on_request(self, client: Client) -> None:
        """``--json`` is JSON also there."""
        code, text = _on_a_terminal(client, "profile", "list", "--json")
        assert code == 0
        assert json.loads(text)

    def test_a_progress_bar(self, client: Client) -> None:
        """A batch shows how far it is, and then its table."""
        (client.folder / "names").write_text("".join(f"bar{number}.example.org\n" for number in range(120)))
        code, text = _on_a_terminal(client, "issue", "--batch", "names")
        assert code == 0
        assert "/120" in text
        assert "bar119.example.org.pem" in text

    def test_what_comes_from_outside_does_not_steer_it(self, client: Client) -> None:
        """An escape sequence in a token's name, as anybody may choose it, does not reach the terminal."""
        client.fails(2, "token", "create", "evil\x1b[2J", "--role", "auditor")
        client.ok("token", "create", "\u202eevil [bold]x[/bold]", "--role", "auditor")
        _, text = _on_a_terminal(client, "token", "list")
        assert "\u202e" not in text
        assert "[bold]x[/bold]" in text

    def test_der_is_not_for_terminals(self, client: Client) -> None:
        """Binary goes to files and pipes."""
        code, text = _on_a_terminal(client, "crl", "--der")
        assert code == 2
        assert "--out" in text


def test_help_loads_nothing_heavy() -> None:
    """``tiny-ca --help`` and completion import neither the service nor the client's HTTP and cryptography."""
    script = (
        "import sys, app.cli; "
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'fastapi', 'uvicorn', 'sqlalchemy', 'pydantic', 'httpx', 'cryptography', 'alembic'}))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


def test_completion(tmp_path: Path) -> None:
    """The shell is told the commands, and the reasons of a revocation."""
    environment = {"_TINY_CA_COMPLETE": "complete_bash", "COMP_WORDS": "tiny-ca re", "COMP_CWORD": "1"}
    script = "import sys; sys.argv = ['tiny-ca']; from app.entry import main; main()"
    root = str(Path(__file__).parents[2])
    for words, expected in (
        ("tiny-ca re", {"revoke", "renew", "restore"}),
        ("tiny-ca revoke --reason key", {"keyCompromise"}),
    ):
        environment |= {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=tmp_path, env={**os.environ, **environment, "PYTHONPATH": root},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert set(done.stdout.split()) == expected
