"""Units of work on whole tables, for whoever moves a registry: walk one in the order of its key, add rows, count."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import LargeBinary, column, exists, func, insert, literal, select, text, tuple_
from sqlalchemy import table as plain_table
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import Base

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Connection, Table, TableClause

__all__ = [
    "TABLES",
    "add_missing_rows",
    "add_rows",
    "count_rows",
    "is_empty",
    "raise_sequences",
    "refers_to_itself",
    "walk",
]

# Parents before those that refer to them.
TABLES: Final[tuple[Table, ...]] = tuple(Base.metadata.sorted_tables)
_PAGE: Final = 1000


def walk(connection: Connection, table: Table) -> Iterator[list[tuple[Any, ...]]]:
    """Yield every row, in pages and in the order of the primary key; each page is one range of its index.

    A table that refers to itself is one page: its rows are added together, or their order would matter.
    """
    key = tuple(table.primary_key)
    size = _page_size(table)
    query = select(table).order_by(*key).limit(size)
    places = [list(table.columns).index(one) for one in key]
    page = [tuple(row) for row in connection.execute(query)]
    while page:
        yield page
        if size is None or len(page) < size:
            return
        last = [literal(page[-1][place], one.type) for place, one in zip(places, key, strict=True)]
        page = [tuple(row) for row in connection.execute(query.where(tuple_(*key) > tuple_(*last)))]


def add_rows(connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Add rows as they are, ids and all; ``columns`` may be fewer than the model's, and none is filled in."""
    if rows:
        connection.execute(
            insert(_plain(table, columns)),
            [dict(zip(columns, row, strict=True)) for row in _parents_first(table, columns, rows)],
        )


def add_missing_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Add the rows whose key is not there; those that are there stay as they are."""
    if rows:
        insert_or_not = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
        connection.execute(
            insert_or_not(_plain(table, columns)).on_conflict_do_nothing(),
            [dict(zip(columns, row, strict=True)) for row in rows],
        )


def count_rows(connection: Connection, table: Table) -> int:
    """Return how many rows there are."""
    return connection.scalar(select(func.count()).select_from(table)) or 0


def is_empty(connection: Connection) -> bool:
    """Whether no table has a row."""
    return not any(connection.scalar(select(exists().select_from(table))) for table in TABLES)


def refers_to_itself(table: Table) -> bool:
    """Whether a row may refer to another one of its table: then all of them are added together."""
    return _own_parent(table) is not None


def raise_sequences(connection: Connection) -> None:
    """Let PostgreSQL number new rows above those that came with a number; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for table in TABLES:
        numbered = table.autoincrement_column
        if numbered is not None:
            highest = connection.scalar(select(func.max(numbered)))
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence(:table, :column), :next, false)"),
                {"table": table.name, "column": numbered.name, "next": (highest or 0) + 1},
            )


def _page_size(table: Table) -> int | None:
    if refers_to_itself(table):
        return None
    # A CRL may be of any size: one at a time.
    return 1 if any(isinstance(one.type, LargeBinary) for one in table.columns) else _PAGE


def _plain(table: Table, columns: Sequence[str]) -> TableClause:
    """The table without the model's defaults, which would be filled in for columns that are not given."""
    return plain_table(table.name, *(column(name, table.columns[name].type) for name in columns))


def _own_parent(table: Table) -> tuple[str, str] | None:
    """Return the column by which a row refers to another one of its table, and the column that this one has."""
    found = (key for key in table.foreign_keys if key.column.table is table)
    return next(((key.parent.name, key.column.name) for key in found), None)


def _parents_first(table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    own = _own_parent(table)
    if own is None:
        yield from rows
        return
    parent, key = (columns.index(name) for name in own)
    waiting = list(rows)
    while waiting:
        absent = {row[key] for row in waiting}
        ready = [row for row in waiting if row[parent] not in absent]
        if not ready:  # a circle: the database refuses it, and says why
            ready = waiting
        yield from ready
        added = {row[key] for row in ready}
        waiting = [row for row in waiting if row[key] not in added]
