"""Operators and CAs, at the service: what a transaction leaves, what other processes did, what opening a file costs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from app.auth.caller import Caller
from app.auth.principal import Permission, Principal
from app.main import open_ca
from app.services import ca_import
from app.services.authorities import Authorities
from app.services.ca_import import complete, read_key, read_pem, read_pkcs12
from app.services.crls import CRLPublisher
from app.services.key_files import sealed
from app.services.key_stretching import MAX_ROUNDS, check_stretching
from app.settings import Settings
from tests.made_elsewhere import foreign_ca
from tests.running import openssl
from tests.unit.app.conftest import ADMIN, OpenCA
from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.keys import generate_private_key
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, Limits
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.const import CertType
from tiny_ca.db.entries import AuditFilter, CertificateEntry, IdempotencyClaim
from tiny_ca.db.models import AuditRecord, CertificateRecord, IssuerRecord
from tiny_ca.db.queries.audit import page_audit
from tiny_ca.db.queries.issuers import change_issuer, put_issuer_key
from tiny_ca.db.queries.revocations import revoke
from tiny_ca.exc import Conflict, Forbidden, Invalid, TooLarge
from tiny_ca.models.key_spec import KeySpec

pytestmark = pytest.mark.anyio

CALLER = Caller(ADMIN, "r-1")


@dataclass(frozen=True)
class Service:
    """The parts that these tests use."""

    ca: OpenCA
    crls: CRLPublisher
    authorities: Authorities


@pytest.fixture
async def service(ca: OpenCA) -> AsyncIterator[Service]:
    """A CA that was just made, with its CRLs."""
    crls = ca.publisher()
    await crls.load()
    authorities = Authorities(ca.db, issuers=ca.issuers, crls=crls, profiles=lambda: BUILT_IN_PROFILES, clock=ca.clock)
    yield Service(ca, crls, authorities)
    await crls.close()


def wish(common_name: str = "Sub CA", **fields: object) -> CertificateRequest:
    """A request for a CA."""
    request = CertificateRequest(
        subject=((NameOID.COMMON_NAME, common_name),),
        names=AlternativeNames(),
        public_key=None,
        key_spec=KeySpec.ec("P-256"),
    )
    return replace(request, **fields)  # type: ignore[arg-type]  # the request's own fields


def once(key: str) -> Caller:
    """The admin, with an idempotency key."""
    return replace(CALLER, claim=IdempotencyClaim(actor="admin", key=key, request_sha256="0" * 64))


def root_id(service: Service) -> str:
    """The id of the root."""
    (found,) = set(service.ca.issuers.ids) - {service.ca.issuers.default.id}
    return found


def _counts(session: Session) -> tuple[int, ...]:
    return tuple(
        session.scalar(select(func.count()).select_from(table)) or 0 for table in (IssuerRecord, CertificateRecord)
    )


def _rows(session: Session) -> list[tuple[str, str, str | None]]:
    query = select(AuditRecord.action, AuditRecord.outcome, AuditRecord.rule).order_by(AuditRecord.id)
    return [(action, outcome, rule) for action, outcome, rule in session.execute(query)]


class TestMaking:
    async def test_the_parent_is_looked_at_again(self, service: Service, settings: Settings) -> None:
        """A parent that another process disabled, or took the key from, makes no CA, though it is loaded here still."""
        root = root_id(service)
        other, _ = await open_ca(settings)
        try:
            await other.write(change_issuer, root, enabled=False)
            with pytest.raises(Conflict, match="disabled"):
                await service.authorities.create(CALLER, wish(), None)
            await other.write(change_issuer, root, enabled=True)
            await other.write(put_issuer_key, root, None)
            with pytest.raises(Conflict, match="tiny-ca root import"):
                await service.authorities.create(CALLER, wish(), None)
        finally:
            await other.aclose()
        assert await service.ca.db.read(_counts) == (2, 2)
        refused = [row for row in await service.ca.db.read(_rows) if row[1] == "refused"]
        assert refused == [("issuer.create", "refused", "conflict")] * 2

    async def test_while_the_key_is_made(self, service: Service) -> None:
        """A parent that is disabled while the new CA's key is made keeps it from being recorded."""
        authorities, root = service.authorities, root_id(service)
        make = authorities._keys.make

        async def slow(spec: KeySpec) -> object:
            await service.ca.db.write(change_issuer, root, enabled=False)
            return await make(spec)

        authorities._keys.make = slow  # type: ignore[method-assign,assignment]  # a moment that no test can hit
        with pytest.raises(Conflict, match="disabled since"):
            await authorities.create(CALLER, wish(), None)
        assert await service.ca.db.read(_counts) == (2, 2)
        assert [row[:2] for row in await service.ca.db.read(_rows)][-2:] == [
            ("issuer.create", "intended"),
            ("issuer.create", "refused"),
        ]

    async def test_a_crl_that_could_not_be_kept(self, service: Service) -> None:
        """Where the first CRL fails, the same request sent again answers with the CA, and with its CRL."""
        await service.ca.db.write(
            _execute, "CREATE TRIGGER t BEFORE INSERT ON crls BEGIN SELECT RAISE(ABORT, 'no'); END"
        )
        with pytest.raises(Conflict):
            await service.authorities.create(once("a"), wish(), None)
        await service.ca.db.write(_execute, "DROP TRIGGER t")
        made = await service.authorities.create(once("a"), wish(), None)
        assert made.crl is not None
        assert (await service.crls.current(made.record.id)).number == made.crl.number
        assert await service.ca.db.read(_counts) == (3, 3)

    async def test_no_longer_than_its_parent(self, service: Service) -> None:
        """A lifetime that was not asked for is what the parent leaves; one that was is never cut."""
        top = await service.authorities.create(CALLER, wish("Top", path_length=1, lifetime=timedelta(days=30)), None)
        below = await service.authorities.create(CALLER, wish("Below"), top.record.id)
        assert below.chain[0].not_valid_after_utc <= top.chain[0].not_valid_after_utc
        with pytest.raises(Forbidden) as caught:
            await service.authorities.create(CALLER, wish("Long", lifetime=timedelta(days=31)), top.record.id)
        assert caught.value.rule == "issuer_validity"

    async def test_limits_of_the_caller(self, service: Service) -> None:
        """Profiles and lifetimes that the caller may not use make no CA."""
        for limits, rule in (
            (Limits(profiles=("server",)), "profile"),
            (Limits(max_lifetime=timedelta(days=10)), "limits.max_lifetime"),
        ):
            caller = Caller(Principal("t", frozenset(Permission), limits), "r-1")
            with pytest.raises(Forbidden) as caught:
                await service.authorities.create(caller, wish(lifetime=timedelta(days=11)), None)
            assert caught.value.rule == rule

    async def test_the_key_is_encrypted(self, service: Service) -> None:
        """What the database holds of the key opens with the service's passphrase alone."""
        made = await service.authorities.create(CALLER, wish(), None)
        stored = str(made.record.private_key_pem)
        assert stored.startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
        with pytest.raises((ValueError, TypeError)):
            load_pem_private_key(stored.encode(), b"another passphrase")


