"""Paths in the settings file: relative ones are taken from the folder that it is in, wherever the service runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, ValidationInfo

__all__ = ["BesideSettingsFile"]


def _beside(value: object, info: ValidationInfo) -> Path:
    if isinstance(value, Path):
        return value
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError('write a path as text, such as "blocked-keys.txt"')
    return Path((info.context or {}).get("folder", "."), value)


# The context of the validation says which folder.
BesideSettingsFile = Annotated[Path, BeforeValidator(_beside)]
