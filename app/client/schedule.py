"""When to renew, and when to try again: a schedule without I/O. Clock, randomness and waiting come from outside."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from app.client.errors import ClientError

__all__ = ["Watch", "Window", "draw_share", "due", "pause"]

_SHARE: Final = 2 / 3
_SPREAD: Final = 1 / 30
_LONGEST_PAUSE: Final = timedelta(hours=1)
_SHORTEST_PAUSE: Final = timedelta(seconds=1)
# The file may be replaced by others, and the clock may jump while a laptop sleeps.
_LOOK_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Window:
    """A certificate's time."""

    not_valid_before: datetime
    not_valid_after: datetime

    @property
    def lifetime(self) -> timedelta:
        """From its first to its last moment."""
        return self.not_valid_after - self.not_valid_before


def draw_share(rng: Callable[[], float]) -> float:
    """Two thirds, a thirtieth more or less: certificates made together are not renewed together."""
    return _SHARE + _SPREAD * (2 * rng() - 1)


def due(window: Window, share: float) -> datetime:
    """The moment when this share of the lifetime is over."""
    return window.not_valid_before + window.lifetime * share


def pause(failures: int, window: Window, rng: Callable[[], float]) -> timedelta:
    """The wait after so many failures in a row: exponential, with jitter, at most a twentieth of the lifetime."""
    longest = max(_SHORTEST_PAUSE, min(_LONGEST_PAUSE, window.lifetime / 20))
    return min(longest, _SHORTEST_PAUSE * 2.0 ** min(failures, 16)) * (1 + rng()) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Renews whenever it is due, until ``wait`` says to stop. What ``renew`` raises is told and tried again, for ever.

    ``wait`` sleeps for some seconds and returns whether to stop. ``is_final``: an error that no time mends.
    """

    window: Callable[[], Window]
    renew: Callable[[], None]
    clock: Callable[[], datetime]
    wait: Callable[[float], bool]
    rng: Callable[[], float]
    report: Callable[[ClientError], None]
    is_final: Callable[[ClientError], bool]

    def run(self) -> None:
        """Watch.

        Raises
        ------
        ClientError
            The certificate cannot be read at the start, or ``is_final``.
        """
        share = draw_share(self.rng)
        window = self.window()
        not_before, failures = self.clock(), 0
        while True:
            at, now = max(due(window, share), not_before), self.clock()
            if now < at:
                if self.wait(min(at - now, _LOOK_EVERY).total_seconds()):
                    return
                window = self._look_again(window)
                continue
            try:
                self.renew()
                window, failures = self.window(), 0
            except ClientError as error:
                if self.is_final(error):
                    raise
                self.report(error)
                failures += 1
            # Also after a success: a clock that is wrong must not make this a loop without a pause.
            not_before = self.clock() + pause(failures, window, self.rng)

    def _look_again(self, known: Window) -> Window:
        try:
            return self.window()
        except ClientError:  # ``renew`` reads the file too, and its error is told then
            return known
