"""How long a client waits for its certificate, at 1, 8 and 32 connections, SQLite: median, p99 and the longest.

Each connection asks again as soon as it has its answer: the more there are, the longer each waits, and the more
certificates share a transaction.
"""

from __future__ import annotations

import statistics
from typing import Final

from benchmarks.harness import Load, Measured, Service, arguments, drive, machine, median_of, percentile, scratch
from benchmarks.orders import make_csrs, requests, serials, verify

_CSRS: Final = 200
_CONNECTIONS: Final = (1, 8, 32)


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=5, seconds=2.0, connections=32, also={"--steps": _CONNECTIONS})
    csrs = make_csrs(_CSRS)
    measured: dict[int, list[Measured]] = {connections: [] for connections in asked.steps}
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.rounds} rounds of {asked.seconds:g} s each")
        with Service(folder / "service") as service:
            before, sent = serials(service), requests(service, csrs)
            for _ in range(asked.rounds):
                for connections in asked.steps:
                    load = Load(requests=sent, connections=connections)
                    measured[connections] += drive(service, [load], seconds=asked.seconds)
            stored = serials(service) - before
        print(machine(folder))
    print(verify("service", [each for rounds in measured.values() for each in rounds], csrs, stored))
    print(f"\n{'connections':>11} {'per s':>7} {'median ms':>10} {'p99 ms':>8} {'max ms':>8}")
    for connections, rounds in measured.items():
        latencies = [answer.seconds * 1000 for each in rounds for answer in each.counted]
        print(
            f"{connections:>11} {median_of(rounds, lambda each: each.per_second):>7.0f} "
            f"{statistics.median(latencies):>10.1f} {percentile(latencies, 0.99):>8.1f} {max(latencies):>8.1f}"
        )


if __name__ == "__main__":
    main()
