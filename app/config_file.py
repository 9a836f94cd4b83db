"""The settings file (``TINY_CA_CONFIG_FILE``, TOML): what is too much for a variable, read once at the door.

A section is one field of ``ConfigFile``, its model in the room that works with it. Unknown entries stop the start.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, Final, Self, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator, model_validator

from app.auth.oidc_config import OIDCIssuer
from app.key_blocklist import read_key_blocklist
from app.notice_settings import NoticeSettings
from app.paths import BesideSettingsFile
from app.peers import TrustedProxies
from app.rate_limits import RateLimitSettings
from app.settings import SettingsError
from tiny_ca.models.fields import or_value_error

__all__ = ["ConfigFile", "load_config_file"]

_NAME: Final = "TINY_CA_CONFIG_FILE"


class ConfigFile(BaseModel):
    """Every section; without a file, each is as it is by default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    oidc: list[OIDCIssuer] = []
    rate_limits: RateLimitSettings = RateLimitSettings()
    trusted_proxies: TrustedProxies = ()
    client_cert_header: bool = False
    notices: NoticeSettings | None = None
    key_blocklist: BesideSettingsFile | None = None

    @field_validator("key_blocklist")
    @classmethod
    def _file_holds_keys(cls, value: Path | None) -> Path | None:
        or_value_error(read_key_blocklist, value)
        return value

    @model_validator(mode="after")
    def _issuers_are_different(self) -> Self:
        urls = [issuer.issuer for issuer in self.oidc]
        for url in urls:
            if urls.count(url) > 1:
                raise ValueError(f"oidc: {url!r} has two sections; give it one, with several [[oidc.grants]]")
        return self

    def unknown_profiles(self, known: Collection[str]) -> Iterator[tuple[str, str]]:
        """Each ``(entry, profile)`` that no profile has the name of."""
        for index, issuer in enumerate(self.oidc):
            for at, grant in enumerate(issuer.grants):
                yield from (
                    (f"oidc[{index}].grants[{at}].profiles", name) for name in grant.profiles if name not in known
                )


def load_config_file(path: Path | None, *, profiles: Collection[str]) -> ConfigFile:
    """Read the file; without one, every section is as it is by default.

    Raises
    ------
    SettingsError
        It cannot be read, is no TOML, or an entry is unknown or wrong; the message names file, entry and what would be
        right. Values that pydantic refuses are not shown: some are secrets.
    """
    if path is None:
        return ConfigFile()
    try:
        config = ConfigFile.model_validate(
            tomllib.loads(path.read_text(encoding="utf-8")), context={"folder": path.parent}
        )
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{_NAME}: {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{_NAME}: {path} is no TOML: {error}") from error
    except ValidationError as error:
        problems = [_readable(problem) for problem in error.errors(include_url=False, include_input=False)]
        raise SettingsError("\n".join(f"{_NAME}: {path}: {problem}" for problem in problems)) from None
    for entry, name in config.unknown_profiles(profiles):
        raise SettingsError(f"{_NAME}: {path}: {entry}: there is no profile {name!r}; there are {', '.join(profiles)}")
    return config


def _readable(problem: Any) -> str:  # noqa: ANN401  # pydantic's ErrorDetails
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"]).lstrip(".")
    message = str(problem["msg"]).removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = f"not known here; known are {', '.join(_section(problem['loc']).model_fields)}"
    return f"{place}: {message}" if place else message


def _section(place: tuple[int | str, ...]) -> type[BaseModel]:
    """The model that the entry at ``place`` should be a field of."""
    model: type[BaseModel] = ConfigFile
    for part in place[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:
            model = next(_models(field.annotation), model)
    return model


def _models(annotation: Any) -> Iterator[type[BaseModel]]:  # noqa: ANN401  # a type
    """The models in ``list[A]``, ``dict[str, A]``, ``A | None``."""
    if isinstance(annotation, type) and get_origin(annotation) is None and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
