"""Whether anything that was recorded meanwhile stands in the way of certificates that were just signed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import bindparam, literal, not_, or_, select, union_all

from tiny_ca.db.models import BlockedKey, CertificateRecord, IssuerRecord

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.orm import Session

__all__ = ["is_obstructed"]

_certificates, _keys, _issuers = CertificateRecord.__table__, BlockedKey.__table__, IssuerRecord.__table__
# One statement, for each batch asks, and over a network each statement is a journey.
_OBSTACLES: Final = (
    union_all(
        select(literal(1)).where(
            _certificates.c.serial_number.in_(bindparam("serial_numbers", expanding=True)),
            _certificates.c.revocation_date.is_not(None),
        ),
        select(literal(1)).where(_keys.c.spki_sha256.in_(bindparam("keys", expanding=True))),
        select(literal(1)).where(
            _issuers.c.id.in_(bindparam("issuers", expanding=True)),
            or_(not_(_issuers.c.enabled), _issuers.c.private_key_pem.is_(None)),
        ),
    )
).limit(1)


def is_obstructed(
    session: Session, *, authorities: Collection[int], issuers: Collection[str], keys: Collection[str]
) -> bool:
    """Whether a CA among ``authorities`` is revoked, an issuer is disabled or offline, or a key is blocked.

    ``authorities``: serial numbers. ``issuers``: their ids. ``keys``: SHA-256 of SubjectPublicKeyInfo in hex. Which of
    them, ``revoked_among``, ``issuer_state`` and ``blocked_among`` tell.
    """
    asked = {"serial_numbers": [str(serial) for serial in authorities], "issuers": list(issuers), "keys": list(keys)}
    return session.connection().execute(_OBSTACLES, asked).first() is not None
