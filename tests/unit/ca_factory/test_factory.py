"""CertificateFactory: what it issues is read back whole, by us, by openssl and by the crypto library."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.pkilint_check import certificate_findings, crl_findings
from tests.running import openssl
from tests.unit.ca_factory.authorities import (
    KEY_SPECS,
    P256,
    ask,
    extension_kinds,
    kind,
    make_plan,
    make_root,
    private_key,
)
from tiny_ca.ca_factory.crl import RevokedCertificate, build_crl, verify_crl
from tiny_ca.ca_factory.factory import _CA, CertificateFactory
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.keys import PrivateKey, public_key_der
from tiny_ca.ca_factory.plan import plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, Profile
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.const import CertType
from tiny_ca.exc import (
    ErrorLoadCert,
    Forbidden,
    Invalid,
    InvalidRangeTimeCertificate,
    TinyCAError,
    ValidationCertError,
)
from tiny_ca.models.certificate import CertificateInfo
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.utils.serial_generator import SerialWithEncoding

every_ca_key = pytest.mark.parametrize("ca_key", KEY_SPECS, ids=kind)
BASE = {"basicConstraints", "keyUsage", "subjectKeyIdentifier", "authorityKeyIdentifier"}


_OWNER = CertificateInfo(organization="Org", country="DE")


@dataclass(frozen=True)
class _Loader:
    ca_cert: x509.Certificate
    ca_key: PrivateKey
    base_info: CertificateInfo = _OWNER


def _factory(spec: KeySpec = P256, *, now: datetime | None = None, **more: int) -> CertificateFactory:
    began = now or datetime.now(UTC) - timedelta(days=1)
    issuer = make_root(spec, now=began.replace(hour=0, minute=0, second=0, microsecond=0), **more)
    return CertificateFactory(_Loader(issuer.certificate, private_key(spec, "Root")))


def _csr(spec: KeySpec = P256, *extensions: x509.ExtensionType, common_name: str = "app.example.org") -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    digest = hashes.SHA256() if spec.algorithm in {"rsa", "ec"} else None
    return builder.sign(private_key(spec, "leaf"), digest).public_bytes(Encoding.PEM)


def _assert_profile(
    certificate: x509.Certificate,
    issuer: x509.Certificate,
    *,
    names: list[str] | None = None,
    usages: set[str] | None = None,
    extended: set[x509.ObjectIdentifier] | None = None,
    path_length: int | None = None,
    is_ca: bool = False,
) -> None:
    """Everything a certificate says, and that it says nothing else."""
    extensions = {each.oid._name: each for each in certificate.extensions}
    present = BASE | ({"subjectAltName"} if names else set()) | ({"extendedKeyUsage"} if extended else set())
    assert extension_kinds(certificate) == present
    critical = {name for name, each in extensions.items() if each.critical}
    assert critical == {"basicConstraints", "keyUsage"}
    assert extensions["basicConstraints"].value == x509.BasicConstraints(ca=is_ca, path_length=path_length)
    key_usage = extensions["keyUsage"].value
    expected = usages or ({"digital_signature", "key_cert_sign", "crl_sign"} if is_ca else {"digital_signature"})
    assert {name for name in _USAGES if getattr(key_usage, name)} == expected
    if extended:
        assert set(extensions["extendedKeyUsage"].value) == extended
    if names:
        assert [str(each.value) for each in extensions["subjectAltName"].value] == names
    above = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    own = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    assert extensions["authorityKeyIdentifier"].value == x509.AuthorityKeyIdentifier(above.digest, None, None)
    assert extensions["subjectKeyIdentifier"].value == own
    assert certificate.issuer.public_bytes() == issuer.subject.public_bytes()
    assert certificate.version is x509.Version.v3
    certificate.verify_directly_issued_by(issuer)
    assert certificate_findings(certificate) == []


_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
           "key_cert_sign", "crl_sign")  # fmt: skip


def _assert_openssl(folder: Path, spec: KeySpec, *chain: x509.Certificate) -> None:
    """Leaf first, root last; openssl 3.0 does not know ML-DSA."""
    if spec.algorithm == "mldsa":
        return
    leaf, *above = (certificate.public_bytes(Encoding.PEM) for certificate in chain)
    (folder / "leaf.pem").write_bytes(leaf)
    (folder / "root.pem").write_bytes(above[-1] if above else leaf)
    (folder / "between.pem").write_bytes(b"".join(above) or leaf)
    said = openssl(
        *("verify", "-x509_strict", "-check_ss_sig", "-CAfile", folder / "root.pem"),
        *("-untrusted", folder / "between.pem", folder / "leaf.pem"),
    )
    assert ": OK" in said


@every_ca_key
class TestEveryCaKey:
    def test_root(self, ca_key: KeySpec, tmp_path: Path) -> None:
        """A root signs itself, holds no path length and what its arguments say."""
        certificate, key = CertificateFactory.build_self_signed_ca("R", "Org", "de", days_valid=20_000, key=ca_key)
        assert certificate.subject.rfc4514_string() == "CN=R,O=Org,C=DE"
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc == timedelta(days=20_000)
        assert public_key_der(key.public_key()) == public_key_der(certificate.public_key())  # type: ignore[arg-type]
        assert SerialWithEncoding.parse(certificate.serial_number) == (CertType.CA, "R")
        _assert_profile(certificate, certificate, is_ca=True)
        _assert_openssl(tmp_path, ca_key, certificate)

    def test_intermediate_and_leaf_below(self, ca_key: KeySpec, tmp_path: Path) -> None:
        """A chain of root, intermediate and leaf verifies; an intermediate makes no CA of its own."""
        root = _factory(ca_key)
        certificate, key = root.issue_intermediate_ca("Sub", days_valid=90, key=P256)
        _assert_profile(certificate, root.issuer.certificate, is_ca=True, path_length=0)
        below = CertificateFactory(_Loader(certificate, key))
        leaf, _, _ = below.issue_certificate("app.example.org", days_valid=30, is_server_cert=True, key=P256)
        _assert_openssl(tmp_path, ca_key, leaf, certificate, root.issuer.certificate)
        with pytest.raises(Forbidden, match="path length is 0"):
            below.issue_intermediate_ca("Sub sub", days_valid=30, key=P256)

    @pytest.mark.parametrize("leaf_key", KEY_SPECS, ids=kind)
    def test_leaf_from_csr(self, ca_key: KeySpec, leaf_key: KeySpec, tmp_path: Path) -> None:
        """A CSR of any kind of key gets its certificate from a CA of any kind of key."""
        factory = _factory(ca_key)
        csr = _csr(leaf_key, x509.SubjectAlternativeName([x509.DNSName("app.example.org")]))
        leaf = factory.issue_from_csr(csr, profile=BUILT_IN_PROFILES["server"])
        usages = {"digital_signature", "key_encipherment"} if leaf_key.algorithm == "rsa" else {"digital_signature"}
        _assert_profile(
            leaf,
            factory.issuer.certificate,
            names=["app.example.org"],
            usages=usages,
            extended={ExtendedKeyUsageOID.SERVER_AUTH},
        )
        factory.validate_cert(leaf)
        if leaf_key.algorithm != "mldsa":
            _assert_openssl(tmp_path, ca_key, leaf, factory.issuer.certificate)

    def test_leaf_from_a_config(self, ca_key: KeySpec, tmp_path: Path) -> None:
        """A key made here gets what the arguments say, and the CSR that comes with it is its own."""
        factory = _factory(ca_key)
        leaf, key, csr = factory.issue_certificate(
            "app.example.org",
            CertType.DEVICE,
            days_valid=30,
            email="a@example.org",
            is_server_cert=True,
            is_client_cert=True,
            san_dns=["b.example.org"],
            san_ip=["192.0.2.1"],
            key=P256,
        )
        _assert_profile(
            leaf,
            factory.issuer.certificate,
            names=["b.example.org", "app.example.org", "192.0.2.1", "a@example.org"],
            extended={ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH},
        )
        assert SerialWithEncoding.parse(leaf.serial_number) == (CertType.DEVICE, "app.")
        assert csr.is_signature_valid
        assert csr.subject == leaf.subject
        assert key.public_key() == leaf.public_key() == csr.public_key()
        _assert_openssl(tmp_path, ca_key, leaf, factory.issuer.certificate)

    def test_crl(self, ca_key: KeySpec) -> None:
        """Its CRL verifies, and pkilint finds nothing in it."""
        factory = _factory(ca_key)
        crl = factory.build_crl([(2**100, datetime.now(UTC), x509.ReasonFlags.key_compromise)])
        factory.verify_crl(crl)
        assert crl_findings(crl) == []


@pytest.mark.parametrize("profile", BUILT_IN_PROFILES.values(), ids=lambda profile: profile.name)
@pytest.mark.parametrize("leaf_key", KEY_SPECS, ids=kind)
def test_pkilint_finds_nothing(profile: Profile, leaf_key: KeySpec) -> None:
    """Every built-in profile's certificate, with every kind of key and the pointers of a service, is clean."""
    made = sign_certificate(make_plan(ask(spec=leaf_key), profile=profile))
    assert certificate_findings(made) == []
    assert certificate_findings(make_root(leaf_key).certificate) == []


