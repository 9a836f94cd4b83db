"""Requests made from the OpenAPI document, sound and unsound, by the thousand: every answer is as described."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.running import RunningService

_HERE = Path(__file__).parent
_TOP = _HERE.parents[1]


@pytest.mark.timeout(450)
def test_every_answer_is_as_described(tmp_path: Path, environment: dict[str, str]) -> None:
    """All checks of schemathesis, on every operation; what it finds is printed with a curl that shows it."""
    with RunningService(tmp_path, environment=environment) as service:
        run = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                f"--config-file={_HERE / 'schemathesis.toml'}",
                "run",
                f"{service.url}/openapi.json",
                f"--header=Authorization: Bearer {service.token}",
                "--checks=all",
                "--max-examples=20",
                "--workers=1",
                # A batch of a thousand configs makes a thousand keys, and other tests have the cores too.
                "--request-timeout=120",
                "--no-color",
                "--generation-database=none",
            ],
            cwd=_TOP,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"},
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
    assert run.returncode == 0, run.stdout
    assert "request.failed" not in service.log
