"""Every rule of lint finds what it is for, and nothing else; what it finds is never signed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID, NameOID
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from tests.strategies import alternative_names, subjects
from tests.unit.ca_factory.authorities import (
    INTERMEDIATE,
    KEY_SPECS,
    NOW,
    P256,
    RSA,
    SERVER,
    ask,
    kind,
    make_plan,
    make_root,
    private_key,
    with_key,
)
from tiny_ca.ca_factory import der, signing
from tiny_ca.ca_factory.extensions import NO_REV_AVAIL
from tiny_ca.ca_factory.keys import public_key_der
from tiny_ca.ca_factory.lint import lint
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import Plan, plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, ROOT_PROFILE, KeyConstraint, Profile
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.ca_factory.tbs import encode_extensions, encode_tbs, signed
from tiny_ca.exc import Invalid, LintError
from tiny_ca.models.key_spec import KeySpec

Extensions = tuple[x509.Extension[x509.ExtensionType], ...]

PLAN = make_plan()
CA_PLAN = make_plan(ask("Sub CA", dns=()), profile=INTERMEDIATE)
CI_PLAN = make_plan(profile=BUILT_IN_PROFILES["ci"])
OLD_SIGNER = SoftwareSigner(private_key(P256, "Root"))


def _findings(certificate: x509.Certificate, against: Plan = PLAN) -> tuple[str, ...]:
    try:
        lint(certificate, against)
    except LintError as error:
        return error.findings
    return ()


def _encoded(made: Plan) -> x509.Certificate:
    return x509.load_der_x509_certificate(signed(encode_tbs(made, OLD_SIGNER), OLD_SIGNER, b"\0"))


def _by_hand(
    made: Plan = PLAN,
    *,
    more: Iterable[bytes] = (),
    outer: bytes | None = None,
    extensions: bytes | None = None,
    **fields: bytes,
) -> x509.Certificate:
    """A certificate with fields of one's own: version, serial, algorithm, issuer, validity, subject, key."""
    own = dict(
        zip(
            ("version", "serial", "algorithm", "issuer", "validity", "subject", "key", "extensions"),
            der.contents(encode_tbs(made, OLD_SIGNER)),
            strict=True,
        )
    )
    if extensions is not None:
        own["extensions"] = extensions
    kept = {**own, **fields}
    last = kept.pop("extensions")
    tbs = der.sequence(*kept.values(), *more, last)
    return x509.load_der_x509_certificate(
        der.sequence(tbs, outer or OLD_SIGNER.algorithm_identifier, der.bit_string(b"\0"))
    )


def _changed(made: Plan, value: x509.ExtensionType, *, critical: bool | None = None) -> Plan:
    """The plan with another value for the extension of that kind, or with one more."""
    new = x509.Extension(value.oid, bool(critical), value)
    if all(each.oid != value.oid for each in made.extensions):
        return replace(made, extensions=(*made.extensions, new))
    return replace(
        made,
        extensions=tuple(
            x509.Extension(each.oid, each.critical if critical is None else critical, value)
            if each.oid == value.oid
            else each
            for each in made.extensions
        ),
    )


def _without(made: Plan, oid: x509.ObjectIdentifier) -> Plan:
    return replace(made, extensions=tuple(each for each in made.extensions if each.oid != oid))


def _flipped(made: Plan, oid: x509.ObjectIdentifier) -> Plan:
    return replace(
        made,
        extensions=tuple(
            x509.Extension(each.oid, not each.critical if each.oid == oid else each.critical, each.value)
            for each in made.extensions
        ),
    )


def _usage(*given: str) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")  # fmt: skip
    return x509.KeyUsage(**{name: name in given for name in names})


