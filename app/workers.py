"""Several worker processes on one socket: started, started anew when they die, and ended with their parent.

They share nothing but the socket and the database.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from socket import socket
from types import FrameType
from typing import Final

import structlog

from app.settings import Settings

__all__ = ["supervise"]

_log = structlog.get_logger(__name__)
# A worker ends by itself within ten seconds of a SIGTERM; one that does not hangs.
_STOP_SECONDS: Final = 10.0
_RESTART_SECONDS: Final = 1.0
_spawn: Final = get_context("spawn")

Work = Callable[[Settings, socket], int]


@dataclass(frozen=True, slots=True)
class _Worker:
    """A process, and our end of its life line: when we die it closes, and the worker ends."""

    process: SpawnProcess
    life_line: Connection


def supervise(settings: Settings, listener: socket, work: Work) -> int:
    """Run ``work`` in as many processes as the settings say, until SIGINT or SIGTERM; returns the exit code.

    A worker that ends with an exit code of its own, other than by a signal, could not start: then all end.
    """
    stop = _Stop()
    workers = [_start(settings, listener, work) for _ in range(settings.workers)]
    code = 0
    while not stop.asked() and not code:
        wait([*(worker.process.sentinel for worker in workers), stop.wake])
        for index, worker in enumerate(workers):
            if stop.asked() or worker.process.is_alive():
                continue
            code = max(code, worker.process.exitcode or 0)
            if code == 0:
                _log.warning("worker.died", pid=worker.process.pid, exit_code=worker.process.exitcode)
                time.sleep(_RESTART_SECONDS)  # one that dies at once must not keep a core busy
                workers[index] = _start(settings, listener, work)
    _end(workers)
    return code


class _Stop:
    """Set by a signal; ``wake`` is ready to be read then, so that nobody needs to poll."""

    def __init__(self) -> None:
        self._asked = False
        self.wake, self._bell = _spawn.Pipe(duplex=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._ring)

    def asked(self) -> bool:
        """Whether the signal has come."""
        return self._asked

    def _ring(self, _number: int, _frame: FrameType | None) -> None:
        if not self._asked:
            self._asked = True
            self._bell.send_bytes(b"\0")


def _start(settings: Settings, listener: socket, work: Work) -> _Worker:
    theirs, ours = _spawn.Pipe(duplex=False)
    process = _spawn.Process(target=_run, args=(settings, listener, work, theirs), name="tiny-ca-worker")
    process.start()
    theirs.close()
    return _Worker(process, ours)


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.process.terminate()
    until = time.monotonic() + _STOP_SECONDS
    for worker in workers:
        worker.process.join(max(0.0, until - time.monotonic()))
        if worker.process.is_alive():
            _log.error("worker.killed", pid=worker.process.pid)
            worker.process.kill()


def _run(settings: Settings, listener: socket, work: Work, life_line: Connection) -> None:
    """The whole life of a worker."""
    # Ctrl-C reaches every process of the terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(life_line,), daemon=True).start()
    sys.exit(work(settings, listener))


def _end_with_parent(life_line: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        life_line.recv_bytes()  # nothing is ever sent
    os.kill(os.getpid(), signal.SIGTERM)
