"""Values that are worked out once, where the standard library's ways cost more than what they save on the hot path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

__all__ = ["by_identity", "lazy"]

_T = TypeVar("_T")
_A = TypeVar("_A")


class lazy(Generic[_T]):  # noqa: N801  # used as the decorators ``property`` and ``cached_property`` are
    """``functools.cached_property`` without the lock that it takes on Python 3.11: two threads may both compute."""

    def __init__(self, compute: Callable[[Any], _T]) -> None:
        self._compute = compute
        self._name = compute.__name__
        self.__doc__ = compute.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> lazy[_T]: ...

    @overload
    def __get__(self, instance: object, owner: type) -> _T: ...

    def __get__(self, instance: object | None, owner: type) -> lazy[_T] | _T:
        """Compute, and put the value where the next look finds it first."""
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value


def by_identity(compute: Callable[[_A], _T], size: int = 1024) -> Callable[[_A], _T]:
    """As ``functools.lru_cache``, for arguments that never change and are costly to hash: by object, not by value."""
    known: dict[int, tuple[_A, _T]] = {}  # it holds the object too: nobody else gets its id

    def remembered(argument: _A) -> _T:
        found = known.get(id(argument))
        if found is None:
            if len(known) >= size:
                known.clear()
            found = known[id(argument)] = (argument, compute(argument))
        return found[1]

    return remembered
