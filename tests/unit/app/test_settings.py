"""Settings: what is refused at the door, and that secrets do not show."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from app.settings import SettingsError, load_settings
from tiny_ca.db.engine import EngineSettings
from tiny_ca.models.key_spec import KeySpec


@pytest.fixture(autouse=True)
def _clean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ``.env`` and no variables of whoever runs the tests."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TINY_CA_")]:
        monkeypatch.delenv(name)


def test_flags_go_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each source wins over the next: flag, variable, ``.env``, default."""
    (tmp_path / ".env").write_text("TINY_CA_PORT=1111\nTINY_CA_WORKERS=3\nTINY_CA_CRL_LIFETIME=12h\n")
    monkeypatch.setenv("TINY_CA_PORT", "2222")
    monkeypatch.setenv("TINY_CA_WORKERS", "4")
    settings = load_settings(port=3333)
    assert (settings.port, settings.workers, settings.crl_lifetime) == (3333, 4, timedelta(hours=12))


@pytest.mark.parametrize(
    "name, value, says",
    [
        ("TINY_CA_PORT", "70000", "TINY_CA_PORT"),
        ("TINY_CA_PORTS", "8000", "unknown setting TINY_CA_PORTS"),
        ("TINY_CA_WORKERS", "0", "TINY_CA_WORKERS"),
        ("TINY_CA_CRL_LIFETIME", "15 parsecs", "no lifetime such as 15m"),
        ("TINY_CA_CRL_LIFETIME", "30s", "a CRL lives from 1m"),
        ("TINY_CA_JOB_LEASE", "11m", "a job's lease lasts from 1s to 10m"),
        ("TINY_CA_DATABASE_POOL_SIZE", "0", "TINY_CA_DATABASE_POOL_SIZE"),
        ("TINY_CA_DATABASE_MAX_OVERFLOW", "-1", "TINY_CA_DATABASE_MAX_OVERFLOW"),
        ("TINY_CA_DATABASE_LOCK_TIMEOUT", "0s", "TINY_CA_DATABASE_LOCK_TIMEOUT"),
        ("TINY_CA_DATABASE_STATEMENT_TIMEOUT", "11m", "waited for from 1s to 10m"),
        ("TINY_CA_AUTO_MIGRATE", "perhaps", "TINY_CA_AUTO_MIGRATE"),
        ("TINY_CA_PUBLIC_URL", "ca.example.org", "no absolute URI"),
        ("TINY_CA_PUBLIC_URL", "http://a b", "no absolute URI"),
        ("TINY_CA_PUBLIC_URL", "http://bücher.example", "no absolute URI"),
        ("TINY_CA_PUBLIC_URL", "http://user:secret@ca.example.org", "name a host and no user"),
        ("TINY_CA_PUBLIC_URL", "http://ca.example.org:99999", "out of range"),
        ("TINY_CA_PUBLIC_URL", "ftp://ca.example.org", "no URL such as"),
        ("TINY_CA_ROOT_KEY", "rsa:1024", "RSA keys are"),
        ("TINY_CA_ROOT_KEY", "dsa", "keys are rsa, ec"),
        ("TINY_CA_ADMIN_TOKEN", "short", "at least 32 characters"),
        ("TINY_CA_KEY_PASSPHRASE", "short", "at least 16 characters"),
        ("TINY_CA_LOG_LEVEL", "loud", "TINY_CA_LOG_LEVEL"),
        ("TINY_CA_TLS_CERT", "cert.pem", "both TINY_CA_TLS_CERT and TINY_CA_TLS_KEY"),
        ("TINY_CA_TLS", "on", "TINY_CA_TLS: Input should be 'auto' or 'off'"),
        ("TINY_CA_TLS_LIFETIME", "30s", "lives from 1m"),
        ("TINY_CA_CLIENT_CA", "self", "without TLS nobody shows a certificate"),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str) -> None:
    """A value that cannot be is refused, saying which and what would be right."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        load_settings()


@pytest.mark.parametrize("name", ["TINY_CA_ADMIN_TOKEN", "TINY_CA_KEY_PASSPHRASE"])
def test_a_secret_that_is_refused_does_not_show(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The error of a secret names the setting and not the value."""
    monkeypatch.setenv(name, "hunter2")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    """``repr`` holds no secret."""
    monkeypatch.setenv("TINY_CA_ADMIN_TOKEN", "a-token-that-is-long-enough-to-be-taken")
    monkeypatch.setenv("TINY_CA_KEY_PASSPHRASE", "a-passphrase-that-is-long-enough")
    settings = load_settings()
    assert "long-enough" not in repr(settings)


def test_bounds_of_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a variable of its own; unset, they are the library's."""
    assert load_settings().database_engine == replace(EngineSettings(), lock_timeout=8)
    for name in (
        "POOL_TIMEOUT",
        "CONNECT_TIMEOUT",
        "BUSY_TIMEOUT",
        "STATEMENT_TIMEOUT",
        "LOCK_TIMEOUT",
        "IDLE_TIMEOUT",
    ):
        monkeypatch.setenv(f"TINY_CA_DATABASE_{name}", "1m")
    assert load_settings(database_pool_size=7, database_max_overflow=0).database_engine == EngineSettings(
        pool_size=7,
        max_overflow=0,
        pool_timeout=60,
        connect_timeout=60,
        busy_timeout=60,
        statement_timeout=60,
        lock_timeout=60,
        idle_timeout=60,
    )


def test_a_secret_comes_from_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret and a file for it contradict each other."""
    monkeypatch.setenv("TINY_CA_KEY_PASSPHRASE", "a-passphrase-that-is-long-enough")
    monkeypatch.setenv("TINY_CA_KEY_PASSPHRASE_FILE", "passphrase")
    with pytest.raises(SettingsError, match="not both"):
        load_settings()


def test_the_database_url_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The URL, which holds a password, may be a secret in a file; what is wrong with it is named, it is not shown."""
    file = tmp_path / "database-url"
    monkeypatch.setenv("TINY_CA_DATABASE_URL_FILE", str(file))
    with pytest.raises(SettingsError, match=r"TINY_CA_DATABASE_URL_FILE: .* No such file"):
        load_settings()
    file.write_text("postgresql+asyncpg://tiny-ca:hunter2@database/tiny-ca\n")
    assert load_settings().effective_database_url == "postgresql+asyncpg://tiny-ca:hunter2@database/tiny-ca"
    with pytest.raises(SettingsError, match="not both"):
        load_settings(database_url="sqlite:///ca.db")
    file.write_text("mysql://tiny-ca:hunter2@database/tiny-ca\n")
    with pytest.raises(SettingsError, match="kept in SQLite or PostgreSQL") as refused:
        load_settings()
    assert "hunter2" not in str(refused.value)


def test_the_database_url_file_in_the_env_file(tmp_path: Path) -> None:
    """``.env`` may name the file too."""
    (tmp_path / "database-url").write_text("postgresql://database/tiny-ca")
    (tmp_path / ".env").write_text("TINY_CA_DATABASE_URL_FILE=database-url\n")
    assert load_settings().effective_database_url == "postgresql://database/tiny-ca"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.9.9.9"])
def test_loopback_needs_no_tls(host: str) -> None:
    """Only this machine can listen in on loopback."""
    assert load_settings(host=host).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ca.example.org"])  # noqa: S104  # that is the point
def test_beyond_loopback_there_is_tls(host: str) -> None:
    """Tokens never cross a network in the clear: the service gets a certificate of its own, or does not start."""
    settings = load_settings(host=host)
    assert (settings.tls_mode, settings.effective_public_url[:8]) == ("auto", "https://")
    with pytest.raises(SettingsError, match="reachable from other machines"):
        load_settings(host=host, tls="off")


@pytest.mark.parametrize(
    "given,mode",
    [
        ({}, "off"),
        ({"tls": "auto"}, "auto"),
        ({"tls_cert": "a.pem", "tls_key": "a.key"}, "files"),
        ({"host": "0.0.0.0", "behind_proxy": True}, "off"),  # noqa: S104
        ({"host": "0.0.0.0", "behind_proxy": True, "tls": "auto"}, "auto"),  # noqa: S104
        ({"host": "0.0.0.0", "behind_proxy": True, "tls": "off"}, "off"),  # noqa: S104
    ],
)
def test_where_the_certificate_comes_from(given: dict[str, object], mode: str) -> None:
    """From files where they are set; else as told; else the CA's own, where neither loopback nor a proxy needs none."""
    assert load_settings(**given).tls_mode == mode


@pytest.mark.parametrize(
    "given,says",
    [
        ({"tls": "auto", "tls_cert": "a.pem", "tls_key": "a.key"}, "not both"),
        ({"tls": "off", "tls_cert": "a.pem", "tls_key": "a.key"}, "not both"),
        ({"tls": "auto", "client_ca": "self", "behind_proxy": True}, "client_cert_header"),
    ],
)
def test_tls_settings_that_contradict_each_other(given: dict[str, object], says: str) -> None:
    """Each is told with what would be right."""
    with pytest.raises(SettingsError, match=says):
        load_settings(**given)


def test_a_proxy_in_front_allows_any_address() -> None:
    """``--behind-proxy`` says that TLS is somebody else's."""
    assert load_settings(host="0.0.0.0", behind_proxy=True).behind_proxy  # noqa: S104


def test_workers_get_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker process is handed equals what its parent had, secrets included."""
    monkeypatch.setenv("TINY_CA_ADMIN_TOKEN", "a-token-that-is-long-enough-to-be-taken")
    settings = load_settings(
        port=9000, root_key="rsa:4096", issuer_key="ed25519", crl_lifetime="36h", behind_proxy=True
    )
    assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301
    assert settings.root_key == KeySpec.rsa(4096)


@pytest.mark.parametrize(
    "host, port, url",
    [("127.0.0.1", 8000, "http://127.0.0.1:8000"), ("::1", 9000, "http://[::1]:9000")],
)
def test_the_public_url_follows_the_address(host: str, port: int, url: str) -> None:
    """Unless it is set, certificates point to where the service listens."""
    assert load_settings(host=host, port=port).effective_public_url == url


@pytest.mark.parametrize("url", ["sqlite://", "sqlite+aiosqlite:///:memory:", "sqlite:///file:ca?mode=memory&uri=true"])
def test_a_database_in_memory_is_refused(url: str) -> None:
    """A CA must not lose what it issued."""
    with pytest.raises(SettingsError, match="TINY_CA_DATABASE_URL: a database in memory"):
        load_settings(database_url=url)
