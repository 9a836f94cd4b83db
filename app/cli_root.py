"""``tiny-ca root …``: the root's key goes offline, and comes back for a ceremony. What is done is in ``root_key``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli_passphrase import asked_passphrase
from app.client.output import Output
from tiny_ca.utils.rfc3339 import rfc3339

if TYPE_CHECKING:
    from app.root_key import RootKey
    from app.settings import Settings

__all__ = ["mount_root"]

DataDir = Annotated[Path | None, typer.Option(help="Database and passphrase. [TINY_CA_DATA_DIR, ./data]")]
DatabaseUrl = Annotated[str | None, typer.Option(help="SQLite in the data folder unless set.")]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="Its first line is the passphrase; without it, you are asked.")
]


def mount_root(
    cli: typer.Typer,
    *,
    settings: Callable[..., Settings],
    guarded: Callable[[Callable[[], RootKey]], RootKey],
) -> None:
    """Add ``root export`` and ``root import``; the two arguments are how the command line reads settings and fails."""
    root = typer.Typer(no_args_is_help=True, help="The root's key: take it offline, bring it back.")

    @root.command("export")
    def export(  # each is a flag
        out: Annotated[Path, typer.Option(help="The file to write; it must not exist yet.")],
        remove: Annotated[bool, typer.Option("--remove", help="Then take the key out of the database.")] = False,  # noqa: FBT002  # a flag
        issuer: Annotated[str | None, typer.Option(help="The root's id, where there are several.")] = None,
        crl_lifetime: Annotated[
            str, typer.Option(help="How long the root's last CRL shall last; the next ceremony makes the next one.")
        ] = "365d",
        passphrase_file: PassphraseFile = None,
        data_dir: DataDir = None,
        database_url: DatabaseUrl = None,
    ) -> None:
        """Write the root's key to a file, encrypted; with --remove, it is nowhere else then."""
        from app.root_key import export_root
        from tiny_ca.utils.duration import parse_duration

        read = settings(data_dir=data_dir, database_url=database_url)
        passphrase = asked_passphrase(passphrase_file, twice=True)

        def run() -> RootKey:
            lifetime = parse_duration(crl_lifetime, field="crl_lifetime")
            return export_root(read, out, passphrase, issuer_id=issuer, remove=remove, crl_lifetime=lifetime)

        _show(guarded(run))

    @root.command("import")
    def bring(
        file: Annotated[Path, typer.Argument(help="What 'root export' wrote.")],
        passphrase_file: PassphraseFile = None,
        data_dir: DataDir = None,
        database_url: DatabaseUrl = None,
    ) -> None:
        """Bring the root's key back, under the service's passphrase; the file stays as it is."""
        from app.root_key import import_root

        read = settings(data_dir=data_dir, database_url=database_url)
        passphrase = asked_passphrase(passphrase_file, twice=False)
        _show(guarded(lambda: import_root(read, file, passphrase)))

    cli.add_typer(root, name="root")


def _show(done: RootKey) -> None:
    fields: dict[str, Any] = {
        "issuer_id": done.issuer_id,
        "common_name": done.common_name,
        "file": str(done.file),
        "has_key": done.has_key,
        "crl_next_update": None if done.crl_next_update is None else rfc3339(done.crl_next_update),
    }
    Output(as_json=not sys.stdout.isatty()).record(fields)
