"""``ca`` and ``crl``: what relying parties need, without a token. They print the file itself, also on a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.client.errors import ClientError, ExitCode
from app.client.session import Session, connected

if TYPE_CHECKING:
    from cryptography import x509

__all__ = ["mount"]

_CA_COLUMNS = ("subject", "serial_number", "not_valid_after", "fingerprint_sha256")
_CRL_FIELDS = ("issuer", "crl_number", "this_update", "next_update", "revoked")
Out = Annotated[Path | None, typer.Option(help="Write it into this file, whole or not at all.")]


def mount(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command("ca", rich_help_panel="Client")(connected(ca))
    cli.command("crl", rich_help_panel="Client")(connected(crl))


def ca(
    session: Session,
    roots: Annotated[bool, typer.Option("--roots", help="The roots alone: what to trust.")] = False,  # noqa: FBT002  # typer's way
    out: Out = None,
) -> None:
    """Fetch the CA certificates, PEM: the issuing CA, then its root; --json describes them."""
    from cryptography import x509

    with session.connect() as transport:
        content = transport.public("/roots.pem" if roots else "/ca.pem")
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise ClientError("the service answered without certificates; is it a tiny-ca?") from error
    _keep(content, out)
    if session.output.is_asked:
        session.output.listing(map(_ca_view, certificates), _CA_COLUMNS)
    elif out is None:
        _print(content)


def crl(
    session: Session,
    der: Annotated[bool, typer.Option("--der", help="DER instead of PEM.")] = False,  # noqa: FBT002  # typer's way
    issuer: Annotated[str | None, typer.Option(help="The id of the CA; the default one unless set.")] = None,
    out: Out = None,
) -> None:
    """Fetch the newest CRL, PEM; --json describes it."""
    from urllib.parse import quote

    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    if der and out is None and sys.stdout.isatty() and not session.output.is_asked:
        raise ClientError("DER is no text for a terminal; give --out FILE", code=ExitCode.USAGE)
    with session.connect() as transport:
        content = transport.public("/crl.der" if issuer is None else f"/issuers/{quote(issuer, safe='')}/crl.der")
    try:
        read = x509.load_der_x509_crl(content)
    except ValueError as error:
        raise ClientError("the service answered without a CRL; is it a tiny-ca?") from error
    content = content if der else read.public_bytes(Encoding.PEM)
    _keep(content, out)
    if session.output.is_asked:
        session.output.record(_crl_view(read), _CRL_FIELDS)
    elif out is None:
        _print(content)


def _keep(content: bytes, out: Path | None) -> None:
    if out is not None:
        from app.client.files import write_file

        write_file(out, content, replace=True, keep_mode=True)


def _print(content: bytes) -> None:
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _ca_view(certificate: x509.Certificate) -> dict[str, Any]:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    from tiny_ca.utils.rfc3339 import rfc3339

    return {
        "subject": certificate.subject.rfc4514_string(),
        "serial_number": f"{certificate.serial_number:x}",
        "not_valid_before": rfc3339(certificate.not_valid_before_utc),
        "not_valid_after": rfc3339(certificate.not_valid_after_utc),
        "fingerprint_sha256": certificate.fingerprint(SHA256()).hex(),
        "certificate": certificate.public_bytes(Encoding.PEM).decode("ascii"),
    }


def _crl_view(read: x509.CertificateRevocationList) -> dict[str, Any]:
    from cryptography import x509

    from tiny_ca.utils.rfc3339 import rfc3339

    return {
        "issuer": read.issuer.rfc4514_string(),
        "crl_number": read.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number,
        "this_update": rfc3339(read.last_update_utc),
        "next_update": None if read.next_update_utc is None else rfc3339(read.next_update_utc),
        "revoked": len(read),
    }
