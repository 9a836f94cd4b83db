"""``token``, ``profile``, ``audit``: what operators and auditors ask. ``token rotate-admin`` is in ``app.rotation``."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.client.commands.certificates import moment
from app.client.errors import ClientError, ExitCode
from app.client.output import Output
from app.client.session import Session, connected

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["mount", "token"]

_TOKEN_COLUMNS: Final = ("id", "name", "permissions", "names", "expires_at", "last_used_at")
_PROFILE_COLUMNS: Final = ("name", "certificate_type", "default_lifetime", "max_lifetime", "keys")
_AUDIT_COLUMNS: Final = ("at", "actor", "action", "outcome", "serial_number", "rule", "request_id")


class Role(StrEnum):
    """What a set of permissions is called."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AUDITOR = "auditor"
    ISSUER = "issuer"


class ExportFormat(StrEnum):
    """How the audit is written."""

    JSONL = "jsonl"


token = typer.Typer(name="token", help="API tokens: list, create, delete; rotate the admin's.", no_args_is_help=True)
_profile = typer.Typer(name="profile", help="What each kind of certificate may hold.", no_args_is_help=True)
_audit = typer.Typer(name="audit", help="Who did what, newest first.", no_args_is_help=True)

Actor = Annotated[str | None, typer.Option(help="Who did it.")]
Action = Annotated[str | None, typer.Option(help="certificate.issue, token.create …")]
SerialNumber = Annotated[str | None, typer.Option("--serial", help="To this certificate.")]
Outcome = Annotated[str | None, typer.Option(help="success, refused …")]
RequestId = Annotated[str | None, typer.Option(help="In this request.")]
Since = Annotated[str | None, typer.Option(help="From this moment on: 2026-11-23T12:00:00Z.")]
Until = Annotated[str | None, typer.Option(help="Before this moment.")]
Limit = Annotated[int | None, typer.Option(min=1, help="At most so many; all unless set.")]


def mount(cli: typer.Typer) -> None:
    """Add the groups."""
    groups: tuple[tuple[typer.Typer, dict[str, Callable[..., None]]], ...] = (
        (token, {"list": list_tokens, "create": create_token, "delete": delete_token}),
        (_profile, {"list": list_profiles, "show": show_profile}),
        (_audit, {"list": list_audit, "export": export_audit}),
    )
    for group, commands in groups:
        for name, command in commands.items():
            group.command(name)(connected(command))
        cli.add_typer(group, rich_help_panel="Client")


def list_tokens(session: Session) -> None:
    """List the tokens that you could have made; never the tokens themselves."""
    with session.connect() as transport:
        session.output.listing(transport.pages("/tokens", {}, limit=None), _TOKEN_COLUMNS)


