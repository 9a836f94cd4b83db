"""What relying parties fetch: CA certificates and CRLs, kept in memory as they go over the wire."""

from __future__ import annotations

import binascii
import gzip
import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import format_datetime
from functools import partial
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from app.services.on_demand import OnDemand

__all__ = ["CERTIFICATE", "CRL", "LARGE", "PEM", "PublicFile", "bundle", "crl_pem", "der_file"]

PEM: Final = "application/x-pem-file"
CERTIFICATE: Final = "application/pkix-cert"
CRL: Final = "application/pkix-crl"

# A CRL of a million entries has 53 MB: to compress it, or to make PEM of it, takes as long as all the rest.
LARGE: Final = 1024 * 1024
_SLOW: Final = 9
_FAST: Final = 1
_OCTETS: Final = 48  # 64 characters: a line (RFC 7468 §2)


@dataclass(frozen=True, slots=True)
class PublicFile:
    """One file with its validators (RFC 9110 §8.8); what costs time is done when it is made, not when it is served.

    ``dated`` False: another version has the same second as its date, which then tells nothing (RFC 9110 §8.8.2.2).
    ``gzipped`` None: it does not shrink, or not for what that costs; of a large file it is made when that is asked for.
    The compressed form is another representation, so its strong validator differs (RFC 9110 §8.8.3).
    """

    content: bytes = field(repr=False)
    media_type: str
    modified: datetime
    last_modified: str
    etag: str
    gzipped: bytes | OnDemand[bytes] | None = field(repr=False, compare=False)
    gzip_etag: str
    dated: bool

    @classmethod
    def of(
        cls, content: bytes, media_type: str, modified: datetime, *, dated: bool = True, compress: bool = True
    ) -> PublicFile:
        """Compute everything; for a large CRL this takes a while, and belongs into a thread."""
        digest = hashlib.sha256(content).hexdigest()[:32]
        whole_second = modified.replace(microsecond=0)
        gzipped: bytes | OnDemand[bytes] | None = None
        # No time inside, so that equal content stays equal.
        if compress and len(content) >= LARGE:
            gzipped = OnDemand(partial(gzip.compress, content, _FAST, mtime=0))
        elif compress:
            shorter = gzip.compress(content, _SLOW, mtime=0)
            gzipped = shorter if len(shorter) < len(content) else None
        return cls(
            content=content,
            media_type=media_type,
            modified=whole_second,
            last_modified=format_datetime(whole_second, usegmt=True),
            etag=f'"{digest}"',
            gzipped=gzipped,
            gzip_etag=f'"{digest}-gzip"',
            dated=dated,
        )

    async def compressed(self) -> bytes | None:
        """``gzipped``, made if need be."""
        return await self.gzipped.get() if isinstance(self.gzipped, OnDemand) else self.gzipped


def crl_pem(der: bytes) -> bytes:
    """A CRL in PEM (RFC 7468 §6); the crypto library would read all of it first."""
    text = io.BytesIO()  # its value is not copied
    text.write(b"-----BEGIN X509 CRL-----\n")
    for at in range(0, len(der), _OCTETS):  # all at once, a large one would hold the interpreter while it lasts
        text.write(binascii.b2a_base64(der[at : at + _OCTETS]))
    text.write(b"-----END X509 CRL-----\n")
    return text.getvalue()


def bundle(certificates: Iterable[x509.Certificate]) -> PublicFile:
    """Certificates as one PEM file, in this order."""
    chosen = tuple(certificates)
    content = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chosen)
    return PublicFile.of(content, PEM, max(certificate.not_valid_before_utc for certificate in chosen))


def der_file(certificate: x509.Certificate) -> PublicFile:
    """One certificate as DER (RFC 5280 §4.2.2.1)."""
    return PublicFile.of(certificate.public_bytes(Encoding.DER), CERTIFICATE, certificate.not_valid_before_utc)
