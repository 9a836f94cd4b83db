"""``tiny-ca backup | restore | db copy | import``: moving in and out. What is done is in ``transfer``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import typer

from app.cli_passphrase import asked_passphrase
from app.client.output import Output
from app.transfer.kinds import Kind

if TYPE_CHECKING:
    from app.settings import Settings

__all__ = ["mount_transfer"]

_T = TypeVar("_T")


DataDir = Annotated[Path | None, typer.Option(help="Database and passphrase. [TINY_CA_DATA_DIR, ./data]")]
DatabaseUrl = Annotated[str | None, typer.Option(help="SQLite in the data folder unless set.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help="Its first line is the passphrase. [TINY_CA_BACKUP_PASSPHRASE, …_FILE; without it, you are asked]"
    ),
]


class _Guarded(Protocol):
    def __call__(self, run: Callable[[], _T], /) -> _T: ...


def mount_transfer(cli: typer.Typer, db: typer.Typer, *, settings: Callable[..., Settings], guarded: _Guarded) -> None:
    """Add the commands; the two arguments are how the command line reads settings and fails."""

    @cli.command()
    def backup(
        file: Annotated[Path, typer.Argument(help="The file to write.")],
        passphrase_file: PassphraseFile = None,
        force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,  # noqa: FBT002  # a flag
        data_dir: DataDir = None,
        database_url: DatabaseUrl = None,
    ) -> None:
        """On the service's machine: everything the database holds into one encrypted file, also while it serves."""
        from app.transfer.backup import back_up

        read = settings(data_dir=data_dir, database_url=database_url)
        passphrase = _backup_passphrase(read, passphrase_file, twice=True, guarded=guarded)
        _show(_run(guarded, lambda: back_up(read, file, passphrase, replace=force)))

    @cli.command()
    def restore(
        file: Annotated[Path, typer.Argument(help="What 'backup' wrote.")],
        passphrase_file: PassphraseFile = None,
        data_dir: DataDir = None,
        database_url: DatabaseUrl = None,
    ) -> None:
        """On the service's machine: bring a backup in; where there is a CA already, what it lacks is added."""
        from app.transfer.restore import restore as bring_in

        read = settings(data_dir=data_dir, database_url=database_url)
        passphrase = _backup_passphrase(read, passphrase_file, twice=False, guarded=guarded)
        _show(_run(guarded, lambda: bring_in(read, file, passphrase)))

    @cli.command("import")
    def bring(
        kind: Annotated[
            Kind,
            typer.Argument(help="What it is of: openssl (ca), easy-rsa, cfssl, or the library tiny_ca."),
        ],
        path: Annotated[
            Path, typer.Argument(help="The folder with index.txt; of cfssl and the library, the SQLite file.")
        ],
        ca_cert: Annotated[
            Path | None, typer.Option(help="The CA's certificate, those above it after it, PEM.")
        ] = None,
        ca_key: Annotated[Path | None, typer.Option(help="Its key, where the CA is new here, PEM.")] = None,
        ca_passphrase_file: Annotated[
            Path | None, typer.Option(help="Its first line opens the key; without it, you are asked.")
        ] = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would come in; change nothing.")] = False,  # noqa: FBT002  # a flag
        data_dir: DataDir = None,
        database_url: DatabaseUrl = None,
    ) -> None:
        """On the service's machine: what another CA issued and revoked; its CRLs go on here."""
        from app.transfer.importing import GivenCA, import_from

        read = settings(data_dir=data_dir, database_url=database_url)
        given = GivenCA(
            ca_cert,
            ca_key,
            lambda: asked_passphrase(ca_passphrase_file, twice=False, flag="--ca-passphrase-file", of="the CA's key"),
        )
        _show(_run(guarded, lambda: import_from(read, kind, path, given, dry_run=dry_run)))

    @db.command("copy")
    def copy(
        source: Annotated[str, typer.Argument(metavar="FROM", help="The URL of a database: sqlite:///FILE …")],
        target: Annotated[
            str, typer.Argument(metavar="TO", help="That of an empty one: postgresql://USER@HOST/NAME …")
        ],
    ) -> None:
        """Copy a registry into another database, SQLite or PostgreSQL, and compare the two; run again, it goes on."""
        from app.transfer.copying import copy_database

        _show(_run(guarded, lambda: copy_database(source, target)))


def _backup_passphrase(settings: Settings, file: Path | None, *, twice: bool, guarded: _Guarded) -> str:
    from app.services.secrets import backup_passphrase

    if file is None and (given := guarded(lambda: backup_passphrase(settings))) is not None:
        return given
    return guarded(lambda: _long_enough(asked_passphrase(file, twice=twice, of="the backup"), new=twice))


def _long_enough(passphrase: str, *, new: bool) -> str:
    from app.settings import MIN_PASSPHRASE_LENGTH
    from tiny_ca.exc import Invalid

    if new and len(passphrase) < MIN_PASSPHRASE_LENGTH:
        raise Invalid(f"a passphrase has at least {MIN_PASSPHRASE_LENGTH} characters", field="passphrase")
    return passphrase


def _run(guarded: _Guarded, act: Callable[[], _T]) -> _T:
    def run() -> _T:
        try:
            return act()
        except KeyboardInterrupt:  # what was asked for is not done
            raise typer.Exit(130) from None

    return guarded(run)


def _show(done: Any) -> None:  # noqa: ANN401  # a dataclass of results
    from tiny_ca.utils.rfc3339 import rfc3339

    fields = {
        name: rfc3339(value) if isinstance(value, datetime) else str(value) if isinstance(value, Path) else value
        for name, value in asdict(done).items()
    }
    Output(as_json=not sys.stdout.isatty()).record(fields)
