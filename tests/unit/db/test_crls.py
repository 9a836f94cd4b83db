"""CRL numbers, what a CRL says, and which one is the newest."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update
from sqlalchemy.orm import Session

from tests.unit.db.helpers import DAY, ISSUER, NOW, Registry, crl, entry, issuer, query_plan
from tiny_ca.db import queries
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import CertificateEntry, ContinuedCRL, CRLSnapshot, RevokedRow, RevokedText
from tiny_ca.db.models import CertificateRecord, CRLRecord
from tiny_ca.db.queries import crls
from tiny_ca.db.queries.merging import advance_crls
from tiny_ca.db.sync_db_manager import SyncDBHandler
from tiny_ca.exc import Conflict, NotFound, RegistryUnavailable

SECOND = timedelta(seconds=1)


@pytest.fixture
def issuing(registry: Registry) -> Registry:
    """Give a registry that has an issuer."""
    registry.write(queries.insert_issuers, [issuer()])
    return registry


def _revoked(registry: Registry, issuer_id: str | None = None) -> CertificateEntry:
    kept = entry(expires=NOW + DAY, issuer_id=issuer_id)
    registry.keep(kept)
    registry.write(queries.revoke, int(kept.serial_number), x509.ReasonFlags.superseded, now=NOW)
    return kept


def _begin(registry: Registry, days: float) -> tuple[int, list[str]]:
    snapshot = registry.write(queries.begin_crl, ISSUER, now=NOW + days * DAY)
    registry.write(queries.record_crl, crl(snapshot.number, this_update=snapshot.this_update))
    return snapshot.number, [row.serial_number for row in snapshot.revoked]


class TestSnapshot:
    def test_snapshot_names_the_issuers_own_revocations(self, issuing: Registry) -> None:
        """Neither valid certificates nor those of others are on the CRL."""
        revoked = _revoked(issuing, issuer_id=ISSUER)
        _revoked(issuing)
        issuing.keep(entry(issuer_id=ISSUER))
        snapshot = issuing.write(queries.begin_crl, ISSUER, now=NOW)
        assert snapshot.revoked == (RevokedRow(revoked.serial_number, NOW, 4),)

    @pytest.mark.parametrize("microsecond", [0, 1, 499_999, 999_999])
    @pytest.mark.parametrize("year", [1949, 1999, 2049, 2050, 9998])
    def test_packed_rows_say_the_same(self, issuing: Registry, year: int, microsecond: int) -> None:
        """The text of a date is that of its second, whatever comes after that, on either database."""
        kept = entry(expires=datetime.max.replace(tzinfo=UTC), issuer_id=ISSUER)
        issuing.keep(kept)
        at = datetime(year, 12, 31, 23, 59, 59, microsecond, tzinfo=UTC)
        issuing.write(queries.revoke, int(kept.serial_number), x509.ReasonFlags.key_compromise, now=at)
        texts = issuing.write(queries.begin_packed_crl, ISSUER, now=NOW, pack=list).revoked
        assert texts == ([(kept.serial_number, f"{year}1231235959Z", 1)],)

    def test_rows_are_packed_some_at_a_time(self, issuing: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
        """All of them, each once, in the order of the list, and never more together than the bound."""
        monkeypatch.setattr(crls, "_ROWS_AT_ONCE", 3)
        for _ in range(7):
            _revoked(issuing, issuer_id=ISSUER)
        packed = issuing.write(queries.begin_packed_crl, ISSUER, now=NOW, pack=list).revoked
        whole = issuing.write(queries.begin_crl, ISSUER, now=NOW).revoked
        assert [len(rows) for rows in packed] == [3, 3, 1]
        assert [row[0] for rows in packed for row in rows] == [row.serial_number for row in whole]

    def test_entry_stays_until_one_crl_past_expiry(self, issuing: Registry) -> None:
        """RFC 5280 §3.3: an expired certificate is on one more CRL, then on none."""
        serial = _revoked(issuing, issuer_id=ISSUER).serial_number
        seen = [_begin(issuing, days) for days in (0, 0.5, 2, 3)]
        assert seen == [(1, [serial]), (2, [serial]), (3, [serial]), (4, [])]

    def test_unpublished_crl_takes_nothing_off(self, issuing: Registry) -> None:
        """A number that was spent without a CRL does not count as the one past expiry."""
        serial = _revoked(issuing, issuer_id=ISSUER).serial_number
        issuing.write(queries.begin_crl, ISSUER, now=NOW + 2 * DAY)
        assert _begin(issuing, 3) == (2, [serial])

    def test_clock_that_goes_back_moves_no_crl_back(self, issuing: Registry) -> None:
        """A CRL's thisUpdate never gets older, and is in whole seconds."""
        later = NOW + timedelta(hours=1, microseconds=5)
        updates = [issuing.write(queries.begin_crl, ISSUER, now=now).this_update for now in (later, NOW)]
        assert updates == [NOW + timedelta(hours=1)] * 2

    def test_unknown_issuer_is_not_found(self, registry: Registry) -> None:
        """There is no CRL of nobody."""
        with pytest.raises(NotFound):
            registry.write(queries.begin_crl, "none", now=NOW)

    def test_numbers_taken_at_once_never_repeat(self, db_url: str) -> None:
        """Two replicas that begin forty CRLs at once get the numbers one to forty."""

        async def storm() -> list[int]:
            replicas = [AsyncDBHandler(db_url) for _ in range(2)]
            await replicas[0].write(queries.insert_issuers, [issuer()])
            begun = [replica.write(queries.begin_crl, ISSUER, now=NOW) for replica in replicas for _ in range(20)]
            snapshots = await asyncio.gather(*begun)
            for replica in replicas:
                await replica.aclose()
            return sorted(snapshot.number for snapshot in snapshots)

        assert asyncio.run(storm()) == list(range(1, 41))


