"""What other CAs leave behind, made by openssl itself: the folder of ``openssl ca``, and others from it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.running import openssl

__all__ = ["OpensslCA", "cfssl_database", "easy_rsa_folder", "library_database"]

_CONFIG = """
[ca]
default_ca = here
[here]
dir = {folder}
database = $dir/index.txt
new_certs_dir = $dir/newcerts
serial = $dir/serial
crlnumber = $dir/crlnumber
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
default_md = sha256
default_days = 90
default_crl_days = 30
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = empty
[empty]
"""
# https://github.com/cloudflare/cfssl/tree/master/certdb/sqlite/migrations says which columns there are.
_CFSSL = """
CREATE TABLE certificates (
  serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, ca_label blob, status blob NOT NULL, reason int,
  expiry timestamp, revoked_at timestamp, pem blob NOT NULL, PRIMARY KEY(serial_number, authority_key_identifier));
CREATE TABLE ocsp_responses (
  serial_number blob NOT NULL, authority_key_identifier blob NOT NULL, body blob NOT NULL, expiry timestamp,
  PRIMARY KEY(serial_number, authority_key_identifier));
"""
# The columns that the library documents of its CertificateRecord.
_LIBRARY = """
CREATE TABLE certificates (
  id INTEGER PRIMARY KEY, serial_number VARCHAR UNIQUE, common_name VARCHAR, status VARCHAR, not_valid_before DATETIME,
  not_valid_after DATETIME, key_type VARCHAR, certificate_pem TEXT, revocation_date DATETIME, revocation_reason INTEGER,
  uuid VARCHAR);
"""


class OpensslCA:
    """A folder of ``openssl ca``, with a CA in it that issues and revokes."""

    def __init__(self, folder: Path, name: str = "Elsewhere CA", *, serial: str = "1000") -> None:
        self.folder = folder
        self._key = folder / "leaf.key"
        if folder.exists():  # a copy of another one
            self._configure()
            return
        for part in ("newcerts", "private"):
            (folder / part).mkdir(parents=True)
        (folder / "index.txt").touch()
        (folder / "serial").write_text(serial + "\n")
        (folder / "crlnumber").write_text("10\n")
        self._configure()
        usage = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650"),
            *("-keyout", folder / "private/cakey.pem", "-subj", f"/CN={name}", *usage, "-out", folder / "cacert.pem"),
        )

    def copy(self, folder: Path) -> OpensslCA:
        """The same CA in another folder."""
        shutil.copytree(self.folder, folder)
        return OpensslCA(folder)

    @property
    def certificate(self) -> Path:
        """The CA's certificate."""
        return self.folder / "cacert.pem"

    @property
    def key(self) -> Path:
        """Its key."""
        return self.folder / "private" / "cakey.pem"

    @property
    def index(self) -> Path:
        """Its database."""
        return self.folder / "index.txt"

    def issue(self, name: str = "app.example.org", *more: str) -> int:
        """Issue one; its serial number."""
        serial = (self.folder / "serial").read_text().strip()
        openssl(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={name}"),
            *("-keyout", self._key, "-out", self.folder / "leaf.csr"),
        )
        self._ca("-batch", "-in", self.folder / "leaf.csr", "-out", self.folder / "leaf.pem", *more)
        return int(serial, 16)

    def issue_expired(self, name: str = "old.example.org") -> int:
        """Issue one that ended yesterday."""
        end = datetime.now(UTC) - timedelta(days=1)
        start = end - timedelta(days=30)
        return self.issue(name, "-startdate", f"{start:%Y%m%d%H%M%SZ}", "-enddate", f"{end:%Y%m%d%H%M%SZ}")

    def revoke(self, serial: int, *how: str) -> None:
        """Revoke one, as in ``-crl_reason superseded``."""
        self._ca("-revoke", self.file(serial), *how)

    def file(self, serial: int) -> Path:
        """Where its certificate is."""
        return self.folder / "newcerts" / f"{serial:X}.pem"

    def certificates(self) -> dict[int, x509.Certificate]:
        """All that it issued."""
        loaded = [x509.load_pem_x509_certificate(one.read_bytes()) for one in (self.folder / "newcerts").iterdir()]
        return {one.serial_number: one for one in loaded}

    def _configure(self) -> None:
        (self.folder / "openssl.cnf").write_text(_CONFIG.format(folder=self.folder))

    def _ca(self, *arguments: str | Path) -> None:
        openssl("ca", "-config", self.folder / "openssl.cnf", *arguments)


def easy_rsa_folder(ca: OpensslCA, folder: Path, revoked: Sequence[int]) -> Path:
    """The same CA as easy-rsa 3 lays it out: revoked certificates are moved away, others are also there by name."""
    pki = folder / "pki"
    for part in ("certs_by_serial", "issued", "private", "revoked/certs_by_serial", "reqs"):
        (pki / part).mkdir(parents=True)
    shutil.copy(ca.index, pki / "index.txt")
    shutil.copy(ca.certificate, pki / "ca.crt")
    shutil.copy(ca.key, pki / "private" / "ca.key")
    for number, serial in enumerate(sorted(ca.certificates())):
        if serial in revoked:
            shutil.copy(ca.file(serial), pki / "revoked" / "certs_by_serial" / f"{serial:X}.crt")
        elif number == 0:  # as after "easyrsa rewind-renew" and other repairs: only by name
            shutil.copy(ca.file(serial), pki / "issued" / "first.crt")
        else:
            shutil.copy(ca.file(serial), pki / "certs_by_serial" / f"{serial:X}.pem")
    return folder


def cfssl_database(ca: OpensslCA, file: Path, revoked: dict[int, int]) -> Path:
    """What cfssl would have kept; ``revoked`` says for which reason."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(_CFSSL)
        for serial, certificate in ca.certificates().items():
            at = "2026-10-01 10:00:00+00:00" if serial in revoked else "0001-01-01 00:00:00+00:00"
            status = "revoked" if serial in revoked else "good"
            pem = certificate.public_bytes(Encoding.PEM)
            expiry = certificate.not_valid_after_utc.isoformat(" ")
            row = (str(serial), "aki", "", status, revoked.get(serial, 0), expiry, at, pem)
            connection.execute("INSERT INTO certificates VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    return file


def library_database(ca: OpensslCA, file: Path, revoked: dict[int, int]) -> Path:
    """What the library would have kept."""
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.executescript(_LIBRARY)
        for number, (serial, certificate) in enumerate(ca.certificates().items()):
            status = "revoked" if serial in revoked else "valid"
            at = "2026-10-01 10:00:00.000000" if serial in revoked else None
            window = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
            connection.execute(
                "INSERT INTO certificates VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(str(serial), "app.example.org", status, *(f"{one:%Y-%m-%d %H:%M:%S.000000}" for one in window)),
                    *(
                        "SVC",
                        certificate.public_bytes(Encoding.PEM).decode(),
                        at,
                        revoked.get(serial),
                        f"uuid-{number}",
                    ),
                ),
            )
    return file