def create_token(  # noqa: PLR0913, PLR0917  # each flag is a field of the request
    session: Session,
    name: Annotated[str, typer.Argument(help="What it is for.")],
    permission: Annotated[list[str] | None, typer.Option(help="certificates:issue …; more than once.")] = None,
    role: Annotated[Role | None, typer.Option(help="Its permissions, instead.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="Only these profiles.")] = None,
    issuer: Annotated[list[str] | None, typer.Option(help="Only the CAs with these ids.")] = None,
    dns: Annotated[list[str] | None, typer.Option(help="Only DNS names like these: *.ci.example.org.")] = None,
    ip_range: Annotated[list[str] | None, typer.Option(help="Only addresses in these: 10.0.0.0/8.")] = None,
    uri: Annotated[list[str] | None, typer.Option(help="Only URIs like these.")] = None,
    email: Annotated[list[str] | None, typer.Option(help="Only e-mail addresses like these.")] = None,
    subject: Annotated[list[str] | None, typer.Option(help="Only these: organization=Example, country=*.")] = None,
    max_lifetime: Annotated[str | None, typer.Option(help="Of certificates: 1h, 90d.")] = None,
    own_only: Annotated[bool, typer.Option("--own-only", help="Sees and touches only what it issued.")] = False,  # noqa: FBT002  # typer's way
    expires: Annotated[str | None, typer.Option(help="The token's end: 2027-01-01T00:00:00Z, or 30d from now.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write it here, mode 0600, instead of showing it.")] = None,
) -> None:
    """Make a token. It is shown here and never again."""
    wished: dict[str, Any] = {
        "name": name,
        "permissions": permission or None,
        "role": role,
        "profiles": profile or None,
        "issuers": issuer or None,
        "names": dns or None,
        "ip_ranges": ip_range or None,
        "uris": uri or None,
        "emails": email or None,
        "subject": subject or None,
        "max_lifetime": max_lifetime,
        "own_only": own_only or None,
        "expires_at": moment(expires),
    }
    if out is not None and out.exists():
        raise ClientError(f"{out} is there already; a token is written into a new file", code=ExitCode.USAGE)
    with session.connect() as transport:
        made = transport.post("/tokens", {field: value for field, value in wished.items() if value is not None})
    if out is not None:
        made = _written(made, out)
    session.output.record(made)


def delete_token(session: Session, token_id: Annotated[str, typer.Argument(metavar="ID")]) -> None:
    """Delete a token: it opens nothing any more."""
    from urllib.parse import quote

    with session.connect() as transport:
        transport.delete(f"/tokens/{quote(token_id, safe='')}")
    session.output.record({"deleted": token_id})


def list_profiles(session: Session) -> None:
    """List the profiles that you may use."""
    with session.connect() as transport:
        session.output.listing(transport.pages("/profiles", {}, limit=None), _PROFILE_COLUMNS)


def show_profile(session: Session, name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Show all that a profile allows."""
    with session.connect() as transport:
        items = list(transport.pages("/profiles", {}, limit=None))
    for item in items:
        if item["name"] == name:
            session.output.record(item)
            return
    known = ", ".join(str(item["name"]) for item in items)
    raise ClientError(f"there is no profile {name!r}; there are {known}", code=ExitCode.NOT_FOUND)


def list_audit(  # noqa: PLR0913, PLR0917  # each flag is a filter of the API
    session: Session,
    actor: Actor = None,
    action: Action = None,
    serial: SerialNumber = None,
    outcome: Outcome = None,
    request_id: RequestId = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 100,
) -> None:
    """List the newest rows of the audit."""
    filters = _filters(actor, action, serial, outcome, request_id, since, until)
    with session.connect() as transport:
        items = transport.pages("/audit", filters, limit=limit)
        session.output.listing(session.output.counted(items, "rows", limit), _AUDIT_COLUMNS)


def export_audit(  # noqa: PLR0913, PLR0917  # as above
    session: Session,
    actor: Actor = None,
    action: Action = None,
    serial: SerialNumber = None,
    outcome: Outcome = None,
    request_id: RequestId = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = None,
    form: Annotated[ExportFormat, typer.Option("--format", help="One JSON object a line.")] = ExportFormat.JSONL,
) -> None:
    """Write the whole audit, page by page, as it comes."""
    assert form is ExportFormat.JSONL  # noqa: S101  # the only one there is
    filters = _filters(actor, action, serial, outcome, request_id, since, until)
    with session.connect() as transport:
        rows: Iterable[Mapping[str, Any]] = transport.pages("/audit", filters, limit=limit)
        for row in Output(as_json=True).counted(rows, "rows", limit):
            sys.stdout.write(json.dumps(row) + "\n")


def _filters(*values: str | None) -> dict[str, str | None]:
    names = ("actor", "action", "serial_number", "outcome", "request_id", "since", "until")
    return dict(zip(names, values, strict=True))


def _written(made: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The token into its file; where that fails, it is lost, and its id is told so that it can be deleted."""
    from app.client.files import write_file

    try:
        write_file(out, f"{made['token']}\n".encode(), replace=False)
    except ClientError as error:
        message = f"{error.message}; token {made['id']} was made and is lost: tiny-ca token delete {made['id']}"
        raise ClientError(message, code=error.code) from error
    return {name: value for name, value in made.items() if name != "token"} | {"token_file": str(out)}
