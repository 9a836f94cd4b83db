"""How often: the generic cell rate algorithm over a bounded table, what the service limits by it, and the settings."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from tiny_ca.exc import RateLimited

__all__ = ["RateLimitSettings", "RateLimiter", "RateLimits", "network_of"]

_TABLE_SIZE: Final = 16_384


class RateLimitSettings(BaseModel):
    """The section ``[rate_limits]``; every process counts for itself."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    enabled: bool = True
    requests_per_second: float = Field(default=10_000, ge=0.01, le=1_000_000, strict=False)
    requests_burst: int = Field(default=50_000, ge=1, le=10_000_000)
    failed_logins_per_minute: float = Field(default=600, ge=0.01, le=1_000_000, strict=False)
    failed_logins_burst: int = Field(default=200, ge=1, le=10_000_000)


class RateLimiter:
    """GCRA (ITU-T I.371): of each key one number is kept, the time at which all that it took will be earned back.

    The table holds ``size`` keys; past that, the one that took least recently is forgotten, and begins afresh.
    """

    def __init__(self, *, per_second: float, burst: int, clock: Callable[[], float], size: int = _TABLE_SIZE) -> None:
        self._interval = 1 / per_second
        self._tolerance = (burst - 1) * self._interval
        self._clock = clock
        self._size = size
        self._earned_at: dict[str, float] = {}  # the least recent first

    def __len__(self) -> int:
        return len(self._earned_at)

    def take(self, key: str) -> float:
        """Take one for the key and return 0.0; where it has none left, return the seconds until it has."""
        table, now = self._earned_at, self._clock()
        earned_at = max(table.pop(key, now), now)
        wait = earned_at - self._tolerance - now
        # A hair's breadth is rounding: who waited as long as they were told is let in.
        allowed = wait <= 1e-9 * max(1.0, now)
        table[key] = earned_at + self._interval if allowed else earned_at
        if len(table) > self._size:
            del table[next(iter(table))]
        return 0.0 if allowed else wait


@dataclass(frozen=True, slots=True)
class RateLimits:
    """What the service limits; None is no limit. Whoever logs in is never turned away for others' failures."""

    requests: RateLimiter | None = None
    failed_logins: RateLimiter | None = None

    @classmethod
    def of(cls, settings: RateLimitSettings, clock: Callable[[], float]) -> RateLimits:
        """As the settings say; ``clock`` tells seconds and never goes back."""
        if not settings.enabled:
            return cls()
        return cls(
            requests=RateLimiter(per_second=settings.requests_per_second, burst=settings.requests_burst, clock=clock),
            failed_logins=RateLimiter(
                per_second=settings.failed_logins_per_minute / 60, burst=settings.failed_logins_burst, clock=clock
            ),
        )

    def check_request(self, principal: str) -> None:
        """Count a request.

        Raises
        ------
        RateLimited
            They sent too many.
        """
        wait = 0.0 if self.requests is None else self.requests.take(principal)
        if wait:
            raise RateLimited(f"{principal} sends more requests than are taken; wait {_shown(wait)}", retry_after=wait)

    def check_failed_login(self, address: str) -> None:
        """Count a token that was nobody's.

        Raises
        ------
        RateLimited
            Too many came from the address, or from the /64 that it is in.
        """
        wait = 0.0 if self.failed_logins is None else self.failed_logins.take(network_of(address))
        if wait:
            message = f"too many tokens that are nobody's came from {address}; wait {_shown(wait)}"
            raise RateLimited(message, retry_after=wait)


def network_of(address: str) -> str:
    """What one host can change its address within: the /64 of an IPv6 address, nothing of an IPv4 one."""
    if ":" not in address:
        return address
    try:
        parsed = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(parsed) >> 64 << 64, 64)))


def _shown(seconds: float) -> str:
    return f"{max(1, round(seconds + 0.5))} s"
