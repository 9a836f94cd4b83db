"""Certificates made of certificates: what is copied, what is replaced, what nobody gets this way."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.x509.certificate_transparency import SignedCertificateTimestamp
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ExtensionOID,
    NameOID,
    ObjectIdentifier,
)
from cryptography_vectors import open_vector_file
from hypothesis import given
from hypothesis import strategies as st

from tests.pkilint_check import certificate_findings
from tests.unit.ca_factory.authorities import KEY_SPECS, P256, extension_kinds, kind, private_key
from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.ca_factory.tbs import tbs_fields
from tiny_ca.ca_factory.utils.serial import CertSerialParser
from tiny_ca.const import CertType
from tiny_ca.exc import Forbidden, Invalid, InvalidRangeTimeCertificate, TinyCAError, ValidationCertError
from tiny_ca.models.certificate import CertificateInfo
from tiny_ca.models.key_spec import KeySpec

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
OURS = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Old CA")])
LEAF = x509.Name(
    [
        x509.NameAttribute(NameOID.COMMON_NAME, "app.example.org", x509.name._ASN1Type.PrintableString),
        x509.NameAttribute(NameOID.GIVEN_NAME, "whatever it was"),
    ]
)
_KEY = ec.generate_private_key(ec.SECP256R1())
_POISON = ObjectIdentifier("1.3.6.1.4.1.11129.2.4.3")
_UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
_URL = [x509.UniformResourceIdentifier("http://old.example.org/")]


def factory(spec: KeySpec = P256, *, days_valid: int = 400, common_name: str = "Root") -> CertificateFactory:
    """A root that issues."""
    cert, key = CertificateFactory.build_self_signed_ca(common_name, key=spec, days_valid=days_valid)
    return CertificateFactory(SimpleNamespace(ca_cert=cert, ca_key=key, base_info=CertificateInfo(organization="Org")))


def foreign(
    *extensions: tuple[x509.ExtensionType, bool],
    key: object = _KEY.public_key(),
    subject: x509.Name = LEAF,
    end: datetime = NOW + 30 * DAY,
) -> x509.Certificate:
    """Somebody else's certificate."""
    builder = x509.CertificateBuilder(OURS, subject, key, 12345678, NOW - 60 * DAY, end)  # type: ignore[arg-type]
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(_KEY, hashes.SHA256())


def _of_the_old_issuer() -> list[tuple[x509.ExtensionType, bool]]:
    access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, _URL[0])
    point = x509.DistributionPoint(_URL, None, None, None)
    logged = open_vector_file("x509/badssl-sct.pem", "rb")
    scts = (
        x509.load_pem_x509_certificate(logged.read())
        .extensions.get_extension_for_class(x509.PrecertificateSignedCertificateTimestamps)
        .value
    )
    logged.close()
    assert all(isinstance(sct, SignedCertificateTimestamp) for sct in scts)
    return [
        (x509.AuthorityInformationAccess([access]), False),
        (x509.CRLDistributionPoints([point]), False),
        (x509.FreshestCRL([point]), False),
        (x509.IssuerAlternativeName(_URL), False),
        (x509.AuthorityKeyIdentifier(b"old", None, None), False),
        (scts, False),
    ]


class TestRenewing:
    @pytest.mark.parametrize("spec", KEY_SPECS, ids=kind)
    def test_everything_stays_but_window_and_serial(self, spec: KeySpec) -> None:
        """Subject, key and extensions are the old ones, octet by octet; pkilint finds nothing."""
        ca = factory(spec)
        old, _, _ = ca.issue_certificate("app.example.org", is_server_cert=True, key=spec)
        new = ca.renew_certificate(old, days_valid=30)
        assert tbs_fields(new.tbs_certificate_bytes)[4:] == tbs_fields(old.tbs_certificate_bytes)[4:]
        assert new.serial_number != old.serial_number
        assert CertSerialParser.typed(new) == (CertType.SERVICE, "app.")
        assert new.not_valid_after_utc - new.not_valid_before_utc == 30 * DAY
        ca.validate_cert(new)
        assert certificate_findings(new) == []

    def test_a_ca_below_stays_a_ca(self) -> None:
        """An intermediate is renewed as what it is."""
        ca = factory()
        old, _ = ca.issue_intermediate_ca("Issuing", key=P256, days_valid=100)
        new = ca.renew_certificate(old, days_valid=200)
        assert new.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is True
        assert CertSerialParser.typed(new)[0] is CertType.CA

    def test_a_root_renews_itself(self) -> None:
        """Only a root's own certificate may outlive the root."""
        ca = factory(days_valid=10)
        new = ca.renew_certificate(ca.issuer.certificate, days_valid=1000)
        assert new.issuer == new.subject
        new.verify_directly_issued_by(new)
        leaf, _, _ = ca.issue_certificate("a", key=P256, days_valid=5)
        with pytest.raises(InvalidRangeTimeCertificate, match="outlive"):
            ca.renew_certificate(leaf, days_valid=11)

    def test_somebody_elses_is_not_renewed(self) -> None:
        """A certificate of another CA, even one of the same name, is refused: it would be co-signed unasked."""
        ca, namesake = factory(), factory()
        theirs, _, _ = namesake.issue_certificate("a", key=P256)
        for cert in (foreign(), theirs):
            with pytest.raises(ValidationCertError, match="not issued by"):
                ca.renew_certificate(cert)

    @pytest.mark.parametrize("days", [0, -1])
    def test_no_empty_window(self, days: int) -> None:
        """A renewal of no length is refused."""
        ca = factory()
        old, _, _ = ca.issue_certificate("a", key=P256)
        with pytest.raises(InvalidRangeTimeCertificate, match="days_valid"):
            ca.renew_certificate(old, days_valid=days)


