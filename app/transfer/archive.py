"""What is inside a backup: lines of JSON.

    {"format": 1, "revision": "0003", "taken_at": "2026-11-25T12:00:00Z"}
    {"table": "issuers", "columns": ["id", …]}
    ["0b0e…", …]                                       a row, in the order of the columns
    …                                                  the next table, parents before those that refer to them
    {"end": {"issuers": {"rows": 2, "sha256": "…"}, …}}

``sha256`` is the table's ``Digest``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Final

from sqlalchemy import Connection, Table

from app.transfer.rows import Digest, json_line, row_from, row_line
from tiny_ca.db.queries.tables import TABLES, refers_to_itself, walk
from tiny_ca.exc import Malformed

__all__ = ["Head", "Page", "read_head", "read_pages", "write_archive"]

_FORMAT: Final = 1
_PAGE_ROWS: Final = 1000
_PAGE_OCTETS: Final = 8 * 1024 * 1024
_BY_NAME: Final = {table.name: table for table in TABLES}


@dataclass(frozen=True, slots=True)
class Head:
    """The schema that the rows are of, and the moment that they are of."""

    revision: str
    taken_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows of one table; of a table that refers to itself, all."""

    table: Table
    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


def write_archive(
    write: Callable[[bytes], None], connection: Connection, head: Head, *, advance: Callable[[int], None]
) -> dict[str, int]:
    """Write every table as this transaction sees it; returns how many rows each has."""
    write(_line({"format": _FORMAT, "revision": head.revision, "taken_at": head.taken_at}))
    digests: dict[str, Digest] = {}
    for table in TABLES:
        digest = digests[table.name] = Digest()
        write(_line({"table": table.name, "columns": [column.name for column in table.columns]}))
        for page in walk(connection, table):
            for row in page:
                line = row_line(row)
                digest.add(line)
                write(line + b"\n")
            advance(len(page))
    write(_line({"end": {name: {"rows": one.rows, "sha256": one.hex} for name, one in digests.items()}}))
    return {name: digest.rows for name, digest in digests.items()}


def read_head(lines: BinaryIO) -> Head:
    """Read the first line.

    Raises
    ------
    Malformed
        It is of another format.
    """
    first = _parsed(lines.readline())
    if not isinstance(first, dict) or first.get("format") != _FORMAT:
        raise Malformed(f"it holds another format than {_FORMAT}: a newer tiny-ca wrote it")
    return Head(str(first["revision"]), datetime.fromisoformat(first["taken_at"]))


def read_pages(lines: BinaryIO) -> Iterator[Page]:
    """Yield the rows; at the end, counts and digests are held against those that were written.

    Raises
    ------
    Malformed
        They differ, or something is no line of this format.
    """
    digests: dict[str, Digest] = {}
    page: Page | None = None
    octets = 0
    for line in lines:
        value = _parsed(line)
        match value:
            case list() if page is not None:
                page.rows.append(row_from(page.table, page.columns, value))
                digests[page.table.name].add(line.rstrip(b"\n"))
                octets += len(line)
                if _is_full(page, octets):
                    yield page
                    page, octets = Page(page.table, page.columns, []), 0
            case {"table": str(name), "columns": [*columns]} if name in _BY_NAME and name not in digests:
                if page is not None:
                    yield page
                table = _BY_NAME[name]
                page, octets = Page(table, _known(table, columns), []), 0
                digests[name] = Digest()
            case {"end": dict(written)}:
                if page is not None:
                    yield page
                _compare(digests, written)
                if lines.read(1):
                    raise Malformed("something follows its end")
                return
            case _:
                raise Malformed("it holds a line that is none of this format")
    raise Malformed("it ends before its end is said")


def _is_full(page: Page, octets: int) -> bool:
    return not refers_to_itself(page.table) and (len(page.rows) >= _PAGE_ROWS or octets >= _PAGE_OCTETS)


def _known(table: Table, columns: list[Any]) -> tuple[str, ...]:
    unknown = [name for name in columns if name not in table.columns]
    if unknown:
        raise Malformed(f"table {table.name} has the columns {', '.join(map(str, unknown))}, which are not known here")
    return tuple(columns)


def _compare(read: dict[str, Digest], written: dict[str, Any]) -> None:
    if read.keys() != written.keys():
        raise Malformed("its tables are not those that it says at its end")
    for name, digest in read.items():
        if written[name] != {"rows": digest.rows, "sha256": digest.hex}:
            raise Malformed(f"table {name} has other rows than it says at its end")


def _parsed(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise Malformed("it holds a line that is no JSON") from error


def _line(value: object) -> bytes:
    return json_line(value) + b"\n"