class TestOtherProcesses:
    async def test_what_they_changed(self, service: Service, settings: Settings) -> None:
        """A refresh learns what changed; keys that were open stay open, files and default follow."""
        other, issuers = await open_ca(settings)
        try:
            theirs = Authorities(
                other,
                issuers=issuers,
                crls=CRLPublisher(other, issuers, lifetime=timedelta(hours=1), shared=True, clock=service.ca.clock),
                profiles=lambda: BUILT_IN_PROFILES,
                clock=service.ca.clock,
            )
            new = (await theirs.create(CALLER, wish(), None)).record.id
            assert new not in service.ca.issuers.ids
            before = service.ca.issuers.default
            await service.ca.issuers.refresh()
            assert service.ca.issuers.for_issuing(new).id == new
            assert service.ca.issuers.default.signer is before.signer
            await theirs.change(CALLER, new, make_default=True)
            await theirs.change(CALLER, before.id, enabled=False)
            await service.ca.issuers.refresh()
            assert service.ca.issuers.default.id == new
            with pytest.raises(Conflict, match="disabled"):
                service.ca.issuers.for_issuing(before.id)
            await theirs.revoke(CALLER, new, x509.ReasonFlags.superseded)
            await service.ca.issuers.refresh()
            with pytest.raises(Conflict, match="revoked"):
                service.ca.issuers.for_issuing(new)
        finally:
            await other.aclose()

    async def test_watching(self, service: Service) -> None:
        """Who watches learns within two seconds; when nothing changes, nothing is read anew."""
        issuers, root = service.ca.issuers, root_id(service)
        issuers.watch()
        try:
            before = issuers.known(root)
            await service.ca.db.write(put_issuer_key, root, None)
            deadline = time.monotonic() + 2
            while root in {issuer.id for issuer in issuers.signing}:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            loaded = issuers._loaded
            await asyncio.sleep(1.2)
            assert issuers._loaded is loaded
            assert issuers.known(root) == before
        finally:
            await issuers.close()

    async def test_issuing_asks_the_database(self, service: Service) -> None:
        """A batch that was signed before the issuer was disabled, or its key taken away, is not recorded."""
        pipeline = service.ca.pipeline()
        pipeline.start()
        try:
            order = service.ca.order()
            await service.ca.db.write(change_issuer, order.issuer.id, enabled=False)
            with pytest.raises(Conflict, match="is disabled"):
                await pipeline.submit(order)
            await service.ca.db.write(change_issuer, order.issuer.id, enabled=True)
            await service.ca.db.write(put_issuer_key, order.issuer.id, None)
            with pytest.raises(Conflict, match="offline"):
                await pipeline.submit(order)
        finally:
            await pipeline.close()


