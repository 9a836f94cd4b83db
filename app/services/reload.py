"""What an operator may change while the service runs, read again when they say so: all of it, or nothing changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import structlog

from app.settings import SettingsError
from tiny_ca.ca_factory.profiles import Profile

__all__ = ["Reloader"]

_log = structlog.get_logger(__name__)


class _HasProfiles(Protocol):
    profiles: Mapping[str, Profile]


class _HasBlockedKeys(Protocol):
    blocked_keys: frozenset[str]


class Reloader:
    """Puts new values in place of old ones; a request that has begun goes on with those it began with."""

    def __init__(
        self,
        *,
        profiles: Callable[[], Mapping[str, Profile]],
        blocked_keys: Callable[[], frozenset[str]],
        lifecycle: _HasProfiles,
        pipeline: _HasBlockedKeys,
    ) -> None:
        self._read_profiles = profiles
        self._read_blocked_keys = blocked_keys
        self._lifecycle = lifecycle
        self._pipeline = pipeline

    async def reload(self) -> bool:
        """Read the files again; False, and the log says why, where one is wrong: then all stays as it was."""
        try:
            profiles = await asyncio.to_thread(self._read_profiles)
            blocked_keys = await asyncio.to_thread(self._read_blocked_keys)
        except Exception as error:  # noqa: BLE001  # whatever is wrong with a file, the service goes on as it was
            known = isinstance(error, SettingsError)
            _log.error("profiles.reload_failed", error=str(error), exc_info=None if known else error)
            return False
        self._lifecycle.profiles = profiles
        self._pipeline.blocked_keys = blocked_keys
        _log.info("profiles.reloaded", profiles=list(profiles), blocked_keys=len(blocked_keys))
        return True
