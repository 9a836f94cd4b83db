"""Certificates per CPU second from batches of 1,000 P-256 CSRs in one request, against the crypto library's own loop.

Policy, lint, audit and logs are on, and every certificate is on record before the answer.
"""

from __future__ import annotations

import json
import statistics
from typing import Final

from cryptography import x509

from benchmarks.harness import Load, Measured, Service, arguments, drive, http_request, machine, median_of, scratch
from benchmarks.loop import LoopRate, bare_loop, measure_loop
from benchmarks.orders import make_csrs, serials

_CSRS: Final = 200
_IN_A_BATCH: Final = 1000


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=3, seconds=12.0, connections=2)
    csrs = make_csrs(_CSRS)
    issue = bare_loop()
    loop: list[LoopRate] = []
    measured: list[Measured] = []
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.connections} connections, {asked.rounds} rounds of {asked.seconds:g} s")
        with Service(folder / "service") as service:
            before = serials(service)
            entries = [{"csr": csrs[number % _CSRS].decode()} for number in range(_IN_A_BATCH)]
            body = json.dumps({"requests": entries}).encode()
            request = http_request(
                service, "POST", "/api/v1/certificates/batch", body, "Content-Type: application/json\r\n"
            )
            load = Load(requests=[request], connections=asked.connections)
            for _ in range(asked.rounds):
                loop.append(measure_loop(issue, csrs, asked.seconds / 4))
                measured += drive(service, [load], seconds=asked.seconds)
            stored = serials(service) - before
        print(machine(folder))
    received = {number for each in measured for answer in each.answers for number in _serials(answer.body)}
    assert received == stored, f"{len(received - stored)} not on record, {len(stored - received)} never received"
    print(f"{len(received)} certificates received, all different, {len(stored)} new rows, the same ones")
    per_cpu = median_of(measured, _per_cpu_second)
    bare = statistics.median(rate.per_cpu_second for rate in loop)
    pairs = zip(measured, loop, strict=True)
    ratio = statistics.median(_per_cpu_second(mine) / other.per_cpu_second for mine, other in pairs)
    print(f"\nper CPU second: batches {per_cpu:.0f}, bare loop {bare:.0f}; batches : bare loop = {ratio:.2f}")


def _per_cpu_second(measured: Measured) -> float:
    return measured.per_cpu_second * _IN_A_BATCH


def _serials(body: bytes) -> list[int]:
    results = json.loads(body)["results"]
    assert len(results) == _IN_A_BATCH
    return [x509.load_pem_x509_certificate(one["certificate"]["certificate"].encode()).serial_number for one in results]


if __name__ == "__main__":
    main()
