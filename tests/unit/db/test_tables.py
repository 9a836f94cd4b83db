"""Whole tables: walked in pages, added as they are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from tests.unit.db.helpers import NOW, Registry, audit, crl, entry, issuer
from tiny_ca.db import queries
from tiny_ca.db.entries import TokenEntry
from tiny_ca.db.models import CertificateRecord, CRLRecord, IssuerRecord
from tiny_ca.db.queries.tables import TABLES, add_rows, count_rows, is_empty, raise_sequences, walk

ISSUERS, CERTIFICATES, CRLS = (
    model.metadata.tables[model.__tablename__] for model in (IssuerRecord, CertificateRecord, CRLRecord)
)


def _fill(registry: Registry, certificates: int) -> None:
    registry.write(queries.insert_issuers, [issuer()])
    registry.keep(*(entry(serial=1 + number) for number in range(certificates)))
    for number in (1, 2):
        registry.write(queries.record_crl, crl(number, this_update=NOW))
    token = TokenEntry(id="Öne two", name="é", token_sha256="0" * 64, created_at=NOW, expires_at=NOW + timedelta(1))
    registry.write(queries.put_token, token, audit=audit())


def test_a_walk_sees_each_row_once(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pages of a bounded size, whatever the size of the table; CRLs, which may be large, one by one."""
    monkeypatch.setattr("tiny_ca.db.queries.tables._PAGE", 7)
    _fill(registry, 21)

    def walked(session: Session) -> tuple[list[int], list[int]]:
        pages = list(walk(session.connection(), CERTIFICATES))
        assert len({row for page in pages for row in page}) == 21
        return [len(page) for page in pages], [len(page) for page in walk(session.connection(), CRLS)]

    assert registry.read(walked) == ([7, 7, 7], [1, 1])


def test_rows_go_over_as_they_are(registry: Registry) -> None:
    """Everything is taken out and put in again: ids, times, octets and all; new rows are numbered above."""
    _fill(registry, 3)

    def taken(session: Session) -> dict[str, list[tuple[object, ...]]]:
        return {table.name: [row for page in walk(session.connection(), table) for row in page] for table in TABLES}

    before = registry.read(taken)

    def empty(session: Session) -> None:
        for table in reversed(TABLES):
            session.connection().execute(table.delete())
        assert is_empty(session.connection())

    def put(session: Session) -> None:
        for table in TABLES:
            add_rows(session.connection(), table, [column.name for column in table.columns], before[table.name])
            assert count_rows(session.connection(), table) == len(before[table.name])
        raise_sequences(session.connection())

    registry.write(empty)
    registry.write(put)
    assert registry.read(taken) == before
    registry.keep(entry())
    registry.write(queries.insert_audit, [audit()])


def test_cas_are_added_parents_first(registry: Registry) -> None:
    """In whatever order they come; one whose parent is nowhere is refused."""
    columns = ["id", "common_name", "certificate_pem", "parent_id", "is_root", "enabled", "is_default"]
    columns += ["created_at", "crl_number", "revocation_count"]
    rows = [
        (name, name, "PEM", parent, parent is None, True, False, NOW, 0, 0)
        for name, parent in (("a", "b"), ("b", "c"), ("c", None), ("d", "a"))
    ]
    registry.write(lambda session: add_rows(session.connection(), ISSUERS, columns, rows))
    assert registry.read(lambda session: count_rows(session.connection(), ISSUERS)) == 4
    orphan = ("e", "e", "PEM", "nobody", False, True, False, NOW, 0, 0)
    with pytest.raises(Exception, match=r"(?i)foreign key") as refusal:
        registry.write(lambda session: add_rows(session.connection(), ISSUERS, columns, [orphan]))
    assert isinstance(refusal.value.__cause__, IntegrityError)
