"""Keeping, finding, listing and expiring certificates."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import event, select
from sqlalchemy.orm import Session

from tests.unit.db.helpers import (
    DAY,
    ISSUER,
    NOW,
    Registry,
    audit,
    certificate,
    entry,
    issuer,
    names_of_every_kind,
    query_plan,
)
from tiny_ca.const import CertType
from tiny_ca.db import queries
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.entries import CertificateEntry, CertificateFilter
from tiny_ca.db.models import AuditRecord, CertificateName
from tiny_ca.db.queries import filters
from tiny_ca.exc import CertNotFound, Conflict, NotUniqueCertOwner


def _names(session: Session) -> set[tuple[str, str, str | None]]:
    return {(name.kind, name.value, name.reversed) for name in session.scalars(select(CertificateName))}


def _audited(session: Session) -> list[str]:
    return [record.action for record in session.scalars(select(AuditRecord).order_by(AuditRecord.id))]


class TestKeeping:
    def test_record_says_what_the_certificate_says(self, registry: Registry) -> None:
        """A record repeats its certificate, with aware UTC times, and is usable after the session has closed."""
        cert = certificate("host.example.org", names=names_of_every_kind())
        registry.keep(CertificateEntry.of(cert, key_type=CertType.SERVICE, created_at=NOW, uuid="u"))
        record = registry.read(queries.certificate_by_serial, cert.serial_number)
        assert record is not None
        assert x509.load_pem_x509_certificate(record.certificate_pem.encode()) == cert
        assert record.not_valid_after == cert.not_valid_after_utc
        assert (record.common_name, record.status, record.key_type, record.uuid, record.created_at) == (
            "host.example.org",
            CertificateStatus.VALID,
            "SVC",
            "u",
            NOW,
        )

    def test_names_are_kept_by_kind(self, registry: Registry) -> None:
        """Every SAN is kept in normal form, DNS names also reversed."""
        registry.keep(entry(names=names_of_every_kind()))
        assert registry.read(_names) == {
            ("dns", "www.example.org", "gro.elpmaxe.www"),
            ("ip", "2001:db8::1", None),
            ("uri", "spiffe://example.org/a", None),
            ("email", "a@example.org", None),
        }

    def test_certificate_without_common_name_is_kept(self, registry: Registry) -> None:
        """A certificate needs no CN to be recorded by the service."""
        kept = entry(None)
        registry.keep(kept)
        record = registry.read(queries.certificate_by_serial, int(kept.serial_number))
        assert record is not None
        assert record.common_name is None

    def test_repeated_serial_is_a_conflict_and_keeps_nothing(self, registry: Registry) -> None:
        """One serial that exists refuses the whole batch, with its audit."""
        old, new = entry(), entry()
        registry.keep(old)
        with pytest.raises(Conflict) as caught:
            registry.write(queries.insert_certificates, [new, old], now=NOW, audit=[audit()])
        assert type(caught.value) is Conflict
        assert registry.read(queries.certificate_by_serial, int(new.serial_number)) is None
        assert registry.read(_audited) == []

    def test_unknown_issuer_is_a_conflict(self, registry: Registry) -> None:
        """A certificate of an issuer that is not there is refused."""
        with pytest.raises(Conflict):
            registry.keep(entry(issuer_id="none"))

    def test_fifty_take_as_many_statements_as_two(self, postgres_database: str, tmp_path: object) -> None:
        """A batch of 50 certificates takes as many statements as a batch of 2, on both databases."""

        async def statements(url: str, size: int) -> int:
            handler = AsyncDBHandler(url)
            await handler.ping()
            seen: list[str] = []
            event.listen(handler.sync_engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
            batch = [entry(f"h{n}", unique_name=f"{size}-{n}", names=names_of_every_kind()) for n in range(size)]
            await handler.write(queries.insert_certificates, batch, now=NOW, audit=[audit() for _ in batch])
            await handler.aclose()
            return sum(not statement.startswith("BEGIN") for statement in seen)

        for url in (f"sqlite:///{tmp_path}/count.db", postgres_database):
            counts = [asyncio.run(statements(url, size)) for size in (2, 50)]
            assert counts == [4, 4]


class TestUniqueNames:
    def test_second_claim_is_refused_by_name(self, registry: Registry) -> None:
        """Who claims a name that a valid certificate holds is refused, and told the name."""
        registry.keep(entry(unique_name="host.example.org"))
        with pytest.raises(NotUniqueCertOwner, match=r"host\.example\.org"):
            registry.keep(entry(unique_name="host.example.org"))

    def test_expired_holder_gives_way(self, registry: Registry) -> None:
        """A holder that has expired by the clock loses its name, though nothing has marked it yet."""
        registry.keep(entry(expires=NOW - DAY, unique_name="name"))
        registry.keep(entry(unique_name="name"))

    def test_revoked_holder_gives_way(self, registry: Registry) -> None:
        """A revocation frees the name."""
        holder = entry(unique_name="name")
        registry.keep(holder)
        registry.write(queries.revoke, int(holder.serial_number), x509.ReasonFlags.superseded, now=NOW)
        registry.keep(entry(unique_name="name"))

    def test_unclaimed_names_may_repeat(self, registry: Registry) -> None:
        """Any number of certificates may have one CN when none claims it."""
        registry.keep(entry(), entry())


class TestFinding:
    def test_by_name_gives_the_newest_valid_one(self, registry: Registry) -> None:
        """Neither a revoked, nor an expired, nor an older certificate answers to the name."""
        older, newest, revoked = entry(), entry(), entry()
        registry.keep(older, newest, revoked, entry(expires=NOW - DAY))
        registry.write(queries.revoke, int(revoked.serial_number), x509.ReasonFlags.unspecified, now=NOW)
        record = registry.read(queries.certificate_by_name, "host.example.org", now=NOW)
        assert record is not None
        assert record.serial_number == newest.serial_number
        assert registry.read(queries.certificate_by_name, "other", now=NOW) is None

    def test_by_fingerprint(self, registry: Registry) -> None:
        """The one certificate with these octets, and none for any others."""
        wanted = entry()
        registry.keep(wanted, entry())
        record = registry.read(queries.certificate_by_fingerprint, wanted.fingerprint_sha256)
        assert record is not None
        assert record.serial_number == wanted.serial_number
        assert registry.read(queries.certificate_by_fingerprint, "0" * 64) is None

    @pytest.mark.parametrize("key_type", [CertType.SERVICE, "SVC", "svc", "SERVICE", "service"])
    def test_key_type_is_taken_in_every_documented_form(self, registry: Registry, key_type: CertType | str) -> None:
        """A list can be filtered by a CertType, its value or its name, in any case."""
        wanted = entry()
        registry.keep(wanted, entry(key_type=CertType.USER))
        listed = registry.read(queries.list_certificates, key_type=key_type)
        assert [record.serial_number for record in listed] == [wanted.serial_number]

    def test_list_is_newest_first_by_offset(self, registry: Registry) -> None:
        """Limit and offset count from the newest."""
        entries = [entry() for _ in range(4)]
        registry.keep(*entries)
        listed = registry.read(queries.list_certificates, status="valid", limit=2, offset=1)
        assert [record.serial_number for record in listed] == [entries[2].serial_number, entries[1].serial_number]

    def test_pages_meet_every_record_once(self, registry: Registry) -> None:
        """Pages by the last id show all records, newest first, without repeats."""
        entries = [entry() for _ in range(5)]
        registry.keep(*entries)
        seen: list[str] = []
        before: int | None = None
        while page := registry.read(queries.page_certificates, CertificateFilter(), now=NOW, limit=2, before_id=before):
            seen += [record.serial_number for record in page]
            before = page[-1].id
        assert seen == [one.serial_number for one in reversed(entries)]

    def test_status_is_judged_by_the_clock(self, registry: Registry) -> None:
        """A certificate past its time is expired before anything marked it; a revoked one stays revoked."""
        valid, expired, revoked = entry(), entry(expires=NOW - DAY), entry()
        registry.keep(valid, expired, revoked)
        registry.write(queries.revoke, int(revoked.serial_number), x509.ReasonFlags.unspecified, now=NOW)
        answers = {status: registry.serials(CertificateFilter(status=status)) for status in CertificateStatus}
        assert answers == {
            CertificateStatus.VALID: [valid.serial_number],
            CertificateStatus.EXPIRED: [expired.serial_number],
            CertificateStatus.REVOKED: [revoked.serial_number],
            CertificateStatus.UNKNOWN: [],
        }

    def test_expired_pages_meet_marked_and_unmarked_ones_once(self, registry: Registry) -> None:
        """Certificates that expired before and after the last marking come in one order, page by page."""
        old, valid, recent = entry(expires=NOW - 2 * DAY), entry(), entry(expires=NOW - DAY)
        oldest, newest = entry(expires=NOW - DAY), entry(expires=NOW - 2 * DAY)
        registry.keep(oldest, old, valid, recent, newest)
        registry.write(queries.mark_expired, now=NOW - 1.5 * DAY)
        expired = CertificateFilter(status=CertificateStatus.EXPIRED)
        seen: list[str] = []
        before: int | None = None
        while page := registry.read(queries.page_certificates, expired, now=NOW, limit=1, before_id=before):
            seen += [record.serial_number for record in page]
            before = page[-1].id
        assert seen == [one.serial_number for one in (newest, recent, old, oldest)]

    @pytest.mark.parametrize("many", [1, 10_000])
    @pytest.mark.parametrize(
        "wanted", [CertificateFilter(san="*.example.org"), CertificateFilter(common_name="*.example.org")]
    )
    def test_suffix_finds_the_same_of_many_names_as_of_few(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch, many: int, wanted: CertificateFilter
    ) -> None:
        """Whether the names are put in order or the certificates walked through, each match comes once."""
        monkeypatch.setattr(filters, "_MANY", many)
        names = (x509.DNSName("a.example.org"), x509.DNSName("b.example.org"))
        older, newer = entry("a.example.org", names=names), entry("b.example.org", names=names)
        others = [entry(None), entry("a.example.com", names=(x509.DNSName("a.example.com"),))]
        registry.keep(older, *others, newer)
        assert registry.serials(wanted) == [newer.serial_number, older.serial_number]

    @pytest.mark.parametrize(
        "san",
        [
            "www.example.org",
            "WWW.example.ORG",
            "*.example.org",
            "2001:DB8::1",
            "spiffe://example.org/a",
            "a@example.org",
        ],
    )
    def test_san_matches_exactly_or_by_suffix(self, registry: Registry, san: str) -> None:
        """A SAN filter finds a name of any kind, and DNS names below a suffix."""
        wanted = entry(names=names_of_every_kind())
        others = ("example.org", "wwwexample.org", "www.example.org.evil.net", "www.example-org")
        registry.keep(wanted, *(entry(names=(x509.DNSName(other),)) for other in others))
        assert registry.serials(CertificateFilter(san=san)) == [wanted.serial_number]

    @pytest.mark.parametrize("common_name", ["a.b.example.org", "*.example.org", "*.b.example.org"])
    def test_common_name_matches_exactly_or_by_suffix(self, registry: Registry, common_name: str) -> None:
        """A CN filter finds the name itself, or those below a suffix."""
        wanted = entry("a.b.example.org")
        registry.keep(wanted, entry("example.org"), entry("aXexample.org"), entry(None))
        assert registry.serials(CertificateFilter(common_name=common_name)) == [wanted.serial_number]

    @pytest.mark.parametrize(
        "wanted,index",
        [
            (CertificateFilter(common_name="a.example.org"), "ix_certificates_common_name_reversed_id"),
            (CertificateFilter(san="a.example.org"), "ix_certificate_names_reversed_certificate_id"),
            (CertificateFilter(san="192.0.2.1"), "ix_certificate_names_others"),
        ],
    )
    def test_a_whole_name_is_found_in_an_index(self, tmp_path: Path, wanted: CertificateFilter, index: str) -> None:
        """No page of certificates with one name is a walk through all of them."""
        steps = query_plan(tmp_path, partial(queries.page_certificates, wanted=wanted, now=NOW, limit=10))
        assert any(step.startswith("SEARCH") and index in step for step in steps)
        assert not any(step.startswith("SCAN certificate") for step in steps)

    def test_the_other_filters_all_must_match(self, registry: Registry) -> None:
        """Issuer, profile, requester, key, type and times narrow a list together."""
        registry.write(queries.insert_issuers, [issuer()])
        wanted = entry(issuer_id=ISSUER, profile="server", requester="ci")
        registry.keep(wanted, entry(issuer_id=ISSUER, profile="server"), entry(requester="ci"))
        found = CertificateFilter(
            issuer_id=ISSUER,
            profile="server",
            requester="ci",
            spki_sha256=wanted.spki_sha256,
            key_type=CertType.SERVICE,
            expires_after=NOW,
            expires_before=NOW + 91 * DAY,
        )
        assert registry.serials(found) == [wanted.serial_number]
        assert registry.serials(replace(found, expires_before=NOW)) == []


class TestExpiring:
    def test_expiring_are_sorted_and_neither_expired_nor_revoked(self, registry: Registry) -> None:
        """Only valid certificates within the window are listed, soonest first."""
        later, sooner = entry(expires=NOW + 5 * DAY), entry(expires=NOW + DAY)
        revoked = entry(expires=NOW + DAY)
        registry.keep(later, sooner, revoked, entry(expires=NOW - DAY), entry(expires=NOW + 11 * DAY))
        registry.write(queries.revoke, int(revoked.serial_number), x509.ReasonFlags.unspecified, now=NOW)
        listed = registry.read(queries.expiring, now=NOW, within=10 * DAY)
        assert [record.serial_number for record in listed] == [sooner.serial_number, later.serial_number]

    def test_marking_expired_counts_and_frees_names(self, registry: Registry) -> None:
        """Marking changes what has expired, once."""
        registry.keep(entry(expires=NOW - DAY, unique_name="a"), entry(expires=NOW - DAY), entry())
        assert [registry.write(queries.mark_expired, now=NOW) for _ in range(2)] == [2, 0]
        assert len(registry.read(queries.list_certificates, status=CertificateStatus.EXPIRED)) == 2

    def test_deleting_takes_the_names_along(self, registry: Registry) -> None:
        """A deleted certificate leaves no names behind; deleting it again says so."""
        registry.keep(entry(uuid="u", names=names_of_every_kind()))
        assert [registry.write(queries.delete_by_uuid, "u") for _ in range(2)] == [True, False]
        assert registry.read(_names) == set()

    def test_only_expired_ones_are_deleted_by_serial(self, registry: Registry) -> None:
        """A record that a CRL may need is not deleted."""
        valid, expired = entry(), entry(expires=NOW - DAY)
        registry.keep(valid, expired)
        registry.write(queries.delete_expired, int(expired.serial_number), now=NOW, audit=audit("delete"))
        assert registry.read(_audited) == ["delete"]
        with pytest.raises(Conflict):
            registry.write(queries.delete_expired, int(valid.serial_number), now=NOW)
        with pytest.raises(CertNotFound):
            registry.write(queries.delete_expired, int(expired.serial_number), now=NOW)
