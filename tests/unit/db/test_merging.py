"""What another registry knows comes in: missing certificates are added, and nothing is ever un-revoked."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.unit.db.helpers import DAY, ISSUER, NOW, Registry, crl, entry, issuer
from tiny_ca.db import queries
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.entries import CertificateEntry
from tiny_ca.db.models import BlockedKey, IssuerRecord
from tiny_ca.db.queries.merging import (
    Incoming,
    Merged,
    Revocation,
    advance_crls,
    merge_certificates,
    merged_revocation,
)
from tiny_ca.exc import Conflict
from tiny_ca.models.revocation import REASON_CODES, reason_code

HOLD = reason_code(x509.ReasonFlags.certificate_hold)
SUPERSEDED = reason_code(x509.ReasonFlags.superseded)
COMPROMISE = reason_code(x509.ReasonFlags.key_compromise)

revocations = st.builds(
    Revocation,
    st.timedeltas(timedelta(0), timedelta(days=3)).map(lambda since: NOW + since),
    st.sampled_from(sorted(set(REASON_CODES.values()) - {8})),
)


def _merge(registry: Registry, *incoming: Incoming) -> Merged:
    return registry.write(merge_certificates, list(incoming), now=NOW)


def _state(registry: Registry, kept: CertificateEntry) -> tuple[str, object, object]:
    record = registry.read(queries.certificate_by_serial, int(kept.serial_number))
    assert record is not None
    return record.status, record.revocation_date, record.revocation_reason


@given(one=revocations | st.none(), other=revocations | st.none())
def test_revoked_in_either_is_revoked(one: Revocation | None, other: Revocation | None) -> None:
    """Since the earlier date; the order of the two, and doing it again, change nothing."""
    both = [each for each in (one, other) if each is not None]
    result = merged_revocation(one, other)
    assert (result is None) == (not both)
    assert result == merged_revocation(other, one)
    assert result == merged_revocation(result, one) == merged_revocation(result, other)
    if result is not None:
        assert result.date == min(each.date for each in both)
        assert result.reason in {each.reason for each in both}
        assert result.reason != HOLD or all(each.reason == HOLD for each in both)
        assert result.reason == COMPROMISE or all(each.reason != COMPROMISE for each in both)


@pytest.mark.parametrize(
    "one, other, reason",
    [
        (Revocation(NOW, HOLD), Revocation(NOW + DAY, SUPERSEDED), SUPERSEDED),
        (Revocation(NOW, SUPERSEDED), Revocation(NOW + DAY, HOLD), SUPERSEDED),
        (Revocation(NOW, SUPERSEDED), Revocation(NOW + DAY, 5), SUPERSEDED),
        (Revocation(NOW, SUPERSEDED), Revocation(NOW + DAY, COMPROMISE), COMPROMISE),
    ],
)
def test_whose_reason_holds(one: Revocation, other: Revocation, reason: int) -> None:
    """The earlier one's, but a hold gives way to any, and any to keyCompromise."""
    assert merged_revocation(one, other) == Revocation(NOW, reason)


def test_what_is_missing_comes_in(registry: Registry) -> None:
    """With its names, and as valid, revoked or expired as it is; again, nothing is added."""
    sans = (x509.DNSName("host.example.org"),)
    valid, revoked, expired = entry(names=sans), entry(names=sans), entry(expires=NOW - DAY)
    incoming = (
        Incoming(valid, None, "one"),
        Incoming(revoked, Revocation(NOW - DAY, SUPERSEDED), "two"),
        Incoming(expired, None, "three"),
    )
    merged = _merge(registry, *incoming)
    assert (merged.added, merged.known, merged.revocations.total()) == (3, 0, 1)
    assert _state(registry, valid) == (CertificateStatus.VALID, None, None)
    assert _state(registry, revoked) == (CertificateStatus.REVOKED, NOW - DAY, SUPERSEDED)
    assert _state(registry, expired) == (CertificateStatus.EXPIRED, None, None)
    again = _merge(registry, *incoming)
    assert (again.added, again.known, again.revocations.total()) == (0, 3, 0)


def test_what_is_known_is_only_ever_revoked(registry: Registry) -> None:
    """A revocation from elsewhere comes in; one that is here stays, whatever the other one says."""
    mine, theirs = entry(), entry()
    registry.keep(mine, theirs)
    registry.write(queries.revoke, int(mine.serial_number), x509.ReasonFlags.superseded, now=NOW)
    merged = _merge(registry, Incoming(mine, None, "one"), Incoming(theirs, Revocation(NOW - DAY, COMPROMISE), "two"))
    assert merged.revocations.total() == 1
    assert _state(registry, mine) == (CertificateStatus.REVOKED, NOW, SUPERSEDED)
    assert _state(registry, theirs) == (CertificateStatus.REVOKED, NOW - DAY, COMPROMISE)
    assert registry.read(lambda session: session.scalars(select(BlockedKey.serial_number)).all()) == [
        theirs.serial_number
    ]


def test_another_certificate_with_the_serial_number_is_refused(registry: Registry) -> None:
    """By its serial number and its place; nothing of the batch comes in."""
    here, there, fresh = entry(serial=0xAB), entry("other.example.org", serial=0xAB), entry()
    registry.keep(here)
    with pytest.raises(Conflict, match=r"ab \(line 3\)"):
        _merge(registry, Incoming(fresh, None, "line 2"), Incoming(there, None, "line 3"))
    assert registry.read(queries.certificate_by_serial, int(fresh.serial_number)) is None
    with pytest.raises(Conflict, match=r"line 5: serial number .* line 4"):
        _merge(registry, Incoming(fresh, None, "line 4"), Incoming(fresh, None, "line 5"))


def test_a_name_held_alone_here_stays_so(registry: Registry) -> None:
    """What comes in claims a name only where nobody has it."""
    registry.keep(entry(unique_name="host.example.org"))
    taken, free = entry(unique_name="host.example.org"), entry(unique_name="free.example.org")
    _merge(registry, Incoming(taken, None, "one"), Incoming(free, None, "two"))
    names = [
        record.unique_name
        for kept in (taken, free)
        if (record := registry.read(queries.certificate_by_serial, int(kept.serial_number)))
    ]
    assert names == [None, "free.example.org"]


def test_the_next_crl_is_due_and_above_all_others(registry: Registry) -> None:
    """Above what was given out here, what was published, and what was given out elsewhere; and so again."""

    def counts(session: Session) -> tuple[int, int]:
        row = session.execute(select(IssuerRecord.crl_number, IssuerRecord.revocation_count)).one()
        return row.crl_number, row.revocation_count

    registry.write(queries.insert_issuers, [issuer()])
    registry.write(queries.record_crl, crl(70, this_update=NOW))
    for elsewhere, expected in ((5, 70), (500, 500), (80, 500)):
        before = registry.read(counts)
        registry.write(advance_crls, ISSUER, crl_number=elsewhere, crl_this_update=NOW + DAY, revocations=0)
        number, count = registry.read(counts)
        assert number == expected
        assert count > before[1]
    snapshot = registry.write(queries.begin_crl, ISSUER, now=NOW)
    assert (snapshot.number, snapshot.this_update) == (501, NOW + DAY)
