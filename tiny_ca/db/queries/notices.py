"""Units of work on notices of certificates about to expire: whom to tell of, what waits, what became of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import CertificateRecord, NoticeRecord, NoticeScan

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from sqlalchemy import Update
    from sqlalchemy.orm import Session

    from tiny_ca.db.entries import NoticeEntry

__all__ = [
    "claim_notice",
    "last_scan",
    "note_scan",
    "notice_delivered",
    "notice_failed",
    "prune_notices",
    "put_notices",
    "untold",
    "waiting_notices",
]

_SCAN: Final = 1  # the id of the one row


def untold(
    session: Session,
    *,
    threshold_days: int,
    ends_after: datetime,
    ends_by: datetime,
    begun_by: datetime,
    above_id: int,
    limit: int,
) -> list[CertificateRecord]:
    """Return certificates, lowest id first, that end in a window and of which nothing was told for this threshold.

    ``begun_by`` leaves out what began later, ``above_id`` what was returned already. The revoked are never among them.
    """
    told = exists().where(
        NoticeRecord.serial_number == CertificateRecord.serial_number, NoticeRecord.threshold_days <= threshold_days
    )
    return list(
        session.scalars(
            select(CertificateRecord)
            .where(
                CertificateRecord.not_valid_after > ends_after,
                CertificateRecord.not_valid_after <= ends_by,
                CertificateRecord.not_valid_before <= begun_by,
                CertificateRecord.revocation_date.is_(None),
                CertificateRecord.id > above_id,
                ~told,
            )
            .order_by(CertificateRecord.id)
            .limit(limit)
        )
    )


def put_notices(session: Session, entries: Sequence[NoticeEntry]) -> int:
    """Put notices into the outbox, due at once; return how many are new: another replica may have been faster."""
    if not entries:
        return 0
    rows = [{**asdict(entry), "attempts": 0, "next_attempt_at": entry.created_at} for entry in entries]
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    put = session.execute(
        insert(NoticeRecord).values(rows).on_conflict_do_nothing().returning(NoticeRecord.serial_number)
    )
    return len(put.all())


def last_scan(session: Session) -> datetime | None:
    """Return when certificates were last looked through, None for never."""
    return session.scalar(select(NoticeScan.at).where(NoticeScan.id == _SCAN))


def note_scan(session: Session, *, at: datetime) -> None:
    """Note that certificates were looked through; a replica whose clock is behind takes nothing back."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    session.execute(
        insert(NoticeScan)
        .values(id=_SCAN, at=at)
        .on_conflict_do_update(index_elements=["id"], set_={"at": at}, where=NoticeScan.at < at)
    )


def claim_notice(
    session: Session, *, now: datetime, first_retry: timedelta, last_retry: timedelta
) -> NoticeRecord | None:
    """Take the notice that has been due for longest; it is due again after a time that doubles with each attempt.

    So whoever takes it and dies leaves it to the next; of several who ask at once, each gets another one.
    """
    notice = session.scalar(
        select(NoticeRecord)
        .where(NoticeRecord.next_attempt_at <= now)
        .order_by(NoticeRecord.next_attempt_at, NoticeRecord.serial_number, NoticeRecord.threshold_days)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    if notice is not None:
        notice.next_attempt_at = now + min(last_retry, first_retry * 2 ** min(notice.attempts, 30))
        notice.attempts += 1
        session.flush()
    return notice


def notice_delivered(session: Session, notice: NoticeRecord, *, now: datetime) -> None:
    """Note that the notice has arrived."""
    session.execute(_this(notice).values(delivered_at=now, next_attempt_at=None, last_error=None))


def notice_failed(session: Session, notice: NoticeRecord, error: str) -> None:
    """Note why an attempt failed; when the next one is due was said when it was claimed."""
    session.execute(_this(notice).values(last_error=error))


def waiting_notices(session: Session) -> int:
    """Return how many notices have not arrived."""
    return session.scalar(select(func.count()).where(NoticeRecord.next_attempt_at.is_not(None))) or 0


def prune_notices(session: Session, *, ended_before: datetime) -> int:
    """Forget what was delivered of certificates that ended before; return how many."""
    ended = (NoticeRecord.not_valid_after < ended_before, NoticeRecord.delivered_at.is_not(None))
    return len(session.execute(delete(NoticeRecord).where(*ended).returning(NoticeRecord.serial_number)).all())


def _this(notice: NoticeRecord) -> Update:
    return update(NoticeRecord).where(
        NoticeRecord.serial_number == notice.serial_number, NoticeRecord.threshold_days == notice.threshold_days
    )
