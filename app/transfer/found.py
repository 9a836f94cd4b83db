"""What other CAs left behind, as every reader of it hands it over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.const import CertType
from tiny_ca.db.queries.merging import Revocation
from tiny_ca.exc import Invalid
from tiny_ca.models.revocation import reason_from_code

__all__ = ["Found", "Lacking", "Source", "certificate_from_pem", "pem_blocks", "revocation_of", "shown"]

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_SHOWN: Final = 80
_REMOVE_FROM_CRL: Final = 8
_FIRST_YEAR: Final = 1950


@dataclass(frozen=True, slots=True)
class Found:
    """A certificate, in ``where``: a file and its line, or a table and its row."""

    certificate: x509.Certificate
    revocation: Revocation | None
    where: str
    key_type: CertType | None = None
    uuid: str | None = None


@dataclass(frozen=True, slots=True)
class Lacking:
    """A serial number whose certificate is nowhere."""

    serial_number: int
    expires: datetime
    is_revoked: bool
    where: str


@dataclass(frozen=True, slots=True)
class Source:
    """A place that was opened: what is in it, read as it is asked for.

    ``ca_certificate`` and ``ca_key`` are files of the CA that the place belongs to, where it has them.
    """

    entries: Iterator[Found | Lacking]
    ca_certificate: Path | None = None
    ca_key: Path | None = None
    crl_number: int = 0


def pem_blocks(content: bytes) -> list[bytes]:
    """The certificates in PEM, whatever text stands between them."""
    return _CERTIFICATE.findall(content)


def certificate_from_pem(content: bytes, where: str) -> x509.Certificate:
    """The first certificate in the PEM.

    Raises
    ------
    Invalid
        There is none, or it cannot be read.
    """
    blocks = pem_blocks(content)
    if not blocks:
        kind = (
            "DER, and PEM is read here: openssl x509 -inform DER" if content[:1] == b"\x30" else "no certificate in PEM"
        )
        raise Invalid(f"{where} is {kind}", field="certificate")
    try:
        certificate = x509.load_pem_x509_certificate(blocks[0])
        certificate.public_key()
        _ = certificate.extensions, certificate.issuer, certificate.subject, certificate.serial_number
    except UNREADABLE as error:
        raise Invalid(f"{where} cannot be read as a certificate: {shown(str(error))}", field="certificate") from None
    return certificate


def revocation_of(date: datetime, code: int, where: str) -> Revocation:
    """What a CRL is to say of it.

    Raises
    ------
    Invalid
        RFC 5280 has no such reason, or nothing was revoked at that time.
    """
    # RFC 5280 §5.3.1: removeFromCRL is for delta CRLs only; what is on a full one is revoked, for whatever reason.
    if code == _REMOVE_FROM_CRL:
        code = 0
    try:
        reason_from_code(code)
    except Invalid as error:
        raise Invalid(f"{where}: {error.message}", field="reason", value=code) from None
    if date.year < _FIRST_YEAR:
        raise Invalid(f"{where}: it is revoked, and has no date of it", field="revocation_date", value=date)
    return Revocation(date, code)


def shown(value: object) -> str:
    """A value from outside as an error shows it: quoted, on one line, not too long."""
    return ascii(value)[:_SHOWN]
