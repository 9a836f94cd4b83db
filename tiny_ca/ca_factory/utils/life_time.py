"""Validity windows: computing one, reading one. All moments are timezone-aware UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509

from tiny_ca.exc import InvalidRangeTimeCertificate
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["CertLifetime"]


class CertLifetime:
    """Stateless; the async forms are there for callers that hold coroutines, and do not leave the event loop."""

    @staticmethod
    def compute(valid_from: datetime | None = None, days_valid: int = 365) -> tuple[datetime, datetime]:
        """Return ``(not_before, not_after)`` in whole seconds; a naive ``valid_from`` is taken as UTC.

        Raises
        ------
        InvalidRangeTimeCertificate
            ``days_valid`` is not positive, the start is before 1950, or the end is past already or past the year 9999.
        """
        given: tuple[object, object] = (days_valid, valid_from)
        if not isinstance(given[0], int) or isinstance(given[0], bool) or days_valid <= 0:
            message = f"days_valid is {days_valid!r}; it must be a whole number of at least 1"
            raise InvalidRangeTimeCertificate(message, field="days_valid", value=days_valid)
        if not isinstance(given[1], datetime | None):
            message = f"valid_from is a datetime or None, not {valid_from!r}"
            raise InvalidRangeTimeCertificate(message, field="valid_from", value=valid_from)
        now = datetime.now(UTC)
        not_before = _begin(CertLifetime.normalize_dt(valid_from or now))
        try:
            not_after = not_before + timedelta(days=days_valid)
        except OverflowError as error:
            message = f"{days_valid} days from {not_before:%Y-%m-%d} end past the year 9999 (RFC 5280 §4.1.2.5)"
            raise InvalidRangeTimeCertificate(message, field="days_valid", value=days_valid) from error
        if not_after <= now:
            message = f"the certificate would have ended at {rfc3339(not_after)}, before now ({rfc3339(now)})"
            raise InvalidRangeTimeCertificate(message, field="valid_from", value=rfc3339(not_before))
        return not_before, not_after

    @staticmethod
    async def compute_async(valid_from: datetime | None = None, days_valid: int = 365) -> tuple[datetime, datetime]:
        """``compute`` as a coroutine."""
        return CertLifetime.compute(valid_from=valid_from, days_valid=days_valid)

    @staticmethod
    def normalize_dt(dt: datetime) -> datetime:
        """Return ``dt`` unchanged where it knows its zone, else as UTC."""
        return dt if dt.tzinfo is not None else dt.replace(tzinfo=UTC)

    @staticmethod
    def valid_from(cert: x509.Certificate) -> datetime:
        """When the certificate begins to be valid."""
        return cert.not_valid_before_utc

    @staticmethod
    async def valid_from_async(cert: x509.Certificate) -> datetime:
        """``valid_from`` as a coroutine."""
        return CertLifetime.valid_from(cert)

    @staticmethod
    def valid_to(cert: x509.Certificate) -> datetime:
        """When the certificate ends."""
        return cert.not_valid_after_utc

    @staticmethod
    async def valid_to_async(cert: x509.Certificate) -> datetime:
        """``valid_to`` as a coroutine."""
        return CertLifetime.valid_to(cert)


def _begin(valid_from: datetime) -> datetime:
    try:
        not_before = valid_from.astimezone(UTC).replace(microsecond=0)
        fits = not_before.year >= 1950  # RFC 5280 §4.1.2.5: UTCTime begins there
    except OverflowError:
        fits, not_before = False, valid_from
    if not fits:
        message = f"valid_from {rfc3339(valid_from)} is outside 1950 to 9999, the years that certificates can hold"
        raise InvalidRangeTimeCertificate(message, field="valid_from", value=rfc3339(valid_from))
    return not_before
