"""Telling of certificates about to expire: found by one job, kept in an outbox, sent by another until they arrive.

    look through -> outbox (once a certificate and threshold) -> POST, signed -> delivered, or again later

Of the thresholds that a certificate has passed, the nearest to its end is told, once. A threshold longer than half of a
certificate's whole life is none for it: it was due for renewal from the beginning. What ended since certificates were
last looked through is told of too, so that nothing is skipped because the service was down; the very first look tells
only of what has not ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog
from cryptography import x509
from sqlalchemy.orm import Session

from app.metrics import Metrics
from app.services.webhook import NotDelivered, Webhook
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import NoticeEntry
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.notices import (
    claim_notice,
    last_scan,
    note_scan,
    notice_delivered,
    notice_failed,
    prune_notices,
    put_notices,
    untold,
    waiting_notices,
)
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Notices"]

_log = structlog.get_logger(__name__)
_PAGE: Final = 500
_RUN: Final = 100  # notices that one run sends
_FIRST_RETRY: Final = timedelta(seconds=30)
_LAST_RETRY: Final = timedelta(hours=1)
_KEPT: Final = timedelta(days=1)  # after the certificate's end, for replicas whose clocks differ
_DAY: Final = timedelta(days=1)


class Notices:
    """``days`` are the thresholds, longest first."""

    def __init__(
        self,
        db: AsyncDBHandler,
        *,
        webhook: Webhook,
        days: Sequence[int],
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._db = db
        self._webhook = webhook
        self._days = tuple(sorted(days))
        self._metrics = metrics
        self._clock = clock

    async def find(self) -> int:
        """Put what is to be told into the outbox; returns how many notices are new."""
        now = self._clock()
        since = await self._db.read(last_scan)
        ends_after, found = min(since or now, now), 0
        for days in self._days:
            found += await self._find_for(days, ends_after, now)
            ends_after = now + days * _DAY
        await self._db.write(note_scan, at=now)
        await self._db.write(prune_notices, ended_before=now - _KEPT)
        return found

    async def send(self) -> int:
        """Send what is due, the longest waiting first; returns how many arrived. After one that fails, the run ends."""
        arrived = 0
        while arrived < _RUN and await self._send_one():
            arrived += 1
        await self.count()
        return arrived

    async def count(self) -> None:
        """See how many notices have not arrived, whichever replica puts and sends them."""
        self._metrics.notices_waiting.set(await self._db.read(waiting_notices))

    async def _find_for(self, days: int, ends_after: datetime, now: datetime) -> int:
        found, above = 0, 0
        while True:
            last_id, new = await self._db.write(_queue, days, ends_after, above, now)
            found += new
            if last_id is None:
                return found
            above = last_id

    async def _send_one(self) -> bool:
        now = self._clock()
        notice = await self._db.write(claim_notice, now=now, first_retry=_FIRST_RETRY, last_retry=_LAST_RETRY)
        if notice is None:
            return False
        facts = {"serial_number": f"{int(notice.serial_number):x}", "threshold_days": notice.threshold_days}
        try:
            await self._webhook.post(notice.body.encode(), timestamp=int(now.timestamp()))
        except NotDelivered as error:
            self._metrics.notices.labels("failure").inc()
            _log.warning("notice.failed", **facts, attempts=notice.attempts, error=str(error))
            await self._db.write(notice_failed, notice, str(error))
            return False
        await self._db.write(notice_delivered, notice, now=self._clock())
        self._metrics.notices.labels("success").inc()
        _log.info("notice.delivered", **facts, attempts=notice.attempts)
        return True


def _queue(session: Session, days: int, ends_after: datetime, above_id: int, now: datetime) -> tuple[int | None, int]:
    """One page of the certificates; the last id of it, None after the last page, and how many notices are new."""
    threshold = days * _DAY
    page = untold(
        session,
        threshold_days=days,
        ends_after=ends_after,
        ends_by=now + threshold,
        # Those that live for twice the threshold, and end within it, began at least one threshold ago: an index is not
        # walked for the many that live for minutes.
        begun_by=now - threshold,
        above_id=above_id,
        limit=_PAGE,
    )
    long_lived = [one for one in page if one.not_valid_after - one.not_valid_before >= 2 * threshold]
    new = put_notices(session, [_notice(one, days, now) for one in long_lived])
    return (page[-1].id if len(page) == _PAGE else None), new


def _notice(record: CertificateRecord, days: int, now: datetime) -> NoticeEntry:
    serial = f"{int(record.serial_number):x}"
    body = {
        "id": f"{serial}.{days}d",
        "type": "certificate.expiring",
        "created_at": rfc3339(now.replace(microsecond=0)),
        "threshold_days": days,
        "certificate": {
            "serial_number": serial,
            "common_name": record.common_name,
            "san": list(_san(record)),
            "profile": record.profile,
            "issuer_id": record.issuer_id,
            "requester": record.requester,
            "fingerprint_sha256": record.fingerprint_sha256,
            "not_valid_before": rfc3339(record.not_valid_before),
            "not_valid_after": rfc3339(record.not_valid_after),
        },
    }
    return NoticeEntry(
        serial_number=record.serial_number,
        threshold_days=days,
        not_valid_after=record.not_valid_after,
        body=json.dumps(body, separators=(",", ":")),
        created_at=now,
    )


def _san(record: CertificateRecord) -> Iterator[str]:
    certificate = x509.load_pem_x509_certificate(record.certificate_pem.encode())
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = AlternativeNames.from_extension(extension.value, field="certificate")
            yield from (value for _, value in names.items())
