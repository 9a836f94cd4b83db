"""Private keys made for callers: in threads of their own, a bounded number at a time, and never kept.

RSA-4096 takes seconds and RSA-8192 much longer. The threads are daemons, so that a stop does not wait for a key that
nobody will get any more.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextlib import suppress
from typing import Final

from tiny_ca.ca_factory.keys import PrivateKey, generate_private_key
from tiny_ca.exc import Unavailable
from tiny_ca.models.key_spec import KeySpec

__all__ = ["KeyMaker"]

_MAX_WAITING: Final = 64


class KeyMaker:
    """A key for each core is being made at a time, and one more: no core waits while a certificate is signed for one.

    The crypto library releases the GIL meanwhile.
    """

    def __init__(self, *, at_once: int | None = None, max_waiting: int = _MAX_WAITING) -> None:
        self._slots = asyncio.Semaphore(at_once or (os.cpu_count() or 1) + 1)
        self._max_waiting = max_waiting
        self._tasks: set[asyncio.Task[PrivateKey]] = set()
        self._given_up = False

    async def make(self, spec: KeySpec) -> PrivateKey:
        """Make one key.

        Raises
        ------
        Unavailable
            Too many others wait already, or the service stops before the key is there.
        Invalid
            A kind of key that is not made here.
        """
        if self._given_up or len(self._tasks) >= self._max_waiting:
            raise Unavailable("too many keys are being made; try again in some seconds, or send a CSR", retry_after=5)
        task = asyncio.create_task(self._make(spec))
        self._tasks.add(task)
        try:
            return await task
        except asyncio.CancelledError:
            if self._given_up:
                raise Unavailable("the service stops, and the key is not there yet", retry_after=5) from None
            raise
        finally:
            self._tasks.discard(task)

    def give_up(self) -> None:
        """Make no more keys: whoever waits for one is told so."""
        self._given_up = True
        for task in self._tasks:
            task.cancel()

    async def _make(self, spec: KeySpec) -> PrivateKey:
        async with self._slots:
            return await _in_daemon_thread(spec)


async def _in_daemon_thread(spec: KeySpec) -> PrivateKey:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[PrivateKey] = loop.create_future()

    def settle(key: PrivateKey | None, error: Exception | None) -> None:
        if future.done():  # the caller was cancelled
            return
        if key is not None:
            future.set_result(key)
        else:
            future.set_exception(error or RuntimeError("no key and no error"))

    def work() -> None:
        key, failure = None, None
        try:
            key = generate_private_key(spec)
        except Exception as error:  # noqa: BLE001  # it is the caller's to see
            failure = error
        with suppress(RuntimeError):  # the loop has closed: the service stopped meanwhile
            loop.call_soon_threadsafe(settle, key, failure)

    threading.Thread(target=work, name="key", daemon=True).start()
    return await future