class TestWithoutProfile:
    def test_the_window_begins_now(self) -> None:
        """Without a profile nothing is backdated, least of all to the CA's beginning."""
        moment = datetime.now(UTC).replace(microsecond=0)
        leaf = _factory().issue_from_csr(_csr(), now=moment, lifetime=timedelta(days=1))
        assert (leaf.not_valid_before_utc, leaf.not_valid_after_utc) == (moment, moment + timedelta(days=1))

    @pytest.mark.parametrize(
        "extension,rule",
        [
            (x509.BasicConstraints(ca=True, path_length=None), "certificate_authority"),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), "extended_key_usage"),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), "extended_key_usage"),
        ],
    )
    def test_no_power_of_a_ca(self, extension: x509.ExtensionType, rule: str) -> None:
        """A CSR may ask for much, but not for what is the CA's."""
        with pytest.raises(Forbidden) as caught:
            _factory().issue_from_csr(_csr(P256, extension))
        assert caught.value.rule == rule


class TestRanges:
    @pytest.mark.parametrize("days", [0, -1, 10**7])
    def test_lifetimes(self, days: int) -> None:
        """A lifetime that is none, or past the year 9999, is a wrong range."""
        with pytest.raises(InvalidRangeTimeCertificate):
            CertificateFactory.build_self_signed_ca(days_valid=days, key=P256)
        with pytest.raises(InvalidRangeTimeCertificate):
            _factory().issue_certificate("app.example.org", days_valid=days, key=P256)

    def test_past_2049(self, tmp_path: Path) -> None:
        """A root until 9999 is made, and read by others."""
        days = (datetime(9999, 12, 30, tzinfo=UTC) - datetime.now(UTC)).days
        certificate, _ = CertificateFactory.build_self_signed_ca(days_valid=days, key=P256)
        assert certificate.not_valid_after_utc.year == 9999
        _assert_openssl(tmp_path, P256, certificate)

    def test_over_already(self) -> None:
        """A window that is over is a wrong range."""
        long_ago = datetime.now(UTC) - timedelta(days=30)
        with pytest.raises(InvalidRangeTimeCertificate, match="before now"):
            _factory().issue_certificate("a", days_valid=29, valid_from=long_ago, key=P256)

    def test_outliving_the_ca(self) -> None:
        """A leaf or CA that would outlive this CA is a wrong range."""
        factory = _factory()
        with pytest.raises(InvalidRangeTimeCertificate, match="after the CA itself"):
            factory.issue_certificate("app", days_valid=3651, key=P256)
        with pytest.raises(InvalidRangeTimeCertificate, match="after the CA itself"):
            factory.issue_intermediate_ca("Sub", days_valid=3651, key=P256)

    def test_path_length(self) -> None:
        """A path length is honoured, and one below zero is invalid."""
        factory = _factory(path_length=2)
        deep, _ = factory.issue_intermediate_ca("Sub", path_length=None, key=P256)
        assert deep.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 1
        with pytest.raises(Forbidden, match="path length of 2"):
            factory.issue_intermediate_ca("Sub", path_length=2, key=P256)
        with pytest.raises(Invalid, match="0 to 255"):
            factory.issue_intermediate_ca("Sub", path_length=-1, key=P256)


