"""What an operation costs as the registry grows: 10^4, 10^5, 10^6 certificates, over SQLite and over PostgreSQL.

Half of the certificates have expired, one in a hundred is revoked and on the CRL, and each host has had ten. What a
user asks for is asked of the real service, over HTTP on one connection. Revoking is also timed as its transaction
alone, for its answer waits for the CRL, whose cost follows what is on it.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
from cryptography import x509
from sqlalchemy import Engine, text, update
from sqlalchemy.orm import Session

from benchmarks.harness import Service, arguments, machine, scratch
from benchmarks.orders import ISSUE, make_csrs
from benchmarks.rows import DOMAIN, Copies, Original, api_client, insert_copies, issue_first, open_database
from tests.postgres import PostgresServer, administer, new_database
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.certificates import mark_expired
from tiny_ca.db.queries.revocations import revoke

_DATABASES: Final = ("SQLite", "PostgreSQL")
_SIZES: Final = (10_000, 100_000, 1_000_000)
_PATH: Final = "/api/v1/certificates"
_CSR: Final = {"Content-Type": "application/pkcs10", "Accept": "application/json"}
_LIMIT: Final = 10
_REVOKED_EVERY: Final = 50  # of the half that has not expired
_ENDING: Final = 100  # certificates that mark_expired finds
_CRL: Final = "CRL"
_REVOKE: Final = "revoke, with its CRL"
_LINEAR: Final = {_CRL, _REVOKE}
_LISTS: Final[Mapping[str, Mapping[str, str]]] = {
    "list": {},
    "list by profile": {"profile": "server"},
    "list by SAN suffix": {"san": f"*.{DOMAIN}"},
    "list by CN suffix": {"common_name": f"*.{DOMAIN}"},
    "list valid": {"status": "valid"},
    "list revoked": {"status": "revoked"},
    "list expired": {"status": "expired"},
}
_OF_ALL: Final = (
    "list",
    "list by profile",
    "list by SAN suffix",
    "list by CN suffix",
)  # the others have no page 1000 at 10^4
_TABLES: Final = ("certificates", "certificate_names", "audit")

Times = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class _Registry:
    """A running service with its database, and what is in it."""

    client: httpx.Client
    engine: Engine
    original: Original
    copies: Copies

    def first_of(self, number: int, rounds: int) -> int:
        """The first certificate of a round's own: not expired, nor are those after it revoked, but for two."""
        step = (self.copies.count - self.copies.expired) // rounds // _REVOKED_EVERY * _REVOKED_EVERY
        assert step > 2 * _ENDING, "too many rounds for so few certificates"
        return self.copies.expired + 1 + number * step


@dataclass(frozen=True, slots=True)
class _Result:
    """What one size came to: seconds by operation, octets by table and index, octets and entries of the CRL."""

    times: Times
    octets: Mapping[str, int]
    crl: tuple[int, int]


def main() -> int:
    """Measure and print; returns the exit code."""
    asked = arguments(__doc__, rounds=20, seconds=0.0, connections=1, also={"--sizes": _SIZES})
    worst = 0.0
    with scratch(asked.folder) as folder, PostgresServer() as server:
        for name in _DATABASES:
            print(f"{machine(folder)}; {name}, {asked.rounds} rounds")
            with ExitStack() as stack:
                registries = [
                    stack.enter_context(_registry(name, folder / f"{name}-{size}", server.url, size))
                    for size in asked.sizes
                ]
                times = _measure(registries, asked.rounds)
                results = {
                    registry.copies.count: _Result(each, _octets(registry.engine), _crl(registry.client))
                    for registry, each in zip(registries, times, strict=True)
                }
            worst = max(worst, _report(name, results))
        print(machine(folder))
    return 0 if worst < 2 else 1


@contextmanager
def _registry(name: str, folder: Path, server_url: str, size: int) -> Iterator[_Registry]:
    """A registry of this size, gone afterwards."""
    if name == "SQLite":
        with _filled(folder, None, size) as registry:
            yield registry
        return
    with new_database(server_url) as url, _filled(folder, url, size) as registry:
        yield registry