def _san(*names: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName(list(map(x509.DNSName, names)))


def _subject(*attributes: x509.NameAttribute[str]) -> x509.Name:
    return x509.Name(list(attributes))


def _points(url: str = "http://ca.example.org/crl.der", **more: object) -> x509.CRLDistributionPoints:
    fields = {"full_name": [x509.UniformResourceIdentifier(url)], "relative_name": None, "reasons": None}
    return x509.CRLDistributionPoints([x509.DistributionPoint(**{**fields, "crl_issuer": None, **more})])  # type: ignore[arg-type]


def _access(*descriptions: tuple[x509.ObjectIdentifier, str]) -> x509.AuthorityInformationAccess:
    return x509.AuthorityInformationAccess(
        [x509.AccessDescription(oid, x509.UniformResourceIdentifier(url)) for oid, url in descriptions]
    )


@pytest.mark.parametrize("profile", [*BUILT_IN_PROFILES.values()], ids=lambda profile: profile.name)
@pytest.mark.parametrize("leaf_key", KEY_SPECS, ids=kind)
def test_what_is_planned_is_fit(profile: Profile, leaf_key: KeySpec) -> None:
    """A certificate as planned has no finding, whatever the profile and the key."""
    made = make_plan(ask(spec=leaf_key), profile=profile)
    assert _findings(_encoded(made), made) == ()


CN = NameOID.COMMON_NAME
REGISTERED_ID = "a RegisteredID as subject alternative name is not supported; use DNS, IP, URI or e-mail"
EKU_SERVER, EKU_CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
CA_ISSUERS, OCSP = AuthorityInformationAccessOID.CA_ISSUERS, AuthorityInformationAccessOID.OCSP
CA_URL = "http://ca.example.org/ca.cer"
POINTS_WRONG = "cRLDistributionPoints does not point to the issuer's full CRL alone (RFC 5280 §4.2.1.13)"
ACCESS_WRONG = "authorityInfoAccess does not point to the issuer's certificate alone (RFC 5280 §4.2.2.1)"
NOT_PLANNED_SAN = "subject alternative names are not the planned ones"
NOT_PLANNED_SUBJECT = "subject is not the planned one"

FIELDS = [
    (lambda: replace(PLAN, serial_number=PLAN.serial_number + 1), ("serial number is not the planned one",)),
    (lambda: with_key(PLAN, private_key(P256, "other").public_key()), (
        "public key is not the requested one, as its kind is encoded (RFC 5280 §4.1.2.7)",
        "subjectKeyIdentifier is not of this key (RFC 5280 §4.2.1.2)",
    )),
    (lambda: replace(PLAN, issuer=make_root(common_name="Other")), (
        "issuer is not the subject of the CA, octet by octet (RFC 5280 §7.1)",
    )),
    (lambda: replace(PLAN, subject=_subject(x509.NameAttribute(NameOID.ORGANIZATION_NAME, "O"))), (
        NOT_PLANNED_SUBJECT,
    )),
    (lambda: replace(PLAN, not_valid_after=PLAN.not_valid_after + timedelta(seconds=1)), (
        "validity is not the planned one",
    )),
    (lambda: replace(PLAN, not_valid_before=NOW - timedelta(days=1)), (
        "validity is not the planned one", "validity is not inside the issuer's",
    )),
]  # fmt: skip
EXTENSIONS = [
    *[
        (lambda oid=oid: _without(PLAN, oid), (f"extension {oid.dotted_string} is missing",))
        for oid in (
            ExtensionOID.BASIC_CONSTRAINTS,
            ExtensionOID.KEY_USAGE,
            ExtensionOID.EXTENDED_KEY_USAGE,
            ExtensionOID.SUBJECT_KEY_IDENTIFIER,
            ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
            ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
            ExtensionOID.CRL_DISTRIBUTION_POINTS,
        )
    ],
    *[
        (
            lambda each=each: _flipped(PLAN, each.oid),
            (f"extension {each.oid.dotted_string} must {'not ' * (not each.critical)}be critical (RFC 5280 §4.2.1)",),
        )
        for each in PLAN.extensions
    ],
    (lambda: _changed(PLAN, x509.OCSPNoCheck()), ("extension 1.3.6.1.5.5.7.48.1.5 is in no profile",)),
    (lambda: _changed(PLAN, x509.UnrecognizedExtension(NO_REV_AVAIL, der.NULL)), (
        "extension 2.5.29.56 must not be there",
    )),
    (lambda: _changed(PLAN, x509.BasicConstraints(ca=True, path_length=None)), (
        "basicConstraints says CA:TRUE, the profile otherwise (RFC 5280 §4.2.1.9)",
    )),
    (lambda: _changed(PLAN, _usage()), ("keyUsage gives nothing (RFC 5280 §4.2.1.3)",)),
    (lambda: _changed(PLAN, _usage("digital_signature", "key_cert_sign")), (
        "keyCertSign and CA:TRUE go together (RFC 5280 §4.2.1.3)",
    )),
    (lambda: _changed(PLAN, _usage("digital_signature", "crl_sign")), ("cRLSign is a CA's (RFC 5280 §4.2.1.3)",)),
    (lambda: _changed(PLAN, _usage("digital_signature", "key_encipherment")), (
        "keyUsage key_encipherment is not the profile's, or not for a key of this kind",
    )),
    (lambda: _changed(PLAN, _usage("digital_signature", "key_agreement", "encipher_only")), (
        "keyUsage encipher_only is not the profile's, or not for a key of this kind",
        "keyUsage key_agreement is not the profile's, or not for a key of this kind",
    )),
    (lambda: _changed(PLAN, x509.ExtendedKeyUsage([EKU_SERVER, EKU_SERVER])), (
        "an extended key usage is there twice",
    )),
    (lambda: _changed(PLAN, x509.ExtendedKeyUsage([EKU_CLIENT])), ("an extended key usage the profile does not give",)),
    (lambda: _changed(PLAN, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE])), (
        "anyExtendedKeyUsage allows everything",
    )),
    (lambda: _changed(PLAN, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING, EKU_SERVER]), critical=True), (
        "an extended key usage the profile does not give", "timeStamping stands alone (RFC 3161 §2.3)",
    )),
    (lambda: _changed(PLAN, _san("app.example.org", "b.example.org")), (NOT_PLANNED_SAN,)),
    (lambda: _changed(PLAN, _san("APP.example.org")), ("subject alternative names are not in normal form",)),
    (lambda: _changed(PLAN, _san("app.example.org", "app.example.org")), (
        "subject alternative names are not in normal form",
    )),
    (lambda: _changed(PLAN, _san("other.example.org")), (
        NOT_PLANNED_SAN, "the common name is a host that the subject alternative names lack (RFC 9525 §2)",
    )),
    (lambda: _changed(PLAN, x509.SubjectAlternativeName([x509.RegisteredID(EKU_CLIENT)])), (
        f"subject alternative name: {REGISTERED_ID}",
    )),
    (lambda: _changed(PLAN, x509.SubjectKeyIdentifier(b"0123")), (
        "subjectKeyIdentifier is not of this key (RFC 5280 §4.2.1.2)",
    )),
    (lambda: _changed(PLAN, x509.AuthorityKeyIdentifier(b"0123", None, None)), (
        "authorityKeyIdentifier is not the issuer's (RFC 5280 §4.2.1.1)",
    )),
    (lambda: _changed(PLAN, x509.AuthorityKeyIdentifier(
        make_root().authority_key_identifier.key_identifier, [x509.DirectoryName(make_root().subject)], 7
    )), ("authorityKeyIdentifier names a certificate: that pins the chain to one of the issuer's certificates",)),
    (lambda: _changed(PLAN, _points("http://other.example/crl.der")), (POINTS_WRONG,)),
    (lambda: _changed(PLAN, _points(reasons=frozenset({x509.ReasonFlags.key_compromise}))), (POINTS_WRONG,)),
    (lambda: _changed(PLAN, _points(crl_issuer=[x509.DirectoryName(make_root().subject)])), (POINTS_WRONG,)),
    (lambda: _changed(PLAN, _access((CA_ISSUERS, "http://other.example/ca.cer"))), (ACCESS_WRONG,)),
    (lambda: _changed(PLAN, _access((OCSP, "http://ca.example.org/ocsp"))), (ACCESS_WRONG,)),
]  # fmt: skip


