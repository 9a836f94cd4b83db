"""``tiny-ca``: what an operator types. One line and an exit code for each error; 2 where the settings are wrong.

The service is imported by the commands that need it: ``tiny-ca --help`` and the client's commands do not.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer
from rich.console import Console
from typer.exceptions import TyperException

from app.cli_db import mount_db
from app.cli_root import mount_root
from app.cli_transfer import mount_transfer
from app.client.commands import mount
from app.client.commands.operations import token
from app.client.errors import one_line
from app.client.output import Output

if TYPE_CHECKING:
    from app.settings import Settings

__all__ = ["main"]

_T = TypeVar("_T")
_WRONG_SETTINGS: Final = 2
_FAILED: Final = 1

cli = typer.Typer(
    name="tiny-ca",
    help="A certificate authority as a service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # a traceback with local variables could show a secret
    context_settings={"help_option_names": ["-h", "--help"]},
)
_errors = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
_output = Console(highlight=False, soft_wrap=True, emoji=False)

DataDir = Annotated[Path | None, typer.Option(help="Database, passphrase and admin token. [TINY_CA_DATA_DIR, ./data]")]
PublicUrl = Annotated[str | None, typer.Option(help="What AIA and CDP in certificates start with.")]


@cli.command()
def serve(  # noqa: PLR0913, PLR0917  # each flag is a setting
    host: Annotated[str | None, typer.Option(help="Address to listen on. [TINY_CA_HOST, 127.0.0.1]")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [TINY_CA_PORT, 8000]")] = None,
    workers: Annotated[int | None, typer.Option(help="Worker processes. [TINY_CA_WORKERS, 1]")] = None,
    data_dir: DataDir = None,
    database_url: Annotated[str | None, typer.Option(help="SQLite in the data folder unless set.")] = None,
    public_url: PublicUrl = None,
    profiles_file: Annotated[Path | None, typer.Option(help="Profiles, TOML.")] = None,
    config_file: Annotated[Path | None, typer.Option(help="OIDC issuers …, TOML. [TINY_CA_CONFIG_FILE]")] = None,
    tls: Annotated[
        str | None, typer.Option(help="auto: HTTPS with a certificate of the CA's own; off. auto beyond loopback.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain for HTTPS, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key, PEM.")] = None,
    client_ca: Annotated[
        Path | None,
        typer.Option(help="Clients may renew by their certificate under these CAs, PEM; self: the CA's own."),
    ] = None,
    behind_proxy: Annotated[bool | None, typer.Option("--behind-proxy", help="A proxy in front does TLS.")] = None,
) -> None:
    """Start the service; on a first run, make its CA first."""
    from app.server import serve as run_server

    settings = _settings(
        host=host,
        port=port,
        workers=workers,
        data_dir=data_dir,
        database_url=database_url,
        public_url=public_url,
        profiles_file=profiles_file,
        config_file=config_file,
        tls=tls,
        tls_cert=tls_cert,
        tls_key=tls_key,
        client_ca=client_ca,
        behind_proxy=behind_proxy,
    )
    raise typer.Exit(_guarded(lambda: run_server(settings, _announce)))


@cli.command()
def init(data_dir: DataDir = None, public_url: PublicUrl = None) -> None:
    """Make the database, the CA and the admin token, without serving; again, it changes nothing."""
    import asyncio

    from app.main import prepare_ca

    settings = _settings(data_dir=data_dir, public_url=public_url)
    _guarded(lambda: asyncio.run(prepare_ca(settings)))
    _where(settings)


@cli.command()
def health(
    ready: Annotated[bool, typer.Option("--ready", help="Not only alive: it can issue now.")] = False,  # noqa: FBT002  # a flag
    url: Annotated[str | None, typer.Option(help="Of the service; where its settings say unless given.")] = None,
) -> None:
    """On the service's machine: 0 if it is well, else one line and 1. For the healthcheck of a container."""
    from app.health import Unwell, ask_health, own_url

    try:
        ask_health(own_url(_settings()) if url is None else url.rstrip("/"), ready=ready)
    except Unwell as error:
        raise _stop(str(error), _FAILED) from None


@token.command("rotate-admin")
def rotate_admin(
    data_dir: DataDir = None,
    database_url: Annotated[str | None, typer.Option(help="SQLite in the data folder unless set.")] = None,
) -> None:
    """On the service's machine: a new admin token, in its file; the old one ends."""
    from app.rotation import rotate_admin_token

    settings = _settings(data_dir=data_dir, database_url=database_url)
    path = _guarded(lambda: rotate_admin_token(settings))
    Output(as_json=not sys.stdout.isatty()).record({"token_file": str(path)})


