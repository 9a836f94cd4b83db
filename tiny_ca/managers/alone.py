"""Operations that no other process's may come between: they change folders that others may be changing too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

if TYPE_CHECKING:
    from tiny_ca.managers.keeping import Keeping

__all__ = ["alone"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_K = TypeVar("_K", bound="Keeping")


def alone(
    operation: Callable[Concatenate[_K, _P], Awaitable[_T]],
) -> Callable[Concatenate[_K, _P], Coroutine[Any, Any, _T]]:
    """Hold the storage's lock during the operation, where the storage has one; it must not be held already."""

    @wraps(operation)
    async def locked(self: _K, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        lock = await self._lock_storage()
        try:
            return await operation(self, *args, **kwargs)
        finally:
            if lock is not None:
                lock.release()

    return locked