class TestImport:
    async def test_a_ca_that_was_signed_here(self, service: Service) -> None:
        """A CA whose certificate we made for a key from elsewhere can be imported: its record stays one."""
        key = generate_private_key(KeySpec.ec("P-256"))
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        pipeline = service.ca.pipeline()
        pipeline.start()
        order = service.ca.order()
        request = wish("From a CSR", public_key=key.public_key())
        root = service.ca.issuers.get(root_id(service))
        issued = await pipeline.submit(
            replace(order, read=lambda: request, profile=BUILT_IN_PROFILES["intermediate"], issuer=root)
        )
        await pipeline.close()
        pem = issued.entry.certificate_pem
        body = replace(foreign_ca(), certificate=issued.certificate, key=key)
        made = await service.authorities.take(CALLER, lambda: read_pem(pem, [], body.key_pem("p" * 16), "p" * 16))
        assert (made.record.parent_id, made.own and made.own.profile) == (root.id, "intermediate")
        assert await service.ca.db.read(_counts) == (3, 3)

    async def test_a_revoked_ca_above(self, service: Service) -> None:
        """What stands below a CA that is revoked here stays out."""
        root = foreign_ca()
        middle = foreign_ca(parent=root)
        for one in (root, middle):
            await service.authorities.take(CALLER, lambda one=one: read_pem(one.pem, one.chain, one.key_pem(), None))  # type: ignore[misc]  # bound now
        serial = middle.certificate.serial_number
        await service.ca.db.write(revoke, serial, x509.ReasonFlags.superseded, now=service.ca.clock())
        below = foreign_ca(parent=middle)
        with pytest.raises(Conflict, match="revoked"):
            await service.authorities.take(CALLER, lambda: read_pem(below.pem, below.chain, below.key_pem(), None))

    async def test_a_listed_key(self, service: Service) -> None:
        """A CA whose key is on the operator's list of blocked keys stays out."""
        root = foreign_ca()
        listed = CertificateEntry.of(root.certificate, key_type=CertType.CA, created_at=service.ca.clock()).spki_sha256
        authorities = Authorities(
            service.ca.db,
            issuers=service.ca.issuers,
            crls=service.crls,
            profiles=lambda: BUILT_IN_PROFILES,
            clock=service.ca.clock,
            blocked_keys=lambda: frozenset({listed}),
        )
        with pytest.raises(Forbidden) as caught:
            await authorities.take(CALLER, lambda: read_pem(root.pem, [], root.key_pem(), None))
        assert (caught.value.rule, caught.value.value) == ("key_blocked", listed)

    async def test_audit(self, service: Service) -> None:
        """One row says what was imported, and one each refusal."""
        root = foreign_ca()
        await service.authorities.take(CALLER, lambda: read_pem(root.pem, [], root.key_pem(), None))
        with pytest.raises(Conflict):
            await service.authorities.take(CALLER, lambda: read_pem(root.pem, [], root.key_pem(), None))
        rows = await service.ca.db.read(page_audit, AuditFilter(action="issuer.import"), limit=10, before_id=None)
        assert [(row.outcome, row.serial_number) for row in reversed(rows)] == [
            ("success", str(root.certificate.serial_number)),
            ("refused", None),
        ]

    async def test_the_sender_is_believed_first(self, service: Service) -> None:
        """Of two certificates for one CA above, the one that was sent is taken."""
        root = foreign_ca()
        below = foreign_ca(parent=root)
        material = read_pem(below.pem, below.chain, below.key_pem(), None)
        known = [service.ca.issuers.default.certificate, root.certificate]
        assert complete(material, known, now=service.ca.clock()) == (root.certificate,)