class TestCosigning:
    @pytest.mark.parametrize("spec", KEY_SPECS, ids=kind)
    def test_everything_stays_but_the_issuer(self, spec: KeySpec) -> None:
        """Subject, key, window and extensions are kept as they were encoded; issuer, AKI and serial number are ours."""
        ca = factory(spec)
        source = foreign(
            (x509.SubjectAlternativeName([x509.DNSName("app.example.org")]), False),
            (_UNKNOWN, False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), True),
        )
        made = ca.cosign_certificate(source)
        assert tbs_fields(made.tbs_certificate_bytes)[3:6] == tbs_fields(source.tbs_certificate_bytes)[3:6]
        assert made.issuer == ca.issuer.subject
        assert made.serial_number != source.serial_number
        assert list(made.extensions)[:-1] == list(source.extensions)
        assert made.extensions[-1].value == ca.issuer.authority_key_identifier
        ca.validate_cert(made)

    def test_what_spoke_for_the_old_issuer_is_left_out(self) -> None:
        """AIA, CDP, freshestCRL, issuerAltName and SCTs go; the AKI is ours, in its place."""
        ca = factory()
        made = ca.cosign_certificate(foreign(*_of_the_old_issuer(), (_UNKNOWN, False)))
        assert [extension.oid for extension in made.extensions] == [
            ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
            _UNKNOWN.oid,
        ]
        assert made.extensions[0].value == ca.issuer.authority_key_identifier

    def test_a_precertificate_becomes_a_certificate(self) -> None:
        """The poison, though critical, belongs to the old issuer."""
        made = factory().cosign_certificate(foreign((x509.PrecertPoison(), True)))
        assert _POISON not in {extension.oid for extension in made.extensions}

    def test_window(self) -> None:
        """The window is kept exactly, or counted from valid_from or now; valid_from alone is not looked at."""
        ca, source = factory(), foreign()
        kept = ca.cosign_certificate(source, valid_from=NOW + DAY)
        assert tbs_fields(kept.tbs_certificate_bytes)[3] == tbs_fields(source.tbs_certificate_bytes)[3]
        later = ca.cosign_certificate(source, days_valid=7, valid_from=NOW + DAY)
        assert (later.not_valid_before_utc, later.not_valid_after_utc) == (NOW + DAY, NOW + 8 * DAY)
        with pytest.raises(InvalidRangeTimeCertificate, match="outlive"):
            ca.cosign_certificate(source, days_valid=500)
        with pytest.raises(InvalidRangeTimeCertificate, match="ended"):
            ca.cosign_certificate(foreign(end=NOW - DAY))

    @pytest.mark.parametrize(
        "extensions",
        [
            [(x509.BasicConstraints(ca=True, path_length=None), True)],
            [(x509.KeyUsage(False, False, False, False, False, True, False, False, False), True)],  # noqa: FBT003
            [(x509.KeyUsage(False, False, False, False, False, False, True, False, False), True)],  # noqa: FBT003
        ],
        ids=["CA:TRUE", "keyCertSign", "cRLSign"],
    )
    def test_nobody_becomes_a_ca(self, extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
        """A CA's powers are only signed where they are allowed by name."""
        ca, source = factory(), foreign(*extensions)
        with pytest.raises(Forbidden) as refused:
            ca.cosign_certificate(source)
        assert refused.value.rule == "certificate_authority"
        made = ca.cosign_certificate(source, allow_ca=True)
        assert made.extensions[0] == source.extensions[0]

    @pytest.mark.parametrize("length", [None, 0, 3])
    def test_path_length_of_the_parent_holds(self, length: int | None) -> None:
        """Under path length 0 no CA is co-signed, whatever it says of itself."""
        root = factory()
        cert, key = root.issue_intermediate_ca("Issuing", key=P256, path_length=0, days_valid=300)
        ca = CertificateFactory(SimpleNamespace(ca_cert=cert, ca_key=key, base_info=CertificateInfo()))
        source = foreign((x509.BasicConstraints(ca=True, path_length=length), True))
        with pytest.raises(Forbidden) as refused:
            ca.cosign_certificate(source, allow_ca=True)
        assert refused.value.rule == "path_length"

    def test_nobody_answers_for_us(self) -> None:
        """An OCSP responder's certificate, signed by us, would speak for all of ours."""
        source = foreign((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]), False))
        with pytest.raises(Forbidden) as refused:
            factory().cosign_certificate(source, allow_ca=True)
        assert refused.value.rule == "extended_key_usage"

    def test_nobody_takes_our_name(self) -> None:
        """A certificate with this CA's name, however it is spelt, is refused."""
        subject = x509.Name(
            [
                x509.NameAttribute(NameOID.COUNTRY_NAME, "UA"),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "MY  company"),
                x509.NameAttribute(NameOID.COMMON_NAME, "ROOT"),
            ]
        )
        with pytest.raises(Forbidden) as refused:
            factory().cosign_certificate(foreign(subject=subject))
        assert refused.value.rule == "subject"

    @pytest.mark.parametrize(
        "source, fault",
        [
            (lambda: foreign((_UNKNOWN, True)), r"critical extension 1\.2\.3\.4"),
            (lambda: foreign(subject=x509.Name([])), "names nobody"),
            (lambda: foreign(key=rsa.generate_private_key(65537, 1024).public_key()), "1024 bits"),  # noqa: S505
            (lambda: foreign(key=dsa.generate_private_key(1024).public_key()), "DSA-1024"),  # noqa: S505
            (lambda: foreign(key=ec.generate_private_key(ec.SECP256K1()).public_key()), "secp256k1"),
        ],
        ids=["critical", "anonymous", "RSA-1024", "DSA", "secp256k1"],
    )
    def test_what_is_unfit(self, source: object, fault: str) -> None:
        """What nobody could rely on is refused, with the reason."""
        with pytest.raises(Invalid, match=fault):
            factory().cosign_certificate(source())  # type: ignore[operator]

    def test_without_common_name_under_a_ca_without_ski(self) -> None:
        """A SAN is name enough; a CA without SKI is identified by its key."""
        key = private_key(P256, "bare")
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Bare")])
        builder = x509.CertificateBuilder(name, name, key.public_key(), 99, NOW - DAY, NOW + 400 * DAY)
        root = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(
            key,
            hashes.SHA256(),
        )
        ca = CertificateFactory(SimpleNamespace(ca_cert=root, ca_key=key, base_info=CertificateInfo()))
        san = x509.SubjectAlternativeName([x509.DNSName("a.example.org")])
        made = ca.cosign_certificate(foreign((san, True), subject=x509.Name([])))
        assert made.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value == (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        )
        assert extension_kinds(made) == {"subjectAltName", "authorityKeyIdentifier"}


