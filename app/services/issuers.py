"""The CAs of this service: kept encrypted in the database, loaded into memory to sign."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy.orm import Session

from app.services.ca_making import ACTOR, encrypted, first_hierarchy, issuer_urls, keep
from app.services.publication import PEM, PublicFile, bundle, der_file
from app.services.watching import Watch
from app.settings import Settings, SettingsError
from tiny_ca.ca_factory.issuer import Issuer, issuer_id
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.signer import Signer, SoftwareSigner
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry
from tiny_ca.db.models import IssuerRecord
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.issuers import IssuerState, issuer_states, list_issuers
from tiny_ca.db.queries.revocations import revoked_among
from tiny_ca.exc import Conflict, NotFound

__all__ = ["IssuerStore"]

_log = structlog.get_logger(__name__)
# Together with the reading, what others changed holds here within a second.
_WATCH_SECONDS: Final = 0.5


@dataclass(frozen=True, slots=True)
class _Loaded:
    """Everything read at one moment; a change puts another one in its place, so that nobody sees half of it."""

    states: frozenset[IssuerState] = frozenset()
    known: Mapping[str, tuple[x509.Certificate, ...]] = field(default_factory=dict)
    issuers: Mapping[str, Issuer] = field(default_factory=dict)
    bundles: Mapping[str, PublicFile] = field(default_factory=dict)
    files: Mapping[str, PublicFile] = field(default_factory=dict)
    roots: PublicFile = field(default_factory=lambda: PublicFile.of(b"", PEM, datetime.fromtimestamp(0, UTC)))

    @property
    def default_id(self) -> str | None:
        return next((state.id for state in self.states if state.is_default), None)

    @property
    def disabled(self) -> frozenset[str]:
        return frozenset(state.id for state in self.states if not state.enabled)


class IssuerStore:
    """The loaded CAs. Keys stay inside their signers; nothing here prints or returns one."""

    def __init__(self, db: AsyncDBHandler, public_url: str) -> None:
        self._db = db
        self._public_url = public_url
        self._passphrase = ""
        self._loaded = _Loaded()
        self._revoked: frozenset[str] = frozenset()
        self._loading = asyncio.Lock()
        self._watch = Watch(self.refresh, seconds=_WATCH_SECONDS, failed="issuers.refresh_failed")

    @property
    def default(self) -> Issuer:
        """The CA that issues where a request names none.

        Raises
        ------
        Conflict
            None is set.
        """
        if self._loaded.default_id is None:
            raise Conflict("no issuer is the default; name one in issuer_id")
        return self.get(self._loaded.default_id)

    @property
    def ids(self) -> tuple[str, ...]:
        """Every CA there ever was, oldest first."""
        return tuple(self._loaded.known)

    @property
    def signing(self) -> tuple[Issuer, ...]:
        """Every CA whose key is here, oldest first: also one that issues nothing any more has CRLs to sign."""
        return tuple(self._loaded.issuers.values())

    def known(self, issuer_id: str) -> tuple[x509.Certificate, ...]:
        """The certificate of a CA and of those above it, root last, whether or not its key is here.

        Raises
        ------
        NotFound
            There is no such CA.
        """
        if issuer_id not in self._loaded.known:
            raise NotFound(f"there is no issuer {issuer_id!r}")
        return self._loaded.known[issuer_id]

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        """Of every CA there ever was."""
        return tuple(chain[0] for chain in self._loaded.known.values())

    @property
    def root_fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of each trust anchor, as openssl writes it: what a client compares before it trusts one."""
        roots = {issuer_id(chain[-1]): chain[-1] for chain in self._loaded.known.values()}
        return tuple(root.fingerprint(SHA256()).hex(":").upper() for root in roots.values())

    @property
    def bundle(self) -> PublicFile:
        """The default issuer and the CAs above it, root last.

        Raises
        ------
        Conflict
            No issuer is the default.
        """
        return self._loaded.bundles[self.default.id]

    @property
    def roots(self) -> PublicFile:
        """The trust anchors: the last certificate of each CA's chain, each once."""
        return self._loaded.roots

    def file(self, issuer_id: str) -> PublicFile:
        """The certificate of one CA.

        Raises
        ------
        NotFound
            There is none.
        """
        self.known(issuer_id)
        return self._loaded.files[issuer_id]

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
        if issuer_id not in self._loaded.issuers:
            raise Conflict(f"the key of issuer {issuer_id} is not here; it cannot sign")
        return self._loaded.issuers[issuer_id]

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
        if issuer_id in self._loaded.disabled:
            raise Conflict(f"issuer {issuer_id} is disabled")
        return issuer

    async def bootstrap(self, settings: Settings, passphrase: str, *, now: datetime) -> None:
        """Make a root and an issuing intermediate, once: where another replica was faster, its CAs hold."""
        suffix = secrets.token_hex(2)  # so that two installations never share a name (RFC 5280 §4.1.2.4)
        names = (f"tiny-ca root {suffix}", f"tiny-ca issuing {suffix}")
        # A CA's intent is written down before its key signs anything.
        intent = AuditEntry(at=now, actor=ACTOR, action="issuer.create", outcome="intended", detail={"names": names})
        await self._db.write(insert_audit, [intent])
        rows = await asyncio.to_thread(first_hierarchy, settings, names, passphrase, now)
        try:
            await self._db.write(keep, rows, now=now)
        except Conflict:
            return

    async def load_revoked(self) -> None:
        """Learn which CAs are revoked."""
        async with self._loading:
            self._revoked = await self._db.read(_revoked, self._loaded.known)

    async def load(self, passphrase: str) -> None:
        """Load every CA of the database, and decrypt the keys that are there; remember the passphrase for later ones.

        Raises
        ------
        SettingsError
            The passphrase does not open a key.
        """
        self._passphrase = passphrase
        await self._load()

    async def refresh(self) -> None:
        """Learn what changed, whoever changed it; where nothing did, this costs one transaction of two small queries.

        Raises
        ------
        RegistryUnavailable
            It cannot be told.
        SettingsError
            A key that is new here is encrypted under another passphrase.
        """
        async with self._loading:
            states, revoked = await self._db.read(_states, self._loaded.known)
            if states == self._loaded.states:
                self._revoked = revoked
                return
        await self._load()

    def encrypt(self, private_key: PrivateKey) -> str:
        """A CA's key as the database keeps it; takes some milliseconds."""
        return encrypted(private_key, self._passphrase)

    def watch(self) -> None:
        """From now on, learn within about a second what other processes change; needs a running event loop."""
        self._watch.start()

    async def close(self) -> None:
        """Watch no more."""
        await self._watch.stop()

    async def _load(self) -> None:
        async with self._loading:  # of two that read at once, the one that read first must not come last
            records = await self._db.read(list_issuers)
            signers = {identifier: issuer.signer for identifier, issuer in self._loaded.issuers.items()}
            self._loaded = await asyncio.to_thread(_read, records, signers, self._passphrase, self._public_url)
            self._revoked = await self._db.read(_revoked, self._loaded.known)
        _log.debug("issuers.loaded", issuers=len(records), keys=len(self._loaded.issuers))


