"""Moments as they are written in answers and errors."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["rfc3339"]


def rfc3339(moment: datetime) -> str:
    """In UTC, with ``Z`` (RFC 3339 §5.6); a naive one is taken as UTC, one that UTC has no year for stays as it is."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    try:
        return aware.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except OverflowError:
        return aware.isoformat()
