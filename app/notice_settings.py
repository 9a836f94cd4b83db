"""The section ``[notices]``: whom to tell of certificates about to expire, and when."""

from __future__ import annotations

import ssl
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from app.paths import BesideSettingsFile

__all__ = ["NoticeSettings"]

_MIN_SECRET_LENGTH: Final = 32


class NoticeSettings(BaseModel):
    """``allow_private_addresses`` also allows ``http:``, which has no place on the way through other networks."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str
    secret: SecretStr | None = None
    secret_file: BesideSettingsFile | None = None
    days: tuple[Annotated[int, Field(ge=1, le=365, strict=True)], ...] = (30, 7, 1)
    ca_file: BesideSettingsFile | None = None
    allow_private_addresses: Annotated[bool, Field(strict=True)] = False

    @field_validator("url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        try:
            port = parts.port
        except ValueError:
            port = 0
        if (
            not (value.isascii() and value.isprintable() and " " not in value)
            or parts.scheme not in {"http", "https"}
            or not parts.hostname
            or port == 0
            or parts.username is not None
            or parts.fragment
        ):
            # Not shown: a webhook's URL often is a secret.
            raise ValueError("it is no URL such as https://hooks.example.org/tiny-ca, without user and fragment")
        return value

    @field_validator("days")
    @classmethod
    def _are_some(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or len(value) > 16 or len(set(value)) != len(value):
            raise ValueError("give 1 to 16 thresholds in days, each once, such as [30, 7, 1]")
        return tuple(sorted(value, reverse=True))

    @field_validator("secret")
    @classmethod
    def _secret_is_long(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and len(value.get_secret_value()) < _MIN_SECRET_LENGTH:
            raise ValueError(f"a secret has at least {_MIN_SECRET_LENGTH} characters")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if (self.secret is None) == (self.secret_file is None):
            raise ValueError("give secret or secret_file, one of them")
        if urlsplit(self.url).scheme == "http" and not self.allow_private_addresses:
            raise ValueError(
                "url: http: is not encrypted; give an https: URL, or allow_private_addresses for a receiver nearby"
            )
        self.read_secret()
        self.tls_context()
        return self

    def read_secret(self) -> SecretStr:
        """The secret itself.

        Raises
        ------
        ValueError
            Its file cannot be read, or holds less than a secret.
        """
        if self.secret is not None or self.secret_file is None:
            return self.secret or SecretStr("")
        try:
            secret = self.secret_file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ValueError(f"secret_file: {self.secret_file} cannot be read: {reason}") from None
        if len(secret) < _MIN_SECRET_LENGTH:
            raise ValueError(f"secret_file: {self.secret_file}: a secret has at least {_MIN_SECRET_LENGTH} characters")
        return SecretStr(secret)

    def tls_context(self) -> ssl.SSLContext:
        """What the receiver's certificate is judged by: the system's CAs, or those of ``ca_file`` alone.

        Raises
        ------
        ValueError
            The file is none of certificates.
        """
        try:
            return ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(
                f"ca_file: {self.ca_file} is no file of certificates in PEM: {error.strerror or error}"
            ) from None