def _states(
    session: Session, known: Mapping[str, tuple[x509.Certificate, ...]]
) -> tuple[frozenset[IssuerState], frozenset[str]]:
    return issuer_states(session), _revoked(session, known)


def _revoked(session: Session, known: Mapping[str, tuple[x509.Certificate, ...]]) -> frozenset[str]:
    return revoked_among(session, [chain[0].serial_number for chain in known.values()])


def _read(records: Sequence[IssuerRecord], signers: Mapping[str, Signer], passphrase: str, public_url: str) -> _Loaded:
    known = _chains(records)
    return _Loaded(
        states=frozenset(
            IssuerState(record.id, record.enabled, record.is_default, record.private_key_pem is not None)
            for record in records
        ),
        known=known,
        issuers=_open(records, known, signers, passphrase, public_url),
        bundles={identifier: bundle(chain) for identifier, chain in known.items()},
        files={identifier: der_file(chain[0]) for identifier, chain in known.items()},
        roots=bundle({issuer_id(chain[-1]): chain[-1] for chain in known.values()}.values()),
    )


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
    signers: Mapping[str, Signer],
    passphrase: str,
    public_url: str,
) -> dict[str, Issuer]:
    return {
        record.id: Issuer(
            chains[record.id][0],
            signers.get(record.id) or _signer(record, passphrase),
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
