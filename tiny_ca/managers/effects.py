"""The seam: everything a manager's operation does to the world is one call of a ``Run``.

A test that wraps the ``Run`` can fail or die before the k-th effect. What is generated comes back as a list.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from anyio import CancelScope, to_thread

__all__ = ["Run", "awaited", "inline", "stepped", "whole"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Run(Protocol):
    """Do one effect, and return what it returns."""

    async def __call__(self, effect: Callable[_P, _T | Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Call the effect with these arguments."""
        ...


async def inline(effect: Callable[_P, _T | Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call here and now.

    Raises
    ------
    TypeError
        The effect has to be awaited.
    """
    result = _called(effect, *args, **kwargs)
    if inspect.isawaitable(result) or inspect.isasyncgen(result):
        raise TypeError(f"{effect!r} is asynchronous; a sync manager cannot wait for it")
    return result


async def awaited(effect: Callable[_P, _T | Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Await what is asynchronous, do the rest (signing, files, sync databases) in a worker thread."""
    result: object
    if inspect.iscoroutinefunction(effect) or inspect.isasyncgenfunction(effect):
        result = effect(*args, **kwargs)
    else:
        result = await to_thread.run_sync(partial(_called, effect, *args, **kwargs))
    if inspect.isawaitable(result):
        result = await result
    if inspect.isasyncgen(result):
        result = [item async for item in result]
    return cast("_T", result)


def stepped(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never waits, and return its result.

    Raises
    ------
    RuntimeError
        It waited for something.
    """
    try:
        coroutine.send(None)
    except StopIteration as end:
        result: _T = end.value
        return result
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waited for something that is not there in a sync manager")


async def whole(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end also where the caller is cancelled: that shows only afterwards.

    A cancelled thread goes on writing. Cut short, an operation could leave a key that nobody knows of.
    """
    task = asyncio.ensure_future(coroutine)
    with CancelScope(shield=True):  # from anyio's cancellation; asyncio.shield is from asyncio's own
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: the cancellation is what the caller is told
            raise
    return task.result()


def _called(effect: Callable[_P, _T | Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T | Awaitable[_T]:
    result = effect(*args, **kwargs)
    # A generator does its work where it is consumed: in this thread.
    return cast("_T", list(result)) if inspect.isgenerator(result) else result
