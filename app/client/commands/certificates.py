"""``issue``, ``list``, ``show``, ``revoke``, ``renew``."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from app.client.errors import ClientError, ExitCode
from app.client.output import progress, say
from app.client.session import Session, connected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from app.client.issuing import Place, Wish
    from app.client.renewal import Target
    from tiny_ca.models.key_spec import KeySpec

__all__ = ["moment", "mount"]

_PATH: Final = "/certificates"
_COLUMNS: Final = ("serial_number", "common_name", "status", "profile", "not_valid_after")
_MADE: Final = ("serial_number", "common_name", "san", "profile", "not_valid_after", "certificate_file", "key_file")
_BATCH: Final = ("name", "status", "serial_number", "not_valid_after", "certificate_file")
_RECORD: Final = (
    "serial_number", "status", "subject", "san", "profile", "issuer_id", "requester", "public_key", "not_valid_before",
    "not_valid_after", "fingerprint_sha256", "revocation_date", "revocation_reason",
)  # fmt: skip
_SERIAL: Final = re.compile(r"[0-9A-Fa-f:]{1,128}")


class Reason(StrEnum):
    """RFC 5280 §5.3.1, but for what takes a certificate off a CRL."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    CA_COMPROMISE = "cACompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"
    AA_COMPROMISE = "aACompromise"


class Status(StrEnum):
    """By the clock and the revocation."""

    VALID = "valid"
    REVOKED = "revoked"
    EXPIRED = "expired"


Profile = Annotated[str | None, typer.Option(help="The service's default unless set.")]
Lifetime = Annotated[str | None, typer.Option(help="15m, 24h, 90d; the profile's default unless set.")]
Serial = Annotated[str, typer.Argument(metavar="SERIAL", help="Hex, with or without colons.")]


def mount(cli: typer.Typer) -> None:
    """Add the commands."""
    for name, command in (("issue", issue), ("list", list_), ("show", show), ("revoke", revoke), ("renew", renew)):
        cli.command(name, rich_help_panel="Client")(connected(command))


def issue(  # noqa: PLR0913, PLR0917  # each flag is a field of the request
    session: Session,
    name: Annotated[str | None, typer.Argument(help="The common name: a host, an address, a person.")] = None,
    san: Annotated[
        list[str] | None, typer.Option(help="Another name: host, address, URI, e-mail, or DNS:…, IP:….")
    ] = None,
    profile: Profile = None,
    lifetime: Lifetime = None,
    issuer: Annotated[str | None, typer.Option(help="The id of the issuing CA.")] = None,
    key: Annotated[str, typer.Option(help="ec:P-256, rsa:3072, ed25519, mldsa:ML-DSA-65 …")] = "ec:P-256",
    out_dir: Annotated[Path, typer.Option(help="Where NAME.key and NAME.pem go.")] = Path(),
    out: Annotated[Path | None, typer.Option(help="The certificate's file; the key goes beside it, as .key.")] = None,
    csr: Annotated[Path | None, typer.Option(help="Have this CSR certified; no key is made.")] = None,
    batch: Annotated[Path | None, typer.Option(help="A file of names, or of JSON objects, one a line.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace keys that are there.")] = False,  # noqa: FBT002  # typer's way
) -> None:
    """Make a key here, get a certificate for it, and write both; the key is never sent."""
    from app.client.issuing import Wish

    if sum(one is not None for one in (name, batch)) > 1 or (csr and batch) or not (name or csr or batch):
        raise _wrong("give NAME, --csr FILE or --batch FILE")
    if batch and out:
        raise _wrong("with --batch, give --out-dir, not --out")
    wish = Wish(name=name or "", names=tuple(san or ()), profile=profile, lifetime=lifetime, issuer_id=issuer)
    if batch is not None:
        _issue_batch(session, batch, wish, out_dir=out_dir, key=_key(key), force=force)
    elif csr is not None:
        if san:
            raise _wrong("with --csr, the names are the CSR's; --san is for keys that are made here")
        _issue_csr(session, csr, wish, out_dir=out_dir, out=out, force=force)
    else:
        from app.client.issuing import issue as issue_one
        from app.client.issuing import places

        with session.connect() as transport:
            made = issue_one(transport, wish, places(wish.name, out_dir=out_dir, out=out), key=_key(key), force=force)
        session.output.record(made, _MADE)