class TestFiles:
    def test_sealed(self) -> None:
        """A key that leaves is PKCS #8 under scrypt: openssl and we open it again, with the passphrase alone."""
        key = foreign_ca().key
        pem = sealed(key, "correct horse battery")
        assert read_key(pem.decode(), "correct horse battery").public_key() == key.public_key()
        shown = openssl("pkey", "-passin", "pass:correct horse battery", "-pubout", stdin=pem)
        assert shown.startswith("-----BEGIN PUBLIC KEY-----")
        assert sealed(key, "correct horse battery") != pem
        with pytest.raises(Invalid) as caught:
            read_key(pem.decode(), "wrong horse battery")
        assert caught.value.field == "private_key_password"

    @pytest.mark.parametrize("kind", [KeySpec.rsa(2048), KeySpec.ed25519(), KeySpec.mldsa("ML-DSA-65")], ids=str)
    def test_sealed_kinds(self, kind: KeySpec) -> None:
        """Any kind of key can leave and come back."""
        key = generate_private_key(kind)
        assert read_key(sealed(key, "p" * 16).decode(), "p" * 16).public_key() == key.public_key()

    def test_legacy_pem(self) -> None:
        """A key as old openssl wrote it, encrypted by its header, is read, and its password is asked for."""
        key = foreign_ca().key_pem().encode()
        old = openssl("ec", "-aes256", "-passout", "pass:secret", stdin=key).partition("read EC key")[0]
        assert "Proc-Type: 4,ENCRYPTED" in old
        assert read_key(old, "secret").public_key() == load_pem_private_key(key, None).public_key()
        for password in ("wrong", None):
            with pytest.raises(Invalid) as caught:
                read_key(old, password)
            assert caught.value.field == "private_key_password"

    def test_a_hidden_bomb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bomb inside an encrypted part shows only when that is opened: the process that does so is ended."""
        monkeypatch.setattr(ca_import, "_SECONDS", 1.0)
        began = time.monotonic()
        with pytest.raises(Invalid) as caught:
            read_pkcs12(_nested_bomb(b"secret"), "secret")
        assert caught.value.field == "pkcs12"
        assert time.monotonic() - began < 3

    def test_rounds_add_up(self) -> None:
        """Many parts that each ask for little ask for much together."""
        part = der.sequence(der.octet_string(b"salt"), der.integer(MAX_ROUNDS // 10))
        check_stretching(der.sequence(*[part] * 10), field="pkcs12")
        with pytest.raises(TooLarge, match="5500000 rounds"):
            check_stretching(der.sequence(*[part] * 11), field="pkcs12")

    def test_indefinite_lengths(self) -> None:
        """Old exporters write BER, with lengths that are not told and strings in pieces: no way past the count."""
        bomb = der.sequence(der.octet_string(b"salt"), der.integer(MAX_ROUNDS + 1))
        pieces = b"\x24\x80" + der.octet_string(bomb[:5]) + der.octet_string(bomb[5:]) + b"\0\0"
        for encoded in (b"\x30\x80" + bomb + b"\0\0", b"\x30\x80" + pieces + b"\0\0", der.sequence(pieces)):
            with pytest.raises(TooLarge):
                check_stretching(encoded, field="pkcs12")

    @pytest.mark.parametrize(
        "encoded",
        [b"", b"\x30", b"\x30\x82\xff", b"\x30\x05\x02\x01\x01", b"\x30\x80\x02", b"\x1f\x81\x00", b"\x30\x00\x00"],
    )
    def test_no_der(self, encoded: bytes) -> None:
        """What is no BER is refused, whatever it begins with."""
        with pytest.raises(Invalid, match="damaged"):
            check_stretching(encoded, field="pkcs12")

    def test_deep(self) -> None:
        """What is nested without end is refused, not followed."""
        encoded = der.NULL
        for _ in range(200):
            encoded = der.sequence(encoded)
        with pytest.raises(Invalid, match="damaged"):
            check_stretching(encoded, field="pkcs12")


def _execute(session: Session, statement: str) -> None:
    session.execute(text(statement))


def _nested_bomb(password: bytes) -> bytes:
    """A PKCS #12 file (RFC 7292) whose encrypted part holds a key under 2^26 rounds; nothing outside says so."""
    bag = der.sequence(
        der.object_identifier("1.2.840.113549.1.12.10.1.2"),
        der.context(0, der.sequence(_scheme(2**26), der.octet_string(b"c" * 160))),
    )
    key = PBKDF2HMAC(hashes.SHA256(), 32, b"s" * 8, 2048).derive(password)
    padder = padding.PKCS7(128).padder()
    plain = padder.update(der.sequence(bag)) + padder.finalize()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(b"v" * 16)).encryptor()
    hidden = encryptor.update(plain) + encryptor.finalize()
    content = der.sequence(
        der.object_identifier("1.2.840.113549.1.7.1"), _scheme(2048), b"\x80" + der.octet_string(hidden)[1:]
    )
    part = der.sequence(
        der.object_identifier("1.2.840.113549.1.7.6"), der.context(0, der.sequence(der.integer(0), content))
    )
    safes = der.octet_string(der.sequence(part))
    return der.sequence(
        der.integer(3), der.sequence(der.object_identifier("1.2.840.113549.1.7.1"), der.context(0, safes))
    )


def _scheme(rounds: int) -> bytes:
    """PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC (RFC 8018 §6.2)."""
    digest = der.sequence(der.object_identifier("1.2.840.113549.2.9"), der.NULL)
    numbers = der.sequence(der.octet_string(b"s" * 8), der.integer(rounds), digest)
    derivation = der.sequence(der.object_identifier("1.2.840.113549.1.5.12"), numbers)
    cipher = der.sequence(der.object_identifier("2.16.840.1.101.3.4.1.42"), der.octet_string(b"v" * 16))
    return der.sequence(der.object_identifier("1.2.840.113549.1.5.13"), der.sequence(derivation, cipher))
