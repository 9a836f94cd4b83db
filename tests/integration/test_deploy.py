"""What containers are built and run from: that the pieces fit each other, and the service. No engine is needed."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema_rs import validator_for

from app.config_file import load_config_file
from app.settings import Settings, load_settings
from tests.running import RunningService, tiny_ca

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
KUBERNETES: dict[str, Any] = {
    document["kind"]: document
    for file in sorted((ROOT / "deploy/kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
}
POD = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
KNOWN = {f"TINY_CA_{name.upper()}" for name in Settings.model_fields}
# Of docker-compose.yml itself.
OF_THE_COMPOSITION = {"TINY_CA_SITE", "TINY_CA_BIND"}


def _dockerfile() -> list[tuple[str, str]]:
    """Each instruction with its arguments, in the order in which they come."""
    text = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE))
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line]


def _final_stage() -> dict[str, str]:
    instructions = _dockerfile()
    (*_, last) = [index for index, (name, _) in enumerate(instructions) if name == "FROM"]
    return dict(instructions[last:])


def _image_environment() -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in shlex.split(_final_stage()["ENV"]))


def _environment(service: str) -> dict[str, str]:
    environment: dict[str, str] = COMPOSE["services"][service].get("environment", {})
    return environment


def _pod_environment() -> dict[str, str]:
    return {one["name"]: one["value"] for one in CONTAINER["env"]}


def _images() -> Iterator[str]:
    stages = {argument.split()[2] for name, argument in _dockerfile() if name == "FROM" and " AS " in argument}
    yield from (argument.split()[0] for name, argument in _dockerfile() if name == "FROM")
    yield from (one["image"] for one in COMPOSE["services"].values() if "image" in one)
    yield CONTAINER["image"]
    assert stages == {"build"}


@pytest.mark.parametrize("image", sorted(set(_images())))
def test_images_are_pinned(image: str) -> None:
    """By a tag that holds a version; what is built here has none yet."""
    assert re.fullmatch(r"[a-z0-9./-]+:\d+\.\d+[a-z0-9.-]*", image)


@pytest.mark.parametrize("environment", [_image_environment(), _environment("tiny-ca"), _pod_environment()])
def test_settings_are_known(environment: dict[str, str]) -> None:
    """A name that is none would stop the start."""
    given = {name for name in environment if name.startswith("TINY_CA_")}
    assert given
    assert given <= KNOWN


def test_variables_of_the_composition() -> None:
    """What an operator may set is what the file says, and no setting of the service by accident."""
    text = (ROOT / "docker-compose.yml").read_text() + (ROOT / "deploy/compose/Caddyfile").read_text()
    assert set(re.findall(r"\{\$?(TINY_CA_[A-Z_]+)", text)) == OF_THE_COMPOSITION
    assert set(_environment("proxy")) <= OF_THE_COMPOSITION


def test_the_composition_is_one() -> None:
    """By the schema of the Compose Specification."""
    schema = json.loads((files("check_jsonschema") / "builtin_schemas/vendor/compose-spec.json").read_text())
    assert [error.message for error in validator_for(schema).iter_errors(COMPOSE)] == []


def test_the_final_stage() -> None:
    """Not root, no tools: nothing is installed there, and what was built comes without pip."""
    stage = _final_stage()
    assert stage["USER"] == "10001"
    assert "10001" in stage["RUN"]
    assert not re.search(r"apt|apk|pip|curl", stage["RUN"])
    assert stage["COPY"] == "--from=build /opt/tiny-ca /opt/tiny-ca"
    assert [argument for name, argument in _dockerfile() if name == "RUN" and "venv" in argument] == [
        "python -m venv --without-pip /opt/tiny-ca"
    ]


def test_what_the_image_is_built_from() -> None:
    """What the build needs is sent to it, and nothing else is: no data, no key, no deploy file."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    sent = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert sent == {"LICENSE", "README.md", "pyproject.toml", "constraints.txt", "tiny_ca", "app", "migrations"}
    assert all((ROOT / name).exists() for name in sent)


def test_the_healthcheck_is_a_command(tmp_path: Path) -> None:
    """What the image is asked by exists, and is well where the image's command runs with the image's settings."""
    check = json.loads(_final_stage()["HEALTHCHECK"].partition("CMD ")[2])
    command = json.loads(_final_stage()["CMD"])
    assert (check[0], command) == ("tiny-ca", ["tiny-ca", "serve"])
    environment = {**_image_environment(), "TINY_CA_DATA_DIR": "data", "TINY_CA_PORT": "0"}
    environment = {name: value for name, value in environment.items() if name.startswith("TINY_CA_")}
    with RunningService(tmp_path, environment=environment) as service:
        environment["TINY_CA_PORT"] = service.url.rpartition(":")[2]
        assert tiny_ca(tmp_path, *check[1:], **environment) == (0, "", [])