mount(cli)


def main() -> None:
    """The console script."""
    try:
        code = cli(standalone_mode=False)
    except TyperException as error:  # wrong usage; without a message, the help was shown instead
        if message := error.format_message():
            _stop(one_line(message), _WRONG_SETTINGS)
        code = error.exit_code
    except typer.Abort:
        code = _FAILED
    sys.exit(code)


def _settings(**flags: Any) -> Settings:  # noqa: ANN401  # the settings check each of them
    from app.logs import configure_logging
    from app.settings import SettingsError, load_settings

    try:
        settings = load_settings(**flags)
    except SettingsError as error:
        raise _stop(str(error), _WRONG_SETTINGS) from None
    configure_logging(form=settings.log_format, level=settings.log_level)
    return settings


def _guarded(run: Callable[[], _T]) -> _T:
    from app.settings import SettingsError
    from tiny_ca.exc import TinyCAError

    try:
        return run()
    except SettingsError as error:
        raise _stop(str(error), _WRONG_SETTINGS) from None
    except TinyCAError as error:
        raise _stop(error.message, _FAILED) from None
    except KeyboardInterrupt:  # before there was a server that could have stopped in good order
        raise typer.Exit(0) from None


def _stop(message: str, code: int) -> typer.Exit:
    for line in message.splitlines():
        _errors.print(f"tiny-ca: {line}", markup=False)
    return typer.Exit(code)


def _where(settings: Settings) -> None:
    from app.services.secrets import ADMIN_TOKEN_FILE, PASSPHRASE_FILE

    folder = settings.data_dir
    shown = "TINY_CA_DATABASE_URL" if settings.database_url else str(folder / "tiny-ca.db")
    _output.print(f"  database         {shown}", markup=False)
    for name, file, given in (
        ("key passphrase", PASSPHRASE_FILE, settings.key_passphrase or settings.key_passphrase_file),
        ("admin token", ADMIN_TOKEN_FILE, settings.admin_token or settings.admin_token_file),
    ):
        if given:
            where = "as it was set"
        else:
            where = str(folder / file) if (folder / file).exists() else "known by its hash only; set one to change it"
        _output.print(f"  {name:<16} {where}", markup=False)


def _announce(settings: Settings, root_fingerprints: Sequence[str]) -> None:
    """The one screen: where things are, and a curl that works when pasted."""
    from app.services.secrets import ADMIN_TOKEN_FILE

    url = settings.effective_public_url
    token = settings.data_dir / ADMIN_TOKEN_FILE
    _output.print(f"\ntiny-ca serves on {url}   (Ctrl-C stops it)\n", markup=False)
    if settings.public_url:
        _output.print(f"  listens on       {settings.host}:{settings.port}", markup=False)
    _where(settings)
    _output.print(f"  CA certificates  {url}/ca.pem", markup=False)
    for fingerprint in root_fingerprints:
        _output.print(f"  root SHA-256     {fingerprint}", markup=False)
    _output.print(f"  CRL              {url}/crl.pem", markup=False)
    _output.print(f"  API              {url}/docs", markup=False)
    trust = ""
    if settings.tls_mode == "auto":
        trust = "--cacert roots.pem "
        _output.print(
            f"\nTo trust it, once; compare what openssl prints with the root above:\n\n"
            f"  curl -fsSk {url}/roots.pem > roots.pem && openssl x509 -in roots.pem -noout -fingerprint -sha256",
            markup=False,
        )
    if token.exists() and not (settings.admin_token or settings.admin_token_file):
        _output.print(
            "\nA key and a certificate for app.example.org, for a day:\n\n"
            f'  curl -fsS {trust}-H "Authorization: Bearer $(cat {token})" \\\n'
            '    -H "Accept: application/pem-certificate-chain" \\\n'
            '    -d \'{"common_name": "app.example.org", "lifetime": "24h"}\' \\\n'
            f"    {url}/api/v1/certificates > app.pem\n",
            markup=False,
        )


_db = mount_db(cli, settings=_settings, guarded=_guarded)
mount_root(cli, settings=_settings, guarded=_guarded)
mount_transfer(cli, _db, settings=_settings, guarded=_guarded)
