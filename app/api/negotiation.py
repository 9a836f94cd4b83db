"""Which form of an answer ``Accept`` asks for (RFC 9110 §12.5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from app.problems import NotAcceptable

__all__ = ["choose"]

_MAX_ACCEPT: Final = 1000


def choose(accept: str | None, offered: Sequence[str], *, why: str = "") -> str:
    """Return the offered media type that suits best; the first offered one where all suit alike.

    ``why`` there are no others, for the one who asked for another.

    Raises
    ------
    NotAcceptable
        None suits.
    """
    if not accept:
        return offered[0]
    return _chosen(accept[:_MAX_ACCEPT], tuple(offered), why)


@lru_cache(maxsize=256)  # clients of one kind all send the same
def _chosen(accept: str, offered: tuple[str, ...], why: str) -> str:
    ranges = [_parse(part) for part in accept.split(",")]
    best, best_quality = None, 0.0
    for media_type in offered:
        quality = _quality(media_type, ranges)
        if quality > best_quality:
            best, best_quality = media_type, quality
    if best is None:
        message = f"the answer can be {', '.join(offered)}; Accept takes none of these"
        raise NotAcceptable(f"{message}: {why}" if why else message)
    return best


def _parse(part: str) -> tuple[str, float]:
    media_type, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = next((value[2:] for value in parameters if value.startswith("q=")), "1")
    try:
        return media_type, min(max(float(quality), 0.0), 1.0)
    except ValueError:
        return media_type, 0.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that covers the type."""
    family = media_type.partition("/")[0] + "/*"
    for wanted in (media_type, family, "*/*"):
        found = [quality for covered, quality in ranges if covered == wanted]
        if found:
            return max(found)
    return 0.0
