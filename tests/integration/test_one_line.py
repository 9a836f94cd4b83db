"""What stops a start says so in one line that names the setting, with exit code 2; and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _tiny_ca(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, list[str]]:
    """Exit code, standard output, and the lines of standard error."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TINY_CA_")}
    done = subprocess.run(
        [sys.executable, "-m", "app", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(_ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA in it, which no test here changes."""
    folder = tmp_path_factory.mktemp("ca")
    assert _tiny_ca(folder, "init")[0] == 0
    return folder


@pytest.mark.parametrize(
    "arguments,environment,names",
    [
        (("serve",), {"TINY_CA_KEY_PASSPHRASE_FILE": "nowhere"}, "TINY_CA_KEY_PASSPHRASE_FILE"),
        (("serve",), {"TINY_CA_KEY_PASSPHRASE": "another passphrase of length"}, "TINY_CA_KEY_PASSPHRASE"),
        (("serve",), {"TINY_CA_ADMIN_TOKEN_FILE": "nowhere"}, "TINY_CA_ADMIN_TOKEN_FILE"),
        (("init",), {"TINY_CA_LIFETME": "1h"}, "TINY_CA_LIFETME"),
        (("serve",), {"TINY_CA_PORT": "http"}, "TINY_CA_PORT"),
        (("serve", "--host", "0.0.0.0"), {}, "TINY_CA_HOST"),  # noqa: S104  # it is refused
        (("serve", "--host", "nosuch.invalid", "--behind-proxy"), {}, "TINY_CA_HOST"),
        (("serve", "--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"), {}, "TINY_CA_TLS_CERT"),
        (("serve", "--tls-cert", "nowhere.pem"), {}, "TINY_CA_TLS"),
    ],
)
def test_a_wrong_setting(
    initialised: Path, arguments: tuple[str, ...], environment: dict[str, str], names: str
) -> None:
    """One line, the setting's name in it, exit code 2, nothing on standard output, and no secret repeated."""
    port = ("--port", "0") if arguments[0] == "serve" and "TINY_CA_PORT" not in environment else ()
    code, out, lines = _tiny_ca(initialised, *arguments, *port, **environment)
    assert (code, out, len(lines)) == (2, "", 1), lines
    assert lines[0].startswith("tiny-ca: ")
    assert names in lines[0]
    assert "another passphrase" not in lines[0]


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """A database file that is none is one line, and stays as it was."""
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "tiny-ca.db"
    file.write_text("this is no database, and somebody may need it" * 100)
    before = file.read_bytes()
    code, _, lines = _tiny_ca(tmp_path, "serve", "--port", "0")
    assert (code, len(lines)) == (1, 1)
    assert file.read_bytes() == before