def _hold(registry: Registry) -> int:
    kept = entry(expires=NOW + DAY, issuer_id=ISSUER)
    registry.keep(kept)
    registry.write(queries.revoke, int(kept.serial_number), x509.ReasonFlags.certificate_hold, now=NOW)
    return int(kept.serial_number)


def _continued(registry: Registry, since: ContinuedCRL | None = None) -> CRLSnapshot[list[RevokedText]]:
    return registry.write(queries.begin_packed_crl, ISSUER, now=NOW, pack=list, since=since)


def _published(registry: Registry, snapshot: CRLSnapshot[list[RevokedText]]) -> ContinuedCRL:
    made = replace(crl(snapshot.number), revocation_count=snapshot.revocation_count)
    registry.write(queries.record_crl, made)
    return ContinuedCRL(made.number, made.created_at, made.this_update, made.revocation_count)


def _entries(snapshot: CRLSnapshot[list[RevokedText]]) -> dict[str, int | None]:
    return {row[0]: row[2] for rows in snapshot.revoked for row in rows}


def _without_number(session: Session) -> None:
    """As a program revokes that knows no numbers."""
    session.execute(update(CertificateRecord).values(revocation_number=None))


def _lift(registry: Registry, held: int) -> None:
    registry.write(queries.unhold, held, now=NOW)


def _replace_reason(registry: Registry, held: int) -> None:
    registry.write(queries.revoke, held, x509.ReasonFlags.key_compromise, now=NOW)


def _lift_and_revoke(registry: Registry, held: int) -> None:
    _lift(registry, held)
    registry.write(queries.revoke, held, x509.ReasonFlags.superseded, now=NOW)


def _revoke_without_number(registry: Registry, _: int) -> None:
    _hold(registry)
    registry.write(_without_number)


def _merge(registry: Registry, _: int) -> None:
    registry.write(advance_crls, ISSUER, crl_number=0, crl_this_update=None, revocations=1)


def _revoke_as_the_library_does(registry: Registry, _: int) -> None:
    kept = entry(expires=NOW + DAY, issuer_id=ISSUER)
    registry.keep(kept)
    registry.write(queries.revoke_valid, int(kept.serial_number), x509.ReasonFlags.superseded, now=NOW)


def _continue(session: Session) -> None:
    queries.record_crl(session, crl(1))
    queries.begin_packed_crl(session, ISSUER, now=NOW, pack=list, since=ContinuedCRL(1, NOW, NOW, 0))


def _look_for_what_is_not_counted(session: Session) -> None:
    queries.record_crl(session, crl(1))
    crls._is_complete(session, ISSUER, ContinuedCRL(1, NOW, NOW, 0), 0)