@pytest.mark.parametrize("broken,expected", [*FIELDS, *EXTENSIONS])
def test_one_thing_broken(broken: Callable[[], Plan], expected: tuple[str, ...]) -> None:
    """One thing that differs from the plan is one finding, or as many as rules it breaks.

    Also right after a sound certificate of the same profile and issuer, of which some is not looked at again.
    """
    assert _findings(_encoded(PLAN)) == ()
    assert _findings(_encoded(broken())) == expected


# Here the plan itself is unfit: plan would have refused, and lint does not rely on that.
UNFIT = [
    (lambda: replace(PLAN, serial_number=7), ("serial number has less than 64 bits",)),
    (lambda: replace(PLAN, serial_number=1 << 159), (
        "serial number is not positive in 20 octets (RFC 5280 §4.1.2.2)",
    )),
    (lambda: replace(PLAN, not_valid_after=NOW + timedelta(days=400)), (
        "validity is longer than profile 'server' allows",
    )),
    (lambda: replace(PLAN, not_valid_after=PLAN.not_valid_before), ("validity is empty (RFC 5280 §4.1.2.5)",)),
    (lambda: replace(PLAN, subject=make_root().subject), (
        "subject is the name of its CA (RFC 5280 §4.1.2.6)",
        "the common name is a host that the subject alternative names lack (RFC 9525 §2)",
    )),
    (lambda: replace(CA_PLAN, subject=_subject()), (
        "a CA's subject is empty (RFC 5280 §4.1.2.6)", "extension 2.5.29.17 is missing",
    )),
    (lambda: replace(PLAN, subject=_subject(x509.NameAttribute(NameOID.TITLE, "Dr"))), (
        "subject holds the attribute 2.5.4.12, which no profile gives",
    )),
    (lambda: replace(PLAN, subject=_subject(x509.NameAttribute(NameOID.ORGANIZATION_NAME, "x" * 65))), (
        "subject attribute 2.5.4.10 has not 1 to 64 characters (RFC 5280 A.1)",
    )),
    (lambda: replace(PLAN, subject=_subject(x509.NameAttribute(CN, "app\n"))), (
        "subject attribute 2.5.4.3 holds control or invisible characters",
    )),
    (lambda: replace(PLAN, subject=_subject(
        x509.NameAttribute(CN, "app", _type=x509.name._ASN1Type.BMPString)
    ), names=AlternativeNames(dns=("app", "app.example.org"))), (
        "subject attribute 2.5.4.3 is a BMPString (RFC 5280 §4.1.2.4)", NOT_PLANNED_SAN,
        "the common name is a host that the subject alternative names lack (RFC 9525 §2)",
    )),
    (lambda: replace(PLAN, subject=_subject(
        x509.NameAttribute(NameOID.COUNTRY_NAME, "DE", _type=x509.name._ASN1Type.UTF8String)
    )), ("subject attribute 2.5.4.6 is a UTF8String (RFC 5280 §4.1.2.4)",)),
    (lambda: replace(PLAN, profile=replace(SERVER, keys=(KeyConstraint("ed25519"),))), (
        "the public key is of a kind that the profile does not take",
    )),
    (lambda: replace(PLAN, key_spec=RSA), ("the public key is of a kind that the profile does not take",)),
    (lambda: replace(PLAN, profile=replace(SERVER, names=NamePatterns.parse(dns=["*.example.com"]))), (
        "the dns name 'app.example.org' is outside the profile",
    )),
    (lambda: replace(PLAN, names=AlternativeNames(), profile=replace(SERVER, require_san=False),
                     subject=_subject(x509.NameAttribute(NameOID.ORGANIZATION_NAME, "O")),
                     extensions=_changed(PLAN, _san()).extensions), ("subjectAltName is empty (RFC 5280 §4.2.1.6)",)),
    (lambda: replace(CI_PLAN, extensions=_changed(CI_PLAN, _access((CA_ISSUERS, CA_URL), (OCSP, CA_URL))).extensions), (
        "noRevAvail and a pointer to OCSP contradict each other (RFC 9608 §4)",
    )),
    (lambda: _changed(CI_PLAN, _points()), ("extension 2.5.29.31 must not be there",)),
    (lambda: _changed(CI_PLAN, x509.UnrecognizedExtension(NO_REV_AVAIL, b"\x0c\x00")), (
        "noRevAvail is not NULL (RFC 9608 §2)",
    )),
    (lambda: _without(CI_PLAN, NO_REV_AVAIL), ("extension 2.5.29.56 is missing",)),
    (lambda: replace(_changed(CA_PLAN, x509.UnrecognizedExtension(NO_REV_AVAIL, der.NULL)),
                     profile=replace(INTERMEDIATE, no_rev_avail=True, crl_distribution_points=False)), (
        "extension 2.5.29.31 must not be there", "extension 2.5.29.56 must not be there",
    )),
    (lambda: _changed(CA_PLAN, _usage("crl_sign")), ("keyCertSign and CA:TRUE go together (RFC 5280 §4.2.1.3)",)),
    (lambda: _changed(CA_PLAN, x509.BasicConstraints(ca=False, path_length=None)), (
        "basicConstraints says CA:FALSE, the profile otherwise (RFC 5280 §4.2.1.9)",
    )),
    (lambda: _changed(CA_PLAN, x509.BasicConstraints(ca=True, path_length=1)), (
        "path length is more than profile 'intermediate' allows",
    )),
    (lambda: replace(_changed(CA_PLAN, x509.BasicConstraints(ca=True, path_length=None)),
                     issuer=make_root(path_length=1), profile=replace(INTERMEDIATE, path_length=None)), (
        "path length is not below the issuer's (RFC 5280 §4.2.1.9)",
    )),
    (lambda: _without(CA_PLAN, ExtensionOID.SUBJECT_KEY_IDENTIFIER), ("extension 2.5.29.14 is missing",)),
    (lambda: _changed(CA_PLAN, x509.ExtendedKeyUsage([EKU_SERVER])), ("extension 2.5.29.37 must not be there",)),
]  # fmt: skip


