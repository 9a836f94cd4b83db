"""Services that are moved: what they know, and how to move them."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from cryptography import x509

from tests.running import CERTIFICATES, RunningService, openssl, tiny_ca

__all__ = ["PASSPHRASE", "Crl", "changed", "crl_of", "issued", "place", "revoked_by_openssl", "rows_of", "run", "told"]

PASSPHRASE = "correct horse battery staple"


class Crl(NamedTuple):
    """What a service's CRL says: its number, and the reason and date of each serial number."""

    number: int
    revoked: Mapping[int, tuple[str, datetime]]


def place(folder: Path, like: Path | None = None) -> Path:
    """A folder for a service, with the passphrase of backups; ``like`` another, with its passphrase and token too."""
    (folder / "data").mkdir(parents=True)
    (folder / "passphrase").write_text(PASSPHRASE + "\n")
    if like is not None:
        for secret in ("key-passphrase", "admin-token"):
            (folder / "data" / secret).write_bytes((like / "data" / secret).read_bytes())
    return folder


def run(folder: Path, *arguments: str | Path, **environment: str) -> str:
    """A command that must succeed; what it printed."""
    code, out, errors = tiny_ca(folder, *map(str, arguments), **environment)
    assert code == 0, errors
    return out


def told(folder: Path, *arguments: str | Path, code: int = 1, **environment: str) -> str:
    """A command that must fail with one line; that line."""
    found, out, errors = tiny_ca(folder, *map(str, arguments), **environment)
    assert (found, out, len(errors)) == (code, "", 1), (found, out, errors)
    return errors[0]


def issued(client: httpx.Client, name: str = "app.example.org") -> int:
    """Issue one; its serial number."""
    answer = client.post(CERTIFICATES, json={"common_name": name})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["serial_number"], 16)


def changed(client: httpx.Client, serial: int, reason: str = "superseded") -> None:
    """Revoke one."""
    answer = client.post(f"{CERTIFICATES}/{serial:x}/revoke", json={"reason": reason})
    assert answer.status_code == 200, answer.text


def crl_of(service: RunningService) -> Crl:
    """The CRL of the default issuer, its signature checked by openssl."""
    with service.anonymous() as client:
        der = client.get("/crl.der").content
        (service.folder / "crl.der").write_bytes(der)
        (service.folder / "ca.pem").write_bytes(client.get("/ca.pem").content)
    text = openssl("crl", "-inform", "DER", "-in", service.folder / "crl.der", "-CAfile", service.folder / "ca.pem")
    assert "verify OK" in text
    crl = x509.load_der_x509_crl(der)
    revoked = {}
    for one in crl:
        try:
            reason = str(one.extensions.get_extension_for_class(x509.CRLReason).value.reason.value)
        except x509.ExtensionNotFound:
            reason = "unspecified"
        revoked[one.serial_number] = (reason, one.revocation_date_utc)
    return Crl(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number, revoked)


def revoked_by_openssl(service: RunningService, serial: int) -> bool:
    """What a relying party finds of a certificate with the CRL that is served."""
    with service.client() as client:
        (service.folder / "leaf.pem").write_bytes(
            client.get(f"{CERTIFICATES}/{serial:x}", headers={"Accept": "application/pem-certificate-chain"}).content
        )
        (service.folder / "crl.pem").write_bytes(client.get("/crl.pem").content)
        (service.folder / "ca.pem").write_bytes(client.get("/ca.pem").content)
    files = ("-CAfile", service.folder / "ca.pem", "-CRLfile", service.folder / "crl.pem")
    said = openssl("verify", "-crl_check", *files, service.folder / "leaf.pem", check=False)
    assert "certificate revoked" in said or said.rstrip().endswith("OK"), said
    return "certificate revoked" in said


def rows_of(folder: Path, query: str) -> list[Any]:
    """What a SQLite database holds."""
    with closing(sqlite3.connect(folder / "data" / "tiny-ca.db")) as connection:
        return connection.execute(query).fetchall()