@contextmanager
def _filled(folder: Path, url: str | None, size: int) -> Iterator[_Registry]:
    environment = {} if url is None else {"TINY_CA_DATABASE_URL": url}
    with Service(folder, environment) as service:
        issue_first(service)
    engine = open_database(service.database_url)
    copies = Copies(count=size, hosts=size // 10, expired=size // 2, revoked_every=_REVOKED_EVERY)
    began = time.perf_counter()
    original = insert_copies(engine, copies, now=datetime.now(UTC))
    if url is not None:
        administer(url, "VACUUM")  # as autovacuum does
    print(f"{size:,} certificates in {time.perf_counter() - began:.0f} s", flush=True)
    with Service(folder, environment) as service, api_client(service) as client:
        yield _Registry(client, engine, original, copies)
    engine.dispose()


def _measure(registries: Sequence[_Registry], rounds: int) -> list[Times]:
    """Every operation in turn, at every size in turn: what the machine does besides falls on all of them alike."""
    asking = [_Asking(registry.client) for registry in registries]
    deep = [{name: ask.cursor_of_page_1000(_LISTS[name]) for name in _OF_ALL} for ask in asking]
    for number, csr in enumerate(make_csrs(rounds)):
        for registry, ask, cursors in zip(registries, asking, deep, strict=True):
            _read(registry.copies, registry.original, ask, cursors, registry.first_of(number, rounds))
            _write(registry, ask, csr, registry.first_of(number, rounds) + 1)
    return [ask.times for ask in asking]


def _read(copies: Copies, original: Original, ask: _Asking, cursors: Mapping[str, str], number: int) -> None:
    for name, query in _LISTS.items():
        assert len(ask.page(f"{name}, page 1", query)) == _LIMIT, name
    for name, cursor in cursors.items():
        assert len(ask.page(f"{name}, page 1000", {**_LISTS[name], "cursor": cursor})) == _LIMIT, name
    ask("look up by serial", "GET", f"{_PATH}/{original.serial_number(number):x}")
    for column in ("san", "common_name"):
        assert len(ask.page(f"look up by {column}", {column: copies.host(number)})) == _LIMIT, column


def _write(registry: _Registry, ask: _Asking, csr: bytes, number: int) -> None:
    """Write to certificates from this number on, which nothing else has touched."""
    original = registry.original
    ask("issue", "POST", ISSUE, content=csr, headers=_CSR)
    ask(_REVOKE, "POST", f"{_PATH}/{original.serial_number(number):x}/revoke", json={})
    ask(_CRL, "POST", f"/api/v1/issuers/{original.issuer_id}/crl")
    with _transaction(registry.engine, ask.times["revoke, the transaction"]) as session:
        revoke(session, original.serial_number(number + 1), x509.ReasonFlags.superseded, now=datetime.now(UTC))
    _end(registry.engine, range(original.id + number + 2, original.id + number + 2 + _ENDING))
    with _transaction(registry.engine, ask.times[f"mark {_ENDING} expired"]) as session:
        mark_expired(session, now=datetime.now(UTC))


class _Asking:
    """Requests on one connection, and how long each took."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self.times: Times = defaultdict(list)

    def __call__(self, name: str, method: str, path: str, **request: Any) -> dict[str, Any]:  # noqa: ANN401  # httpx's own
        """Ask, and return the answer."""
        answer = self._client.request(method, path, **request)
        answer.raise_for_status()
        self.times[name].append(answer.elapsed.total_seconds())
        found: dict[str, Any] = answer.json()
        return found

    def page(self, name: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        """Ask for a page, and return its certificates."""
        items: list[dict[str, Any]] = self(name, "GET", _PATH, params={**query, "limit": _LIMIT})["items"]
        return items

    def cursor_of_page_1000(self, query: Mapping[str, str]) -> str:
        """Walk there, in larger steps; nothing of that is timed."""
        cursor: dict[str, str] = {}
        for _ in range(_LIMIT):
            answer = self._client.get(_PATH, params={**query, **cursor, "limit": 999})
            answer.raise_for_status()
            cursor = {"cursor": answer.json()["next_cursor"]}
        return cursor["cursor"]


@contextmanager
def _transaction(engine: Engine, times: list[float]) -> Iterator[Session]:
    began = time.perf_counter()
    with Session(engine) as session, session.begin():
        yield session
    times.append(time.perf_counter() - began)


def _end(engine: Engine, ids: Sequence[int]) -> None:
    """Let these certificates be over, without anybody having noticed yet."""
    over = datetime.now(UTC) - timedelta(seconds=1)
    with engine.begin() as connection:
        connection.execute(update(CertificateRecord).where(CertificateRecord.id.in_(ids)).values(not_valid_after=over))


def _octets(engine: Engine) -> dict[str, int]:
    """The size of each table and of each of its indexes."""
    if engine.dialect.name == "sqlite":
        query = (
            "SELECT CASE type WHEN 'index' THEN tbl_name || ' ' || name ELSE name END, size FROM sqlite_schema "
            "JOIN (SELECT name, sum(pgsize) AS size FROM dbstat GROUP BY name) USING (name)"
        )
    else:
        query = (
            "SELECT relname, pg_table_size(oid) FROM pg_class WHERE relkind = 'r' "
            "AND relnamespace = 'public'::regnamespace "
            "UNION ALL SELECT t.relname || ' ' || i.relname, pg_relation_size(i.oid) FROM pg_index AS x "
            "JOIN pg_class AS t ON t.oid = x.indrelid JOIN pg_class AS i ON i.oid = x.indexrelid "
            "WHERE t.relnamespace = 'public'::regnamespace"
        )
    with engine.connect() as connection:
        return {name: size for name, size in connection.execute(text(query)) if name.split()[0] in _TABLES}


def _crl(client: httpx.Client) -> tuple[int, int]:
    """Octets and entries of the CRL."""
    der = client.get("/crl.der").raise_for_status().content
    return len(der), len(x509.load_der_x509_crl(der))


def _report(name: str, results: Mapping[int, _Result]) -> float:
    """Print, and return by how much the worst has grown of what must not."""
    sizes = list(results)
    print(f"\n{name + ', medians in ms':<32}" + "".join(f"{size:>11,}" for size in sizes), end="")
    print("".join(f"{f'{size:,} : {sizes[0]:,}':>20}" for size in sizes[1:]))
    worst = 0.0
    for operation in sorted(results[sizes[0]].times):
        medians = [statistics.median(result.times[operation]) for result in results.values()]
        ratios = [median / medians[0] for median in medians[1:]]
        print(f"{operation:<32}" + "".join(f"{median * 1000:>11.1f}" for median in medians), end="")
        print("".join(f"{ratio:>20.2f}" for ratio in ratios))
        if operation not in _LINEAR:
            worst = max(worst, *ratios) if ratios else worst
    size, largest = sizes[-1], results[sizes[-1]]
    octets, entries = largest.crl
    print(f"\nCRL of {entries:,} entries: {octets:,} octets, {octets / entries:.1f} an entry")
    print(f"octets a certificate, of {size:,}; {sum(largest.octets.values()) / size:.0f} in all")
    for part, total in sorted(largest.octets.items()):
        print(f"  {part:<64}{total / size:>8.0f}")
    return worst


if __name__ == "__main__":
    sys.exit(main())
