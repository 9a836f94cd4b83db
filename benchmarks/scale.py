"""Certificates per second from P-256 CSRs with 1, 2 and 4 workers, over SQLite and over PostgreSQL.

Each answer is read and the database compared, as in issue_csr. The load and PostgreSQL share the machine's cores with
the workers: what counts are the ratios, round by round, and what a certificate costs in CPU time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil  # type: ignore[import-untyped]
from sqlalchemy import text

from benchmarks.harness import (
    Load,
    Measured,
    Service,
    arguments,
    cpu_seconds,
    drive,
    machine,
    median_of,
    percentile,
    scratch,
)
from benchmarks.orders import make_csrs, requests, serials, verify
from benchmarks.rows import open_database
from tests.postgres import PostgresServer, new_database

_CSRS: Final = 200
_DATABASES: Final = ("SQLite", "PostgreSQL")
_WORKERS: Final = (1, 2, 4)
_MEBIBYTE: Final = 2**20


@dataclass(slots=True)
class _Side:
    """A service with some number of workers, and what it has done."""

    name: str
    service: Service
    load: Load
    before: set[int]
    rounds: list[Measured] = field(default_factory=list)
    database_cpu: float = 0.0
    busiest: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print."""
    asked = arguments(__doc__, rounds=5, seconds=3.0, connections=32, also={"--workers": _WORKERS})
    csrs = make_csrs(_CSRS)
    with scratch(asked.folder) as folder, PostgresServer() as server:
        for database in _DATABASES:
            server_url = server.url if database == "PostgreSQL" else None
            print(f"{machine(folder)}; {asked.connections} connections, {asked.rounds} rounds of {asked.seconds:g} s")
            with ExitStack() as stack:
                sides: list[_Side] = []
                for workers in asked.workers:
                    name = f"{database}, {workers} worker{'s' * (workers > 1)}"
                    service = stack.enter_context(_service(folder / name.replace(", ", "-"), server_url, workers))
                    load = Load(requests=requests(service, csrs), connections=asked.connections)
                    sides.append(_Side(name, service, load, serials(service)))
                for number in range(asked.rounds):
                    for side in sides if number % 2 == 0 else reversed(sides):
                        _drive(side, asked.seconds)
                for side in sides:
                    print(verify(side.name, side.rounds, csrs, serials(side.service) - side.before))
                _report(sides)
        print(machine(folder))


@contextmanager
def _service(folder: Path, server_url: str | None, workers: int) -> Iterator[Service]:
    environment = {"TINY_CA_WORKERS": str(workers)}
    if server_url is None:
        with Service(folder, environment) as service:
            yield service
        return
    with (
        new_database(server_url) as url,
        Service(folder, {**environment, "TINY_CA_DATABASE_URL": url}) as service,
    ):
        yield service


def _drive(side: _Side, seconds: float) -> None:
    """One round. What the database server spent is what all of its processes did, of which one service is busy."""
    pids = side.service.pids
    workers = {pid: cpu_seconds([pid]) for pid in pids}
    database = _database_cpu(side.service)
    side.rounds += drive(side.service, [side.load], seconds=seconds)
    side.database_cpu += _database_cpu(side.service) - database
    spent = [cpu_seconds([pid]) - before for pid, before in workers.items()]
    side.busiest.append(max(spent) / sum(spent))


def _database_cpu(service: Service) -> float:
    """CPU seconds of the database server so far, those of its processes that have ended too; 0 without a server."""
    found = _ask(service, "SELECT split_part(pg_read_file('postmaster.pid'), chr(10), 1)::int")
    if not found:
        return 0.0
    postmaster = psutil.Process(found[0])
    ended = postmaster.cpu_times()
    spent = float(ended.children_user + ended.children_system)
    for child in postmaster.children():
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile, and is so short-lived that nothing is missing
            spent += sum(child.cpu_times()[:2])
    return spent


def _connections(service: Service) -> int:
    """How many connections the service has to a database server; 0 without one."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    return sum(_ask(service, query))


def _ask(service: Service, query: str) -> list[int]:
    """Ask PostgreSQL for numbers; nothing where there is none."""
    if service.database_url.startswith("sqlite"):
        return []
    engine = open_database(service.database_url)
    try:
        with engine.connect() as connection:
            return list(connection.scalars(text(query)))
    finally:
        engine.dispose()


def _report(sides: Sequence[_Side]) -> None:
    print(
        f"\n{'medians':<22} {'per s':>6} {'ratio':>6} {'per CPU s':>10} {'ratio':>6} {'cores':>6} {'database':>9} "
        f"{'median ms':>10} {'p99 ms':>7} {'busiest':>8} {'MiB a process':>14} {'connections':>12}"
    )
    one = sides[0].rounds
    for side in sides:
        rounds = side.rounds
        latencies = [answer.seconds * 1000 for each in rounds for answer in each.counted]
        wall = statistics.median(a.per_second / b.per_second for a, b in zip(rounds, one, strict=True))
        cpu = statistics.median(a.per_cpu_second / b.per_cpu_second for a, b in zip(rounds, one, strict=True))
        resident = [psutil.Process(pid).memory_info().rss / _MEBIBYTE for pid in side.service.pids]
        answers = sum(len(each.answers) for each in rounds)
        print(
            f"{side.name:<22} {median_of(rounds, lambda each: each.per_second):>6.0f} {wall:>6.2f} "
            f"{median_of(rounds, lambda each: each.per_cpu_second):>10.0f} {cpu:>6.2f} "
            f"{median_of(rounds, lambda each: each.cpu_seconds / each.seconds):>6.2f} "
            f"{side.database_cpu / answers * 1000:>6.2f} ms {statistics.median(latencies):>10.1f} "
            f"{percentile(latencies, 0.99):>7.1f} {statistics.median(side.busiest):>8.0%} "
            f"{max(resident):>14.0f} {_connections(side.service):>12}"
        )
    print("ratios are to the first; cores are the workers'; database is its CPU time for each certificate")
    print("busiest is the share of the workers' CPU time that the busiest of them had")


if __name__ == "__main__":
    main()
