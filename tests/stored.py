"""What a database holds, read and written past whoever uses it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

from sqlalchemy import Connection, MetaData, Table, func, select, text

from tiny_ca.db.engine import EngineSettings, create_tables, make_sync_engine
from tiny_ca.db.models import Base

__all__ = ["Rows", "copy_database", "empty_database", "everything", "fill_database", "rows"]

Rows: TypeAlias = Mapping[Table, Sequence[Mapping[str, Any]]]
_CUT_OTHERS = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""


@contextmanager
def _transaction(db_url: str) -> Iterator[Connection]:
    engine = make_sync_engine(db_url, EngineSettings())
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def rows(db_url: str, statement: str, **values: object) -> Sequence[Any]:
    """Run one statement in a transaction of its own; returns its rows, if it has any."""
    with _transaction(db_url) as connection:
        found = connection.execute(text(statement), values)
        return found.all() if found.returns_rows else []


def everything(db_url: str) -> str:
    """Every value of every row of every table, as text."""
    tables = MetaData()
    with _transaction(db_url) as connection:
        tables.reflect(connection)
        return "\n".join(
            repr(tuple(row)) for table in tables.sorted_tables for row in connection.execute(select(table))
        )


def copy_database(db_url: str) -> Rows:
    """Every row of every table of ours."""
    with _transaction(db_url) as connection:
        return {
            table: [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in Base.metadata.sorted_tables
        }


def fill_database(db_url: str, copied: Rows) -> None:
    """Put them into a PostgreSQL database without any; what is inserted after that has higher ids."""
    with _transaction(db_url) as connection:
        create_tables(connection)
        for table, values in copied.items():
            if not values:
                continue
            connection.execute(table.insert(), values)
            if (column := table.autoincrement_column) is not None:
                sequence = func.pg_get_serial_sequence(table.name, column.name)
                connection.execute(select(func.setval(sequence, func.greatest(func.nextval(sequence), len(values)))))


def empty_database(db_url: str) -> None:
    """Take every row out of a PostgreSQL database; whoever is connected to it is not any more."""
    with _transaction(db_url) as connection:
        connection.execute(text(_CUT_OTHERS))
        create_tables(connection)
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
