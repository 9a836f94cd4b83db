"""What a CRL costs against its number of entries, SQLite: the wait for it, CPU seconds, the event loop, memory.

A certificate is issued and revoked through the API; the answer comes once the CRL that lists it is published. Every
round revokes one with nothing else under way, for the clock and the CPU seconds, and one beside a probe that asks for
/healthz on one connection, again some milliseconds after each answer: the longest tells how long the event loop was
blocked. What the probe asks for costs CPU as well, and would be in the figures of the first. A CRL of more than a
megabyte, 20,000 entries, is continued; its list is read as a whole once, before the rounds, as the peak shows.
"""

from __future__ import annotations

import re
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from threading import Event, Thread
from typing import Final
from urllib.parse import urlsplit

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from benchmarks.harness import Service, arguments, cpu_seconds, machine, scratch
from benchmarks.rows import DOMAIN, Copies, api_client, insert_copies, issue_first, open_database

__all__ = ["ENTRIES", "ROUNDS", "Cost", "measure", "report"]

ENTRIES: Final = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS: Final = 5
_PATH: Final = "/api/v1/certificates"
_PAUSE: Final = 0.005
_MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one number of entries came to; memory and the CRL's size are in octets."""

    entries: int
    seconds: float
    cpu_seconds: float
    probe_median_seconds: float
    probe_longest_seconds: float
    resident_before: int
    resident_peak: int
    octets: int


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=ROUNDS, seconds=0.0, connections=1, also={"--entries": ENTRIES})
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {asked.rounds} rounds")
        costs = [measure(folder / str(entries), entries=entries, rounds=asked.rounds) for entries in asked.entries]
        print(machine(folder))
    report(costs)


def measure(folder: Path, *, entries: int, rounds: int) -> Cost:
    """Revoke so often with that many entries on the CRL; stops unless the CRL that is served at the end has them."""
    with Service(folder) as service:
        issue_first(service)
    _fill(service, entries)
    alone: list[tuple[float, float]] = []
    probed: list[float] = []
    with Service(folder) as service, api_client(service) as client:
        before = _status(service, "VmRSS")
        _revoke(client, _issue(client))  # the first in a process meets cold caches
        serial = ""
        for _ in range(rounds):
            alone.append(_timed(service, client, _issue(client)))
            serial = _issue(client)
            with _probe(service) as answers:
                _revoke(client, serial)
            probed += answers
        peak = _status(service, "VmHWM")
        octets = _verify(client, entries=entries, serial=serial)
    return Cost(
        entries=entries,
        seconds=statistics.median(seconds for seconds, _ in alone),
        # Counted in ticks of 10 ms: of few entries the median would be one or none.
        cpu_seconds=statistics.fmean(cpu for _, cpu in alone),
        probe_median_seconds=statistics.median(probed),
        probe_longest_seconds=max(probed),
        resident_before=before,
        resident_peak=peak,
        octets=octets,
    )


def report(costs: Sequence[Cost]) -> None:
    """Print the table."""
    print(
        f"\n{'entries':>9} {'wall s':>8} {'CPU s':>8} {'CPU µs each':>12} {'/healthz ms':>12} {'longest':>8} "
        f"{'MiB before':>11} {'peak':>6} {'DER octets':>11}"
    )
    for cost in costs:
        print(
            f"{cost.entries:>9,} {cost.seconds:>8.3f} {cost.cpu_seconds:>8.3f} "
            f"{cost.cpu_seconds / cost.entries * 1e6:>12.2f} {cost.probe_median_seconds * 1000:>12.1f} "
            f"{cost.probe_longest_seconds * 1000:>8.1f} {cost.resident_before / _MEBIBYTE:>11.0f} "
            f"{cost.resident_peak / _MEBIBYTE:>6.0f} {cost.octets:>11,}"
        )
    print("wall and /healthz are medians; the CRL served last has the entries, the serial revoked last, its signature")


def _fill(service: Service, entries: int) -> None:
    began = time.perf_counter()
    engine = open_database(service.database_url)
    insert_copies(engine, Copies(count=entries, hosts=entries, revoked_every=1), now=datetime.now(UTC))
    engine.dispose()
    print(f"{entries:,} revoked certificates in {time.perf_counter() - began:.0f} s", flush=True)


def _issue(client: httpx.Client) -> str:
    """Issue one; returns its serial number."""
    answer = client.post(_PATH, json={"common_name": f"crl.{DOMAIN}", "profile": "server"}).raise_for_status()
    return str(answer.json()["serial_number"])


def _revoke(client: httpx.Client, serial: str) -> None:
    client.post(f"{_PATH}/{serial}/revoke", json={"reason": "superseded"}).raise_for_status()


def _timed(service: Service, client: httpx.Client, serial: str) -> tuple[float, float]:
    """Revoke; returns the seconds until the answer, and the service's CPU seconds in them."""
    pids = service.pids
    began, cpu_began = time.perf_counter(), cpu_seconds(pids)
    _revoke(client, serial)
    return time.perf_counter() - began, cpu_seconds(pids) - cpu_began


@contextmanager
def _probe(service: Service) -> Iterator[list[float]]:
    """Ask for /healthz meanwhile; the list has the seconds of every answer once the block has ended."""
    answers: list[float] = []
    failures: list[Exception] = []
    over = Event()

    def ask() -> None:
        try:
            _ask(service, answers, over)
        except Exception as error:  # noqa: BLE001  # raised below, in the thread that measures
            failures.append(error)

    # A thread is enough: the other one waits for its answer and leaves it the GIL.
    thread = Thread(target=ask, name="probe")
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def _ask(service: Service, answers: list[float], over: Event) -> None:
    address = urlsplit(service.url)
    with closing(HTTPConnection(address.hostname or "", address.port or 0, timeout=120)) as connection:
        while not over.wait(_PAUSE):
            began = time.perf_counter()
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            answer.read()
            answers.append(time.perf_counter() - began)
            assert answer.status == 200, answer.status


def _status(service: Service, name: str) -> int:
    """One figure of the service's memory, in octets (proc(5): VmHWM is the most that was resident)."""
    line = re.compile(rf"^{name}:\s+(\d+) kB$", re.MULTILINE)
    total = 0
    for pid in service.pids:
        found = line.search(Path(f"/proc/{pid}/status").read_text())
        assert found is not None, f"no {name} of process {pid}"
        total += int(found[1]) * 1024
    return total


def _verify(client: httpx.Client, *, entries: int, serial: str) -> int:
    """Stop unless the CRL has so many entries, this serial number, and its issuer's signature; returns its size."""
    der = client.get("/crl.der").raise_for_status().content
    chain = x509.load_pem_x509_certificates(client.get("/ca.pem").raise_for_status().content)
    crl = x509.load_der_x509_crl(der)
    (issuer,) = (certificate for certificate in chain if certificate.subject == crl.issuer)
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key), "the CRL's signature is not its issuer's"
    assert len(crl) >= entries, f"{len(crl)} entries, not {entries}"
    assert crl.get_revoked_certificate_by_serial_number(int(serial, 16)) is not None, f"{serial} is not on the CRL"
    return len(der)


if __name__ == "__main__":
    main()
