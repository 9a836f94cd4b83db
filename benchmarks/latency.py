"""How long a client waits for its certificate, at 1, 8 and 32 connections, SQLite: median, p99 and the longest.

Each connection asks again as soon as it has its answer: the more there are, the longer each waits, and the more
certificates share a transaction. Every round measures the crypto library's own loop first: ratios are to it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.harness import Load, Measured, Service, arguments, drive, machine, median_of, percentile, scratch
from benchmarks.loop import LoopRate, bare_loop, measure_loop
from benchmarks.orders import make_csrs, requests, serials, verify

__all__ = ["Step", "measure", "report"]

_CSRS: Final = 200
_CONNECTIONS: Final = (1, 8, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What one number of connections came to; the ratios are to the bare loop, by the clock and by CPU seconds."""

    connections: int
    per_second: float
    per_cpu_second: float
    ratio: float
    cpu_ratio: float
    median_ms: float
    p99_ms: float
    max_ms: float


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=5, seconds=2.0, connections=32, also={"--steps": _CONNECTIONS})
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.rounds} rounds of {asked.seconds:g} s each")
        steps = measure(folder / "service", connections=asked.steps, rounds=asked.rounds, seconds=asked.seconds)
        print(machine(folder))
    report(steps)


def measure(folder: Path, *, connections: Sequence[int], rounds: int, seconds: float) -> list[Step]:
    """Measure a service in this folder; stops unless what clients received is what is on record."""
    csrs, issue = make_csrs(_CSRS), bare_loop()
    loop: list[LoopRate] = []
    measured: dict[int, list[Measured]] = {number: [] for number in connections}
    with Service(folder) as service:
        before, sent = serials(service), requests(service, csrs)
        for _ in range(rounds):
            loop.append(measure_loop(issue, csrs, seconds / 2))
            for number in connections:
                measured[number] += drive(service, [Load(requests=sent, connections=number)], seconds=seconds)
        stored = serials(service) - before
    print(verify("service", [each for several in measured.values() for each in several], csrs, stored))
    return [_step(number, several, loop) for number, several in measured.items()]


def report(steps: Sequence[Step]) -> None:
    """Print the table."""
    print(
        f"\n{'connections':>11} {'per s':>7} {'ratio':>6} {'per CPU s':>10} {'ratio':>6} "
        f"{'median ms':>10} {'p99 ms':>8} {'max ms':>8}"
    )
    for step in steps:
        print(
            f"{step.connections:>11} {step.per_second:>7.0f} {step.ratio:>6.2f} "
            f"{step.per_cpu_second:>10.0f} {step.cpu_ratio:>6.2f} "
            f"{step.median_ms:>10.1f} {step.p99_ms:>8.1f} {step.max_ms:>8.1f}"
        )


def _step(connections: int, rounds: Sequence[Measured], loop: Sequence[LoopRate]) -> Step:
    latencies = [answer.seconds * 1000 for each in rounds for answer in each.counted]
    # Round by round: what slows the machine for a while slows both sides of a ratio.
    pairs = list(zip(rounds, loop, strict=True))
    return Step(
        connections=connections,
        per_second=median_of(rounds, lambda each: each.per_second),
        per_cpu_second=median_of(rounds, lambda each: each.per_cpu_second),
        ratio=statistics.median(mine.per_second / other.per_second for mine, other in pairs),
        cpu_ratio=statistics.median(mine.per_cpu_second / other.per_cpu_second for mine, other in pairs),
        median_ms=statistics.median(latencies),
        p99_ms=percentile(latencies, 0.99),
        max_ms=max(latencies),
    )


if __name__ == "__main__":
    main()
