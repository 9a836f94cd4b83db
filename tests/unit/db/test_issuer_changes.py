"""What changes of an issuer: enabled, the default, its key; and how others learn of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.db.helpers import NOW, Registry, issuer
from tiny_ca.db.queries.issuers import (
    IssuerState,
    change_issuer,
    insert_issuers,
    issuer_by_id,
    issuer_states,
    put_issuer_key,
)
from tiny_ca.exc import NotFound

FIRST, SECOND = "a" * 16, "b" * 16


@pytest.fixture
def two(registry: Registry) -> Registry:
    """Two issuers, the first the default."""
    second = replace(issuer(SECOND), created_at=NOW + timedelta(seconds=1), crl_number=1_700_000_000_000_000)
    registry.write(insert_issuers, [issuer(FIRST, is_default=True), second])
    return registry


def test_states(two: Registry) -> None:
    """They say all that changes, and differ after each change."""
    first = IssuerState(FIRST, enabled=True, is_default=True, has_key=True)
    second = IssuerState(SECOND, enabled=True, is_default=False, has_key=True)
    assert two.read(issuer_states) == {first, second}
    two.write(change_issuer, SECOND, enabled=False)
    assert two.read(issuer_states) == {first, second._replace(enabled=False)}
    two.write(change_issuer, SECOND, enabled=True, make_default=True)
    assert two.read(issuer_states) == {first._replace(is_default=False), second._replace(is_default=True)}
    two.write(put_issuer_key, SECOND, None)
    assert second._replace(is_default=True, has_key=False) in two.read(issuer_states)


def test_the_default_passes(two: Registry) -> None:
    """There is one default at any time, and making it the default again changes nothing."""
    for chosen in (SECOND, FIRST, FIRST):
        assert two.write(change_issuer, chosen, make_default=True).is_default
        assert [state.id for state in two.read(issuer_states) if state.is_default] == [chosen]


def test_a_key_goes_and_comes(two: Registry) -> None:
    """What is put is what is kept."""
    two.write(put_issuer_key, FIRST, None)
    gone = two.read(issuer_by_id, FIRST)
    two.write(put_issuer_key, FIRST, "ANOTHER")
    back = two.read(issuer_by_id, FIRST)
    assert (gone and gone.private_key_pem, back and back.private_key_pem) == (None, "ANOTHER")


def test_a_number_from_elsewhere(two: Registry) -> None:
    """The CRL number that an imported CA begins with is kept, however large."""
    kept = two.read(issuer_by_id, SECOND)
    assert kept is not None
    assert kept.crl_number == 1_700_000_000_000_000


def test_nobody(two: Registry) -> None:
    """Of an issuer that does not exist nothing can be changed."""
    with pytest.raises(NotFound):
        two.write(change_issuer, "none", enabled=False)
    with pytest.raises(NotFound):
        two.write(put_issuer_key, "none", None)
