"""What stands in the way of certificates that were just signed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from sqlalchemy.orm import Session

from tests.unit.db.helpers import ISSUER, NOW, Registry, audit, entry, issuer
from tiny_ca.db.models import BlockedKey, IssuerRecord
from tiny_ca.db.queries.issuers import insert_issuers
from tiny_ca.db.queries.obstacles import is_obstructed
from tiny_ca.db.queries.revocations import revoke

AUTHORITY, OTHER, KEY = 2**100, 2**100 + 1, "0" * 64


def _revoked(session: Session) -> None:
    revoke(session, AUTHORITY, x509.ReasonFlags.cessation_of_operation, now=NOW, audit=audit("certificate.revoke"))


def _revoked_another(session: Session) -> None:
    revoke(session, OTHER, x509.ReasonFlags.cessation_of_operation, now=NOW, audit=audit("certificate.revoke"))


def _blocked(session: Session) -> None:
    session.add(BlockedKey(spki_sha256=KEY, serial_number="1", blocked_at=NOW))


def _blocked_another(session: Session) -> None:
    session.add(BlockedKey(spki_sha256="1" * 64, serial_number="1", blocked_at=NOW))


def _changed(**values: Any) -> Callable[[Session], None]:  # noqa: ANN401  # of any column
    def change(session: Session) -> None:
        record = session.get_one(IssuerRecord, ISSUER)
        for name, value in values.items():
            setattr(record, name, value)

    return change


@pytest.mark.parametrize(
    "happened,expected",
    [
        (lambda _session: None, False),
        (_revoked, True),
        (_revoked_another, False),
        (_blocked, True),
        (_blocked_another, False),
        (_changed(enabled=False), True),
        (_changed(private_key_pem=None), True),
        (_changed(is_default=True), False),
    ],
)
def test_each_obstacle(registry: Registry, happened: Callable[[Session], None], *, expected: bool) -> None:
    """A revoked CA, a blocked key, an issuer that is disabled or offline; what happened to others is none."""
    registry.keep(entry(serial=AUTHORITY), entry("other.example.org", serial=OTHER))
    registry.write(insert_issuers, [issuer()])
    registry.write(happened)

    found = registry.read(is_obstructed, authorities=[AUTHORITY], issuers=[ISSUER], keys=[KEY, "2" * 64])
    assert found is expected


def test_an_issuer_that_is_not_on_record_is_none(registry: Registry) -> None:
    """As where one is being made: its own record comes with the certificates'."""
    assert registry.read(is_obstructed, authorities=[AUTHORITY], issuers=["f" * 16], keys=[KEY]) is False
