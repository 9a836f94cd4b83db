"""The console script where the service is installed, where it is not, and where it is broken."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[3]
_HIDING = """
import sys

class Hide:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide)
from app.entry import main
sys.argv = ["tiny-ca", "--help"]
main()
"""


def _run_without(hidden: str) -> subprocess.CompletedProcess[str]:
    script = _HIDING.format(hidden=hidden)
    return subprocess.run(
        [sys.executable, "-c", script], cwd=_ROOT, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.parametrize("hidden", ["typer", "uvicorn", "pydantic_settings"])
def test_without_the_service(hidden: str) -> None:
    """Where a dependency of the service is missing, one line says what to install, and the exit code is 2."""
    done = _run_without(hidden)
    expected = "tiny-ca: the service is not installed; pip install 'tiny-ca-service[service]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", expected)


def test_with_the_service() -> None:
    """Where nothing is missing, it is the command line."""
    done = _run_without("a module that nobody imports")
    assert (done.returncode, done.stderr) == (0, "")
    assert "serve" in done.stdout


def test_a_module_of_ours_is_missing() -> None:
    """A module of this package that is missing is a defect, and shows as one."""
    done = _run_without("app.client")
    assert done.returncode == 1
    assert "No module named 'app.client'" in done.stderr
