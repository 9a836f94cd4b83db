"""What an operator sets, read once at the door from flags, the environment (``TINY_CA_*``) and ``.env``.

A wrong or unknown setting stops the start, with its name, its value and what would be right.
"""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from cryptography.x509.oid import NameOID
from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.client.config import TOKEN_VARIABLE, URL_VARIABLE
from app.net import is_loopback, is_unspecified
from tiny_ca.ca_factory.names import uri
from tiny_ca.ca_factory.profile_file import parse_key_spec
from tiny_ca.ca_factory.profiles import MIN_LIFETIME
from tiny_ca.ca_factory.subject import checked_subject
from tiny_ca.db.engine import EngineSettings, async_url, is_sqlite_file
from tiny_ca.models.fields import Lifetime, or_value_error
from tiny_ca.models.key_spec import KeySpec

__all__ = ["MIN_PASSPHRASE_LENGTH", "MIN_SECRET_LENGTH", "OWN_CAS", "Settings", "SettingsError", "load_settings"]

_PREFIX: Final = "TINY_CA_"
_ENV_FILE: Final = ".env"
# Of the client's commands: known, and ignored.
_OF_THE_CLIENT: Final = frozenset({URL_VARIABLE, TOKEN_VARIABLE})
MIN_SECRET_LENGTH: Final = 32
MIN_PASSPHRASE_LENGTH: Final = 16
# In place of a file's name: the CAs of this service.
OWN_CAS: Final = Path("self")
# As EngineSettings names them.
_DATABASE_TIMEOUTS: Final = tuple(
    f"database_{name}_timeout" for name in ("pool", "connect", "busy", "statement", "lock", "idle")
)


class SettingsError(Exception):
    """A setting is wrong; each line of the text names one."""


def _key(value: object) -> object:
    return or_value_error(parse_key_spec, value) if isinstance(value, str) else value


Key = Annotated[KeySpec, NoDecode, BeforeValidator(_key)]  # NoDecode: it is not written as JSON


