"""The service's clock: it never goes back, for what is on record with a later date cannot be undone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tiny_ca.db.models import AuditRecord, IssuerRecord
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["SteadyClock", "last_on_record"]

_log = structlog.get_logger(__name__)
# NTP puts a clock right by less than this without a jump: time then stands still for so long.
_STEP: Final = timedelta(seconds=1)


class SteadyClock:
    """Tells what ``clock`` tells. After a jump back, time goes on from where it was until that clock has caught up.

    ``since``: the last moment that is known from before; a clock that is behind it has jumped already.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        *,
        since: datetime | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._last = since or clock()
        self._last_monotonic = monotonic()
        self._astray = False
        self._lock = threading.Lock()  # also threads that sign ask for the time

    def __call__(self) -> datetime:
        """Tell the time."""
        with self._lock:
            told, monotonic = self._clock(), self._monotonic()
            going_on = self._last + timedelta(seconds=monotonic - self._last_monotonic)
            if not self._astray and told < self._last - _STEP:
                self._astray = True
                _log.error("clock.went_back", told=rfc3339(told), goes_on_from=rfc3339(self._last))
            elif self._astray and told >= going_on:
                self._astray = False
                _log.info("clock.caught_up", told=rfc3339(told))
            self._last = going_on if self._astray else max(told, self._last)
            self._last_monotonic = monotonic
            return self._last


def last_on_record(session: Session) -> datetime | None:
    """The latest moment that the registry knows of: of the last act, or of a CRL."""
    act = session.scalar(select(AuditRecord.at).order_by(AuditRecord.id.desc()).limit(1))
    crl = session.scalar(select(func.max(IssuerRecord.crl_this_update)))
    return max(filter(None, (act, crl)), default=None)
