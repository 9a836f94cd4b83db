"""What all commands have in common: the flags that say which service, the form of the output, the way they fail.

Nothing heavy is imported here: ``tiny-ca --help`` reads every command, and runs none.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.client.errors import ClientError, ExitCode
from app.client.output import Output, say

if TYPE_CHECKING:
    from app.client.config import Connection
    from app.client.transport import Transport

__all__ = ["EXIT_CODES", "Session", "connected"]

EXIT_CODES: Final = (
    "Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 refused by policy, 4 not found, 5 conflict, "
    "6 not authenticated."
)


@dataclass(frozen=True, slots=True)
class Session:
    """One run of a command. ``load`` reads the settings again, and with them the token, which may have been rotated."""

    output: Output
    load: Callable[[], Connection]

    def connect(self, sleep: Callable[[float], object] = time.sleep) -> Transport:
        """A connection to the service; a context manager."""
        from app.client.transport import Transport

        return Transport(self.load(), sleep=sleep)


def _load(
    url: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    config: Path | None,
    retries: int,
    *,
    insecure_http: bool,
) -> Connection:
    from app.client.config import load_connection

    return load_connection(
        url=url,
        token_file=token_file,
        ca_file=ca_file,
        config=config,
        retries=retries,
        insecure_http=insecure_http,
        environment=os.environ,
    )


def _connection_flags(
    *,
    url: Annotated[str | None, typer.Option(help="The service. [TINY_CA_URL]", rich_help_panel="Connection")] = None,
    token_file: Annotated[
        Path | None, typer.Option(help="A file with the token. [TINY_CA_TOKEN]", rich_help_panel="Connection")
    ] = None,
    ca_file: Annotated[
        Path | None, typer.Option(help="The CA of the service's TLS certificate, PEM.", rich_help_panel="Connection")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="url, token_file, ca_file, insecure_http in TOML. [~/.config/tiny-ca/client.toml]",
            rich_help_panel="Connection",
        ),
    ] = None,
    retries: Annotated[
        int, typer.Option(min=0, max=100, help="How often a request is sent again.", rich_help_panel="Connection")
    ] = 5,
    insecure_http: Annotated[
        bool,
        typer.Option(
            "--insecure-http", help="Send the token over plain HTTP to another machine.", rich_help_panel="Connection"
        ),
    ] = False,
    as_json: Annotated[
        bool | None, typer.Option("--json/--table", help="JSON unless standard output is a terminal.")
    ] = None,
) -> Session:
    output = Output(as_json=not sys.stdout.isatty() if as_json is None else as_json, is_asked=as_json is not None)
    return Session(output, lambda: _load(url, token_file, ca_file, config, retries, insecure_http=insecure_http))


_FLAGS: Final = tuple(inspect.signature(_connection_flags, eval_str=True).parameters.values())


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first parameter is the Session, the common flags; a ClientError ends it in one line."""
    own = tuple(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def run(**given: Any) -> None:  # noqa: ANN401  # typer has read each of them
        session = _connection_flags(**{flag.name: given.pop(flag.name) for flag in _FLAGS})
        try:
            command(session, **given)
        except ClientError as error:
            say(error.message)
            raise typer.Exit(error.code) from None
        except Exception as error:
            if (message := _usage(error)) is None:
                raise
            say(message)
            raise typer.Exit(ExitCode.USAGE) from None

    parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*own, *_FLAGS)]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # typer reads it (PEP 362)
    run.__annotations__ = {one.name: one.annotation for one in parameters}
    run.__name__, run.__module__ = command.__name__, command.__module__
    run.__doc__ = f"{command.__doc__}\n\n{EXIT_CODES}"
    return run


def _usage(error: Exception) -> str | None:
    """What the library says of a name, a key or a lifetime that is none; None for anything else."""
    from tiny_ca.exc import Invalid

    if not isinstance(error, Invalid):
        return None
    return f"{error.message} (field {error.field})" if error.field else error.message
