"""How a command gets the passphrase of a file: from another file, or from whoever sits at the terminal."""

from __future__ import annotations

import sys
from pathlib import Path

import typer

__all__ = ["asked_passphrase"]


def asked_passphrase(file: Path | None, *, twice: bool, flag: str = "--passphrase-file", of: str = "the file") -> str:
    """The first line of ``file``; without one, what is typed, ``twice`` where it is new."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").split("\n", 1)[0].removesuffix("\r")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise typer.BadParameter(f"{file} cannot be read: {reason}", param_hint=flag) from error
    if not sys.stdin.isatty():
        raise typer.BadParameter("nobody is here to ask: give the passphrase in a file", param_hint=flag)
    return str(typer.prompt(f"Passphrase of {of}", hide_input=True, confirmation_prompt=twice, err=True))
