"""What a certificate or a CRL says, and whether it is this CA's and good: nothing is signed or kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from app.services.issuers import IssuerStore
from tiny_ca.ca_factory.crl import verify_crl
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.queries.certificates import certificate_by_serial
from tiny_ca.exc import ValidationCertError
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Examination"]


class Examination:
    """Questions about certificates and CRLs of whatever origin."""

    def __init__(self, db: AsyncDBHandler, *, issuers: IssuerStore, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._issuers = issuers
        self._clock = clock

    async def verify(self, certificate: x509.Certificate) -> str | None:
        """Why this CA does not vouch for a certificate now: chain, time, signature, revocation. None: it does."""
        # 1. Chain and signature: one of our CAs signed it.
        above = await asyncio.to_thread(self._above, certificate)
        if above is None:
            return "no CA of this service signed it"
        # 2. Time: it, and every CA above it.
        now = self._clock()
        for one in (certificate, *above):
            if not one.not_valid_before_utc <= now <= one.not_valid_after_utc:
                window = f"{rfc3339(one.not_valid_before_utc)} to {rfc3339(one.not_valid_after_utc)}"
                return f"{one.subject.rfc4514_string()!r} is not valid now: {window}"
        # 3. Revocation: by the registry, which is never older than the CRL.
        for one in (certificate, *above):
            record = await self._db.read(certificate_by_serial, one.serial_number)
            if record is None:
                return f"certificate {one.serial_number:x} is not on record"
            if record.revocation_date is not None:
                return f"certificate {one.serial_number:x} was revoked {rfc3339(record.revocation_date)}"
        return None

    def verify_crl(self, crl: x509.CertificateRevocationList) -> str | None:
        """Why a CRL is no current one of this service's CAs; None: it is."""
        reason = "no CA of this service has this name"
        for issuer_id in self._issuers.ids:
            certificate = self._issuers.known(issuer_id)[0]
            if certificate.subject != crl.issuer:
                continue
            try:
                verify_crl(crl, certificate, now=self._clock())
            except ValidationCertError as error:
                reason = error.message
            else:
                return None
        return reason

    def _above(self, certificate: x509.Certificate) -> tuple[x509.Certificate, ...] | None:
        for issuer_id in self._issuers.ids:
            chain = self._issuers.known(issuer_id)
            if chain[0].subject != certificate.issuer:
                continue
            try:
                certificate.verify_directly_issued_by(chain[0])
            except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
                continue
            return () if chain[0] == certificate else chain
        return None
