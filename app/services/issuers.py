"""The CAs of this service: made on a first run, kept encrypted in the database, loaded into memory to sign."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID
from sqlalchemy import select
from sqlalchemy.orm import Session

from app.services.publication import PEM, PublicFile, bundle, der_file
from app.settings import Settings, SettingsError
from tiny_ca.ca_factory.issuer import Issuer, IssuerUrls, issuer_id
from tiny_ca.ca_factory.keys import PrivateKey, generate_private_key
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, ROOT_PROFILE, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.const import CertType
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, CertificateEntry, IssuerEntry
from tiny_ca.db.models import CertificateRecord, IssuerRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.certificates import insert_certificates
from tiny_ca.db.queries.issuers import insert_issuers, list_issuers
from tiny_ca.exc import Conflict, NotFound
from tiny_ca.models.key_spec import KeySpec

__all__ = ["IssuerStore", "issuer_urls"]

_ROOT_LIFETIME = timedelta(days=3650)
_ISSUING_LIFETIME = timedelta(days=1825)
_ACTOR = "tiny-ca"


class IssuerStore:
    """The loaded CAs. Keys stay inside their signers; nothing here prints or returns one."""

    def __init__(self, db: AsyncDBHandler, public_url: str) -> None:
        self._db = db
        self._public_url = public_url
        self._issuers: dict[str, Issuer] = {}
        self._known: dict[str, tuple[x509.Certificate, ...]] = {}
        self._default_id: str | None = None
        self._disabled: frozenset[str] = frozenset()
        self._revoked: frozenset[str] = frozenset()
        self._bundles: dict[str, PublicFile] = {}
        self._files: dict[str, PublicFile] = {}
        self._roots = PublicFile.of(b"", PEM, datetime.fromtimestamp(0, UTC))

    @property
    def default(self) -> Issuer:
        """The CA that issues where a request names none.

        Raises
        ------
        Conflict
            None is set.
        """
        if self._default_id is None:
            raise Conflict("no issuer is the default; name one in issuer_id")
        return self.get(self._default_id)

    @property
    def ids(self) -> tuple[str, ...]:
        """Every CA there ever was, oldest first."""
        return tuple(self._known)

    @property
    def signing(self) -> tuple[Issuer, ...]:
        """Every CA whose key is here, oldest first: also one that issues nothing any more has CRLs to sign."""
        return tuple(self._issuers.values())

    def known(self, issuer_id: str) -> tuple[x509.Certificate, ...]:
        """The certificate of a CA and of those above it, root last, whether or not its key is here.

        Raises
        ------
        NotFound
            There is no such CA.
        """
        if issuer_id not in self._known:
            raise NotFound(f"there is no issuer {issuer_id!r}")
        return self._known[issuer_id]

    @property
    def bundle(self) -> PublicFile:
        """The default issuer and the CAs above it, root last.

        Raises
        ------
        Conflict
            No issuer is the default.
        """
        return self._bundles[self.default.id]

    @property
    def roots(self) -> PublicFile:
        """The trust anchors: the last certificate of each CA's chain, each once."""
        return self._roots

    def file(self, issuer_id: str) -> PublicFile:
        """The certificate of one CA.

        Raises
        ------
        NotFound
            There is none.
        """
        self.known(issuer_id)
        return self._files[issuer_id]

    def get(self, issuer_id: str) -> Issuer:
        """The CA with this id, to sign.

        Raises
        ------
        NotFound
            There is none.
        Conflict
            Its key is not here.
        """
        self.known(issuer_id)
        if issuer_id not in self._issuers:
            raise Conflict(f"the key of issuer {issuer_id} is not here; it cannot sign")
        return self._issuers[issuer_id]

    def for_issuing(self, issuer_id: str) -> Issuer:
        """The CA with this id, to issue with.

        Raises
        ------
        NotFound
            There is none.
        Conflict
            It is disabled, its key is not here, or it or a CA above it is revoked: nobody would believe what it signs.
        """
        issuer = self.get(issuer_id)
        if any(str(certificate.serial_number) in self._revoked for certificate in self.known(issuer_id)):
            raise Conflict(f"issuer {issuer_id}, or a CA above it, is revoked")
        if issuer_id in self._disabled:
            raise Conflict(f"issuer {issuer_id} is disabled")
        return issuer

    async def bootstrap(self, settings: Settings, passphrase: str, *, now: datetime) -> None:
        """Make a root and an issuing intermediate, once: where another replica was faster, its CAs hold."""
        suffix = secrets.token_hex(2)  # so that two installations never share a name (RFC 5280 §4.1.2.4)
        names = (f"tiny-ca root {suffix}", f"tiny-ca issuing {suffix}")
        # A CA's intent is written down before its key signs anything.
        intent = AuditEntry(at=now, actor=_ACTOR, action="issuer.create", outcome="intended", detail={"names": names})
        await self._db.write(insert_audit, [intent])
        made = await asyncio.to_thread(_make_hierarchy, settings, self._public_url, names, now)
        rows = await asyncio.to_thread(_rows, made, passphrase, now)
        try:
            await self._db.write(_keep, rows, now=now)
        except Conflict:
            return

    async def load_revoked(self) -> None:
        """Learn which CAs are revoked."""
        self._revoked = await self._db.read(_revoked_cas)

    async def load(self, passphrase: str) -> None:
        """Load every CA of the database, and decrypt the keys that are there.

        Raises
        ------
        SettingsError
            The passphrase does not open a key.
        """
        records = await self._db.read(list_issuers)
        self._known = _chains(records)
        self._issuers = await asyncio.to_thread(_open, records, self._known, passphrase, self._public_url)
        self._disabled = frozenset(record.id for record in records if not record.enabled)
        await self.load_revoked()
        self._default_id = next((record.id for record in records if record.is_default), None)
        self._bundles = {identifier: bundle(chain) for identifier, chain in self._known.items()}
        self._files = {identifier: der_file(chain[0]) for identifier, chain in self._known.items()}
        self._roots = bundle({issuer_id(chain[-1]): chain[-1] for chain in self._known.values()}.values())