@pytest.mark.parametrize("unfit,expected", UNFIT)
def test_an_unfit_plan(unfit: Callable[[], Plan], expected: tuple[str, ...]) -> None:
    """A plan that should never have been made is found out."""
    made = unfit()
    assert _findings(_encoded(made), made) == expected


@settings(deadline=None)
@given(
    names=alternative_names(),
    subject=subjects().filter(bool),
    other_names=st.none() | alternative_names(),
    other_subject=st.none() | subjects().filter(bool),
    seconds=st.sampled_from([0, 0, 1]),
)
def test_what_is_known_is_found_as_what_is_new(
    names: AlternativeNames,
    subject: tuple[Any, ...],
    other_names: AlternativeNames | None,
    other_subject: tuple[Any, ...] | None,
    seconds: int,
) -> None:
    """A certificate beside its plan, or another's: an issuer that has seen its like finds what a new one finds."""
    issuer = make_root()
    client = BUILT_IN_PROFILES["client"]
    other_request = ask(
        subject=other_subject or subject,
        names=other_names if other_names is not None else names,
    )
    try:
        made = make_plan(ask(subject=subject, names=names), profile=client, issuer=issuer)
        other = make_plan(other_request, profile=client, issuer=issuer)
    except Invalid:  # a common name with a '*' that is no wildcard
        reject()
    against = replace(
        made,
        names=other.names,
        subject=other.subject,
        not_valid_after=made.not_valid_after - timedelta(seconds=seconds),
    )
    certificate = _encoded(made)
    assert _findings(certificate, made) == ()
    assert _findings(certificate, made) == ()
    assert _findings(certificate, against) == _findings(certificate, replace(against, issuer=replace(issuer)))