_CERTIFICATES = (
    "PKITS_data/certs/GoodCACert.crt",
    "PKITS_data/certs/ValidCertificatePathTest1EE.crt",
    "PKITS_data/certs/nameConstraintsRFC822CA1Cert.crt",
    "PKITS_data/certs/ValidDNSnameConstraintsTest30EE.crt",
    "PKITS_data/certs/inhibitPolicyMapping0CACert.crt",
)


class TestAnything:
    @given(st.data())
    def test_damaged_certificates_are_refused_or_signed(self, data: st.DataObject) -> None:
        """Whatever a parser still takes for a certificate is co-signed whole, or refused by an error of ours."""
        with open_vector_file(f"x509/{data.draw(st.sampled_from(_CERTIFICATES))}", "rb") as file:
            octets = bytearray(file.read())
        for _ in range(data.draw(st.integers(0, 3))):
            octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
        try:
            source = x509.load_der_x509_certificate(bytes(octets))
        except (ValueError, UserWarning, x509.InvalidVersion):
            return
        try:
            made = _CA.cosign_certificate(source, days_valid=10, allow_ca=data.draw(st.booleans()))
        except TinyCAError:
            return
        assert tbs_fields(made.tbs_certificate_bytes)[4:6] == tbs_fields(source.tbs_certificate_bytes)[4:6]
        _CA.validate_cert(made)


_CA = factory()
