"""Certificates per second from P-256 CSRs, durable in SQLite, against the crypto library's own loop and one by one.

Every round measures, in turn: the bare loop (parse, verify, build, sign, PEM) on one core of this process; the service
as it comes; the service with TINY_CA_ISSUE_BATCH=1. Policy, lint, audit and logs are on. Each answer is read as a
certificate, its key is one that was asked for, and what the database holds at the end is exactly what was received.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Final

from benchmarks.harness import (
    Load,
    Measured,
    Service,
    arguments,
    drive,
    machine,
    median_of,
    percentile,
    scratch,
)
from benchmarks.loop import LoopRate, bare_loop, measure_loop
from benchmarks.orders import make_csrs, requests, serials, verify

_CSRS: Final = 200


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=5, seconds=3.0, connections=32)
    csrs = make_csrs(_CSRS)
    issue = bare_loop()
    loop: list[LoopRate] = []
    measured: dict[str, list[Measured]] = {"batching": [], "one by one": []}
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.connections} connections, {asked.rounds} rounds of {asked.seconds:g} s")
        with (
            Service(folder / "batching") as batching,
            Service(folder / "single", {"TINY_CA_ISSUE_BATCH": "1"}) as single,
        ):
            services = {"batching": batching, "one by one": single}
            before = {name: serials(service) for name, service in services.items()}
            loads = {name: Load(requests=requests(service, csrs), connections=asked.connections)
                     for name, service in services.items()}  # fmt: skip
            for number in range(asked.rounds):
                loop.append(measure_loop(issue, csrs, asked.seconds))
                names = list(services) if number % 2 == 0 else list(reversed(services))
                for name in names:
                    measured[name] += drive(services[name], [loads[name]], seconds=asked.seconds)
                print(_round_line(number, loop[-1], measured), flush=True)
            stored = {name: serials(service) - before[name] for name, service in services.items()}
        for name, rounds in measured.items():
            print(verify(name, rounds, csrs, stored[name]))
        _report(loop, measured)
        print(machine(folder))


def _round_line(number: int, loop: LoopRate, measured: dict[str, list[Measured]]) -> str:
    rates = ", ".join(
        f"{name} {rounds[-1].per_second:.0f}/s ({rounds[-1].per_cpu_second:.0f} per CPU s)"
        for name, rounds in measured.items()
    )
    return f"round {number + 1}: bare loop {loop.per_second:.0f}/s ({loop.per_cpu_second:.0f} per CPU s), {rates}"


def _report(loop: Sequence[LoopRate], measured: dict[str, list[Measured]]) -> None:
    per_cpu = statistics.median(rate.per_cpu_second for rate in loop)
    per_second = statistics.median(rate.per_second for rate in loop)
    print(f"\n{'medians':<12} {'per s':>7} {'per CPU s':>10} {'cores':>6} {'median ms':>10} {'p99 ms':>7}")
    print(f"{'bare loop':<12} {per_second:>7.0f} {per_cpu:>10.0f} {1:>6.2f} {1000 / per_second:>10.2f}")
    for name, rounds in measured.items():
        latencies = [answer.seconds * 1000 for each in rounds for answer in each.counted]
        cores = median_of(rounds, lambda each: each.cpu_seconds / each.seconds)
        print(
            f"{name:<12} {median_of(rounds, lambda each: each.per_second):>7.0f} "
            f"{median_of(rounds, lambda each: each.per_cpu_second):>10.0f} {cores:>6.2f} "
            f"{statistics.median(latencies):>10.1f} {percentile(latencies, 0.99):>7.1f}"
        )
    # Ratios round by round: what slows the machine for a while slows both sides of one.
    batching, single = measured["batching"], measured["one by one"]
    ours = [(each.per_second, each.per_cpu_second) for each in batching]
    one = [(each.per_second, each.per_cpu_second) for each in single]
    for name, others in (("bare loop", [tuple(rate) for rate in loop]), ("one by one", one)):
        wall = statistics.median(mine[0] / other[0] for mine, other in zip(ours, others, strict=True))
        cpu = statistics.median(mine[1] / other[1] for mine, other in zip(ours, others, strict=True))
        print(f"batching : {name} = {wall:.2f} per second, {cpu:.2f} per CPU second")


if __name__ == "__main__":
    main()
