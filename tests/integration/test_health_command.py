"""``tiny-ca health``, against real services."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.running import RunningService, tiny_ca


@pytest.mark.parametrize("tls", ["off", "auto"])
def test_a_service_that_is_well(tmp_path: Path, tls: str) -> None:
    """By the service's own settings, over HTTP and over TLS, the command says nothing and ends with 0."""
    with RunningService(tmp_path, "--tls", tls) as service:
        port = service.url.rpartition(":")[2]
        for arguments in ((), ("--ready",)):
            assert _health(tmp_path, *arguments, TINY_CA_PORT=port, TINY_CA_TLS=tls) == (0, [])
        assert _health(tmp_path, "--url", service.url) == (0, [])


def test_a_service_on_every_address(tmp_path: Path) -> None:
    """One that listens everywhere is asked on loopback."""
    with RunningService(tmp_path, "--host", "0.0.0.0", "--behind-proxy") as service:  # noqa: S104  # as in a container
        environment = {"TINY_CA_HOST": "0.0.0.0", "TINY_CA_BEHIND_PROXY": "true"}  # noqa: S104
        assert _health(tmp_path, TINY_CA_PORT=service.url.rpartition(":")[2], **environment) == (0, [])


def test_a_service_that_is_not_there(tmp_path: Path) -> None:
    """Nobody listens: one line, and 1."""
    with RunningService(tmp_path) as service:
        port = service.url.rpartition(":")[2]
    code, (line,) = _health(tmp_path, TINY_CA_PORT=port)
    assert code == 1
    assert f"http://127.0.0.1:{port}/healthz does not answer" in line


def test_a_service_that_cannot_issue(tmp_path: Path) -> None:
    """It lives, but its issuing CA is revoked: --ready says what is missing."""
    with RunningService(tmp_path) as service, service.client() as client:
        authorities = client.get("/api/v1/certificates", params={"key_type": "CA"}).json()["items"]
        (issuing,) = [one for one in authorities if one["profile"] == "intermediate"]
        revoked = client.post(f"/api/v1/certificates/{issuing['serial_number']}/revoke")
        assert revoked.status_code == 200, json.dumps(revoked.json())
        assert _health(tmp_path, "--url", service.url) == (0, [])
        code, (line,) = _health(tmp_path, "--ready", "--url", service.url)
    assert code == 1
    assert "or a CA above it, is revoked" in line


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "127.0.0.1:8000", "http://127.0.0.1:none"])
def test_what_is_no_url(tmp_path: Path, url: str) -> None:
    """It is one line, not a traceback."""
    code, lines = _health(tmp_path, "--url", url)
    assert (code, len(lines)) == (1, 1)


def _health(folder: Path, *arguments: str, **environment: str) -> tuple[int, list[str]]:
    code, printed, lines = tiny_ca(folder, "health", *arguments, **{"TINY_CA_PORT": "8000", **environment})
    assert printed == ""
    return code, lines
