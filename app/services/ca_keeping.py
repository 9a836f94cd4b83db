"""A CA that was made elsewhere, on its way into the registry: its rows, and the one transaction that keeps them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from sqlalchemy.orm import Session

from app.services.ca_import import Material
from app.services.ca_making import certificate_entry, issuer_entry
from tiny_ca.ca_factory.issuer import issuer_id
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.db.entries import AuditEntry, CertificateEntry, IssuerEntry
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.blocked_keys import blocked_among
from tiny_ca.db.queries.certificates import certificate_by_serial, insert_certificates
from tiny_ca.db.queries.issuers import insert_issuers
from tiny_ca.db.queries.revocations import revoked_among
from tiny_ca.exc import Conflict, Forbidden

__all__ = ["NewCA", "check_names_are_free", "check_not_revoked", "imported_rows", "keep_imported"]


@dataclass(frozen=True, slots=True)
class NewCA:
    """Rows of CAs that are new here, parents before children; the last is the one that was asked for."""

    issuers: tuple[IssuerEntry, ...]
    certificates: tuple[CertificateEntry, ...]


def imported_rows(
    material: Material,
    above: Sequence[x509.Certificate],
    known: Mapping[str, x509.Certificate],
    *,
    encrypt: Callable[[PrivateKey], str],
    requester: str,
    now: datetime,
) -> NewCA:
    """Rows for the CA and for what is new above it, root first."""
    path = (*reversed(above), material.certificate)
    parents = (None, *map(issuer_id, path))
    new = [(one, parent) for one, parent in zip(path, parents, strict=False) if issuer_id(one) not in known]
    key = encrypt(material.private_key)
    return NewCA(
        issuers=tuple(
            issuer_entry(
                one,
                private_key_pem=key if one is material.certificate else None,
                parent_id=parent,
                now=now,
                # RFC 5280 §5.2.3: numbers only grow, and what it gave out elsewhere is not known here. Those who
                # number by the clock do it in microseconds at most.
                crl_number=int(now.timestamp() * 1_000_000),
            )
            for one, parent in new
        ),
        certificates=tuple(
            certificate_entry(one, issuer=parent or issuer_id(one), profile=None, requester=requester, now=now)
            for one, parent in new
        ),
    )


def check_names_are_free(path: Sequence[x509.Certificate], known: Mapping[str, x509.Certificate]) -> None:
    """RFC 5280 §4.1.2.6: a name belongs to one CA; CRLs, and who looks for an issuer, go by it.

    Raises
    ------
    Conflict
        A CA here has the name of one in the path.
    """
    for one in path:
        for identifier, other in known.items():
            if other.subject == one.subject and other != one:
                name = one.subject.rfc4514_string()
                raise Conflict(f"issuer {identifier} has the name {name!r} already, with another certificate")


def keep_imported(
    session: Session, new: NewCA, above: Sequence[x509.Certificate], audit: AuditEntry, *, now: datetime
) -> None:
    """Keep the CA, its certificate and the audit row.

    A certificate that is on record already, signed here for a key from elsewhere, stays as it is.

    Raises
    ------
    Conflict
        A serial number is another certificate's, or a CA above is revoked.
    Forbidden
        A key is blocked.
    """
    for blocked in blocked_among(session, {entry.spki_sha256 for entry in new.certificates}):
        message = f"the key {blocked} was revoked as compromised: a CA with it would be believed by nobody"
        raise Forbidden(message, rule="key_blocked", value=blocked)
    fresh = []
    for entry in new.certificates:
        found = certificate_by_serial(session, int(entry.serial_number))
        if found is None:
            fresh.append(entry)
        elif found.fingerprint_sha256 != entry.fingerprint_sha256:
            number = f"{int(entry.serial_number):x}"
            raise Conflict(
                f"serial number {number} is another certificate's already; revocation could not tell them apart"
            )
        elif found.revocation_date is not None:
            raise Conflict(f"certificate {int(entry.serial_number):x} is revoked")
    check_not_revoked(session, above)
    insert_issuers(session, new.issuers)
    if fresh:
        insert_certificates(session, fresh, now=now)
    insert_audit(session, [audit])


def check_not_revoked(session: Session, path: Iterable[x509.Certificate]) -> None:
    """Nobody believes what stands below a revoked CA.

    Raises
    ------
    Conflict
        One of them is revoked.
    """
    certificates = list(path)
    if certificates and revoked_among(session, [one.serial_number for one in certificates]):
        name = certificates[0].subject.rfc4514_string()
        raise Conflict(f"the CA {name!r}, or one above it, is revoked: nobody would believe what stands below it")
