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
import statistics
import sys
from datetime import UTC, datetime
from typing import Any, Final

import httpx

from benchmarks.harness import Service, arguments, machine, scratch
from benchmarks.rows import DOMAIN, Copies, Original, api_client, host, insert_copies, issue_first, open_database

_ROWS: Final = 1_000_000
_LIMIT: Final = 100
_RANGE: Final = "san suffix"
_FILTERS: Final[dict[str, dict[str, str]]] = {
    "no filter": {},
    "profile": {"profile": "server"},
    "status": {"status": "valid"},
    "common_name": {"common_name": host(0)},
    _RANGE: {"san": f"*.{DOMAIN}"},
}
_PATH: Final = "/api/v1/certificates"


def main() -> int:
    """Measure and print; returns the exit code."""
    asked = arguments(__doc__, rounds=50, seconds=0.0, connections=1)
    with scratch(asked.folder) as folder:
        print(f"{machine(folder)}; {_ROWS:,} rows, pages of {_LIMIT}, {asked.rounds} rounds")
        with Service(folder / "service") as service:
            issue_first(service)
        engine = open_database(service.database_url)
        original = insert_copies(engine, Copies(count=_ROWS, hosts=1), now=datetime.now(UTC))
        engine.dispose()
        with Service(folder / "service") as service, api_client(service) as client:
            times = _measure(client, asked.rounds, original)
        print(machine(folder))
    print(f"\n{'':<14} {'page 1':>10} {'page ' + format(_ROWS // _LIMIT, ',d'):>12} {'deep : first':>13}")
    worst = 0.0
    for name, (first, deep) in times.items():
        ratio = statistics.median(deep) / statistics.median(first)
        worst = worst if name == _RANGE else max(worst, ratio)
        print(f"{name:<14} {_ms(first):>10} {_ms(deep):>12} {ratio:>13.2f}")
    print("medians; the answers' rows are those that belong to their pages")
    return 0 if worst < 1.5 else 1


def _measure(client: httpx.Client, rounds: int, original: Original) -> dict[str, tuple[list[float], list[float]]]:
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in _FILTERS}
    deep = base64.urlsafe_b64encode(str(original.id + _LIMIT + 1).encode()).decode().rstrip("=")
    newest, of_deep = (original.serial_number(number) for number in (_ROWS, _LIMIT))
    for _ in range(rounds):
        for name, wanted in _FILTERS.items():
            for cursor, found, top in ((None, times[name][0], newest), (deep, times[name][1], of_deep)):
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
