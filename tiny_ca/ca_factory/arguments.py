"""Arguments of the wrong kind, for callers whose code no type checker has seen."""

from __future__ import annotations

__all__ = ["check_kind"]


def check_kind(value: object, kind: type | tuple[type, ...], name: str) -> None:
    """Raise TypeError, with the argument's name and what it is, unless ``value`` is of that kind."""
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        kinds = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        message = f"{name} is of type {kinds}, not {type(value).__name__}"
        raise TypeError(message)
