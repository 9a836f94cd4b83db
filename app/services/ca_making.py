"""CAs about to be recorded: signed on a first run or because an operator asks, and as rows of the registry."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import NameOID
from sqlalchemy.orm import Session

from app.settings import Settings
from tiny_ca.ca_factory.issuer import Issuer, IssuerUrls, issuer_id
from tiny_ca.ca_factory.keys import PrivateKey, generate_private_key
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, ROOT_PROFILE, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.const import CertType
from tiny_ca.db.entries import AuditEntry, CertificateEntry, IssuerEntry, common_name_of
from tiny_ca.db.queries.certificates import insert_certificates
from tiny_ca.db.queries.issuers import insert_issuers
from tiny_ca.models.key_spec import KeySpec

__all__ = ["ACTOR", "Rows", "certificate_entry", "encrypted", "first_hierarchy", "issuer_entry", "issuer_urls", "keep"]

ACTOR = "tiny-ca"
_ROOT_LIFETIME = timedelta(days=3650)
_ISSUING_LIFETIME = timedelta(days=1825)


@dataclass(frozen=True, slots=True)
class Rows:
    """What the registry keeps of new CAs, parents before children."""

    issuers: tuple[IssuerEntry, ...]
    certificates: tuple[CertificateEntry, ...]
    audit: tuple[AuditEntry, ...]


def issuer_urls(public_url: str, identifier: str) -> IssuerUrls:
    """Where what this CA signs points to."""
    return IssuerUrls(
        ca_issuers=f"{public_url}/issuers/{identifier}.der", crl=f"{public_url}/issuers/{identifier}/crl.der"
    )


def encrypted(private_key: PrivateKey, passphrase: str) -> str:
    """PKCS#8 under PBES2 with AES-256-CBC; PBKDF2 stretches little, so the passphrase itself must be long."""
    encryption = BestAvailableEncryption(passphrase.encode())
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode("ascii")


def first_hierarchy(settings: Settings, names: tuple[str, str], passphrase: str, now: datetime) -> Rows:
    """A root and an issuing CA below it, the default."""
    root = _make(names[0], settings, settings.root_key, ROOT_PROFILE, None, _ROOT_LIFETIME, now)
    url = issuer_urls(settings.effective_public_url, issuer_id(root.certificate))
    parent = Issuer(root.certificate, SoftwareSigner(root.private_key), urls=url)
    profile = BUILT_IN_PROFILES["intermediate"]
    issuing = _make(names[1], settings, settings.issuer_key, profile, parent, _ISSUING_LIFETIME, now)
    made = (root, issuing)
    certificates = tuple(_entry(ca, parent.id, now) for ca in made)
    return Rows(
        issuers=tuple(
            issuer_entry(
                ca.certificate,
                private_key_pem=encrypted(ca.private_key, passphrase),
                parent_id=None if ca is root else parent.id,
                now=now,
                is_default=ca is issuing,
            )
            for ca in made
        ),
        certificates=certificates,
        audit=tuple(
            AuditEntry(
                at=now,
                actor=ACTOR,
                action="issuer.create",
                outcome="success",
                serial_number=entry.serial_number,
                issuer_id=entry.issuer_id,
                profile=entry.profile,
            )
            for entry in certificates
        ),
    )


def issuer_entry(
    certificate: x509.Certificate,
    *,
    private_key_pem: str | None,
    parent_id: str | None,
    now: datetime,
    is_default: bool = False,
    crl_number: int = 0,
) -> IssuerEntry:
    """The row of one CA; without a parent it is a root. The key must be encrypted already."""
    return IssuerEntry(
        id=issuer_id(certificate),
        common_name=common_name_of(certificate) or certificate.subject.rfc4514_string(),
        certificate_pem=certificate.public_bytes(Encoding.PEM).decode("ascii"),
        private_key_pem=private_key_pem,
        created_at=now,
        parent_id=parent_id,
        is_root=parent_id is None,
        is_default=is_default,
        crl_number=crl_number,
    )


def keep(session: Session, rows: Rows, *, now: datetime) -> None:
    """One transaction: the CAs, their certificates and the audit rows, all or none."""
    insert_issuers(session, rows.issuers)
    insert_certificates(session, rows.certificates, now=now, audit=rows.audit)


def certificate_entry(
    certificate: x509.Certificate, *, issuer: str, profile: str | None, requester: str, now: datetime
) -> CertificateEntry:
    """The row of a CA's certificate; ``issuer`` is itself for a root."""
    return CertificateEntry.of(
        certificate, key_type=CertType.CA, created_at=now, issuer_id=issuer, profile=profile, requester=requester
    )


@dataclass(frozen=True, slots=True)
class _NewCA:
    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)
    profile: Profile


def _entry(ca: _NewCA, parent_id: str, now: datetime) -> CertificateEntry:
    return certificate_entry(ca.certificate, issuer=parent_id, profile=ca.profile.name, requester=ACTOR, now=now)


def _make(  # each is one fact of the certificate
    common_name: str,
    settings: Settings,
    key: KeySpec,
    profile: Profile,
    issuer: Issuer | None,
    lifetime: timedelta,
    now: datetime,
) -> _NewCA:
    private_key = generate_private_key(key)
    request = CertificateRequest(
        subject=((NameOID.ORGANIZATION_NAME, settings.organization), (NameOID.COMMON_NAME, common_name)),
        names=AlternativeNames(),
        public_key=private_key.public_key(),
        key_spec=key,
        lifetime=lifetime,
    )
    made = plan(request, profile=profile, limits=NO_LIMITS, issuer=issuer, now=now)
    signer = None if issuer else SoftwareSigner(private_key)
    return _NewCA(sign_certificate(made, signer), private_key, profile)