class Settings(BaseSettings):
    """Immutable. Secrets show as ``**********`` wherever they are printed."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    data_dir: Path = Path("data")
    database_url: str | None = None
    database_url_file: Path | None = None
    database_pool_size: int = Field(default=5, ge=1, le=100)
    database_max_overflow: int = Field(default=10, ge=0, le=100)
    database_pool_timeout: Lifetime = timedelta(seconds=10)
    database_connect_timeout: Lifetime = timedelta(seconds=5)
    database_busy_timeout: Lifetime = timedelta(seconds=5)
    database_statement_timeout: Lifetime = timedelta(seconds=30)
    # Shorter than a request waits: what waits for a lock ends before its caller is told that nothing is known.
    database_lock_timeout: Lifetime = timedelta(seconds=8)
    database_idle_timeout: Lifetime = timedelta(seconds=10)
    auto_migrate: bool = True
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    workers: int = Field(default=1, ge=1, le=64)
    public_url: str | None = None
    behind_proxy: bool = False
    tls: Literal["auto", "off"] | None = None
    tls_lifetime: Lifetime = timedelta(hours=24)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None

    key_passphrase: SecretStr | None = None
    key_passphrase_file: Path | None = None
    admin_token: SecretStr | None = None
    admin_token_file: Path | None = None
    backup_passphrase: SecretStr | None = None
    backup_passphrase_file: Path | None = None

    organization: str = Field(default="tiny-ca", min_length=1, max_length=64)
    root_key: Key = KeySpec.ec("P-256")
    issuer_key: Key = KeySpec.ec("P-256")
    profiles_file: Path | None = None
    config_file: Path | None = None
    crl_lifetime: Lifetime = timedelta(hours=24)
    job_lease: Lifetime = timedelta(seconds=30)
    public_max_age: int = Field(default=60, ge=0, le=86400)

    issue_batch: int = Field(default=256, ge=1, le=1000)
    issue_queue: int = Field(default=1024, ge=1, le=100_000)

    log_format: Literal["console", "json"] = Field(default_factory=lambda: "console" if sys.stderr.isatty() else "json")
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("crl_lifetime")
    @classmethod
    def _crl_lifetime_is_sane(cls, value: timedelta) -> timedelta:
        if not timedelta(minutes=1) <= value <= timedelta(days=365):
            raise ValueError("a CRL lives from 1m to 365d")
        return value

    @field_validator("job_lease")
    @classmethod
    def _job_lease_is_sane(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(minutes=10):
            raise ValueError("a job's lease lasts from 1s to 10m")
        return value

    @field_validator(*_DATABASE_TIMEOUTS)
    @classmethod
    def _database_timeout_is_sane(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=1) <= value <= timedelta(minutes=10):
            raise ValueError("the database is waited for from 1s to 10m")
        return value

    @field_validator("tls_lifetime")
    @classmethod
    def _tls_lifetime_is_sane(cls, value: timedelta) -> timedelta:
        if not MIN_LIFETIME <= value <= timedelta(days=398):
            raise ValueError("the certificate of the service lives from 1m to 398d")
        return value

    @field_validator("organization")
    @classmethod
    def _organization_is_signable(cls, value: str) -> str:
        or_value_error(checked_subject, [(NameOID.ORGANIZATION_NAME, value)], field="organization")
        return value

    @field_validator("database_url")
    @classmethod
    def _database_is_known(cls, value: str | None) -> str | None:
        if value is not None:
            url = or_value_error(async_url, value)
            if url.get_backend_name() == "sqlite" and not is_sqlite_file(url):
                raise ValueError("a database in memory would lose every certificate at the end; name a file")
        return value

    @field_validator("public_url")
    @classmethod
    def _public_url_is_http(cls, value: str | None) -> str | None:
        if value is None:
            return None
        # It goes into every certificate: it must be what a SAN's URI must be.
        checked = or_value_error(uri, value, field="public_url")
        parts = urlsplit(checked)
        if parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
            raise ValueError(f"{value!r} is no URL such as http://ca.example.org")
        return checked.rstrip("/")

    @field_validator("admin_token")
    @classmethod
    def _token_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_SECRET_LENGTH:
            raise ValueError(f"a token has at least {MIN_SECRET_LENGTH} characters")
        return value

    @field_validator("key_passphrase", "backup_passphrase")
    @classmethod
    def _passphrase_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < MIN_PASSPHRASE_LENGTH:
            raise ValueError(f"a passphrase has at least {MIN_PASSPHRASE_LENGTH} characters")
        return value

    @model_validator(mode="before")
    @classmethod
    def _without_the_clients(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Drop what ``.env`` holds for the client: unlike the environment, that file is read whole."""
        return {name: value for name, value in values.items() if name.upper() not in _OF_THE_CLIENT}

    @model_validator(mode="before")
    @classmethod
    def _with_url_from_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        """The URL holds the database's password: as a secret, it may be in a file."""
        file = values.get("database_url_file")
        if not file:
            return values
        if values.get("database_url"):
            raise ValueError("give TINY_CA_DATABASE_URL or TINY_CA_DATABASE_URL_FILE, not both")
        try:
            return {**values, "database_url": Path(file).read_text(encoding="utf-8").strip()}
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ValueError(f"TINY_CA_DATABASE_URL_FILE: {file} cannot be read: {reason}") from error

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("TLS needs both TINY_CA_TLS_CERT and TINY_CA_TLS_KEY")
        for one in ("key_passphrase", "admin_token", "backup_passphrase"):
            if getattr(self, one) is not None and getattr(self, f"{one}_file") is not None:
                raise ValueError(f"give {_PREFIX}{one.upper()} or {_PREFIX}{one.upper()}_FILE, not both")
        if self.tls is not None and self.tls_cert is not None:
            raise ValueError("TINY_CA_TLS: give a certificate in files, or say auto or off, not both")
        if self.tls_mode == "off" and not (is_loopback(self.host) or self.behind_proxy):
            raise ValueError(
                f"TINY_CA_HOST: {self.host!r} is reachable from other machines, and tokens would cross the network "
                "in the clear: leave out --tls off, or give --behind-proxy where a proxy in front does TLS"
            )
        if self.client_ca is not None:
            self._check_client_certificates()
        return self

    def _check_client_certificates(self) -> None:
        if self.behind_proxy:
            raise ValueError(
                "TINY_CA_CLIENT_CA: what a proxy shows is its own certificate; where it passes on its clients' "
                "(RFC 9440), set client_cert_header in the settings file instead"
            )
        if self.tls_mode == "off":
            raise ValueError("TINY_CA_CLIENT_CA: without TLS nobody shows a certificate; give --tls auto")

    @property
    def tls_mode(self) -> Literal["auto", "files", "off"]:
        """Where the service's TLS certificate comes from; unless told otherwise, it has one beyond loopback."""
        if self.tls_cert is not None:
            return "files"
        return self.tls or ("off" if self.behind_proxy or is_loopback(self.host) else "auto")

    @property
    def effective_database_url(self) -> str:
        """The database's URL; SQLite in the data folder unless set."""
        return self.database_url or f"sqlite+aiosqlite:///{self.data_dir / 'tiny-ca.db'}"

    @property
    def database_engine(self) -> EngineSettings:
        """The bounds of what is asked of the database."""
        timeouts = {name.removeprefix("database_"): getattr(self, name) for name in _DATABASE_TIMEOUTS}
        return EngineSettings(
            pool_size=self.database_pool_size,
            max_overflow=self.database_max_overflow,
            **{name: value.total_seconds() for name, value in timeouts.items()},
        )

    @property
    def effective_public_url(self) -> str:
        """What AIA and CDP start with."""
        if self.public_url:
            return self.public_url
        scheme = "http" if self.tls_mode == "off" else "https"
        # Who listens everywhere is found nowhere by that address.
        name = gethostname() if is_unspecified(self.host) else self.host
        host = f"[{name}]" if ":" in name else name
        return f"{scheme}://{host}:{self.port}"

    @property
    def shares_database(self) -> bool:
        """Whether another process may write to the database while this one serves."""
        return self.workers > 1 or not self.effective_database_url.startswith("sqlite")


def load_settings(**flags: Any) -> Settings:  # noqa: ANN401  # the settings check each of them
    """Read the settings; a flag that is not None goes before the environment, that before ``.env``.

    Raises
    ------
    SettingsError
        An unknown ``TINY_CA_*`` variable, or a value out of range.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    _refuse_unknown({**dotenv_values(_ENV_FILE), **os.environ})
    try:
        return Settings(_env_file=_ENV_FILE, **given)
    except ValidationError as error:
        raise SettingsError("\n".join(_readable(problem) for problem in error.errors(include_url=False))) from None


def _refuse_unknown(variables: dict[str, str | None]) -> None:
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    taken = known | _OF_THE_CLIENT
    unknown = sorted(name for name in variables if name.upper().startswith(_PREFIX) and name.upper() not in taken)
    if unknown:
        raise SettingsError(f"unknown setting {', '.join(unknown)}; known are {', '.join(sorted(known))}")


def _readable(problem: Any) -> str:  # noqa: ANN401  # pydantic's ErrorDetails
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    name = str(problem["loc"][0])
    shown = "" if name in _SECRETS else f" (it is {str(problem['input'])[:80]!r})"
    return f"{_PREFIX}{name.upper()}: {message}{shown}"


_SECRETS: Final = frozenset({"key_passphrase", "admin_token", "backup_passphrase", "database_url"})
