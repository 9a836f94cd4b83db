"""What went wrong, by what clients received, the database's rows and the CRLs alone: nothing of the service is used."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from tests.crash.storm.received import CRLSeen, Received

__all__ = ["Registry", "problems", "read_registry"]

# A CRL made on one replica is served by all within a second; the rest is for a machine that is busy.
_SEEN_BY_ALL: Final = 5.0
_MADE: Final = ("certificate.issue", "certificate.renew", "certificate.rotate")


@dataclass(frozen=True, slots=True)
class Registry:
    """Every row that matters, as read."""

    certificates: dict[int, Any]
    audit: dict[tuple[str, int], int]
    idempotency: dict[str, int]


async def read_registry(url: str) -> Registry:
    """Read the rows with SQL of our own."""
    connection = await asyncpg.connect(url)
    try:
        certificates = await connection.fetch("SELECT * FROM certificates")
        audit = await connection.fetch(
            "SELECT action, serial_number, count(*) AS times FROM audit "
            "WHERE outcome = 'success' AND serial_number IS NOT NULL GROUP BY 1, 2"
        )
        keys = await connection.fetch("SELECT key, outcome::jsonb ->> 'id' AS id FROM idempotency_keys")
    finally:
        await connection.close()
    return Registry(
        {int(row["serial_number"]): row for row in certificates},
        {(row["action"], int(row["serial_number"])): row["times"] for row in audit},
        {row["key"]: int(row["id"]) for row in keys if row["id"] is not None and row["id"].isdigit()},
    )


def problems(received: Received, registry: Registry, *, issuer: x509.Certificate, last_crl: bytes) -> list[str]:
    """Every broken promise, in words; none is what we want."""
    return [
        *received.unexpected,
        *_certificates(received, registry),
        *_revocations(received, registry, last_crl),
        *_crls(received, issuer),
        *_audit(registry),
    ]


def _certificates(received: Received, registry: Registry) -> Iterator[str]:
    owners: dict[int, set[str]] = defaultdict(set)
    for key, answers in received.certificates.items():
        if len(answers) > 1:
            yield f"idempotency key {key} got {len(answers)} certificates"
        for der in answers:
            certificate = x509.load_der_x509_certificate(der)
            serial = certificate.serial_number
            owners[serial].add(key)
            row = registry.certificates.get(serial)
            if row is None:
                yield f"certificate {serial:x} is in a client's hands and not on record"
            elif x509.load_pem_x509_certificate(row["certificate_pem"].encode()) != certificate:
                yield f"certificate {serial:x} is another one on record"
            if registry.idempotency.get(key) != serial:
                yield f"idempotency key {key} stands for another certificate than {serial:x}"
    for serial, keys in owners.items():
        if len(keys) > 1:
            yield f"serial number {serial:x} was given out {len(keys)} times"


def _revocations(received: Received, registry: Registry, last_crl: bytes) -> Iterator[str]:
    listed = _listed(last_crl)
    for revocation in received.revocations:
        serial = revocation.serial_number
        row = registry.certificates.get(serial)
        if row is None or row["revocation_date"] is None:
            yield f"the revocation of {serial:x} was acknowledged and is not on record"
        if serial not in listed:
            yield f"the revocation of {serial:x} was acknowledged and is not in the last CRL"
        for seen in received.crls:
            if seen.began > revocation.at + _SEEN_BY_ALL and serial not in _listed(seen.der):
                yield f"CRL {_number(seen.der)} came after the revocation of {serial:x} and says nothing of it"


def _crls(received: Received, issuer: x509.Certificate) -> Iterator[str]:
    by_number: dict[int, set[bytes]] = defaultdict(set)
    newest: dict[tuple[int, int], int] = {}
    for seen in received.crls:
        number = _number(seen.der)
        by_number[number].add(seen.der)
        if number < newest.get((seen.replica, seen.start), 0):
            yield f"replica {seen.replica} went back to CRL {number}"
        newest[seen.replica, seen.start] = number
    previous: frozenset[int] = frozenset()
    public_key = issuer.public_key()
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    for number, ders in sorted(by_number.items()):
        if len(ders) > 1:
            yield f"{len(ders)} CRLs have the number {number}"
        for der in ders:
            if not x509.load_der_x509_crl(der).is_signature_valid(public_key):
                yield f"CRL {number} is not signed by the CA"
            if gone := previous - _listed(der):
                yield f"CRL {number} lacks {len(gone)} revocations of the one before it"
            previous = _listed(der)


def _audit(registry: Registry) -> Iterator[str]:
    made: Counter[int] = Counter()
    for (action, serial), times in registry.audit.items():
        made[serial] += times if action in _MADE else 0
    for serial, row in registry.certificates.items():
        if row["key_type"] != "CA" and made[serial] != 1:
            yield f"certificate {serial:x} was made, and its making was audited {made[serial]} times"
        if row["revocation_date"] is not None and ("certificate.revoke", serial) not in registry.audit:
            yield f"certificate {serial:x} was revoked and not audited"


_CACHE: dict[bytes, tuple[int, frozenset[int]]] = {}


def _read(der: bytes) -> tuple[int, frozenset[int]]:
    if der not in _CACHE:
        crl = x509.load_der_x509_crl(der)
        number = crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
        _CACHE[der] = number, frozenset(entry.serial_number for entry in crl)
    return _CACHE[der]


def _number(der: bytes) -> int:
    return _read(der)[0]


def _listed(der: bytes) -> frozenset[int]:
    return _read(der)[1]


def crls_seen(crls: Iterable[CRLSeen]) -> int:
    """How many different ones."""
    return len({seen.der for seen in crls})
