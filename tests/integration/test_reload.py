"""SIGHUP: the profiles file and the key blocklist are read again, by a service that goes on."""

from __future__ import annotations

import hashlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.api.answers import problem
from tests.api.asking import EC_KEY, RSA_KEY, csr
from tests.running import CERTIFICATES, RunningService, tiny_ca

_CONFIG = 'key_blocklist = "blocked.txt"\n'
_PROFILES = "[profiles.web]\nextends = 'server'\n"
_RELOADED = r'\{[^\n]*"event": "profiles.reloaded"[^\n]*\n'
_FAILED = r'\{[^\n]*"event": "profiles.reload_failed"[^\n]*\n'


def _digest() -> str:
    public = EC_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(public).hexdigest()


def _write(folder: Path, profiles: str = _PROFILES, blocked: str = "") -> None:
    (folder / "profiles.toml").write_text(profiles)
    (folder / "blocked.txt").write_text(blocked)
    (folder / "tiny-ca.toml").write_text(_CONFIG)


@pytest.fixture(params=[1, 2], ids=["one process", "two workers"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RunningService]:
    """A service with both files, as one process and as two workers."""
    _write(tmp_path)
    files = ("--profiles-file", "profiles.toml", "--config-file", "tiny-ca.toml")
    with RunningService(tmp_path, *files, "--workers", str(request.param)) as running:
        running.wait_for(rf'("event": "service.started".*){{{request.param}}}')
        yield running


def _reload(service: RunningService, *, event: str) -> None:
    """Send the signal, and wait until each process has said what became of it."""
    processes, before = service.log.count('"event": "service.started"'), service.log.count(f'"event": "{event}"')
    service.process.send_signal(signal.SIGHUP)
    service.wait_for(rf'("event": "{event}".*){{{before + processes}}}')


def _workers(service: RunningService) -> set[int]:
    parent = service.process.pid
    children = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
    return {pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def _profiles(client: httpx.Client) -> set[str]:
    return {item["name"] for item in client.get("/api/v1/profiles").json()["items"]}


def test_new_profiles_and_keys_count_at_once(service: RunningService) -> None:
    """After the signal, an added profile can be used, one that was taken out is gone, a listed key is refused."""
    body = csr("a.example.org")
    with service.client() as client:
        assert client.post(CERTIFICATES, params={"profile": "web"}, content=body).status_code == 201
        _write(service.folder, "[profiles.other]\nextends = 'server'\n", f"# lost\n{_digest().upper()}\n")
        _reload(service, event="profiles.reloaded")
        for _ in range(8):  # of two workers, either may answer
            with service.client() as another:
                assert _profiles(another) >= {"other", "server"}
                assert "web" not in _profiles(another)
                said = problem(another.post(CERTIFICATES, content=body), 403, rule="key_blocked")
                assert said["value"] == _digest()
                assert another.post(CERTIFICATES, params={"profile": "other"}, content=body).status_code == 403
                free = csr("b.example.org", key=RSA_KEY)
                assert another.post(CERTIFICATES, params={"profile": "other"}, content=free).status_code == 201
    assert service.stop() == 0


@pytest.mark.parametrize(
    "profiles,blocked,says",
    [
        ("[profiles.web]\nextends = 'nothing'\n", "", "nothing"),
        ("[profiles.web\n", "", "TINY_CA_PROFILES_FILE"),
        (_PROFILES, "zz\n", "line 1: 'zz' is no SHA-256"),
        ("[profiles.other]\nextends = 'server'\n", "0", "line 1: '0' is no SHA-256"),
    ],
)
def test_a_wrong_file_changes_nothing(service: RunningService, profiles: str, blocked: str, says: str) -> None:
    """What cannot be read is logged with why; profiles and keys stay those of before, and the service goes on."""
    with service.client() as client:
        before = _profiles(client)
        _write(service.folder, profiles, blocked)
        _reload(service, event="profiles.reload_failed")
        assert says in service.wait_for(_FAILED)[0]
        assert _profiles(client) == before
        assert client.post(CERTIFICATES, params={"profile": "web"}, content=csr()).status_code == 201
        _write(service.folder)
        _reload(service, event="profiles.reloaded")
    assert "Traceback" not in service.log


def test_a_worker_that_was_started_anew_reloads_too(tmp_path: Path) -> None:
    """The signal reaches the process that took the place of one that died."""
    _write(tmp_path)
    with RunningService(tmp_path, "--profiles-file", "profiles.toml", "--workers", "2") as service:
        service.wait_for(r'("event": "service.started".*){2}')
        os.kill(min(_workers(service)), signal.SIGKILL)
        service.wait_for(r'("event": "service.started".*){3}')
        service.process.send_signal(signal.SIGHUP)
        service.wait_for(r'("event": "profiles.reloaded".*){2}')
        assert service.stop() == 0


def test_a_signal_during_the_start_ends_nothing(tmp_path: Path) -> None:
    """A SIGHUP as early as one can be sent to a service that is starting waits until somebody can take it."""
    _write(tmp_path)
    service = RunningService(tmp_path, "--workers", "2")
    service.spawn()
    service.wait_for(r"tiny-ca serves on ")  # the workers have only just been started
    try:
        service.process.send_signal(signal.SIGHUP)
        service.wait_for(r'("event": "service.started".*){2}')
        service.wait_for(_RELOADED)
    finally:
        code = service.stop()
    assert code == 0


def test_a_profile_that_a_grant_names_cannot_go(tmp_path: Path) -> None:
    """A profiles file without it is refused at a reload, as it would be at a start."""
    _write(tmp_path)
    (tmp_path / "tiny-ca.toml").write_text(
        '[[oidc]]\nissuer = "http://127.0.0.1:9"\naudience = "ca"\n'
        '[[oidc.grants]]\nclaims = { sub = "job" }\nnames = ["*.ci.example.org"]\nprofiles = ["web"]\n'
    )
    files = ("--profiles-file", "profiles.toml", "--config-file", "tiny-ca.toml")
    with RunningService(tmp_path, *files) as service, service.client() as client:
        (tmp_path / "profiles.toml").write_text("")
        service.process.send_signal(signal.SIGHUP)
        assert "profile 'web' is gone, and oidc[0].grants[0].profiles names it" in service.wait_for(_FAILED)[0]
        assert "web" in _profiles(client)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_wrong_key_blocklist_stops_the_start(tmp_path: Path, workers: str) -> None:
    """Exit code 2, and one line with file, line and what would be right; nothing is made or announced before."""
    _write(tmp_path, blocked="# ok\nzz\n")
    code, printed, errors = tiny_ca(tmp_path, "serve", "--config-file", "tiny-ca.toml", "--workers", workers)
    assert printed == ""
    assert not (tmp_path / "data").exists()
    assert code == 2
    (error,) = errors
    assert error == (
        "tiny-ca: TINY_CA_CONFIG_FILE: tiny-ca.toml: key_blocklist: blocked.txt: line 2: 'zz' is no SHA-256 in 64 hex "
        "digits, which openssl pkey -pubin -outform DER | sha256sum makes of a key"
    )


def test_a_listed_key_is_refused_whatever_asks(tmp_path: Path) -> None:
    """A CSR, a co-signed certificate, a renewal and a rotation get 403, which is audited; a simulation says so."""
    _write(tmp_path)
    with RunningService(tmp_path, "--config-file", "tiny-ca.toml") as service, service.client() as client:
        as_json = {"Accept": "application/json"}
        old = client.post(CERTIFICATES, content=csr("a.example.org"), headers=as_json).json()
        other = client.post(CERTIFICATES, content=csr("b.example.org", key=RSA_KEY), headers=as_json).json()
        _write(tmp_path, blocked=_digest())
        service.process.send_signal(signal.SIGHUP)
        service.wait_for(_RELOADED)
        serial, others = old["serial_number"], other["serial_number"]
        asked = (
            client.post(CERTIFICATES, content=csr("c.example.org")),
            client.post("/api/v1/cosign", json={"certificate": old["certificate"]}),
            client.post(f"{CERTIFICATES}/{serial}/renew", json={}),
            client.post(f"{CERTIFICATES}/{others}/rotate", json={"csr": csr("b.example.org").decode()}),
        )
        for answer in asked:
            assert problem(answer, 403, rule="key_blocked")["value"] == _digest()
        simulated = client.post("/api/v1/simulate", json={"csr": csr("c.example.org").decode()}).json()
        assert simulated["allowed"] is False
        assert [rule["rule"] for rule in simulated["rules"] if not rule["passed"]] == ["key_blocked"]
        rows = client.get("/api/v1/audit", params={"outcome": "refused"}).json()["items"]
        assert [(row["action"], row["rule"]) for row in rows] == [
            ("certificate.rotate", "key_blocked"),
            ("certificate.renew", "key_blocked"),
            ("certificate.cosign", "key_blocked"),
            ("certificate.issue", "key_blocked"),
        ]
        assert client.get(f"{CERTIFICATES}/{others}/status").json()["status"] == "valid"
