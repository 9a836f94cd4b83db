"""The README, pasted: its commands run as they stand there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.running import RunningService

_README = Path(__file__).parents[2] / "README.md"


def _flow(name: str) -> str:
    """The indented block after the marker of this name."""
    text = _README.read_text(encoding="utf-8")
    block = re.search(rf"<!-- readme-flow: {name} -->\n\n((?:    .*\n)+)", text)
    assert block, f"README.md has no flow {name!r}"
    return re.sub(r"^ {4}", "", block[1], flags=re.MULTILINE)


def _paste(service: RunningService, name: str) -> subprocess.CompletedProcess[str]:
    script = _flow(name).replace("http://127.0.0.1:8000", service.url)
    script = script.replace("https://ca.example.org:8000", service.url)
    return subprocess.run(
        ["bash", "-c", script], cwd=service.folder, capture_output=True, text=True, check=False, timeout=60
    )


def test_the_readme_works_when_pasted(tmp_path: Path) -> None:
    """A certificate is issued and verifies; once revoked, openssl refuses it; a config gets key and certificate."""
    with RunningService(tmp_path) as running:
        issued = _paste(running, "issue")
        assert "app.pem: OK" in issued.stdout, issued.stderr
        revoked = _paste(running, "revoke")
        assert "certificate revoked" in revoked.stdout + revoked.stderr
        assert _paste(running, "config").returncode == 0
    answer = json.loads((tmp_path / "app.json").read_text())
    assert answer["private_key"].startswith("-----BEGIN PRIVATE KEY-----")
    assert answer["san"] == ["www.example.org", "app.example.org"]


def test_tls_works_when_pasted(tmp_path: Path) -> None:
    """A client that knows nothing trusts the root it compared, and its certificate renews itself."""
    with RunningService(tmp_path, "--tls", "auto", "--client-ca", "self") as running:
        trusted = _paste(running, "trust")
        fingerprint, ready = trusted.stdout.splitlines()
        assert json.loads(ready)["ready"] is True
        running.wait_for(rf"root SHA-256 +{fingerprint.partition('=')[2]}$")
        shown = running.wait_for(r"^  (curl -fsS --cacert .*?app\.pem)$")[1].replace(
            '"lifetime"', '"profile": "peer", "lifetime"'
        )
        subprocess.run(["bash", "-c", shown], cwd=tmp_path, check=True, timeout=60)
        both = (tmp_path / "app.pem").read_text()
        (tmp_path / "app.key").write_text(both[: both.index("-----BEGIN CERTIFICATE")])
        renewed = _paste(running, "renew")
        assert renewed.returncode == 0, renewed.stderr
    assert (tmp_path / "renewed.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_the_two_commands_stand_on_lines_of_their_own() -> None:
    """``make serve`` and ``make test`` can be copied as lines."""
    lines = _README.read_text(encoding="utf-8").splitlines()
    assert "    make serve" in lines
    assert "    make test" in lines


def test_the_screen_shows_a_curl_that_works(tmp_path: Path) -> None:
    """What the start prints can be pasted and gives a key and a certificate."""
    with RunningService(tmp_path) as running:
        shown = running.wait_for(r"^  (curl .*?app\.pem)$")
        done = subprocess.run(
            ["bash", "-c", shown[1]], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
    pem = (tmp_path / "app.pem").read_text()
    assert [pem.count(f"-----BEGIN {kind}-----") for kind in ("PRIVATE KEY", "CERTIFICATE")] == [1, 2]