class TestContinuing:
    def test_only_what_came_since_is_read(self, issuing: Registry) -> None:
        """What was revoked after a CRL, and nothing where nothing was."""
        _revoked(issuing, issuer_id=ISSUER)
        before = _continued(issuing)
        since = _published(issuing, before)
        _revoked(issuing)  # of no issuer
        assert _entries(_continued(issuing, since)) == {}
        serials = {_revoked(issuing, issuer_id=ISSUER).serial_number for _ in range(3)}
        snapshot = _continued(issuing, since)
        assert (before.whole, snapshot.whole, _entries(snapshot)) == (True, False, dict.fromkeys(serials, 4))

    @pytest.mark.parametrize(
        "change",
        [_lift, _replace_reason, _lift_and_revoke, _revoke_without_number, _merge, _revoke_as_the_library_does],
    )
    def test_another_change_is_read_with_all_the_rest(
        self, issuing: Registry, change: Callable[[Registry, int], None]
    ) -> None:
        """A lifted hold, another reason, another registry, another program: beside revocations that are known."""
        held = _hold(issuing)
        _revoked(issuing, issuer_id=ISSUER)
        since = _published(issuing, _continued(issuing))
        change(issuing, held)
        for _ in range(2):
            snapshot = _continued(issuing, since)
            assert (snapshot.whole, _entries(snapshot)) == (True, _entries(_continued(issuing)))
            _revoked(issuing, issuer_id=ISSUER)

    def test_what_is_not_on_record_is_not_continued(self, issuing: Registry) -> None:
        """A database that fell back knows nothing of it, or has another CRL with its number; the counts may meet."""
        _revoked(issuing, issuer_id=ISSUER)
        since = _published(issuing, _continued(issuing))
        assert not _continued(issuing, since).whole
        assert _continued(issuing, since._replace(number=since.number + 1)).whole
        assert _continued(issuing, since._replace(created_at=NOW + timedelta(microseconds=1))).whole
        assert _continued(issuing, since._replace(revocation_count=5)).whole

    @settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(acts=st.lists(st.sampled_from(["revoke", "hold", "lift", "replace", "publish"]), max_size=12))
    def test_whatever_happens_it_says_the_same(self, tmp_path_factory: pytest.TempPathFactory, acts: list[str]) -> None:
        """A CRL that is continued wherever it may be has the entries of one that is read whole."""
        folder = tmp_path_factory.mktemp("continued")
        with asyncio.Runner() as runner:
            registry = Registry(SyncDBHandler(f"sqlite:///{folder / 'registry.db'}"), runner)
            registry.write(queries.insert_issuers, [issuer()])
            held: list[int] = []
            listed: dict[str, int | None] = {}
            since: ContinuedCRL | None = None
            for act in [*acts, "publish"]:
                if act == "revoke":
                    _revoked(registry, issuer_id=ISSUER)
                elif act == "hold":
                    held.append(_hold(registry))
                elif act == "publish":
                    snapshot = _continued(registry, since)
                    listed = (listed if not snapshot.whole else {}) | _entries(snapshot)
                    since = _published(registry, snapshot)
                elif held and act == "lift":
                    registry.write(queries.unhold, held.pop(), now=NOW)
                elif held:
                    registry.write(queries.revoke, held.pop(), x509.ReasonFlags.key_compromise, now=NOW)
            assert listed == _entries(_continued(registry))
            registry.close()

    def test_it_is_read_from_an_index(self, tmp_path: Path) -> None:
        """What came since, of however many there are."""
        (step,) = query_plan(tmp_path / "read", _continue)
        by_number = "ix_certificates_issuer_id_revocation_number (issuer_id=? AND revocation_number>?)"
        assert step == f"SEARCH certificates USING INDEX {by_number}"
        (step,) = query_plan(tmp_path / "uncounted", _look_for_what_is_not_counted)
        by_date = "ix_certificates_revoked (issuer_id=? AND revocation_date>?)"
        assert step == f"SEARCH certificates USING INDEX {by_date}"


