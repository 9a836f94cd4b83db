"""Arguments of the wrong kind, for callers whose code no type checker has seen."""

from __future__ import annotations

from types import NoneType

__all__ = ["check_kind"]


def check_kind(value: object, kind: type | tuple[type, ...], name: str) -> None:
    """Raise TypeError, with the argument's name and what it is, unless ``value`` is of that kind."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        names = " or ".join("None" if each is NoneType else each.__name__ for each in kinds)
        message = f"{name} is of type {names}, not {type(value).__name__}"
        raise TypeError(message)
