"""A page of the list of a million certificates: the first and the ten thousandth, with and without a filter.

One certificate is issued, and its row copied until the table has --rows of them. Then the pages are asked for in turn,
one request at a time on one connection, so that whatever else the machine does falls on all of them alike. The cursor
of a deep page is the one that the page before it would have given.

A suffix is a range of names: the rows that match must be put in order first, so that its cost follows how many there
are. It is shown, and not held to the ratio.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import statistics
import sys
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.harness import Service, arguments, machine, scratch

_ROWS: Final = 1_000_000
_LIMIT: Final = 100
_RANGE: Final = "san suffix"
_FILTERS: Final[dict[str, dict[str, str]]] = {
    "no filter": {},
    "profile": {"profile": "server"},
    "status": {"status": "valid"},
    "common_name": {"common_name": "pages.bench.example.org"},
    _RANGE: {"san": "*.bench.example.org"},
}
_PATH: Final = "/api/v1/certificates"


def main() -> int:
    """Measure and print; returns the exit code."""
    asked = arguments(__doc__, rounds=50, seconds=0.0, connections=1)
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {_ROWS:,} rows, pages of {_LIMIT}, {asked.rounds} rounds")
        with Service(folder / "service") as service:
            _issue(service)
        copied = _copy(service.database)
        with Service(folder / "service") as service, _client(service) as client:
            times = _measure(client, asked.rounds, bottom=copied + _LIMIT - 1)
        print(machine(folder))
    print(f"\n{'':<14} {'page 1':>10} {'page ' + format(_ROWS // _LIMIT, ',d'):>12} {'deep : first':>13}")
    worst = 0.0
    for name, (first, deep) in times.items():
        ratio = statistics.median(deep) / statistics.median(first)
        worst = worst if name == _RANGE else max(worst, ratio)
        print(f"{name:<14} {_ms(first):>10} {_ms(deep):>12} {ratio:>13.2f}")
    print("medians; the answers' rows are those that belong to their pages")
    return 0 if worst < 1.5 else 1


def _client(service: Service) -> httpx.Client:
    return httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.token}"}, timeout=120)


def _issue(service: Service) -> None:
    with _client(service) as client:
        body = {"common_name": "pages.bench.example.org", "profile": "server", "lifetime": "90d"}
        client.post(_PATH, json=body).raise_for_status()


def _copy(database: Path) -> int:
    """Make rows out of the newest, in one transaction; what must be unique is counted. Returns the first copy's id."""
    with sqlite3.connect(database) as connection:
        (newest,) = connection.execute("SELECT max(id) FROM certificates").fetchone()
        # Nothing in these statements is anybody's text but ours.
        numbers = (
            f"WITH RECURSIVE numbers(n) AS (SELECT {newest + 1} "  # noqa: S608
            f"UNION ALL SELECT n + 1 FROM numbers WHERE n < {_ROWS})"
        )
        columns = [row[1] for row in connection.execute("PRAGMA table_info(certificates)")]
        counted = {"id": "n", "serial_number": "n", "uuid": "NULL", "fingerprint_sha256": "printf('%064x', n)"}
        values = ", ".join(counted.get(name, f"one.{name}") for name in columns)
        connection.execute(
            f"INSERT INTO certificates ({', '.join(columns)}) {numbers} "  # noqa: S608
            f"SELECT {values} FROM numbers, (SELECT * FROM certificates WHERE id = {newest}) AS one"
        )
        connection.execute(
            f"INSERT INTO certificate_names (certificate_id, kind, value, reversed) {numbers} "  # noqa: S608
            f"SELECT n, kind, value, reversed FROM numbers, certificate_names WHERE certificate_id = {newest}"
        )
        connection.execute("ANALYZE")
    connection.close()
    return int(newest) + 1


def _measure(client: httpx.Client, rounds: int, *, bottom: int) -> dict[str, tuple[list[float], list[float]]]:
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in _FILTERS}
    deep = base64.urlsafe_b64encode(str(bottom + 1).encode()).decode().rstrip("=")
    for _ in range(rounds):
        for name, wanted in _FILTERS.items():
            for cursor, found, top in ((None, times[name][0], _ROWS), (deep, times[name][1], bottom)):
                query = {"limit": str(_LIMIT), **wanted, **({} if cursor is None else {"cursor": cursor})}
                found.append(_page(client, query, top))
    return times


def _page(client: httpx.Client, query: dict[str, str], top: int) -> float:
    answer = client.get(_PATH, params=query)
    answer.raise_for_status()
    body: dict[str, Any] = json.loads(answer.content)
    serials = [int(item["serial_number"], 16) for item in body["items"]]
    assert len(serials) == _LIMIT, serials
    assert serials[0] == top, (query, serials[0])
    return answer.elapsed.total_seconds()


def _ms(times: list[float]) -> str:
    return f"{statistics.median(times) * 1000:.1f} ms"


if __name__ == "__main__":
    sys.exit(main())
