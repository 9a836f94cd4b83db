"""Answers per second of what relying parties fetch: /ca.pem, /crl.der, and a 304 for who has the CRL already.

Beside them /healthz, which does nothing: what the way through the server and the middleware costs.
"""

from __future__ import annotations

import statistics
from typing import Final
from urllib.request import urlopen

from benchmarks.harness import Load, Measured, Service, arguments, drive, http_request, machine, median_of, scratch

_PATHS: Final = ("/healthz", "/ca.pem", "/crl.der", "/crl.der, 304")


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=5, seconds=2.0, connections=32)
    measured: dict[str, list[Measured]] = {path: [] for path in _PATHS}
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.connections} connections, {asked.rounds} rounds of {asked.seconds:g} s")
        with Service(folder / "service") as service:
            loads = {path: _load(service, path, asked.connections) for path in _PATHS}
            for number in range(asked.rounds):
                for path in _PATHS if number % 2 == 0 else reversed(_PATHS):
                    measured[path] += drive(service, [loads[path]], seconds=asked.seconds)
        print(machine(folder))
    for path, rounds in measured.items():
        status = 304 if path.endswith("304") else 200
        assert all(answer.status == status for each in rounds for answer in each.answers), path
    print(f"\n{'medians':<16} {'per s':>7} {'per CPU s':>10} {'ratio':>6} {'median ms':>10}")
    for path, rounds in measured.items():
        # Round by round: what slows the machine for a while slows both sides of a ratio.
        pairs = zip(rounds, measured["/healthz"], strict=True)
        ratio = statistics.median(mine.per_cpu_second / other.per_cpu_second for mine, other in pairs)
        latency = statistics.median(answer.seconds * 1000 for each in rounds for answer in each.counted)
        print(
            f"{path:<16} {median_of(rounds, lambda each: each.per_second):>7.0f} "
            f"{median_of(rounds, lambda each: each.per_cpu_second):>10.0f} {ratio:>6.2f} {latency:>10.2f}"
        )


def _load(service: Service, path: str, connections: int) -> Load:
    path, _, condition = path.partition(", ")
    headers = ""
    if condition:
        with urlopen(f"{service.url}{path}") as answer:  # noqa: S310  # our own service's
            headers = f"If-None-Match: {answer.headers['ETag']}\r\n"
    return Load(requests=[http_request(service, "GET", path, headers=headers)], connections=connections)


if __name__ == "__main__":
    main()
