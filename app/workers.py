"""Several worker processes on one socket: started, started anew when they die, told to reload, ended with their parent.

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
from typing import Final

import structlog

from app.settings import Settings

__all__ = ["TRY_AGAIN", "supervise"]

_log = structlog.get_logger(__name__)
# A worker ends by itself within ten seconds of a SIGTERM; one that does not hangs.
_STOP_SECONDS: Final = 10.0
_RESTART_SECONDS: Final = 1.0  # one that dies at once must not keep a core busy
_RETRY_SECONDS: Final = 5.0  # one that cannot start, for the database is away: a start costs a second of a core
TRY_AGAIN: Final = 75  # sysexits.h: EX_TEMPFAIL
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_spawn: Final = get_context("spawn")

Work = Callable[[Settings, socket], int]


@dataclass(slots=True)
class _Worker:
    """A process, and our end of its life line: when we die it closes, and the worker ends.

    ``replaced_at``: it has ended, and another takes its place then, by ``time.monotonic``.
    """

    process: SpawnProcess
    life_line: Connection
    is_first: bool
    replaced_at: float | None = None


def supervise(settings: Settings, listener: socket, work: Work) -> int:
    """Run ``work`` in as many processes as the settings say, until SIGINT or SIGTERM; returns the exit code.

    A SIGHUP is passed on to each of them; ``work`` begins with it blocked, and unblocks it when it can take one.
    A worker that ends with an exit code of its own, other than by a signal, could not start. One of the first then ends
    all, unless the code is ``TRY_AGAIN``; one that takes another's place is tried again, for the others serve what they
    can.
    """
    signals = _Signals()
    workers = [_start(settings, listener, work, is_first=True) for _ in range(settings.workers)]
    code = 0
    while not signals.stop_asked() and not code:
        if signals.take_reload():
            _tell(workers, signal.SIGHUP)
        _wait(workers, signals)
        for index, worker in enumerate(workers):
            if signals.stop_asked() or worker.process.is_alive():
                continue
            exit_code = worker.process.exitcode or 0
            if worker.replaced_at is not None:
                if time.monotonic() >= worker.replaced_at:
                    workers[index] = _start(settings, listener, work, is_first=False)
            elif worker.is_first and exit_code > 0 and exit_code != TRY_AGAIN:
                code = exit_code
            else:
                _log.warning("worker.died", pid=worker.process.pid, exit_code=worker.process.exitcode)
                pause = _RETRY_SECONDS if exit_code > 0 else _RESTART_SECONDS
                worker.replaced_at = time.monotonic() + pause
    listener.close()  # who comes now is refused, and asks elsewhere, rather than wait for nobody
    _end(workers)
    return code


def _wait(workers: list[_Worker], signals: _Signals) -> None:
    """Wait until a worker ends, one is due, or a signal comes."""
    due = [worker.replaced_at for worker in workers if worker.replaced_at is not None]
    running = [worker.process.sentinel for worker in workers if worker.replaced_at is None]
    wait([*running, signals.wake], max(0.0, min(due) - time.monotonic()) if due else None)


class _Signals:
    """What signals have asked for; ``wake`` is ready to be read when one has come, so that nobody needs to poll."""

    def __init__(self) -> None:
        self._stop = self._reload = False
        self.wake, bell = os.pipe()
        for end in (self.wake, bell):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(bell, warn_on_full_buffer=False)  # full: there is enough to wake up for
        for number in (*_STOP_SIGNALS, signal.SIGHUP):
            signal.signal(number, lambda *_: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})

    def stop_asked(self) -> bool:
        """Whether we are to end."""
        self._read()
        return self._stop

    def take_reload(self) -> bool:
        """Whether a reload was asked for since this was last called."""
        self._read()
        asked, self._reload = self._reload, False
        return asked

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            came = set(os.read(self.wake, 4096))
            self._stop = self._stop or not came.isdisjoint(_STOP_SIGNALS)
            self._reload = self._reload or signal.SIGHUP in came


def _start(settings: Settings, listener: socket, work: Work, *, is_first: bool) -> _Worker:
    theirs, ours = _spawn.Pipe(duplex=False)
    process = _spawn.Process(target=_run, args=(settings, listener, work, theirs), name="tiny-ca-worker")
    # The mask is inherited: a SIGHUP that comes before the worker can take it waits, where it would end the worker.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    process.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return _Worker(process, ours, is_first)


def _tell(workers: list[_Worker], number: signal.Signals) -> None:
    for worker in workers:
        if worker.process.is_alive() and worker.process.pid is not None:
            os.kill(worker.process.pid, number)


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