def test_wildcards() -> None:
    """A wildcard under a profile that gives none is found."""
    made = make_plan(ask(dns=["*.example.org"]))
    strict = replace(made, profile=replace(SERVER, wildcards=False))
    assert _findings(_encoded(made), strict) == ("a wildcard, which the profile does not give",)


def test_too_many_names() -> None:
    """The 101st name is found."""
    names = AlternativeNames(ip=tuple(ip_address(number) for number in range(101)))
    made = replace(_changed(PLAN, x509.SubjectAlternativeName(names.general_names())), names=names)
    assert _findings(_encoded(made), made) == (
        "subject alternative name: 101 names are more than the 100 a certificate may have",
    )


def test_pointers_are_none_without_urls() -> None:
    """A root, which nobody issued, points nowhere."""
    signer = SoftwareSigner(private_key(P256, "Root"))
    request = ask("Root", dns=(), public_key=signer.public_key)
    made = plan(request, profile=ROOT_PROFILE, limits=NO_LIMITS, issuer=None, now=NOW)
    assert _findings(_encoded(made), made) == ()
    pointing = _changed(_changed(made, _points()), _access((CA_ISSUERS, CA_URL)))
    assert _findings(_encoded(pointing), made) == (
        "extension 1.3.6.1.5.5.7.1.1 must not be there",
        "extension 2.5.29.31 must not be there",
    )


