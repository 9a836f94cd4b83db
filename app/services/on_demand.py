"""What takes a while to make and may never be asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["OnDemand"]

_T = TypeVar("_T")


class OnDemand(Generic[_T]):
    """A value that is made in a thread for the first who asks; everybody gets the same one.

    ``make`` that fails fails for those who wait for it, and is tried again for the next.
    """

    def __init__(self, make: Callable[[], _T]) -> None:
        self._make = make
        self._made: asyncio.Future[_T] | None = None

    async def get(self) -> _T:
        """The value. Who gives up keeps none of the others from it."""
        made = self._made
        if made is None or (made.done() and (made.cancelled() or made.exception() is not None)):
            made = self._made = asyncio.ensure_future(asyncio.to_thread(self._make))
        return await asyncio.shield(made)
