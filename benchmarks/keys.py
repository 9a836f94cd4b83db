"""RSA-2048 keys per second, each with its certificate, against bare processes that make keys and nothing else.

Every round measures, in turn: one bare process for each core; the service with --connections callers that each ask for
a certificate with a key that the service makes, and beside them a probe that asks for /healthz. How long a key takes
varies a lot: figures are medians over the rounds. Each answer holds a key of that size and a certificate for it.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric import rsa

from benchmarks.harness import (
    Load,
    Measured,
    Service,
    arguments,
    drive,
    http_request,
    machine,
    percentile,
    scratch,
)
from benchmarks.orders import key_request, verify_keys

_KEY_BITS: Final = 2048
_EXPONENT: Final = 65537
_PAUSE: Final = 0.01
_PROCESSES: Final = os.cpu_count() or 1
_GOAL: Final = 0.90
_GOAL_MS: Final = 10


class _Rate(NamedTuple):
    """Keys for each second by the clock, and how many cores that took."""

    per_second: float
    cores: float

    @property
    def per_cpu_second(self) -> float:
        """Keys for each second of CPU: what others take of the machine is not in it."""
        return self.per_second / self.cores


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=7, seconds=8.0, connections=4)
    bare: list[_Rate] = []
    made: list[Measured] = []
    probed: list[Measured] = []
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.connections} callers, {asked.rounds} rounds of {asked.seconds:g} s")
        with Service(folder / "service") as service:
            makers = Load(requests=[key_request(service, _KEY_BITS)], connections=asked.connections)
            probe = Load(requests=[http_request(service, "GET", "/healthz")], connections=1, pause=_PAUSE)
            for number in range(asked.rounds):
                bare.append(_measure_bare(asked.seconds))
                keys, healthz = drive(service, [makers, probe], seconds=asked.seconds)
                made.append(keys)
                probed.append(healthz)
                print(_round_line(number, bare[-1], _rate(keys)), flush=True)
        print(machine(folder))
    assert all(answer.status == 200 for each in probed for answer in each.answers)
    print(f"{verify_keys(made, _KEY_BITS)} RSA-{_KEY_BITS} keys, each with its certificate")
    _report(bare, made, probed)


def _measure_bare(seconds: float) -> _Rate:
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(_PROCESSES)
    results: SimpleQueue[_Rate] = context.SimpleQueue()
    processes = [context.Process(target=_make_keys, args=(seconds, together, results)) for _ in range(_PROCESSES)]
    for process in processes:
        process.start()
    each = [results.get() for _ in processes]
    for process in processes:
        process.join()
    return _Rate(sum(one.per_second for one in each), sum(one.cores for one in each))


def _make_keys(seconds: float, together: Barrier, results: SimpleQueue[_Rate]) -> None:
    together.wait()  # a process that begins earlier would have the machine to itself
    done, began, cpu_began = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        rsa.generate_private_key(_EXPONENT, _KEY_BITS)
        done += 1
    elapsed = time.perf_counter() - began
    results.put(_Rate(done / elapsed, (time.process_time() - cpu_began) / elapsed))


def _rate(measured: Measured) -> _Rate:
    return _Rate(measured.per_second, measured.cpu_seconds / measured.seconds)


def _figures(rate: _Rate) -> tuple[float, float, float]:
    return rate.per_second, rate.cores, rate.per_cpu_second


def _round_line(number: int, bare: _Rate, service: _Rate) -> str:
    return (
        f"round {number + 1}: bare {bare.per_second:.1f} keys/s on {bare.cores:.2f} cores, "
        f"service {service.per_second:.1f} on {service.cores:.2f}"
    )


def _report(bare: Sequence[_Rate], made: Sequence[Measured], probed: Sequence[Measured]) -> None:
    latencies = [answer.seconds * 1000 for each in probed for answer in each.counted]
    median, p99 = statistics.median(latencies), percentile(latencies, 0.99)
    service = [_rate(each) for each in made]
    print(f"\n{'medians':<20} {'keys/s':>7} {'cores':>6} {'per CPU s':>10}")
    for name, rates in ((f"{_PROCESSES} bare processes", bare), ("service", service)):
        per_second, cores, per_cpu = (statistics.median(figure) for figure in zip(*map(_figures, rates), strict=True))
        print(f"{name:<20} {per_second:>7.1f} {cores:>6.2f} {per_cpu:>10.1f}")
    # Round by round: what slows the machine for a while slows both sides of a ratio.
    pairs = list(zip(service, bare, strict=True))
    ratio = statistics.median(mine.per_second / other.per_second for mine, other in pairs)
    cpu = statistics.median(mine.per_cpu_second / other.per_cpu_second for mine, other in pairs)
    verdict = "reached" if ratio >= _GOAL else "MISSED"
    print(f"service : bare = {ratio:.2f} per second, goal {_GOAL:.2f} {verdict}; {cpu:.2f} per CPU second")
    print(
        f"/healthz beside the keys: median {median:.1f} ms, p99 {p99:.1f} ms, longest {max(latencies):.1f} ms; "
        f"goal: median under {_GOAL_MS} ms {'reached' if median < _GOAL_MS else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