def list_(  # noqa: PLR0913, PLR0917  # each flag is a filter of the API
    session: Session,
    status: Annotated[Status | None, typer.Option(help="Only these.")] = None,
    key_type: Annotated[str | None, typer.Option(help="Category: CA, USR, SVC, DEV, INT.")] = None,
    common_name: Annotated[str | None, typer.Option(help="Exact, or a suffix as *.example.org.")] = None,
    san: Annotated[str | None, typer.Option(help="Exact, or a suffix as *.example.org.")] = None,
    profile: Annotated[str | None, typer.Option(help="Of this profile.")] = None,
    issuer: Annotated[str | None, typer.Option(help="Of the CA with this id.")] = None,
    requester: Annotated[str | None, typer.Option(help="Issued to this token or identity.")] = None,
    expires_before: Annotated[str | None, typer.Option(help="2026-11-23T12:00:00Z, or 30d from now.")] = None,
    expires_after: Annotated[str | None, typer.Option(help="As --expires-before.")] = None,
    spki_sha256: Annotated[str | None, typer.Option(help="For this key.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many; all unless set.")] = None,
) -> None:
    """List certificates, newest first."""
    filters = {
        "status": status,
        "key_type": key_type,
        "common_name": common_name,
        "san": san,
        "profile": profile,
        "issuer_id": issuer,
        "requester": requester,
        "expires_before": moment(expires_before),
        "expires_after": moment(expires_after),
        "spki_sha256": spki_sha256,
    }
    with session.connect() as transport:
        items = transport.pages(_PATH, filters, limit=limit)
        session.output.listing(session.output.counted(items, "certificates", limit), _COLUMNS)


def show(
    session: Session,
    serial: Serial,
    pem: Annotated[bool, typer.Option("--pem", help="The certificate and its intermediates, PEM.")] = False,  # noqa: FBT002
) -> None:
    """Show one certificate."""
    from app.client.issuing import chain_of

    with session.connect() as transport:
        record = transport.get(f"{_PATH}/{_serial(serial)}")
    if pem:
        sys.stdout.write(chain_of(record).decode("ascii"))
    else:
        session.output.record(record, _RECORD)


def revoke(
    session: Session,
    serial: Serial,
    reason: Annotated[Reason, typer.Option(help="Why (RFC 5280).")] = Reason.UNSPECIFIED,
) -> None:
    """Revoke a certificate; the CRL that says so is out before this ends."""
    with session.connect() as transport:
        record = transport.post(f"{_PATH}/{_serial(serial)}/revoke", {"reason": reason.value})
    session.output.record(record, _RECORD)


def renew(  # noqa: PLR0913, PLR0917  # each flag is a choice of its own
    session: Session,
    file: Annotated[Path, typer.Argument(metavar="FILE.pem", help="The certificate, replaced in place.")],
    lifetime: Lifetime = None,
    new_key: Annotated[bool, typer.Option("--new-key", help="Make a new key; the old certificate is revoked.")] = False,  # noqa: FBT002
    key: Annotated[str | None, typer.Option(help="The new key's kind; the old one's unless set.")] = None,
    key_file: Annotated[Path | None, typer.Option(help="Its key; FILE.key unless set.")] = None,
    mtls: Annotated[bool, typer.Option("--mtls", help="By the certificate itself, not by a token.")] = False,  # noqa: FBT002
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and renew at two thirds of each lifetime.")] = False,  # noqa: FBT002
    exec_: Annotated[str | None, typer.Option("--exec", help="A command to run after each renewal; no shell.")] = None,
) -> None:
    """Renew a certificate in its file: the same key, or with --new-key another one."""
    from app.client import renewal

    if key is not None and not new_key:
        raise _wrong("--key says of which kind the new key is; give --new-key with it")
    if new_key and lifetime is not None:
        raise _wrong("with --new-key the lifetime is the profile's default; leave out --lifetime")
    if mtls and lifetime is not None:
        raise _wrong("with --mtls the certificate lasts as long as the old one did; leave out --lifetime")
    target = renewal.Target(
        certificate=file,
        key=key_file or file.with_name(f"{file.name.removesuffix('.pem').removesuffix('.crt')}.key"),
        new_key=new_key,
        itself=mtls,
        key_kind=None if key is None else _key(key),
        lifetime=lifetime,
    )
    command = renewal.parse_command(exec_)
    if mtls:
        session = _by_certificate(session, target)
    if watch:
        session.load()  # wrong settings are told now, not at two thirds of the lifetime
        renewal.watch(session.connect, target, renewed=lambda made: _tell(session, made), command=command)
        return
    with session.connect() as transport:
        made = renewal.renew(transport, target)
    session.output.record(made, _MADE)
    if command:
        renewal.run_command(command)


