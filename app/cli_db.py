"""``tiny-ca db …``: what an operator does to the database itself. What is done is in ``schema``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Protocol, TypeVar

import typer

from app.client.output import Output

if TYPE_CHECKING:
    from app.settings import Settings

__all__ = ["mount_db"]

_T = TypeVar("_T")

DataDir = Annotated[Path | None, typer.Option(help="Where SQLite's file is. [TINY_CA_DATA_DIR, ./data]")]
DatabaseUrl = Annotated[str | None, typer.Option(help="SQLite in the data folder unless set. [TINY_CA_DATABASE_URL]")]


class _Guarded(Protocol):
    def __call__(self, run: Callable[[], _T]) -> _T: ...


def mount_db(cli: typer.Typer, *, settings: Callable[..., Settings], guarded: _Guarded) -> typer.Typer:
    """Add ``db upgrade`` and ``db status``; the two arguments are how the command line reads settings and fails.

    Returns ``db``, for others that act on the database.
    """
    db = typer.Typer(no_args_is_help=True, help="The service's database.")

    @db.command("upgrade")
    def upgrade(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
        """Bring the schema to the revision that this program needs; again, it changes nothing."""
        from app.schema import upgrade_schema

        read = settings(data_dir=data_dir, database_url=database_url)
        before, after = guarded(lambda: upgrade_schema(read))
        _output().record({"before": before.found, "revision": after.found})

    @db.command("status")
    def status(data_dir: DataDir = None, database_url: DatabaseUrl = None) -> None:
        """Say which revision is there and which one is needed; exit code 1 where they differ."""
        from app.schema import schema_status

        read = settings(data_dir=data_dir, database_url=database_url)
        schema = guarded(lambda: schema_status(read))
        _output().record({"revision": schema.found, "needed": schema.needed, "current": schema.is_current})
        raise typer.Exit(0 if schema.is_current else 1)

    cli.add_typer(db, name="db")
    return db


def _output() -> Output:
    return Output(as_json=not sys.stdout.isatty())
