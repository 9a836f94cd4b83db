"""Latency of /healthz while RSA-4096 keys are being made from configs; its median must stay under 50 ms.

Each of --connections callers asks for a certificate with a key that the service makes, and asks again when it has one.
Beside them one probe asks for /healthz, on one connection, ten milliseconds after its last answer. Every round measures
the probe alone first, then beside the keys.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from typing import Final

from benchmarks.harness import Load, Measured, Service, arguments, drive, http_request, machine, percentile, scratch
from benchmarks.orders import key_request, verify_keys

_LIMIT_MS: Final = 50
_KEY_BITS: Final = 4096
_PAUSE: Final = 0.01


def main() -> int:
    """Measure and print; returns the exit code."""
    asked = arguments(__doc__, rounds=3, seconds=8.0, connections=4)
    alone: list[Measured] = []
    beside: list[Measured] = []
    keys: list[Measured] = []
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.connections} callers, {asked.rounds} rounds of {asked.seconds:g} s")
        with Service(folder / "service") as service:
            probe = Load(requests=[http_request(service, "GET", "/healthz")], connections=1, pause=_PAUSE)
            makers = Load(requests=[key_request(service, _KEY_BITS)], connections=asked.connections)
            for _ in range(asked.rounds):
                alone += drive(service, [probe], seconds=asked.seconds / 4)
                probed, made = drive(service, [probe, makers], seconds=asked.seconds, warm_up=0.2)
                beside.append(probed)
                keys.append(made)
        for each in (*alone, *beside):
            assert all(answer.status == 200 for answer in each.answers)
        made_count = verify_keys(keys, _KEY_BITS)
        print(machine(folder))
    print(f"{made_count} RSA-{_KEY_BITS} keys, each with its certificate")
    print(f"\n{'/healthz':<14} {'probes':>7} {'median ms':>10} {'p99 ms':>8} {'max ms':>8}")
    _line("alone", alone)
    median = _line("beside keys", beside)
    print(f"median {'under' if median < _LIMIT_MS else 'NOT UNDER'} {_LIMIT_MS} ms")
    return 0 if median < _LIMIT_MS else 1


def _line(name: str, rounds: Sequence[Measured]) -> float:
    """Print one line of the table; returns the median in milliseconds."""
    latencies = [answer.seconds * 1000 for each in rounds for answer in each.counted]
    median = statistics.median(latencies)
    print(f"{name:<14} {len(latencies):>7} {median:>10.1f} {percentile(latencies, 0.99):>8.1f} {max(latencies):>8.1f}")
    return median


if __name__ == "__main__":
    sys.exit(main())
