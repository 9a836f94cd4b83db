"""A new certificate and those before it: who has the name afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.db.helpers import DAY, NOW, Registry, entry
from tiny_ca.const import CertType
from tiny_ca.db import queries
from tiny_ca.db.const import Succession
from tiny_ca.exc import CertNotFound, Conflict, NotUniqueCertOwner

if TYPE_CHECKING:
    from tiny_ca.db.entries import CertificateEntry

NAME = "host.example.org"


def succeed(
    registry: Registry, new: CertificateEntry, succession: Succession, predecessor: CertificateEntry | None = None
) -> None:
    """Record the new one; the predecessor is given by its serial number."""
    serial = None if predecessor is None else int(predecessor.serial_number)
    registry.write(queries.insert_successor, new, succession, predecessor=serial, now=NOW)


def state(registry: Registry, *entries: CertificateEntry) -> list[tuple[str, str | None]]:
    """``(status, claimed name)`` of each."""
    found = [registry.read(queries.certificate_by_serial, int(one.serial_number)) for one in entries]
    return [(one.status, one.unique_name) for one in found if one is not None]


def test_shared_claims_nothing(registry: Registry) -> None:
    """Any number of certificates share a name, beside one that holds it."""
    first, second, third = entry(), entry(), entry(None)
    succeed(registry, first, Succession.UNIQUE)
    succeed(registry, second, Succession.SHARED)
    succeed(registry, third, Succession.SHARED)
    assert state(registry, first, second, third) == [("valid", NAME), ("valid", None), ("valid", None)]


def test_a_renewal_inherits_the_claim(registry: Registry) -> None:
    """Both are valid; the renewal holds the name, and a third is refused."""
    old, new = entry(), entry()
    succeed(registry, old, Succession.UNIQUE)
    succeed(registry, new, Succession.RENEWAL, old)
    assert state(registry, old, new) == [("valid", None), ("valid", NAME)]
    with pytest.raises(NotUniqueCertOwner):
        succeed(registry, entry(), Succession.UNIQUE)


def test_a_renewal_of_what_claimed_nothing_claims_nothing(registry: Registry) -> None:
    """An intermediate's name stays free for its namesakes."""
    old, new = entry(key_type=CertType.CA), entry(key_type=CertType.CA)
    succeed(registry, old, Succession.SHARED)
    succeed(registry, new, Succession.RENEWAL, old)
    assert state(registry, old, new) == [("valid", None), ("valid", None)]


def test_a_rotation_ends_its_predecessor(registry: Registry) -> None:
    """The old one is revoked as superseded, the new one holds the name."""
    old, new = entry(), entry()
    succeed(registry, old, Succession.UNIQUE)
    succeed(registry, new, Succession.ROTATION, old)
    assert state(registry, old, new) == [("revoked", None), ("valid", NAME)]
    record = registry.read(queries.certificate_by_serial, int(old.serial_number))
    assert record is not None
    assert (record.revocation_reason, record.revocation_date) == (4, NOW)


@pytest.mark.parametrize("which", [0, 1])
def test_either_of_two_is_rotated(registry: Registry, which: int) -> None:
    """After a renewal, the old or the new certificate is rotated; the other one stays valid."""
    pair = (entry(), entry())
    succeed(registry, pair[0], Succession.UNIQUE)
    succeed(registry, pair[1], Succession.RENEWAL, pair[0])
    new = entry()
    succeed(registry, new, Succession.ROTATION, pair[which])
    assert state(registry, pair[which], pair[1 - which], new) == [("revoked", None), ("valid", None), ("valid", NAME)]


def test_a_rotation_to_another_name_needs_it_free(registry: Registry) -> None:
    """A valid certificate that claimed the name, or only has it, is in the way; one that expired is not."""
    old, shared, gone = entry(), entry("other.example.org"), entry("gone.example.org", expires=NOW - DAY)
    succeed(registry, old, Succession.UNIQUE)
    succeed(registry, shared, Succession.SHARED)
    succeed(registry, gone, Succession.UNIQUE)
    with pytest.raises(NotUniqueCertOwner, match=r"other\.example\.org"):
        succeed(registry, entry("other.example.org"), Succession.ROTATION, old)
    assert state(registry, old) == [("valid", NAME)]
    succeed(registry, entry("gone.example.org"), Succession.ROTATION, old)
    assert state(registry, old) == [("revoked", None)]


@pytest.mark.parametrize("succession", [Succession.RENEWAL, Succession.ROTATION])
def test_what_is_revoked_has_no_successor(registry: Registry, succession: Succession) -> None:
    """A revoked predecessor, and one that is not there, are refused; nothing is recorded."""
    old, new = entry(), entry()
    succeed(registry, old, Succession.UNIQUE)
    registry.call("revoke_certificate", int(old.serial_number))
    with pytest.raises(Conflict, match="revoked"):
        succeed(registry, new, succession, old)
    with pytest.raises(CertNotFound):
        succeed(registry, new, succession, entry())
    assert state(registry, new) == []


def test_what_expired_is_rotated_without_a_revocation(registry: Registry) -> None:
    """There is nothing to revoke, and the new one stands."""
    old, new = entry(expires=NOW - DAY), entry()
    succeed(registry, old, Succession.UNIQUE)
    succeed(registry, new, Succession.ROTATION, old)
    assert state(registry, old, new) == [("valid", None), ("valid", NAME)]


def test_a_leaf_does_not_end_a_ca(registry: Registry) -> None:
    """A CA's certificate is rotated by a CA's only."""
    old = entry(key_type=CertType.CA)
    succeed(registry, old, Succession.UNIQUE)
    with pytest.raises(Conflict, match="CA"):
        succeed(registry, entry(), Succession.ROTATION, old)
    assert state(registry, old) == [("valid", NAME)]


@pytest.mark.parametrize("succession", list(Succession))
def test_predecessors_belong_to_some(registry: Registry, succession: Succession) -> None:
    """A kind that has a predecessor needs one, and no other kind takes one."""
    old = entry()
    succeed(registry, old, Succession.SHARED)
    has_one = succession in {Succession.RENEWAL, Succession.ROTATION}
    with pytest.raises(TypeError, match="predecessor"):
        succeed(registry, entry(), succession, None if has_one else old)
