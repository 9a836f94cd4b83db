"""``tiny-ca import``: what other CAs issued and revoked, into the registry in one transaction, or nothing of it.

Only what a CA of the service signed comes in, each signature checked; the CA may come with it. What was revoked stays
so here: it is on the CA's next CRL.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from app.client.output import progress
from app.lock import no_server
from app.services.ca_import import Material, complete, read_key, read_pem
from app.services.ca_keeping import NewCA, check_names_are_free, imported_rows, keep_imported
from app.services.ca_making import ACTOR, encrypted
from app.services.secrets import key_passphrase
from app.settings import Settings
from app.transfer.ca_folder import open_easy_rsa, open_openssl
from app.transfer.certificate_tables import open_cfssl, open_library
from app.transfer.files import read_file
from app.transfer.found import Found, Lacking, Source, certificate_from_pem, pem_blocks
from app.transfer.kinds import Kind
from app.transfer.registry import opened_ca, transaction
from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.issuer import issuer_id
from tiny_ca.const import CertType
from tiny_ca.db.entries import AuditEntry, CertificateEntry
from tiny_ca.db.queries.audit import insert_audit
from tiny_ca.db.queries.issuers import list_issuers
from tiny_ca.db.queries.merging import Incoming, Merged, advance_crls, merge_certificates
from tiny_ca.exc import Conflict, Invalid, NotFound

__all__ = ["GivenCA", "Imported", "import_from"]

_BATCH: Final = 500
_NAMED: Final = 10


_READERS: Final[Mapping[Kind, Callable[[Path], Source]]] = {
    Kind.OPENSSL: open_openssl,
    Kind.EASY_RSA: open_easy_rsa,
    Kind.CFSSL: open_cfssl,
    Kind.LIBRARY: open_library,
}


@dataclass(frozen=True, slots=True)
class GivenCA:
    """A CA to be imported first, where it is not known; ``certificate`` may hold those above it too.

    ``passphrase`` is asked for where the key is encrypted.
    """

    certificate: Path | None
    key: Path | None
    passphrase: Callable[[], str] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Imported:
    """What came in. Left out are certificates of CAs that are not known, and what expired and has no certificate."""

    dry_run: bool
    issuers: tuple[str, ...]
    certificates: int
    known: int
    revocations: int
    other_issuers: int
    expired_without_certificate: int


def import_from(settings: Settings, kind: Kind, path: Path, ca: GivenCA, *, dry_run: bool) -> Imported:
    """Bring in what is at ``path``; again, nothing is added. ``dry_run`` does all of it, and takes it back.

    Raises
    ------
    SettingsError
        There is no CA of this version here, or a server holds its SQLite file.
    Invalid
        Something is not as it should be: the message names the file, the line or row, and the value.
    Conflict
        A serial number is another certificate's here, or a revoked one has no certificate.
    NotFound
        The CA of the place is not known here, and its key was not given.
    """
    source = _READERS[kind](path)
    with no_server(settings.effective_database_url):
        return asyncio.run(_import(settings, kind, path, source, ca, dry_run=dry_run))


async def _import(
    settings: Settings, kind: Kind, path: Path, source: Source, given: GivenCA, *, dry_run: bool
) -> Imported:
    async with opened_ca(settings.effective_database_url, settings) as db:
        run = _Run(settings, kind, path, source, given, dry_run=dry_run)
        async with transaction(db) as connection:
            await connection.run_sync(run)
            if dry_run:
                await connection.rollback()
        return run.result


class _Run:
    """One import, inside its transaction."""

    def __init__(
        self, settings: Settings, kind: Kind, path: Path, source: Source, given: GivenCA, *, dry_run: bool
    ) -> None:
        self._settings = settings
        self._kind = kind
        self._path = path
        self._source = source
        self._given = given
        self._dry_run = dry_run
        self._now = datetime.now(UTC)
        self._other_issuers = 0
        self._expired = 0
        self._lacking: list[Lacking] = []
        self.result = Imported(dry_run, (), 0, 0, 0, 0, 0)

    def __call__(self, connection: Connection) -> None:
        with Session(bind=connection) as session:
            # 1. The CAs that are known, and the one that comes with it.
            known = {
                record.id: x509.load_pem_x509_certificate(record.certificate_pem.encode())
                for record in list_issuers(session)
            }
            own, new = self._own_ca(session, known)
            # 2. The certificates.
            merged = self._take(session, known)
            if self._lacking:
                raise _without_certificates(self._lacking)
            # 3. CRLs that say so.
            numbers = {} if own is None else {own: self._source.crl_number}
            for issuer in {*numbers, *(one for one in merged.revocations if one is not None)}:
                if merged.revocations[issuer] or numbers.get(issuer):
                    advance_crls(
                        session,
                        issuer,
                        crl_number=numbers.get(issuer, 0),
                        crl_this_update=None,
                        revocations=merged.revocations[issuer],
                    )
            # 4. The audit.
            self.result = Imported(
                dry_run=self._dry_run,
                issuers=new,
                certificates=merged.added,
                known=merged.known,
                revocations=merged.revocations.total(),
                other_issuers=self._other_issuers,
                expired_without_certificate=self._expired,
            )
            insert_audit(session, [self._audit()])
            session.flush()

    def _own_ca(self, session: Session, known: dict[str, x509.Certificate]) -> tuple[str | None, tuple[str, ...]]:
        """The CA that the place belongs to, None where that is not told; and which CAs were new."""
        file = self._given.certificate or self._source.ca_certificate
        if file is None:
            if self._given.key is not None:
                raise Invalid("--ca-key needs the certificate of its CA: name it with --ca-cert", field="ca_cert")
            return None, ()
        content = _content(file)
        certificate = certificate_from_pem(content, str(file))
        own = issuer_id(certificate)
        if own in known:
            return own, ()
        key_file = self._given.key or (None if self._given.certificate else self._source.ca_key)
        if key_file is None:
            name = certificate.subject.rfc4514_string()
            message = f"{file}: the CA {name!r} is no issuer here; import it over HTTP first, or give its --ca-key"
            raise NotFound(message)
        material = self._material(content, _content(key_file))
        try:
            above = complete(material, tuple(known.values()), now=self._now)
        except Invalid as error:
            raise Invalid(f"{file}: {error.message}", field=error.field) from None
        check_names_are_free((material.certificate, *above), known)
        new = self._keep(session, material, above, known)
        known.update({issuer_id(one): one for one in (material.certificate, *above)})
        return own, tuple(entry.id for entry in new.issuers)

    def _material(self, content: bytes, key: bytes) -> Material:
        first, *others = (block.decode("ascii", "replace") for block in pem_blocks(content))
        text = key.decode("ascii", "replace")
        try:
            read_key(text, None)
            password = None
        except Invalid as error:
            if error.field != "private_key_password":
                raise
            password = self._given.passphrase()
        return read_pem(first, others, text, password)

    def _keep(
        self,
        session: Session,
        material: Material,
        above: tuple[x509.Certificate, ...],
        known: Mapping[str, x509.Certificate],
    ) -> NewCA:
        passphrase = key_passphrase(self._settings, create=False).value
        new = imported_rows(
            material,
            above,
            known,
            encrypt=lambda key: encrypted(key, passphrase),
            requester=ACTOR,
            now=self._now,
        )
        audit = AuditEntry(
            at=self._now,
            actor=ACTOR,
            action="issuer.import",
            outcome="success",
            serial_number=new.certificates[-1].serial_number,
            issuer_id=new.issuers[-1].id,
            detail={"subject": material.certificate.subject.rfc4514_string()},
        )
        keep_imported(session, new, above, audit, now=self._now)
        return new

    def _take(self, session: Session, known: Mapping[str, x509.Certificate]) -> Merged:
        by_name: dict[x509.Name, list[x509.Certificate]] = {}
        for certificate in known.values():
            by_name.setdefault(certificate.subject, []).append(certificate)
        merged = Merged()
        incoming = self._incoming(by_name)
        with progress("import", None) as advance:
            while batch := list(islice(incoming, _BATCH)):
                merged.add(merge_certificates(session, batch, now=self._now))
                advance(len(batch))
        return merged

    def _incoming(self, by_name: Mapping[x509.Name, list[x509.Certificate]]) -> Iterator[Incoming]:
        for one in self._source.entries:
            if isinstance(one, Lacking):
                self._note(one)
                continue
            candidates = by_name.get(one.certificate.issuer)
            if candidates is None:
                self._other_issuers += 1
            else:
                yield _incoming(one, candidates, self._now)

    def _note(self, one: Lacking) -> None:
        if one.expires < self._now:
            self._expired += 1
        else:
            self._lacking.append(one)

    def _audit(self) -> AuditEntry:
        result = self.result
        detail = {
            "kind": self._kind.value,
            "path": str(self._path),
            "certificates": result.certificates,
            "known": result.known,
            "revocations": result.revocations,
        }
        return AuditEntry(at=self._now, actor=ACTOR, action="registry.import", outcome="success", detail=detail)


def _incoming(found: Found, candidates: list[x509.Certificate], now: datetime) -> Incoming:
    issuer = next((one for one in candidates if _is_signed_by(found.certificate, one)), None)
    if issuer is None:
        name = candidates[0].subject.rfc4514_string()
        message = f"{found.where}: its issuer is {name!r}, whose key did not sign it"
        raise Invalid(message, field="certificate")
    if not 0 < found.certificate.serial_number < 1 << 160:  # RFC 5280 §4.1.2.2
        raise Invalid(f"{found.where}: the serial number is not positive in 20 octets", field="serial")
    entry = CertificateEntry.of(
        found.certificate,
        key_type=found.key_type or _key_type(found.certificate),
        created_at=found.certificate.not_valid_before_utc,
        uuid=found.uuid,
        issuer_id=issuer_id(issuer),
        requester=ACTOR,
    )
    return Incoming(replace(entry, created_at=min(entry.created_at, now)), found.revocation, found.where)


def _is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _key_type(certificate: x509.Certificate) -> CertType:
    try:
        is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        is_ca = False
    return CertType.CA if is_ca else CertType.DEVICE


def _without_certificates(lacking: list[Lacking]) -> Conflict:
    revoked = [one for one in lacking if one.is_revoked]
    chosen = revoked or lacking
    named = ", ".join(f"{one.serial_number:X} ({one.where})" for one in chosen[:_NAMED])
    more = f", and {len(chosen) - _NAMED} more" if len(chosen) > _NAMED else ""
    if revoked:
        return Conflict(
            "a CRL must go on to name these revoked certificates, and the registry keeps none without the certificate "
            f"itself; find their files: {named}{more}"
        )
    return Conflict(f"these certificates are valid, and their files are not there: {named}{more}")


def _content(file: Path) -> bytes:
    try:
        return read_file(file)
    except FileNotFoundError:
        raise Invalid(f"{file} is not there", field="file") from None
