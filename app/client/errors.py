"""How a command ends: its exit codes, and the one error that carries them. HTTP statuses are in ``transport``."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["ClientError", "ExitCode", "one_line"]


class ExitCode(IntEnum):
    """What scripts branch on; documented in ``docs/cli.md``."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    FORBIDDEN = 3
    NOT_FOUND = 4
    CONFLICT = 5
    UNAUTHENTICATED = 6


class ClientError(Exception):
    """The command cannot go on; ``message`` is one line, ``code`` how the process ends, ``rule`` what refused it."""

    def __init__(self, message: str, *, code: ExitCode = ExitCode.FAILED, rule: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.rule = rule


def one_line(text: str) -> str:
    """Text from elsewhere, fit for a terminal: no line breaks, escape sequences or letters that turn the line round."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
