"""The README and docs/ci.md on CI without secrets, pasted: a provider on loopback stands where the platform does."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import RSAKey
from pydantic_core import to_json

from app.config_file import load_config_file
from tests.oidc_provider import REQUEST_TOKEN, RunningProvider
from tests.running import RunningService, openssl
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text(encoding="utf-8")
_CI = (_ROOT / "docs" / "ci.md").read_text(encoding="utf-8")


def _config(text: str, name: str) -> str:
    """The TOML block after the marker of this name."""
    block = re.search(rf"<!-- ci-config: {name} -->\n\n```toml\n(.*?)```", text, re.DOTALL)
    assert block, f"no configuration {name!r}"
    return block[1]


def _job(text: str, name: str) -> str:
    """The indented block after the marker of this name."""
    block = re.search(rf"<!-- ci-job: {name} -->\n\n((?:    .*\n)+)", text)
    assert block, f"no job {name!r}"
    return re.sub(r"^ {4}", "", block[1], flags=re.MULTILINE)


def _run(folder: Path, script: str, **environment: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder, env={"PATH": "/usr/local/bin:/usr/bin:/bin", **environment},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("text", [_README, _CI], ids=["README", "docs"])
def test_github(text: str, tmp_path: Path) -> None:
    """The job of GitHub Actions, word for word but for the two addresses: a certificate for its owner's name."""
    with RunningProvider() as provider:
        here = f'preset = "github"\nissuer = "{provider.issuer}"'
        (tmp_path / "config.toml").write_text(_config(text, "github").replace('preset = "github"', here))
        with RunningService(tmp_path, "--config-file", "config.toml") as running:
            script = _job(text, "github").replace("https://ca.example.org/", f"{running.url}/")
            _run(
                tmp_path,
                script,
                ACTIONS_ID_TOKEN_REQUEST_URL=f"{provider.issuer}/token?api-version=2.0",
                ACTIONS_ID_TOKEN_REQUEST_TOKEN=REQUEST_TOKEN,
            )
    assert "DNS:app.octo-org.ci.example.org" in openssl("x509", "-in", tmp_path / "job.pem", "-noout", "-text")
    assert (tmp_path / "job.pem").read_text().count("BEGIN CERTIFICATE") == 2


def test_loopback(tmp_path: Path) -> None:
    """What can be tried on one machine, word for word but for the two ports."""
    with RunningProvider() as provider:
        (tmp_path / "config.toml").write_text(_here(_config(_CI, "loopback"), provider))
        with RunningService(tmp_path, "--config-file", "config.toml") as running:
            script = _here(_job(_CI, "loopback"), provider).replace("http://127.0.0.1:8000", running.url)
            assert "job.pem: OK" in _run(tmp_path, script)


def _here(text: str, provider: RunningProvider) -> str:
    return text.replace("http://127.0.0.1:9000", provider.issuer)


@pytest.mark.parametrize("name", ["github", "gitlab", "kubernetes", "loopback"])
def test_every_configuration_is_one(name: str, tmp_path: Path) -> None:
    """Each example is read without a complaint, and trusts what it says."""
    text = _config(_CI, name)
    (tmp_path / "config.toml").write_text(text)
    (tmp_path / "cluster-keys.json").write_bytes(to_json({"keys": [RSAKey.generate_key(2048).as_dict(private=False)]}))
    config = load_config_file(tmp_path / "config.toml", profiles=BUILT_IN_PROFILES)
    (issuer,) = config.oidc
    assert issuer.audience == "https://ca.example.org"
    assert issuer.preset == tomllib.loads(text)["oidc"][0].get("preset")


def test_the_gitlab_job(tmp_path: Path) -> None:
    """The two commands of the pipeline file, with the token where GitLab puts it."""
    commands = [line.removeprefix("    - ") for line in _CI.splitlines() if line.startswith("    - ")]
    with RunningProvider() as provider:
        here = f'issuer = "{provider.issuer}" #'
        config = _config(_CI, "gitlab").replace('preset = "gitlab"', f'preset = "gitlab"\n{here}')
        (tmp_path / "config.toml").write_text(config)
        token = provider.token(
            audience="https://ca.example.org",
            sub="project_path:octo-org/app:ref_type:branch:ref:main",
            namespace_path="octo-org",
            project_path="octo-org/app",
        )
        with RunningService(tmp_path, "--config-file", "config.toml") as running:
            script = "\n".join(commands).replace("https://ca.example.org/", f"{running.url}/")
            _run(tmp_path, script, CA_TOKEN=token)
    assert "DNS:app.octo-org.ci.example.org" in openssl("x509", "-in", tmp_path / "job.pem", "-noout", "-text")


def test_a_pod(tmp_path: Path) -> None:
    """A service account's claims under the example for Kubernetes, its keys in a file: a name of its namespace."""
    with RunningProvider() as provider:
        issuer = "https://kubernetes.default.svc.cluster.local"
        (tmp_path / "config.toml").write_text(_config(_CI, "kubernetes"))
        (tmp_path / "cluster-keys.json").write_bytes(to_json({"keys": provider.published()}))
        pod: dict[str, Any] = {"kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder", "uid": "1"}}}
        token = provider.token(
            audience=["https://ca.example.org"],
            iss=issuer,
            sub="system:serviceaccount:ci:builder",
            header={"typ": None},
            **pod,
        )
        (tmp_path / "token").write_text(token)
        (line,) = [line.strip() for line in _CI.splitlines() if "/var/run/secrets/ca/token" in line]
        with RunningService(tmp_path, "--config-file", "config.toml") as running:
            script = line.replace("https://ca.example.org/", f"{running.url}/").replace("/var/run/secrets/ca/", "")
            request = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout pod.key -out pod.csr"
            _run(tmp_path, f'{request} -subj "/CN=web.ci.svc.cluster.local"\n{script}')
    assert "DNS:web.ci.svc.cluster.local" in openssl("x509", "-in", tmp_path / "pod.pem", "-noout", "-text")
