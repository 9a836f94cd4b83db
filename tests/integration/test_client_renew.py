"""``tiny-ca renew``: in place, with the same key or another one, once or for ever."""

from __future__ import annotations

import json
import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.recording import RecordingProxy
from tests.running import CERTIFICATES, RunningService, make_csr, openssl, tiny_ca

_ROOT = str(Path(__file__).parents[2])
_DEFAULT = timedelta(days=90)


class Owner:
    """Somebody with a certificate and its key in a folder, and the admin's token in a file."""

    def __init__(self, folder: Path, service: RunningService, url: str) -> None:
        self.folder = folder
        self.service = service
        self.url = url
        (folder / "token").write_text(service.token)

    @property
    def certificate(self) -> x509.Certificate:
        """What is in the file."""
        return x509.load_pem_x509_certificate((self.folder / "app.pem").read_bytes())

    @property
    def serial(self) -> str:
        """Its serial number."""
        return f"{self.certificate.serial_number:x}"

    def issue(self, *, began: int = 0, lifetime: str = "1h") -> None:
        """A certificate in ``app.pem``, its key in ``app.key``; its life began some seconds ago."""
        csr = make_csr(self.folder).decode()
        body = {"csr": csr, "lifetime": lifetime, "profile": "server"}
        if began:  # at most a minute, as far as profiles let certificates begin early
            body["valid_from"] = (datetime.now(UTC) - timedelta(seconds=began)).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self.service.client() as api:
            answer = api.post(CERTIFICATES, json=body, headers={"Accept": "application/pem-certificate-chain"})
        assert answer.status_code == 201, answer.text
        (self.folder / "app.pem").write_text(answer.text)

    def renew(self, *arguments: str) -> tuple[int, str, list[str]]:
        """Run ``tiny-ca renew app.pem`` to its end."""
        flags = ("--url", self.url, "--token-file", "token", "--retries", "1")
        return tiny_ca(self.folder, "renew", "app.pem", *flags, *arguments)

    @contextmanager
    def watching(self, *arguments: str, token: bool = True) -> Iterator[subprocess.Popen[str]]:
        """``tiny-ca renew app.pem --watch`` while the block runs; it is killed after it, if it still lives."""
        command = (sys.executable, "-m", "app", "renew", "app.pem", "--watch")
        flags = ("--url", self.url, *(("--token-file", "token") if token else ()), "--retries", "0")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TINY_CA_")}
        with subprocess.Popen(
            [*command, *flags, *arguments],
            cwd=self.folder, env={**environment, "PYTHONPATH": _ROOT, "TINY_CA_TOKEN": "in-the-environment"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            try:
                yield process
            finally:
                process.kill()

    def status(self, serial: str) -> Any:  # noqa: ANN401  # JSON
        """The record."""
        with self.service.client() as api:
            return api.get(f"{CERTIFICATES}/{serial}").json()


@pytest.fixture
def owner(tmp_path: Path, service: RunningService) -> Owner:
    """Talks to the shared service."""
    return Owner(tmp_path, service, service.url)


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A service that asks its clients for certificates."""
    folder = tmp_path_factory.mktemp("mtls")
    with RunningService(folder, "--tls", "auto", "--client-ca", "self") as service:
        with httpx.Client(verify=False) as anybody:  # noqa: S501  # the root is what is fetched
            (folder / "roots.pem").write_bytes(anybody.get(f"{service.url}/roots.pem", timeout=30).content)
        yield service


@pytest.fixture
def holder(tmp_path: Path, secure: RunningService) -> Owner:
    """Somebody with a certificate and its key, who trusts the root and has no token."""
    owner = Owner(tmp_path, secure, secure.url)
    (tmp_path / "token").unlink()
    (tmp_path / "roots.pem").write_bytes((secure.folder / "roots.pem").read_bytes())
    return owner


def _until(holds: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(0.05)


def _stop(process: subprocess.Popen[str]) -> tuple[int, list[dict[str, Any]], list[str]]:
    """End it as an operator does: exit code, what it printed, what it complained of."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=15)
    return process.returncode, [json.loads(line) for line in out.splitlines()], err.splitlines()


class TestOnce:
    def test_in_place(self, owner: Owner) -> None:
        """The same key, a new serial number, the chain with it; the file keeps its mode, the old one stays valid."""
        owner.issue()
        (owner.folder / "app.pem").chmod(0o640)
        before, key = owner.certificate, (owner.folder / "app.key").read_bytes()
        code, out, lines = owner.renew("--lifetime", "2h")
        assert (code, lines) == (0, [])
        made = json.loads(out)
        assert made["serial_number"] == owner.serial != f"{before.serial_number:x}"
        assert owner.certificate.public_key() == before.public_key()
        assert (owner.folder / "app.key").read_bytes() == key
        assert (owner.folder / "app.pem").read_text() == made["certificate"] + made["chain"][0]
        assert stat.S_IMODE((owner.folder / "app.pem").stat().st_mode) == 0o640
        assert owner.status(f"{before.serial_number:x}")["status"] == "valid"

    def test_with_a_new_key(self, owner: Owner) -> None:
        """Key and certificate are both new and belong together; the old certificate is superseded."""
        owner.issue()
        before = owner.certificate
        code, out, lines = owner.renew("--new-key")
        assert (code, lines) == (0, [])
        assert "PRIVATE KEY" not in out
        key = load_pem_private_key((owner.folder / "app.key").read_bytes(), None)
        assert key.public_key() == owner.certificate.public_key() != before.public_key()
        assert stat.S_IMODE((owner.folder / "app.key").stat().st_mode) == 0o600
        assert owner.status(f"{before.serial_number:x}")["revocation_reason"] == "superseded"

    def test_one_file_for_both(self, owner: Owner) -> None:
        """A key in the certificate's file stays there, and is replaced there by a new one."""
        owner.issue()
        key = (owner.folder / "app.key").read_bytes()
        (owner.folder / "app.pem").write_bytes(key + (owner.folder / "app.pem").read_bytes())
        (owner.folder / "app.key").unlink()
        assert owner.renew()[0] == 0
        assert (owner.folder / "app.pem").read_bytes().startswith(key)
        assert owner.renew("--new-key")[0] == 0
        text = (owner.folder / "app.pem").read_bytes()
        assert text.count(b"PRIVATE KEY") == 2
        assert load_pem_private_key(text, None).public_key() == owner.certificate.public_key()
        assert not (owner.folder / "app.key").exists()

    def test_a_link_stays_a_link(self, owner: Owner) -> None:
        """What the link points to is replaced."""
        owner.issue()
        (owner.folder / "app.pem").rename(owner.folder / "real.pem")
        (owner.folder / "app.pem").symlink_to("real.pem")
        before = owner.serial
        assert owner.renew()[0] == 0
        assert (owner.folder / "app.pem").is_symlink()
        assert owner.serial != before

    def test_a_refusal_changes_nothing(self, owner: Owner) -> None:
        """Neither the file nor the folder."""
        owner.issue()
        before = {file.name: file.read_bytes() for file in owner.folder.iterdir()}
        code, out, lines = owner.renew("--lifetime", "9000d")
        assert (code, out, len(lines)) == (3, "", 1)
        assert {file.name: file.read_bytes() for file in owner.folder.iterdir()} == before

    def test_the_command_sees_the_new_file(self, owner: Owner) -> None:
        """It is run without a shell, after the file is in place; its failure is told."""
        owner.issue()
        before = (owner.folder / "app.pem").read_bytes()
        assert owner.renew("--exec", "cp app.pem 'copy of $HOME;.pem'")[0] == 0
        assert (owner.folder / "copy of $HOME;.pem").read_bytes() == (owner.folder / "app.pem").read_bytes() != before
        code, _, lines = owner.renew("--exec", "false")
        assert (code, lines) == (1, ["tiny-ca: the certificate is in place, but false ended with 1"])

    def test_an_expired_certificate(self, owner: Owner) -> None:
        """Too late to renew, it is issued again for the same key, names and profile."""
        owner.issue(began=55, lifetime="60s")
        before = owner.certificate
        _until(lambda: datetime.now(UTC) > before.not_valid_after_utc + timedelta(seconds=1))
        code, _, lines = owner.renew()
        assert (code, lines) == (0, [])
        assert owner.certificate.public_key() == before.public_key()
        assert owner.certificate.subject == before.subject
        assert owner.certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=1)

    @pytest.mark.parametrize(
        "arguments,says",
        [
            (("--key", "ed25519"), "--new-key"),
            (("--new-key", "--lifetime", "1h"), "--lifetime"),
            (("--exec", "'"), "--exec"),
        ],
    )
    def test_wrong_usage(self, owner: Owner, arguments: tuple[str, ...], says: str) -> None:
        """It is told before anything is asked for."""
        owner.issue()
        before = owner.serial
        code, _, lines = owner.renew(*arguments)
        assert (code, len(lines)) == (2, 1)
        assert says in lines[0]
        assert owner.serial == before


class TestWatch:
    def test_it_renews_when_due(self, owner: Owner) -> None:
        """Past two thirds it renews at once, runs the command, waits for the next time, and ends well on SIGTERM."""
        owner.issue(began=55, lifetime="70s")
        before = owner.serial
        with owner.watching(
            "--exec", f"{sys.executable} -c \"import os; open('ran', 'a').write(str(dict(os.environ)))\""
        ) as process:
            _until(lambda: (owner.folder / "ran").exists() and (owner.folder / "ran").read_text() != "")
            arguments = Path(f"/proc/{process.pid}/cmdline").read_text()
            code, printed, complaints = _stop(process)
        assert (code, complaints) == (0, [])
        assert [one["serial_number"] for one in printed] == [owner.serial]
        assert owner.serial != before
        assert owner.certificate.not_valid_after_utc - datetime.now(UTC) > _DEFAULT - timedelta(minutes=5)
        assert owner.service.token not in arguments
        assert "in-the-environment" not in (owner.folder / "ran").read_text()

    def test_it_waits_while_not_due(self, owner: Owner) -> None:
        """A fresh certificate is left alone; SIGTERM ends the wait at once."""
        owner.issue()
        before = owner.serial
        with owner.watching() as process:
            time.sleep(2)
            began = time.monotonic()
            assert _stop(process) == (0, [], [])
            assert time.monotonic() - began < 2
        assert owner.serial == before

    def test_it_survives_an_outage(self, owner: Owner) -> None:
        """Also one that outlasts the certificate: each failure is a line, and in the end there is a certificate."""
        with RecordingProxy(owner.url) as proxy:
            owner.url, proxy.is_down = proxy.url, True
            owner.issue(began=55, lifetime="60s")
            end, before = owner.certificate.not_valid_after_utc, owner.serial
            with owner.watching("--exec", "touch ran") as process:
                _until(lambda: datetime.now(UTC) > end + timedelta(seconds=1) and len(proxy.requests) > 1)
                assert owner.serial == before
                proxy.is_down = False
                _until((owner.folder / "ran").exists)
                code, printed, complaints = _stop(process)
        assert code == 0
        assert [one["serial_number"] for one in printed] == [owner.serial]
        assert owner.serial != before
        assert complaints
        assert all(line.startswith("tiny-ca: app.pem is not renewed yet: ") for line in complaints)

    def test_a_rotation_whose_answer_was_lost(self, owner: Owner) -> None:
        """It is asked for again as the same request: the old certificate is revoked, and the new one is in the file."""
        owner.issue(began=55, lifetime="70s")
        before = owner.serial
        with RecordingProxy(owner.url) as proxy:
            owner.url, proxy.losing = proxy.url, 1
            with owner.watching("--new-key") as process:
                _until(lambda: owner.serial != before)
                code, printed, complaints = _stop(process)
        assert (code, len(complaints)) == (0, 1)
        assert [one["serial_number"] for one in printed] == [owner.serial]
        assert owner.status(before)["revocation_reason"] == "superseded"
        key = load_pem_private_key((owner.folder / "app.key").read_bytes(), None)
        assert key.public_key() == owner.certificate.public_key()

    def test_a_revoked_certificate_ends_it(self, owner: Owner) -> None:
        """What was revoked on purpose is not brought back: exit code 5."""
        owner.issue(began=55, lifetime="70s")
        with owner.service.client() as api:
            assert api.post(f"{CERTIFICATES}/{owner.serial}/revoke").status_code == 200
        with owner.watching() as process:
            _, err = process.communicate(timeout=20)
        assert process.returncode == 5
        assert "is revoked" in err

    def test_a_token_that_was_rotated(self, owner: Owner) -> None:
        """A refused token is read again from its file at the next attempt."""
        (owner.folder / "token").write_text("tcat_an-old-token-that-opens-nothing-any-more")
        owner.issue(began=55, lifetime="70s")
        before = owner.serial
        with owner.watching() as process:
            assert process.stderr is not None
            assert "is not renewed yet" in process.stderr.readline()
            (owner.folder / "token").write_text(owner.service.token)
            _until(lambda: owner.serial != before)
            assert _stop(process)[0] == 0

    def test_a_failing_command_is_told(self, owner: Owner) -> None:
        """The certificate is in place; it is not renewed again for that, and the watch goes on."""
        owner.issue(began=55, lifetime="70s")
        with owner.watching("--exec", "false") as process:
            assert process.stderr is not None
            assert "false ended with 1" in process.stderr.readline()
            code, printed, _ = _stop(process)
        assert (code, len(printed)) == (0, 1)


class TestByTheCertificate:
    """``--mtls``: no token is on the machine."""

    def _issue(self, holder: Owner, *, profile: str = "peer", began: int = 0, lifetime: str = "1h") -> None:
        body = {"csr": make_csr(holder.folder).decode(), "lifetime": lifetime, "profile": profile}
        if began:
            body["valid_from"] = (datetime.now(UTC) - timedelta(seconds=began)).strftime("%Y-%m-%dT%H:%M:%SZ")
        with self._admin(holder) as api:
            answer = api.post(CERTIFICATES, json=body, headers={"Accept": "application/pem-certificate-chain"})
        assert answer.status_code == 201, answer.text
        (holder.folder / "app.pem").write_text(answer.text)

    def _admin(self, holder: Owner) -> httpx.Client:
        trust = ssl.create_default_context(cafile=str(holder.folder / "roots.pem"))
        return holder.service.client(verify=trust)

    def _renew(self, holder: Owner, *arguments: str) -> tuple[int, str, list[str]]:
        flags = ("--mtls", "--url", holder.url, "--ca-file", "roots.pem", "--retries", "1")
        return tiny_ca(holder.folder, "renew", "app.pem", *flags, *arguments)

    def test_the_same_key(self, holder: Owner) -> None:
        """In place, as long as before."""
        self._issue(holder, lifetime="2h")
        before = holder.certificate
        code, out, lines = self._renew(holder)
        assert (code, lines) == (0, [])
        assert json.loads(out)["serial_number"] == holder.serial != f"{before.serial_number:x}"
        after = holder.certificate
        assert after.public_key() == before.public_key()
        assert after.not_valid_after_utc - after.not_valid_before_utc == (
            before.not_valid_after_utc - before.not_valid_before_utc
        )

    @pytest.mark.parametrize("files", [1, 2])
    def test_a_new_key(self, holder: Owner, files: int) -> None:
        """Key and certificate are new and belong together, in one file as in two; the old one is not revoked."""
        self._issue(holder)
        if files == 1:
            key = (holder.folder / "app.key").read_bytes()
            (holder.folder / "app.pem").write_bytes(key + (holder.folder / "app.pem").read_bytes())
            (holder.folder / "app.key").unlink()
        before = holder.serial
        code, _, lines = self._renew(holder, "--new-key")
        assert (code, lines) == (0, [])
        kept = (holder.folder / ("app.pem" if files == 1 else "app.key")).read_bytes()
        assert load_pem_private_key(kept, None).public_key() == holder.certificate.public_key()
        with self._admin(holder) as api:
            assert api.get(f"{CERTIFICATES}/{before}").json()["status"] == "valid"

    def test_wrong_usage(self, holder: Owner) -> None:
        """Each is a line: a lifetime, a URL without TLS, a key that is missing, encrypted or another one."""
        self._issue(holder)
        key = load_pem_private_key((holder.folder / "app.key").read_bytes(), None)
        sealed = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a passphrase"))
        (holder.folder / "sealed.key").write_bytes(sealed)
        openssl("genpkey", "-algorithm", "ed25519", "-out", holder.folder / "other.key")
        assert "--lifetime" in self._fails(holder, 2, "--lifetime", "1h")
        assert "--mtls" in self._fails(holder, 2, "--url", "http://127.0.0.1:1")
        for file in ("nowhere.key", "sealed.key", "other.key"):
            assert f"app.pem and {file} hold no certificate" in self._fails(holder, 2, "--key-file", file)

    def test_refusals(self, holder: Owner) -> None:
        """A revoked one is a conflict, as with a token; one that has expired proves nothing."""
        self._issue(holder)
        with self._admin(holder) as api:
            assert api.post(f"{CERTIFICATES}/{holder.serial}/revoke").status_code == 200
        assert "client_certificate.revoked" in self._fails(holder, 5)
        self._issue(holder, began=57, lifetime="60s")
        _until(lambda: datetime.now(UTC) > holder.certificate.not_valid_after_utc)
        assert "renew it with a token" in self._fails(holder, 5)

    def test_watch(self, holder: Owner) -> None:
        """It renews when that is due, by the certificate that is in the file then."""
        self._issue(holder, began=55, lifetime="70s")
        before = holder.serial
        flags = ("--mtls", "--ca-file", "roots.pem", "--exec", "touch ran")
        with holder.watching(*flags, token=False) as process:
            _until((holder.folder / "ran").exists)
            code, printed, complaints = _stop(process)
        assert (code, complaints) == (0, [])
        assert [one["serial_number"] for one in printed] == [holder.serial]
        assert holder.serial != before

    def test_a_watch_ends_with_a_revoked_one(self, holder: Owner) -> None:
        """Exit code 5."""
        self._issue(holder, began=55, lifetime="70s")
        with self._admin(holder) as api:
            assert api.post(f"{CERTIFICATES}/{holder.serial}/revoke").status_code == 200
        with holder.watching("--mtls", "--ca-file", "roots.pem", token=False) as process:
            _, err = process.communicate(timeout=20)
        assert process.returncode == 5
        assert "is revoked" in err

    def _fails(self, holder: Owner, expected: int, *arguments: str) -> str:
        before = (holder.folder / "app.pem").read_bytes()
        code, out, lines = self._renew(holder, *arguments)
        assert (code, out, len(lines)) == (expected, "", 1), lines
        assert (holder.folder / "app.pem").read_bytes() == before
        return lines[0]
