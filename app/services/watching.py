"""What each process does for itself, again and again: learn what others have written to the database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.settings import SettingsError
from tiny_ca.exc import TinyCAError

__all__ = ["Watch"]

_log = structlog.get_logger(__name__)


class Watch:
    """Calls ``learn`` every ``seconds``; of failures in a row, the first is logged as ``failed``."""

    def __init__(self, learn: Callable[[], Awaitable[None]], *, seconds: float, failed: str) -> None:
        self._learn = learn
        self._seconds = seconds
        self._failed = failed
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._task = asyncio.create_task(self._watch(), name=self._failed)

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _watch(self) -> None:
        failing = False
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self._learn()
            except (TinyCAError, SettingsError) as error:
                if not failing:  # once, not every time
                    _log.warning(self._failed, error=str(error))
                failing = True
            else:
                failing = False
