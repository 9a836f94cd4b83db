"""What becomes of a failure: the one place where database errors turn into ours, or into the documented defaults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from tiny_ca.exc import Conflict, Invalid, RegistryUnavailable

if TYPE_CHECKING:
    import logging

    from sqlalchemy.orm import Session

__all__ = ["ATTEMPTS", "Operation", "is_passing", "pause", "settle", "translated"]

_T = TypeVar("_T")

ATTEMPTS: Final = 3
_PAUSE_SECONDS: Final = 0.05
_PASSING: Final = frozenset({"40001", "40P01"})  # serialization_failure, deadlock_detected


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[_T]):
    """One documented method at work: what runs, whether it writes, and what a lenient handler answers on failure."""

    name: str
    unit: Callable[[Session], _T]
    on_failure: _T
    write: bool = False


@contextmanager
def translated() -> Iterator[None]:
    """Raise what the database and its driver raise as an exception of this library.

    Raises
    ------
    Conflict
        A constraint refused.
    Invalid
        A value that the database cannot hold, as a NUL in text.
    RegistryUnavailable
        Everything else: unreachable, locked, full, read-only, without tables.
    """
    try:
        yield
    except IntegrityError as error:
        message = f"the registry refused: {_cause(error)}"
        raise Conflict(message) from error
    except DataError as error:
        message = f"the registry cannot hold that value: {_cause(error)}"
        raise Invalid(message) from error
    # A driver that gets no connection raises an OSError, or its own TimeoutError, which is one.
    except (DBAPIError, PoolTimeoutError, OSError) as error:
        message = f"the registry is unavailable: {_cause(error)}"
        raise RegistryUnavailable(message) from error


def is_passing(error: DBAPIError) -> bool:
    """Whether the same transaction, begun anew, may well succeed: nothing of it was kept, others were in its way."""
    return getattr(error.orig, "sqlstate", None) in _PASSING


def pause() -> float:
    """How many seconds to wait before that: at once, it would be in the way of the transaction that it made way for."""
    return random.uniform(_PAUSE_SECONDS / 2, _PAUSE_SECONDS)  # noqa: S311  # no secret


def settle(operation: Operation[_T], error: Conflict | RegistryUnavailable, *, strict: bool, log: logging.Logger) -> _T:
    """Raise the error if ``strict``, else log it and return what the documentation promises for a failure."""
    if strict:
        raise error
    log.error("registry.%s failed: %s", operation.name, error.message, exc_info=error)
    return operation.on_failure


def _cause(error: Exception) -> str:
    """Return the first line of the driver's text, never the statement with its values."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    return (str(origin) or type(origin).__name__).partition("\n")[0]