def test_two_of_one_extension() -> None:
    """An extension that is there twice is found: parsers differ on which one counts."""
    twice = replace(PLAN, extensions=(*PLAN.extensions, PLAN.extensions[0]))
    assert _findings(_encoded(twice)) == ("extension 2.5.29.19 is there twice (RFC 5280 §4.2)",)


def test_an_extension_nobody_can_read() -> None:
    """Octets that are no DER of their kind are found."""
    extension = der.sequence(der.object_identifier("2.5.29.17"), der.octet_string(b"\x30\x05junk"))
    (finding,) = _findings(_by_hand(extensions=der.context(3, der.sequence(extension))))
    assert finding.startswith("a name or an extension cannot be read: ")


def test_version() -> None:
    """A certificate of version 1 is found."""
    assert "version is not v3 (RFC 5280 §4.1.2.1)" in _findings(_by_hand(version=b""))


def test_unique_identifiers() -> None:
    """A unique identifier is found."""
    finding = ("a unique identifier is there (RFC 5280 §4.1.2.8)",)
    assert _findings(_by_hand(more=[b"\x82\x02\x00\x01"])) == finding


def test_signature_algorithm() -> None:
    """An algorithm that is not the key's is found, inside and outside."""
    sha384 = der.sequence(der.object_identifier("1.2.840.10045.4.3.3"))
    unlike = "the signature algorithm inside is not the one outside (RFC 5280 §4.1.1.2)"
    foreign = "the signature algorithm is not that of the signing key (RFC 5280 §4.1.1.2)"
    assert _findings(_by_hand(algorithm=sha384)) == (unlike,)
    assert _findings(_by_hand(outer=sha384)) == (unlike, foreign)
    assert _findings(_by_hand(algorithm=sha384, outer=sha384)) == (foreign,)


@pytest.mark.parametrize("year", [2049, 2050])
def test_kind_of_time(year: int) -> None:
    """UTCTime from 2050 on and GeneralizedTime before are found."""
    end = datetime(year, 6, 1, tzinfo=UTC)
    made = replace(PLAN, not_valid_after=end, profile=replace(SERVER, max_lifetime=timedelta(days=20_000)))
    text = f"{end:%Y%m%d%H%M%SZ}".encode()
    generalized = b"\x18\x0f" + text
    assert ("validity is not encoded as its years demand (RFC 5280 §4.1.2.5)" in _findings(
        _by_hand(made, validity=der.sequence(der.time(NOW), generalized)), made
    )) is (year < 2050)  # fmt: skip


def test_key_encoding() -> None:
    """The same key in another encoding than its kind's is found: here RSA without its NULL."""
    made = make_plan(ask(spec=RSA))
    usual = public_key_der(made.public_key)
    algorithm, bits = der.contents(usual)
    assert algorithm.endswith(der.NULL)
    bare = der.sequence(der.sequence(der.object_identifier("1.2.840.113549.1.1.1")), bits)
    assert _findings(_by_hand(made, key=bare), made) == (
        "public key is not the requested one, as its kind is encoded (RFC 5280 §4.1.2.7)",
    )


def test_empty_extended_key_usage() -> None:
    """An extendedKeyUsage that lists nothing is found."""
    empty = x509.UnrecognizedExtension(ExtensionOID.EXTENDED_KEY_USAGE, b"\x30\x00")
    broken = _changed(PLAN, empty)
    assert encode_extensions(broken.extensions)
    (finding,) = _findings(_encoded(broken))
    assert "extendedKeyUsage is empty" in finding or "cannot be read" in finding