def _by_certificate(session: Session, target: Target) -> Session:
    from app.client.renewal import identity

    # No token is sent beside it: what the certificate may not do shall not be done.
    return replace(session, load=lambda: replace(session.load(), token=None, identity=identity(target)))


def moment(text: str | None) -> str | None:
    """A moment as the API reads it; a lifetime is one from now."""
    if text is None or not re.fullmatch(r"[0-9]+[wdhms]", text):
        return text
    from tiny_ca.utils.duration import parse_duration
    from tiny_ca.utils.rfc3339 import rfc3339

    then = datetime.now(UTC) + parse_duration(text, field="expires")
    return rfc3339(then.replace(microsecond=0))


def _issue_batch(session: Session, file: Path, defaults: Wish, *, out_dir: Path, key: KeySpec, force: bool) -> None:
    from app.client.issuing import BatchResult, issue_batch, places, read_batch
    from app.client.transport import exit_code, line_of_problem

    wishes = read_batch(_text(file), defaults=defaults)
    wanted: dict[str, Place] = {wish.name: places(wish.name, out_dir=out_dir, out=None) for wish in wishes}
    results: list[BatchResult] = []
    try:
        with session.connect() as transport, progress("certificates", len(wishes)) as done:
            pairs = [(wish, wanted[wish.name]) for wish in wishes]
            results.extend(issue_batch(transport, pairs, key=key, force=force, done=done))
    finally:  # what was made before the service went away is in its files
        session.output.listing((one.view(wanted[one.wish.name]) for one in results), _BATCH)
    refused = [(one.wish.name, one.problem) for one in results if one.problem is not None]
    for name, problem in refused:
        say(f"{name}: {line_of_problem(problem)}")
    if refused:
        codes = {exit_code(int(problem["status"])) for _, problem in refused}
        code = codes.pop() if len(codes) == 1 else ExitCode.FAILED
        raise ClientError(f"{len(refused)} of {len(results)} were refused", code=code)


def _issue_csr(session: Session, file: Path, wish: Wish, *, out_dir: Path, out: Path | None, force: bool) -> None:
    from app.client.files import write_file
    from app.client.issuing import Place, chain_of, issue_from_csr, places

    text = _text(file)
    place = Place(places(wish.name or file.name.removesuffix(".csr"), out_dir=out_dir, out=out).certificate, None)
    place.check_free(force=force)
    with session.connect() as transport:
        answer = issue_from_csr(transport, wish, text.encode())
    write_file(place.certificate, chain_of(answer), replace=True, keep_mode=True)
    session.output.record(answer | {"certificate_file": str(place.certificate)}, _MADE)


def _tell(session: Session, made: Mapping[str, Any]) -> None:
    """A line for each renewal, whatever reads it."""
    if session.output.as_json:
        import json

        print(json.dumps({name: made.get(name) for name in _MADE if name in made}), flush=True)  # noqa: T201
    else:
        say(f"{made['certificate_file']} is renewed: {made['serial_number']}, valid until {made['not_valid_after']}")


def _key(text: str) -> KeySpec:
    from tiny_ca.ca_factory.profile_file import parse_key_spec

    return parse_key_spec(text)


def _serial(text: str) -> str:
    if not _SERIAL.fullmatch(text):
        raise _wrong(f"{text[:80]!r} is no serial number: hex digits, with or without colons")
    return text


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise _wrong(f"{file} cannot be read: {reason}") from error


def _wrong(message: str) -> ClientError:
    return ClientError(message, code=ExitCode.USAGE)