def test_server_certificates_need_a_host() -> None:
    """``is_server_cert`` with a common name that is no host is a clear error."""
    with pytest.raises(Invalid, match="is a DNS name or an address: 'My Server' is no DNS name"):
        _factory().issue_certificate("My Server", is_server_cert=True, key=P256)


class TestLoaders:
    def test_not_a_loader(self) -> None:
        """Anything without the three properties is a TypeError."""
        with pytest.raises(TypeError, match="not be a str"):
            CertificateFactory("ca.pem")  # type: ignore[arg-type]

    def test_anothers_key(self) -> None:
        """A key that is not the certificate's is refused."""
        with pytest.raises(ErrorLoadCert, match="does not belong"):
            CertificateFactory(_Loader(make_root().certificate, private_key(P256, "other")))

    def test_a_leaf_is_no_ca(self) -> None:
        """A leaf's certificate signs nothing."""
        leaf, key, _ = _factory().issue_certificate("app", key=P256)
        with pytest.raises(ErrorLoadCert, match="no CA certificate"):
            CertificateFactory(_Loader(leaf, key))

    @pytest.mark.parametrize("usage", ["crl_sign", "key_cert_sign"])
    def test_key_usage_of_the_ca(self, usage: str) -> None:
        """A CA whose keyUsage lacks keyCertSign signs no certificates, one without cRLSign no CRLs."""
        key = private_key(P256, "Root")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root")])
        builder = (
            x509.CertificateBuilder(name, name, key.public_key(), 2**100)
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        given = x509.KeyUsage(**{name: name == usage for name in (*_USAGES, "encipher_only", "decipher_only")})
        certificate = builder.add_extension(given, critical=True).sign(key, hashes.SHA256())
        if usage == "crl_sign":
            with pytest.raises(ErrorLoadCert, match="keyCertSign"):
                Issuer(certificate, SoftwareSigner(key))
            return
        issuer = Issuer(certificate, SoftwareSigner(key))
        crl = CertificateFactory(_Loader(certificate, key)).build_crl([])
        with pytest.raises(ValidationCertError, match="cRLSign"):
            verify_crl(crl, certificate)
        # Without a subjectKeyIdentifier the key itself says who it is.
        expected = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        assert issuer.authority_key_identifier == expected


class TestValidate:
    def test_each_failure(self) -> None:
        """Another issuer, a window that is over, and a signature by another key are told apart."""
        factory = _factory()
        leaf, _, _ = factory.issue_certificate("app", key=P256)
        factory.validate_cert(leaf)
        stranger, _ = CertificateFactory.build_self_signed_ca("Stranger", key=P256)
        namesake = CertificateFactory(_Loader(*_namesake()))
        forged, _, _ = namesake.issue_certificate("app", key=P256)
        soon, _, _ = factory.issue_certificate("app", valid_from=datetime.now(UTC) + timedelta(days=2), key=P256)
        for certificate, field in ((stranger, "issuer"), (forged, "signature"), (soon, "validity")):
            with pytest.raises(ValidationCertError) as caught:
                factory.validate_cert(certificate)
            assert caught.value.field == field

    def test_chain(self) -> None:
        """The chain is the certificate and this CA."""
        factory = _factory()
        leaf, _, _ = factory.issue_certificate("app", key=P256)
        assert factory.get_cert_chain(leaf) == [leaf, factory.issuer.certificate]
        other, _ = CertificateFactory.build_self_signed_ca("Other", key=P256)
        with pytest.raises(ValidationCertError, match="issued by none of"):
            factory.get_cert_chain(other)


def _namesake() -> tuple[x509.Certificate, PrivateKey]:
    """A CA with the other root's subject, and a key of its own."""
    key = private_key(P256, "namesake")
    now = datetime.now(UTC) - timedelta(days=1)
    request = ask("Root", dns=(), public_key=key.public_key())
    made = plan(request, profile=_CA, limits=NO_LIMITS, issuer=None, now=now)
    return sign_certificate(made, SoftwareSigner(key)), key


class _Row(NamedTuple):
    serial_number: str
    revocation_date: datetime
    revocation_reason: int | None


class TestCrl:
    def test_records_rows_and_tuples(self) -> None:
        """Records, rows of a query and plain tuples are taken, with a reason or without; naive dates are UTC."""
        when = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        naive = when.replace(tzinfo=None)
        given = [
            SimpleNamespace(serial_number=1, revocation_date=when, revocation_reason=1),
            SimpleNamespace(serial_number="2", revocation_date=naive),
            _Row("3", naive, 4),
            (4, when, x509.ReasonFlags.superseded),
            (5, when),
            (6, when, "nonsense"),
            (7, when, 99),
            (8, when, 0),
        ]
        crl = _factory().build_crl(given, crl_number=12)
        reasons = {each.serial_number: [extension.value.reason for extension in each.extensions] for each in crl}
        superseded = [x509.ReasonFlags.superseded]
        expected = {1: [x509.ReasonFlags.key_compromise], 3: superseded, 4: superseded}
        assert reasons == {number: expected.get(number, []) for number in range(1, 9)}
        assert {each.revocation_date_utc for each in crl} == {when}
        assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 12
        assert crl_findings(crl) == []

    async def _rows(self) -> AsyncIterator[tuple[int, datetime]]:
        yield 7, datetime(2026, 1, 1, tzinfo=UTC)

    def test_async(self) -> None:
        """An asynchronous iterable makes the same CRL."""
        coroutine = _factory().abuild_crl(self._rows())
        with pytest.raises(StopIteration) as ended:
            coroutine.send(None)
        assert [each.serial_number for each in ended.value.value] == [7]

    @pytest.mark.parametrize("count", [0, 10_000])
    def test_sizes(self, count: int) -> None:
        """None and ten thousand entries; numbers grow from one to the next."""
        factory = _factory()
        rows = [(2**100 + number, datetime(2050 + number % 100, 1, 1, tzinfo=UTC), 1) for number in range(count)]
        first, second = factory.build_crl(rows), factory.build_crl([])
        assert len(first) == count
        assert (b"\xa0" in first.tbs_certlist_bytes) is True
        numbers = [each.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number for each in (first, second)]
        assert numbers[0] < numbers[1]
        if count:
            assert first[99].revocation_date_utc.year == 2149
        else:
            assert crl_findings(first) == []

    @pytest.mark.parametrize("days", [0, -1])
    def test_lifetimes(self, days: int) -> None:
        """A CRL that is over at once is a wrong range."""
        with pytest.raises(InvalidRangeTimeCertificate):
            _factory().build_crl([], days_valid=days)

    @pytest.mark.parametrize(
        "changes",
        [{"next_update": datetime(2026, 1, 1, tzinfo=UTC)}, {"crl_number": -1}, {"crl_number": 2**159}, {"serial": -1}],
        ids=str,
    )
    def test_what_cannot_be_written(self, changes: dict[str, object]) -> None:
        """A window that is empty, and numbers that RFC 5280 has no room for, are refused."""
        moment = datetime(2026, 1, 1, tzinfo=UTC)
        serial = changes.get("serial", 1)
        fields = {"crl_number": 1, "this_update": moment, "next_update": moment + timedelta(days=1), **changes}
        fields.pop("serial", None)
        with pytest.raises(Invalid):
            build_crl([RevokedCertificate(serial, moment)], issuer=make_root(), **fields)  # type: ignore[arg-type]

    def test_verification(self) -> None:
        """A stranger's CRL, a namesake's, a tampered, an expired and a future one are refused, each by its name."""
        factory = _factory()
        crl = factory.build_crl([(2**100, datetime(2026, 1, 1, tzinfo=UTC), 1)])
        ca = factory.issuer.certificate
        stranger, _ = CertificateFactory.build_self_signed_ca("Stranger", key=P256)
        encoded = bytearray(crl.public_bytes(Encoding.DER))
        at = encoded.index((2**100).to_bytes(13, "big"))
        encoded[at + 5] ^= 1
        tampered = x509.load_der_x509_crl(bytes(encoded))
        now = datetime.now(UTC)
        cases = [
            (crl, stranger, now, "issuer"),
            (crl, _namesake()[0], now, "signature"),
            (tampered, ca, now, "signature"),
            (crl, ca, now + timedelta(days=2), "next_update"),
            (crl, ca, now - timedelta(days=2), "this_update"),
        ]
        factory.verify_crl(crl)
        for each, by, moment, field in cases:
            with pytest.raises(ValidationCertError) as caught:
                verify_crl(each, by, now=moment)
            assert caught.value.field == field

    def test_without_an_end(self) -> None:
        """A CRL without nextUpdate is never current (RFC 5280 §5.1.2.5)."""
        key, ca = private_key(P256, "Root"), _factory().issuer.certificate
        moment = datetime.now(UTC)
        endless = SimpleNamespace(
            issuer=ca.subject,
            is_signature_valid=lambda _: True,
            last_update_utc=moment - timedelta(hours=1),
            next_update_utc=None,
        )
        assert key.public_key() == ca.public_key()
        with pytest.raises(ValidationCertError, match="never given"):
            verify_crl(endless, ca)  # type: ignore[arg-type]


def test_key_arguments() -> None:
    """``key`` is a KeySpec or its fields; what names no key is one of our errors."""
    certificate, _ = CertificateFactory.build_self_signed_ca(key={"algorithm": "ed25519"})
    assert certificate.signature_algorithm_oid.dotted_string == "1.3.101.112"
    for key in (replace(P256, curve="P-1"), {"algorithm": "dsa"}, {"algorithm": "rsa", "size": 1024}):
        with pytest.raises(TinyCAError):
            CertificateFactory.build_self_signed_ca(key=key)
