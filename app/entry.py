"""The console script: nothing of the service is imported before it is known to be installed."""

from __future__ import annotations

import gc
import sys
from importlib.util import find_spec
from typing import Final

__all__ = ["main"]

_NOT_INSTALLED: Final = 2
# Looked for, not imported: ``tiny-ca --help`` must be quick.
_NEEDED: Final = ("fastapi", "httpx", "pydantic_settings", "typer", "uvicorn")
# What modules are made of lives as long as they do: looking for garbage in it takes a sixth of a start.
_COLLECT_AFTER: Final = 100_000
_OURS: Final = frozenset({"app", "tiny_ca"})


def main() -> None:
    """``tiny-ca``; where the extra ``service`` is missing, one line that says so and exit code 2."""
    try:
        _look()
        gc.set_threshold(_COLLECT_AFTER)
        from app.cli import main as run  # noqa: PLC0415  # the library is installed without what this imports
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in _OURS:
            raise  # a defect of ours, which no extra mends
        sys.stderr.write("tiny-ca: the service is not installed; pip install 'tiny-ca-service[service]'\n")
        sys.exit(_NOT_INSTALLED)
    run()


def _look() -> None:
    for name in _NEEDED:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
