"""Lifetimes as people write them: ``90s``, ``15m``, ``24h``, ``90d``, ``4w``."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from tiny_ca.exc import Invalid

__all__ = ["format_duration", "parse_duration"]

_UNITS: Final = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
# Nine digits of weeks are more than any calendar holds, and no integer that takes time to read.
_DURATION: Final = re.compile(r"([0-9]{1,9})([wdhms])")


def parse_duration(text: str, *, field: str) -> timedelta:
    """Read a positive duration.

    Raises
    ------
    Invalid
        Not a number with one of the units, zero, or longer than a calendar has days.
    """
    found = _DURATION.fullmatch(text)
    if not found:
        raise Invalid(f"{text[:40]!r} is no lifetime such as 15m, 24h or 90d", field=field, value=text[:40])
    try:
        duration = int(found[1]) * _UNITS[found[2]]
    except OverflowError as error:
        raise Invalid(f"a lifetime of {text} is past the end of the calendar", field=field, value=text) from error
    if not duration:
        raise Invalid(f"a lifetime of {text} is none; it must be positive, as in 15m", field=field, value=text)
    return duration


def format_duration(duration: timedelta) -> str:
    """Write a duration of whole seconds in the largest unit that divides it; weeks stay days."""
    for unit in ("d", "h", "m"):
        if duration and not duration % _UNITS[unit]:
            return f"{duration // _UNITS[unit]}{unit}"
    return f"{duration // _UNITS['s']}s"
