"""Issuers, tokens, and what a repr may show."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from tests.unit.db.helpers import ISSUER, NOW, Registry, audit, issuer, query_plan
from tiny_ca.db import queries
from tiny_ca.db.entries import TokenEntry
from tiny_ca.db.models import IssuerRecord, TokenRecord, UTCDateTime
from tiny_ca.db.queries.tokens import delete_token, page_tokens
from tiny_ca.exc import Conflict


def test_issuers_are_kept_and_listed(registry: Registry) -> None:
    """Root and intermediate are kept together and listed oldest first."""
    root = issuer("a" * 16)
    intermediate = replace(issuer("b" * 16, is_default=True), parent_id=root.id, created_at=NOW + timedelta(seconds=1))
    registry.write(queries.insert_issuers, [root, intermediate], audit=[audit("bootstrap")])
    assert [record.id for record in registry.read(queries.list_issuers)] == [root.id, intermediate.id]
    kept = registry.read(queries.issuer_by_id, intermediate.id)
    assert kept is not None
    assert (kept.private_key_pem, kept.crl_number, kept.is_default) == ("ENCRYPTED-SECRET", 0, True)
    assert registry.read(queries.issuer_by_id, "none") is None


def test_second_default_is_a_conflict(registry: Registry) -> None:
    """Two replicas that bootstrap at once cannot both leave a default issuer."""
    registry.write(queries.insert_issuers, [issuer("a" * 16, is_default=True)])
    with pytest.raises(Conflict):
        registry.write(queries.insert_issuers, [issuer("b" * 16, is_default=True)])


def test_token_is_found_by_hash_and_replaced_by_id(registry: Registry) -> None:
    """A token put again takes the place of the one with its id."""
    token = TokenEntry(id="admin", name="admin", token_sha256="a" * 64, created_at=NOW)
    registry.write(queries.put_token, token)
    registry.write(queries.put_token, replace(token, token_sha256="b" * 64, expires_at=NOW), audit=audit("token"))
    found = registry.read(queries.token_by_hash, "b" * 64)
    assert found is not None
    assert (found.id, found.expires_at, found.created_at) == ("admin", NOW, NOW)
    assert registry.read(queries.token_by_hash, "a" * 64) is None


def test_tokens_come_in_pages(registry: Registry) -> None:
    """Newest first, those of one moment by id; a page is one walk along an index, and begins where the last one ended.

    Also where the token that was the last one is gone by then.
    """
    made = {"a": 1, "b": 2, "c": 2, "d": 2, "e": 3}
    for name, second in made.items():
        at = NOW + timedelta(seconds=second)
        registry.write(queries.put_token, TokenEntry(id=name, name=name, token_sha256=name * 64, created_at=at))
    assert [token.id for token in registry.read(page_tokens, limit=9)] == list("edcba")
    first = registry.read(page_tokens, limit=3)
    assert [token.id for token in first] == list("edc")
    registry.write(delete_token, "c")
    rest = registry.read(page_tokens, limit=3, before=(first[-1].created_at, first[-1].id))
    assert [token.id for token in rest] == list("ba")


def test_a_page_of_tokens_is_a_walk_along_an_index(tmp_path: Path) -> None:
    """Nothing is put in order for it, and what is before the page is not read."""
    steps = query_plan(tmp_path, partial(page_tokens, limit=3, before=(NOW, "a")))
    assert steps == ["SEARCH tokens USING INDEX ix_tokens_created_at_id ((created_at,id)<(?,?))"]


def test_repr_shows_no_secret() -> None:
    """Neither a key nor a token's hash gets into a log by way of repr."""
    token = TokenEntry(id="t", name="t", token_sha256="SECRET", created_at=NOW)
    shown = (
        repr(issuer())
        + repr(IssuerRecord(id=ISSUER, common_name="CA", private_key_pem="SECRET"))
        + repr(token)
        + repr(TokenRecord(id="t", name="t", token_sha256="SECRET"))
    )
    assert "SECRET" not in shown


@pytest.mark.parametrize(
    "given",
    [
        datetime(2030, 1, 1, 12, tzinfo=UTC),
        datetime(2030, 1, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        datetime(2030, 1, 1, 12),  # noqa: DTZ001 - a naive one is the case
    ],
)
def test_times_are_stored_in_utc_and_returned_aware(given: datetime) -> None:
    """Any zone becomes UTC; a naive time is taken as UTC."""
    dialect = sqlite.dialect()
    stored = UTCDateTime().process_bind_param(given, dialect)
    assert stored is not None
    assert stored.tzinfo is None
    assert UTCDateTime().process_result_value(stored, dialect) == datetime(2030, 1, 1, 12, tzinfo=UTC)
