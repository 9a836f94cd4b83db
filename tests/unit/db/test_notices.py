"""The outbox of notices, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from cryptography import x509

from tests.unit.db.helpers import DAY, NOW, Registry, entry
from tiny_ca.db import queries
from tiny_ca.db.entries import NoticeEntry
from tiny_ca.db.models import NoticeRecord
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
from tiny_ca.db.sync_db_manager import SyncDBHandler

_MINUTE = timedelta(minutes=1)


def _notice(serial: int = 1, days: int = 7) -> NoticeEntry:
    return NoticeEntry(
        serial_number=str(serial), threshold_days=days, not_valid_after=NOW + DAY, body="{}", created_at=NOW
    )


def _claim(registry: Registry, after: timedelta = timedelta()) -> NoticeRecord | None:
    return registry.write(claim_notice, now=NOW + after, first_retry=_MINUTE, last_retry=5 * _MINUTE)


def _untold(registry: Registry, *, days: int = 7, above_id: int = 0, limit: int = 10) -> list[str]:
    found = registry.read(
        untold,
        threshold_days=days,
        ends_after=NOW,
        ends_by=NOW + days * DAY,
        begun_by=NOW - days * DAY,
        above_id=above_id,
        limit=limit,
    )
    return [record.serial_number for record in found]


def test_untold_are_those_in_the_window(registry: Registry) -> None:
    """Neither what has ended, nor what ends later, nor what is revoked, nor what has just begun."""
    registry.keep(
        entry("ended", serial=1, expires=NOW),
        entry("first", serial=2, expires=NOW + DAY),
        entry("last", serial=3, expires=NOW + 7 * DAY),
        entry("later", serial=4, expires=NOW + 7 * DAY + timedelta(seconds=1)),
        entry("revoked", serial=5, expires=NOW + DAY),
        # It began 365 days before it ends: less than 200 days ago.
        entry("begun", serial=6, expires=NOW + 200 * DAY),
    )
    registry.write(queries.revoke, 5, x509.ReasonFlags.superseded, now=NOW)
    assert _untold(registry) == ["2", "3"]
    assert _untold(registry, days=200) == ["2", "3", "4"]


def test_untold_comes_in_pages(registry: Registry) -> None:
    """Each page goes on above the last id of the one before."""
    registry.keep(*(entry(f"h{serial}", serial=serial, expires=NOW + DAY) for serial in range(1, 6)))
    assert _untold(registry, limit=2) == ["1", "2"]
    assert _untold(registry, limit=2, above_id=2) == ["3", "4"]
    assert _untold(registry, limit=2, above_id=4) == ["5"]


def test_what_was_told_nearer_the_end_covers_the_farther(registry: Registry) -> None:
    """A notice for 7 days answers for 7 and 30 days, not for 1."""
    registry.keep(entry("host", serial=1, expires=NOW + timedelta(hours=1)))
    assert registry.write(put_notices, [_notice(1, 7)]) == 1
    assert [_untold(registry, days=days) for days in (1, 7, 30)] == [["1"], [], []]


def test_a_notice_is_put_once(registry: Registry) -> None:
    """Again, or by another replica, nothing is added; each threshold is its own notice."""
    assert registry.write(put_notices, [_notice(1, 7), _notice(2, 7)]) == 2
    assert registry.write(put_notices, [_notice(1, 7), _notice(1, 1)]) == 1
    assert registry.write(put_notices, []) == 0
    assert registry.read(waiting_notices) == 3


def test_a_claim_waits_twice_as_long_each_time(registry: Registry) -> None:
    """Whoever claims a notice and dies leaves it to the next, after a time that doubles up to a bound."""
    registry.write(put_notices, [_notice()])
    due, seen = timedelta(), []
    for _ in range(5):
        assert _claim(registry, due - timedelta(seconds=1)) is None
        notice = _claim(registry, due)
        assert notice is not None
        assert notice.next_attempt_at is not None
        seen.append((notice.attempts, notice.next_attempt_at - NOW - due))
        due = notice.next_attempt_at - NOW
    assert seen == [(1, _MINUTE), (2, 2 * _MINUTE), (3, 4 * _MINUTE), (4, 5 * _MINUTE), (5, 5 * _MINUTE)]


def test_the_longest_waiting_is_claimed_first(registry: Registry) -> None:
    """One that failed stands behind those that were never tried."""
    registry.write(put_notices, [_notice(1), _notice(2)])
    claimed = [
        notice.serial_number for after in (0, 0, 60) if (notice := _claim(registry, after * timedelta(seconds=1)))
    ]
    assert claimed == ["1", "2", "1"]


def test_a_notice_that_arrived_is_done(registry: Registry) -> None:
    """It is not claimed again, and no longer waits; one that failed keeps its error, and waits."""
    registry.write(put_notices, [_notice(1), _notice(2)])
    first, second = _claim(registry), _claim(registry)
    assert first is not None
    assert second is not None
    registry.write(notice_failed, first, "it answers 500")
    registry.write(notice_delivered, second, now=NOW)
    assert registry.read(waiting_notices) == 1
    again = _claim(registry, DAY)
    assert again is not None
    assert (again.serial_number, again.last_error, again.delivered_at) == ("1", "it answers 500", None)
    registry.write(notice_delivered, again, now=NOW + DAY)
    assert _claim(registry, 30 * DAY) is None
    assert registry.read(waiting_notices) == 0


def test_only_what_arrived_is_forgotten(registry: Registry) -> None:
    """Once the certificate has ended; what has not arrived is kept however old it is."""
    registry.write(put_notices, [_notice(1), _notice(2)])
    first = _claim(registry)
    assert first is not None
    registry.write(notice_delivered, first, now=NOW)
    assert registry.write(prune_notices, ended_before=NOW + DAY) == 0
    assert registry.write(prune_notices, ended_before=NOW + 2 * DAY) == 1
    assert registry.read(waiting_notices) == 1


def test_a_scan_is_never_taken_back(registry: Registry) -> None:
    """The latest time holds, whoever notes an earlier one."""
    assert registry.read(last_scan) is None
    for at in (NOW, NOW + DAY, NOW):
        registry.write(note_scan, at=at)
    assert registry.read(last_scan) == NOW + DAY


def test_claims_at_once_get_different_notices(db_url: str) -> None:
    """Replicas that ask together never get the same notice."""
    handler = SyncDBHandler(db_url, strict=True, crl_window=None)
    handler.write(put_notices, [_notice(serial) for serial in range(1, 9)])

    def claim(_: int) -> str | None:
        notice = handler.write(claim_notice, now=NOW, first_retry=_MINUTE, last_retry=_MINUTE)
        return None if notice is None else notice.serial_number

    with ThreadPoolExecutor(8) as pool:
        claimed = list(pool.map(claim, range(8)))
    handler.close()
    assert sorted(filter(None, claimed)) == [str(serial) for serial in range(1, 9)]
