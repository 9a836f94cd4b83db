"""Revoking, holding and releasing."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tests.unit.db.helpers import DAY, NOW, Registry, audit, entry
from tiny_ca.db import queries
from tiny_ca.db.const import CertificateStatus, RevokeStatus
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.models import AuditRecord
from tiny_ca.db.queries.audit import actor_of, insert_audit
from tiny_ca.exc import CertNotFound, Conflict, Invalid
from tiny_ca.models.revocation import REASON_CODES, reason_code, reason_from_code, reason_from_name, reason_name

Reason = x509.ReasonFlags


def _audited(session: Session) -> int:
    return session.scalar(select(func.count()).select_from(AuditRecord)) or 0


@pytest.fixture
def serial(registry: Registry) -> int:
    """Keep a valid certificate and give its serial number."""
    kept = entry()
    registry.keep(kept)
    return int(kept.serial_number)


class TestRevoke:
    def test_revocation_is_recorded_with_its_audit(self, registry: Registry, serial: int) -> None:
        """Status, reason and date are set, and one audit row written."""
        registry.write(queries.revoke, serial, Reason.key_compromise, now=NOW, audit=audit("revoke"))
        record = registry.read(queries.certificate_by_serial, serial)
        assert record is not None
        assert (record.status, record.revocation_reason, record.revocation_date) == (CertificateStatus.REVOKED, 1, NOW)
        assert registry.read(_audited) == 1

    def test_same_reason_again_changes_nothing(self, registry: Registry, serial: int) -> None:
        """A repeated revocation gives the first one's record, even after expiry, and is not audited twice."""
        for now in (NOW, NOW + DAY, NOW + 365 * DAY):
            record = registry.write(queries.revoke, serial, Reason.superseded, now=now, audit=audit("revoke"))
            assert record.revocation_date == NOW
        assert registry.read(_audited) == 1

    @pytest.mark.parametrize(
        "first,second",
        [
            (Reason.certificate_hold, Reason.superseded),
            (Reason.certificate_hold, Reason.unspecified),
            (Reason.superseded, Reason.key_compromise),
        ],
    )
    def test_graver_reason_replaces_and_keeps_the_date(
        self, registry: Registry, serial: int, first: Reason, second: Reason
    ) -> None:
        """A hold gives way to any reason, and any reason to keyCompromise; the date stays."""
        registry.write(queries.revoke, serial, first, now=NOW)
        record = registry.write(queries.revoke, serial, second, now=NOW + DAY, audit=audit("revoke"))
        assert (record.revocation_reason, record.revocation_date) == (reason_code(second), NOW)
        assert registry.read(_audited) == 1

    @pytest.mark.parametrize("second", [Reason.superseded, Reason.certificate_hold, Reason.unspecified])
    def test_other_changes_are_conflicts_that_name_the_reason(
        self, registry: Registry, serial: int, second: Reason
    ) -> None:
        """What is revoked for good keeps its reason."""
        registry.write(queries.revoke, serial, Reason.key_compromise, now=NOW)
        with pytest.raises(Conflict, match="keyCompromise"):
            registry.write(queries.revoke, serial, second, now=NOW)

    def test_unknown_serial_is_not_found(self, registry: Registry) -> None:
        """There is nothing to revoke."""
        with pytest.raises(CertNotFound, match="ff"):
            registry.write(queries.revoke, 255, Reason.unspecified, now=NOW)

    def test_expired_certificate_is_a_conflict(self, registry: Registry, serial: int) -> None:
        """The clock decides, not the stored status."""
        with pytest.raises(Conflict, match="expired"):
            registry.write(queries.revoke, serial, Reason.unspecified, now=NOW + 91 * DAY)

    def test_remove_from_crl_is_refused(self, registry: Registry, serial: int) -> None:
        """The reason removeFromCRL revokes nothing."""
        with pytest.raises(Invalid, match="removeFromCRL"):
            registry.write(queries.revoke, serial, Reason.remove_from_crl, now=NOW)


class TestUnhold:
    def test_hold_is_lifted(self, registry: Registry, serial: int) -> None:
        """A certificate that comes off hold is valid again."""
        registry.write(queries.revoke, serial, Reason.certificate_hold, now=NOW)
        record = registry.write(queries.unhold, serial, now=NOW, audit=audit("unhold"))
        assert (record.status, record.revocation_reason, record.revocation_date) == ("valid", None, None)
        assert registry.read(_audited) == 1

    def test_who_placed_it(self, registry: Registry, serial: int) -> None:
        """The audit tells by serial number and moment, to the microsecond; of a refusal, or else, it names nobody."""
        now = NOW + timedelta(microseconds=123_457)
        row = AuditEntry(at=now, actor="owner", action="revoke", outcome="success", serial_number=str(serial))
        refused = replace(row, at=NOW, actor="other", outcome="refused")
        registry.write(insert_audit, [refused])
        record = registry.write(queries.revoke, serial, Reason.certificate_hold, now=now, audit=row)
        assert record.revocation_date is not None
        assert registry.read(actor_of, "revoke", str(serial), at=record.revocation_date) == "owner"
        for action, at in (("revoke", NOW), ("unhold", now), ("revoke", now + timedelta(microseconds=1))):
            assert registry.read(actor_of, action, str(serial), at=at) is None
        assert registry.read(actor_of, "revoke", str(serial + 1), at=now) is None

    def test_what_is_not_on_hold_stays(self, registry: Registry, serial: int) -> None:
        """Neither a valid nor a revoked certificate can be released."""
        with pytest.raises(Conflict):
            registry.write(queries.unhold, serial, now=NOW)
        registry.write(queries.revoke, serial, Reason.superseded, now=NOW)
        with pytest.raises(Conflict):
            registry.write(queries.unhold, serial, now=NOW)

    def test_expired_hold_stays(self, registry: Registry, serial: int) -> None:
        """An expired certificate comes off no hold."""
        registry.write(queries.revoke, serial, Reason.certificate_hold, now=NOW)
        with pytest.raises(Conflict, match="expired"):
            registry.write(queries.unhold, serial, now=NOW + 365 * DAY)


def test_documented_revocation_happens_once(registry: Registry, serial: int) -> None:
    """The library's revocation finds valid certificates only."""
    answers = [registry.write(queries.revoke_valid, serial, Reason.superseded, now=NOW) for _ in range(2)]
    assert answers == [RevokeStatus.OK, RevokeStatus.NOT_FOUND]


def test_reasons_have_one_integer_and_one_name() -> None:
    """Every reason of RFC 5280 §5.3.1 round-trips through its integer and its name."""
    assert set(REASON_CODES) == set(Reason)
    for reason, code in REASON_CODES.items():
        assert reason_from_code(code) is reason
        assert reason_from_name(reason_name(code)) is reason


def test_unknown_reasons_are_invalid() -> None:
    """The unused 7, and a name in another spelling, are refused."""
    with pytest.raises(Invalid):
        reason_from_code(7)
    with pytest.raises(Invalid):
        reason_from_name("key_compromise")
