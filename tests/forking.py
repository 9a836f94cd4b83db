"""The program as a process of its own, forked from one that has imported its modules already.

What a start costs is mostly these imports: hundreds of tests, each with a service of its own, would spend half of their
time on them. From there on it is the program as it is: its arguments, folder, environment, standard streams, signals.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import reduction
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol

from app.entry import main

__all__ = ["Forked"]

# Not the command line itself: its console looks at the standard streams when it is imported.
_IMPORTED = [
    "app.main",
    "app.server",
    "app.schema",
    "app.client.commands",
    "app.transfer.restore",
    "rich.console",
    "typer",
]
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(_IMPORTED)


class Forked:
    """``tiny-ca ARGUMENTS``, as far as these tests need what ``subprocess.Popen`` has."""

    def __init__(
        self, arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], stdout: int, stderr: int
    ) -> None:
        mask = os.umask(0o077)
        os.umask(mask)
        self._process = _context.Process(
            target=_run, args=(list(arguments), str(folder), dict(environment), mask, _Passed(stdout), _Passed(stderr))
        )
        self._process.start()
        # Who asks while another does would be told that it ended with 255.
        self._asking = threading.Lock()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, None while it runs."""
        return self.poll()

    def poll(self) -> int | None:
        """The exit code, minus the signal that ended it; None while it runs."""
        with self._asking:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end."""
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


class _Passed:
    """A file descriptor, on its way to the other process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Callable[[_Arriving], int], tuple[_Arriving]]:
        return _received, (reduction.DupFd(self._number),)


class _Arriving(Protocol):
    def detach(self) -> int:
        """Its number in the process that it has come to."""
        ...


def _received(passed: _Arriving) -> int:
    return passed.detach()


def _run(arguments: list[str], folder: str, environment: dict[str, str], mask: int, stdout: int, stderr: int) -> None:
    for received, number in ((stdout, 1), (stderr, 2)):
        os.dup2(received, number)
        os.close(received)
    os.umask(mask)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["tiny-ca", *arguments]
    try:
        main()
    finally:
        atexit._run_exitfuncs()