def test_ports_agree() -> None:
    """What is listened on is what is exposed, what the proxy and the Service ask, and what the probes name."""
    port = _image_environment()["TINY_CA_PORT"]
    assert _final_stage()["EXPOSE"] == port
    assert re.findall(r"dynamic a tiny-ca (\d+)", (ROOT / "deploy/compose/Caddyfile").read_text()) == [port]
    assert [(one["name"], str(one["containerPort"])) for one in CONTAINER["ports"]] == [("https", port)]
    assert KUBERNETES["Service"]["spec"]["ports"][0]["targetPort"] == "https"
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = CONTAINER[probe]["httpGet"]
        assert (asked["port"], asked["scheme"]) == ("https", "HTTPS")
        assert asked["path"] == ("/readyz" if probe == "readinessProbe" else "/healthz")


def test_files_that_are_named_are_mounted() -> None:
    """Every file of a setting is in a volume, and every file that is mounted from here exists."""
    for environment, mounts in (
        (_environment("tiny-ca"), [one.split(":")[1] for one in COMPOSE["services"]["tiny-ca"]["volumes"]]),
        (_environment("database"), [one.split(":")[1] for one in COMPOSE["services"]["database"]["volumes"]]),
        (_pod_environment(), [one["mountPath"] for one in CONTAINER["volumeMounts"]]),
    ):
        named = [value for name, value in environment.items() if name.endswith("_FILE")]
        assert named
        assert all(any(Path(value).is_relative_to(mount) for mount in mounts) for value in named)
    sources = [one.split(":")[0] for service in COMPOSE["services"].values() for one in service.get("volumes", [])]
    assert all((ROOT / source).is_file() for source in sources if source.startswith("."))
    assert {source for source in sources if not source.startswith(".")} == set(COMPOSE["volumes"])
    assert {one["name"] for one in CONTAINER["volumeMounts"]} == {one["name"] for one in POD["volumes"]}


def test_the_proxy_is_trusted_and_nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The settings file names the proxy's own address, which no other container can be given."""
    config = load_config_file(ROOT / "deploy/compose/config.toml", profiles=())
    address = COMPOSE["services"]["proxy"]["networks"]["front"]["ipv4_address"]
    assert [str(one) for one in config.trusted_proxies] == [f"{address}/32"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TINY_CA_BEHIND_PROXY", _environment("tiny-ca")["TINY_CA_BEHIND_PROXY"])
    assert load_settings(host="0.0.0.0").tls_mode == "off"  # noqa: S104  # as in the image
    caddyfile = (ROOT / "deploy/compose/Caddyfile").read_text()
    assert {"Forwarded", "Client-Cert"} <= set(re.findall(r"header_up -(\S+)", caddyfile))


def test_nobody_may_more_than_they_need() -> None:
    """A root file system that is read-only, no capabilities but those that are named, and no way to more."""
    for name, service in COMPOSE["services"].items():
        assert service["security_opt"] == ["no-new-privileges:true"]
        if name != "database":  # its image changes its user and its folders' owner by itself
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in COMPOSE["services"]["tiny-ca"]
    assert "ports" not in COMPOSE["services"]["tiny-ca"]


def test_the_pod_is_restricted() -> None:
    """By the profile "restricted" of the Pod Security Standards, and with a read-only root file system."""
    pod, container = POD["securityContext"], CONTAINER["securityContext"]
    assert (pod["runAsNonRoot"], pod["runAsUser"], pod["seccompProfile"]) == (True, 10001, {"type": "RuntimeDefault"})
    assert container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert (POD["automountServiceAccountToken"], POD["enableServiceLinks"]) == (False, False)


def test_selectors_find_the_pods() -> None:
    """Deployment, Service and PodDisruptionBudget speak of the same pods, of which one may go at a time."""
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert KUBERNETES["Deployment"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["Service"]["spec"]["selector"] == labels
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert KUBERNETES["PodDisruptionBudget"]["spec"]["minAvailable"] < KUBERNETES["Deployment"]["spec"]["replicas"]


def test_secrets_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script makes what is missing, for its readers alone, and the settings take it; again, it changes nothing."""
    ours, databases = tmp_path / "ours", tmp_path / "databases"
    ours.mkdir()
    databases.mkdir()
    script = [sys.executable, str(ROOT / "deploy/compose/make_secrets.py"), str(ours), str(databases)]
    made = []
    for _ in range(2):
        subprocess.run(script, check=True, env={"PYTHONPATH": str(ROOT)})
        made.append({file.name: file.read_text() for folder in (ours, databases) for file in folder.iterdir()})
    assert made[0] == made[1]
    assert set(made[0]) == {"database-url", "key-passphrase", "admin-token", "password"}
    assert {stat.S_IMODE(file.stat().st_mode) for file in ours.iterdir()} == {0o400}
    assert {file.stat().st_uid for file in ours.iterdir()} == {10001 if os.geteuid() == 0 else os.geteuid()}
    monkeypatch.chdir(tmp_path)
    named = {name: value for name, value in _environment("tiny-ca").items() if value.startswith("/secrets/")}
    for name, value in named.items():
        monkeypatch.setenv(name, str(ours / Path(value).name))
    settings = load_settings()
    assert made[0]["password"].strip() in settings.effective_database_url
    assert len(named) == 3
