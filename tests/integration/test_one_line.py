"""What stops a start says so in one line that names the setting, with exit code 2; and nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.running import tiny_ca


@pytest.fixture(scope="module")
def initialised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA in it, which no test here changes."""
    folder = tmp_path_factory.mktemp("ca")
    assert tiny_ca(folder, "init")[0] == 0
    return folder


@pytest.mark.parametrize(
    "arguments,environment,names",
    [
        (("serve",), {"TINY_CA_KEY_PASSPHRASE_FILE": "nowhere"}, "TINY_CA_KEY_PASSPHRASE_FILE"),
        (("serve",), {"TINY_CA_KEY_PASSPHRASE": "another passphrase of length"}, "TINY_CA_KEY_PASSPHRASE"),
        (("serve",), {"TINY_CA_ADMIN_TOKEN_FILE": "nowhere"}, "TINY_CA_ADMIN_TOKEN_FILE"),
        (("init",), {"TINY_CA_LIFETME": "1h"}, "TINY_CA_LIFETME"),
        (("serve",), {"TINY_CA_PORT": "http"}, "TINY_CA_PORT"),
        (("serve", "--host", "0.0.0.0", "--tls", "off"), {}, "TINY_CA_HOST"),  # noqa: S104  # it is refused
        (("serve", "--host", "nosuch.invalid", "--behind-proxy"), {}, "TINY_CA_HOST"),
        (("serve", "--tls-cert", "nowhere.pem", "--tls-key", "nowhere.key"), {}, "TINY_CA_TLS_CERT"),
        (("serve", "--tls-cert", "nowhere.pem"), {}, "TINY_CA_TLS"),
        (("serve", "--tls", "auto", "--client-ca", "nowhere.pem"), {}, "TINY_CA_CLIENT_CA"),
        (("serve",), {"TINY_CA_CRL_LIFETIME": "soon"}, "TINY_CA_CRL_LIFETIME"),
        (("serve", "--profiles-file", "missing.toml"), {}, "missing.toml cannot be read"),
        (("serve", "--data-dir", "/proc/nowhere"), {}, "TINY_CA_DATA_DIR"),
        (("serve", "--database-url", "mysql://somewhere/x"), {}, "TINY_CA_DATABASE_URL"),
    ],
)
def test_a_wrong_setting(
    initialised: Path, arguments: tuple[str, ...], environment: dict[str, str], names: str
) -> None:
    """One line, the setting's name in it, exit code 2, nothing on standard output, and no secret repeated."""
    code, out, lines = tiny_ca(initialised, *arguments, **environment)
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
    code, _, lines = tiny_ca(tmp_path, "serve", "--port", "0")
    assert (code, len(lines)) == (1, 1)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "profiles, says",
    [
        ("[profiles.server]\nmax_lifetime = 90\n", "profiles.server.max_lifetime"),
        ("[profiles.server]\nlifetime = '90d'\n", "profiles.server.lifetime"),
        ("[profiles.server\n", "line 1"),
        ("[profiles.web]\ndns = ['*.example.org']\n", "profiles.web"),
        ("[profiles.server]\ndns = ['a.*.b']\n", "profiles.server.dns"),
    ],
)
def test_a_wrong_profiles_file_stops_the_start(tmp_path: Path, profiles: str, says: str) -> None:
    """The line names the file and the entry."""
    (tmp_path / "profiles.toml").write_text(profiles)
    code, _, lines = tiny_ca(tmp_path, "serve", "--profiles-file", "profiles.toml")
    assert (code, len(lines)) == (2, 1)
    assert says in lines[0]
    assert "profiles.toml" in lines[0]