class TestKeeping:
    def test_newest_is_the_highest_number(self, issuing: Registry) -> None:
        """A CRL that arrives late does not hide a newer one."""
        for number in (2, 1):
            issuing.write(queries.record_crl, crl(number))
        newest = issuing.read(queries.latest_crl, ISSUER)
        assert newest is not None
        assert (newest.number, newest.der, newest.next_update) == (2, b"\x30\x00", NOW + DAY)

    @pytest.mark.parametrize("octets", [crls._PIECE - 1, crls._PIECE, crls._PIECE + 1, 3 * crls._PIECE, 3_500_000])
    def test_a_large_one_is_kept_as_it_is(self, issuing: Registry, octets: int) -> None:
        """Octet by octet, in pieces or not."""
        der = os.urandom(octets)
        issuing.write(queries.record_crl, replace(crl(1), der=der))
        kept = issuing.read(queries.latest_crl, ISSUER)
        assert kept is not None
        assert kept.der == der
        with pytest.raises(Conflict):
            issuing.write(queries.record_crl, replace(crl(1), der=der))

    @pytest.mark.parametrize("pieces", [2, 3])
    def test_a_disk_that_is_full(self, tmp_path: Path, pieces: int) -> None:
        """Wherever it ends, in the row or in its pieces: the registry is unavailable, and has no such CRL."""
        registry = SyncDBHandler(f"sqlite:///{tmp_path / 'registry.db'}", strict=True)
        registry.write(queries.insert_issuers, [issuer()])
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (pieces * crls._PIECE - crls._PIECE // 2, hard))
        try:
            with pytest.raises(RegistryUnavailable):
                registry.write(queries.record_crl, replace(crl(1), der=os.urandom(3 * crls._PIECE)))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert registry.read(queries.latest_crl, ISSUER) is None
        registry.close()

    def test_a_driver_that_fails_in_a_piece(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """What does not go through SQLAlchemy is told of as what does."""
        registry = SyncDBHandler(f"sqlite:///{tmp_path / 'registry.db'}", strict=True)
        registry.write(queries.insert_issuers, [issuer()])
        monkeypatch.setattr(CRLRecord, "__tablename__", "no_table")
        with pytest.raises(RegistryUnavailable):
            registry.write(queries.record_crl, replace(crl(1), der=bytes(2 * crls._PIECE)))
        registry.close()

    def test_no_crl_yet(self, issuing: Registry) -> None:
        """An issuer without a CRL has none."""
        assert issuing.read(queries.latest_crl, ISSUER) is None

    def test_number_is_kept_once(self, issuing: Registry) -> None:
        """A second CRL with the number is refused."""
        issuing.write(queries.record_crl, crl(1))
        with pytest.raises(Conflict):
            issuing.write(queries.record_crl, crl(1))

    @pytest.mark.parametrize("keep,deleted", [(2, 3), (0, 4), (9, 0)])
    def test_pruning_keeps_the_newest(self, issuing: Registry, keep: int, deleted: int) -> None:
        """The newest so many stay, and always one."""
        for number in range(1, 6):
            issuing.write(queries.record_crl, crl(number))
        assert issuing.write(queries.prune_crls, ISSUER, keep=keep) == deleted
        newest = issuing.read(queries.latest_crl, ISSUER)
        assert newest is not None
        assert newest.number == 5


@pytest.mark.parametrize("window,count", [(None, 1), (DAY, 1), (SECOND, 0)])
def test_window_leaves_out_old_revocations(registry: Registry, window: timedelta | None, count: int) -> None:
    """The library's window cuts by the date of revocation; None cuts nothing."""
    _revoked(registry)
    rows = registry.read(queries.revoked_rows, now=NOW + 2 * SECOND, crl_window=window)
    assert len(rows) == count


def test_library_rows_end_with_expiry(registry: Registry) -> None:
    """What has expired is not yielded to the library's CRL."""
    _revoked(registry)
    assert registry.read(queries.revoked_rows, now=NOW + 2 * DAY) == []


def test_a_crl_is_read_from_an_index_alone(tmp_path: Path) -> None:
    """Already in its order, and without a look at the rows, of which each holds a certificate."""
    steps = query_plan(tmp_path, partial(queries.begin_crl, issuer_id=ISSUER, now=NOW))
    assert steps == [
        "SEARCH certificates USING COVERING INDEX ix_certificates_revoked (issuer_id=? AND revocation_date>?)"
    ]