def _revoked_cas(session: Session) -> frozenset[str]:
    return frozenset(
        session.scalars(
            select(CertificateRecord.serial_number).where(
                CertificateRecord.key_type == CertType.CA.value, CertificateRecord.revocation_date.is_not(None)
            )
        )
    )


def issuer_urls(public_url: str, identifier: str) -> IssuerUrls:
    """Where what this CA signs points to."""
    return IssuerUrls(
        ca_issuers=f"{public_url}/issuers/{identifier}.der", crl=f"{public_url}/issuers/{identifier}/crl.der"
    )


@dataclass(frozen=True, slots=True)
class _NewCA:
    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)
    issuer: Issuer | None
    profile: Profile


@dataclass(frozen=True, slots=True)
class _Rows:
    issuers: tuple[IssuerEntry, ...]
    certificates: tuple[CertificateEntry, ...]
    audit: tuple[AuditEntry, ...]


def _make_hierarchy(
    settings: Settings, public_url: str, names: tuple[str, str], now: datetime
) -> tuple[_NewCA, _NewCA]:
    root = _make_ca(names[0], settings, settings.root_key, ROOT_PROFILE, None, _ROOT_LIFETIME, now)
    url = issuer_urls(public_url, issuer_id(root.certificate))
    parent = Issuer(root.certificate, SoftwareSigner(root.private_key), urls=url)
    profile = BUILT_IN_PROFILES["intermediate"]
    return root, _make_ca(names[1], settings, settings.issuer_key, profile, parent, _ISSUING_LIFETIME, now)


def _make_ca(  # each is one fact of the certificate
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
    return _NewCA(sign_certificate(made, signer), private_key, issuer, profile)


def _rows(made: tuple[_NewCA, ...], passphrase: str, now: datetime) -> _Rows:
    def parent(ca: _NewCA) -> str:
        return ca.issuer.id if ca.issuer else issuer_id(ca.certificate)

    issuers = tuple(
        IssuerEntry(
            id=issuer_id(ca.certificate),
            common_name=str(ca.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value),
            certificate_pem=ca.certificate.public_bytes(Encoding.PEM).decode("ascii"),
            private_key_pem=_encrypted(ca.private_key, passphrase),
            created_at=now,
            parent_id=ca.issuer.id if ca.issuer else None,
            is_root=ca.issuer is None,
            is_default=ca.issuer is not None,
        )
        for ca in made
    )
    certificates = tuple(
        CertificateEntry.of(
            ca.certificate,
            key_type=CertType.CA,
            created_at=now,
            issuer_id=parent(ca),
            profile=ca.profile.name,
            requester=_ACTOR,
        )
        for ca in made
    )
    audit = tuple(
        AuditEntry(
            at=now,
            actor=_ACTOR,
            action="issuer.create",
            outcome="success",
            serial_number=entry.serial_number,
            issuer_id=entry.issuer_id,
            profile=entry.profile,
        )
        for entry in certificates
    )
    return _Rows(issuers, certificates, audit)


def _keep(session: Session, rows: _Rows, *, now: datetime) -> None:
    """One transaction: the CAs, their certificates and the audit rows, all or none."""
    insert_issuers(session, rows.issuers)
    insert_certificates(session, rows.certificates, now=now, audit=rows.audit)


def _encrypted(private_key: PrivateKey, passphrase: str) -> str:
    """PKCS#8 under PBES2 with AES-256-CBC; PBKDF2 stretches little, so the passphrase itself must be long."""
    encryption = BestAvailableEncryption(passphrase.encode())
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption).decode("ascii")


def _chains(records: Sequence[IssuerRecord]) -> dict[str, tuple[x509.Certificate, ...]]:
    """Each CA's certificate and those above it, root last."""
    certificates = {record.id: x509.load_pem_x509_certificate(record.certificate_pem.encode()) for record in records}
    parents = {record.id: record.parent_id for record in records}

    def chain(identifier: str | None) -> Iterator[x509.Certificate]:
        while identifier is not None:
            yield certificates[identifier]
            identifier = parents[identifier]

    return {record.id: tuple(chain(record.id)) for record in records}


def _open(
    records: Sequence[IssuerRecord],
    chains: Mapping[str, tuple[x509.Certificate, ...]],
    passphrase: str,
    public_url: str,
) -> dict[str, Issuer]:
    return {
        record.id: Issuer(
            chains[record.id][0],
            _signer(record, passphrase),
            chain=chains[record.id][1:],
            urls=issuer_urls(public_url, record.id),
            peers=tuple(chain[0] for chain in chains.values()),
        )
        for record in records
        if record.private_key_pem is not None
    }


def _signer(record: IssuerRecord, passphrase: str) -> SoftwareSigner:
    try:
        key = load_pem_private_key((record.private_key_pem or "").encode(), passphrase.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        message = f"TINY_CA_KEY_PASSPHRASE: it does not open the key of issuer {record.common_name!r}"
        raise SettingsError(message) from None
    return SoftwareSigner(key)  # type: ignore[arg-type]  # the signer refuses kinds that are not ours