_SAN_OID = der.object_identifier("2.5.29.17")
_SAN = der.sequence(der.implicit(2, b"app.example.org"))


def _with_san(value: bytes) -> bytes:
    """The extensions of PLAN with these octets as the value of the SAN."""
    *_, field = der.contents(encode_tbs(PLAN, OLD_SIGNER))
    (sequence,) = der.contents(field)
    san = der.sequence(_SAN_OID, der.octet_string(value))
    return der.context(3, der.sequence(*(san if _SAN_OID in each else each for each in der.contents(sequence))))


@pytest.mark.parametrize(
    "octets",
    [
        {"extensions": _with_san(_SAN + der.NULL)},
        {"extensions": _with_san(b"\x31" + _SAN[1:])},
        {"extensions": _with_san(b"\x30\x81" + _SAN[1:])},
        {"extensions": _with_san(der.sequence())},
        {"subject": der.sequence(b"\x31\x00")},
        {"subject": der.sequence()},
    ],
)  # fmt: skip
def test_other_octets_are_never_known(octets: dict[str, bytes]) -> None:
    """Right after a sound certificate, what another encoder might make is still found, or no parser reads it."""
    assert _findings(_encoded(PLAN)) == ()
    try:
        certificate = _by_hand(PLAN, more=(), **octets)
    except ValueError:
        return
    assert _findings(certificate) != ()


def test_a_multi_valued_name_is_never_known() -> None:
    """Two attributes in one RDN are another name than two RDNs."""
    attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "O"), x509.NameAttribute(CN, "app.example.org")]
    made = replace(PLAN, subject=x509.Name(attributes))
    assert _findings(_encoded(made), made) == ()
    together = x509.Name([x509.RelativeDistinguishedName(attributes)])
    assert _findings(_by_hand(made, subject=together.public_bytes()), made) == (NOT_PLANNED_SUBJECT,)


def test_no_names_and_none_said_differ() -> None:
    """An empty SAN is not the absence of one."""
    client = BUILT_IN_PROFILES["client"]
    named = make_plan(ask("Somebody", dns=["app.example.org"]), profile=client)
    assert _findings(_encoded(named), named) == ()
    made = make_plan(ask("Somebody", dns=()), profile=client)
    assert _findings(_encoded(made), made) == ()
    empty = replace(made, extensions=_changed(made, _san()).extensions)
    assert _findings(_encoded(empty), made) == ("subjectAltName is empty (RFC 5280 §4.2.1.6)",)


def test_empty_issuer() -> None:
    """An issuer without a name is found."""
    assert "issuer is empty (RFC 5280 §4.1.2.4)" in _findings(_by_hand(issuer=der.sequence()))


class _CountingSigner(SoftwareSigner):
    signatures = 0

    def sign(self, data: bytes) -> bytes:
        self.signatures += 1
        return super().sign(data)


@pytest.mark.parametrize("broken,expected", [*UNFIT, (lambda: _without(PLAN, ExtensionOID.KEY_USAGE), ())])
def test_nothing_unfit_is_signed(broken: Callable[[], Plan], expected: tuple[str, ...]) -> None:
    """Where lint finds something, the key is not asked to sign."""
    made = broken()
    assert made.issuer is not None
    signer = _CountingSigner(private_key(P256, "Root"))
    issuer = replace(made.issuer, signer=signer)
    with pytest.raises(LintError):
        sign_certificate(replace(made, issuer=issuer))
    assert signer.signatures == 0

    sign_certificate(replace(PLAN, issuer=replace(make_root(), signer=signer)))
    assert signer.signatures == 1


def test_what_cannot_be_parsed_is_not_signed() -> None:
    """What no parser reads is a finding too, not a crash."""
    with pytest.raises(LintError, match="cannot be read"):
        signing._preview(b"\x30\x03\x02\x01\x00")


def test_a_signer_must_be_given_for_a_root() -> None:
    """A plan without an issuer and without a signer is a caller's mistake."""
    with pytest.raises(TypeError, match="needs the signer"):
        sign_certificate(replace(PLAN, issuer=None))
