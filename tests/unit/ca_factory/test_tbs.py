"""What we put together octet by octet is what the crypto library's builders make of the same fields."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import alternative_names, moments, mutations, serial_numbers, subjects, windows
from tests.unit.ca_factory.authorities import (
    KEY_SPECS,
    NOW,
    P256,
    URLS,
    ask,
    kind,
    make_plan,
    make_root,
    private_key,
    with_key,
)
from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.crl import (
    RevokedCertificate,
    _entry,
    build_crl,
    encode_entries,
    encoded_entries,
    sign_crl,
)
from tiny_ca.ca_factory.extensions import extensions_of
from tiny_ca.ca_factory.issuer import Issuer, IssuerUrls
from tiny_ca.ca_factory.keys import public_key_der
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import Plan, plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, ROOT_PROFILE, Profile
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.ca_factory.tbs import encode_tbs, signed
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.models.revocation import reason_from_code

Subject = tuple[tuple[x509.ObjectIdentifier, str], ...]
Digest = hashes.SHA256 | hashes.SHA384 | hashes.SHA512
Window = tuple[datetime, datetime]

every_ca_key = pytest.mark.parametrize("ca_key", KEY_SPECS, ids=kind)
# A CA key is an input like another: the examples are few, the kinds are all.
few = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def _digest(spec: KeySpec) -> Digest | None:
    strength: dict[str, Digest] = {"P-384": hashes.SHA384(), "P-521": hashes.SHA512()}
    return strength.get(spec.curve or "", hashes.SHA256()) if spec.algorithm in {"rsa", "ec"} else None


def _built(made: Plan, spec: KeySpec) -> x509.Certificate:
    """The certificate that the crypto library makes of a plan."""
    builder = (
        x509.CertificateBuilder()
        .serial_number(made.serial_number)
        .issuer_name(made.issuer.subject if made.issuer else made.subject)
        .subject_name(made.subject)
        .not_valid_before(made.not_valid_before)
        .not_valid_after(made.not_valid_after)
        .public_key(made.public_key)
    )
    for extension in made.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(private_key(spec, "Root"), _digest(spec))


def _assert_same(made: Plan, spec: KeySpec) -> None:
    signer = SoftwareSigner(private_key(spec, "Root"))
    built = _built(made, spec)

    tbs = encode_tbs(made, signer)

    assert built.tbs_certificate_bytes == tbs
    assert built.public_bytes(Encoding.DER) == signed(tbs, signer, built.signature)


def _with_fields(
    profile: Profile, issuer: Issuer | None, subject: Subject, names: AlternativeNames, window: Window, serial: int
) -> Plan:
    """A plan of any fields at all, lawful or not."""
    request = ask(subject=subject)
    made = plan(ask(), profile=profile, limits=NO_LIMITS, issuer=issuer, now=NOW)
    extensions = extensions_of(
        request, made.public_key_info, profile=profile, issuer=issuer, names=names, anonymous=not subject
    )
    return replace(
        made,
        subject=x509.Name([x509.NameAttribute(oid, value) for oid, value in subject]),
        names=names,
        serial_number=serial,
        not_valid_before=window[0],
        not_valid_after=window[1],
        extensions=extensions,
    )


@every_ca_key
@few
@given(
    profile=st.sampled_from(list(BUILT_IN_PROFILES.values())),
    urls=st.sampled_from([URLS, IssuerUrls()]),
    subject=subjects(),
    names=alternative_names(),
    window=windows(),
    serial=serial_numbers(),
)
def test_certificates_are_the_builders(
    ca_key: KeySpec,
    profile: Profile,
    urls: IssuerUrls,
    subject: Subject,
    names: AlternativeNames,
    window: Window,
    serial: int,
) -> None:
    """Every TBSCertificate equals the builder's: any profile, any CA key, any names, years 1950 to 9999, any serial."""
    made = _with_fields(profile, make_root(ca_key, urls=urls), subject, names, window, serial)

    _assert_same(made, ca_key)


@every_ca_key
@few
@given(subject=subjects().filter(bool), window=windows(), serial=serial_numbers())
def test_roots_are_the_builders(ca_key: KeySpec, subject: Subject, window: Window, serial: int) -> None:
    """So does that of a certificate that signs itself."""
    made = _with_fields(ROOT_PROFILE, None, subject, AlternativeNames(), window, serial)

    _assert_same(replace(with_key(made, private_key(ca_key, "Root").public_key()), key_spec=ca_key), ca_key)


@pytest.mark.parametrize("leaf_key", KEY_SPECS, ids=kind)
@pytest.mark.parametrize("profile", BUILT_IN_PROFILES.values(), ids=lambda profile: profile.name)
def test_every_kind_of_subject_key(profile: Profile, leaf_key: KeySpec) -> None:
    """Every kind of key under every profile is encoded as the builder does."""
    _assert_same(make_plan(ask(spec=leaf_key), profile=profile), P256)


def test_the_issuers_name_keeps_its_octets() -> None:
    """The issuer is written as the CA certificate has it, PrintableString or not: relying parties compare octets."""
    signer = SoftwareSigner(private_key(P256, "Root"))
    printable = x509.NameAttribute(x509.NameOID.COMMON_NAME, "Root", _type=x509.name._ASN1Type.PrintableString)
    template = plan(
        ask("Root", dns=(), public_key=signer.public_key), profile=ROOT_PROFILE, limits=NO_LIMITS, issuer=None, now=NOW
    )
    issuer = Issuer(sign_certificate(replace(template, subject=x509.Name([printable])), signer), signer)

    made = sign_certificate(make_plan(issuer=issuer))

    assert b"\x13\x04Root" in made.issuer.public_bytes()
    assert issuer.certificate.subject.public_bytes() == made.issuer.public_bytes()


@every_ca_key
def test_signer_signs_what_it_verifies(ca_key: KeySpec) -> None:
    """A signer's own check takes its signature and no other."""
    signer = SoftwareSigner(private_key(ca_key, "Root"))
    signature = signer.sign(b"data")

    signer.verify(signature, b"data")
    with pytest.raises(InvalidSignature):
        signer.verify(signature, b"other data")
    signer.verify(signer.sign_large([b"da", memoryview(b"ta"), b""]), b"data")
    assert f"SoftwareSigner({ca_key})" == repr(signer)
    assert public_key_der(private_key(ca_key, "Root").public_key()) == public_key_der(signer.public_key)


def _revocations() -> st.SearchStrategy[list[RevokedCertificate]]:
    reasons = st.sampled_from([None, 0, 1, 2, 3, 4, 5, 6, 8, 9, 10])
    return st.lists(st.builds(RevokedCertificate, serial_numbers(), moments(), reasons), max_size=5)


@every_ca_key
@few
@given(revoked=_revocations(), window=windows(), number=st.integers(0, 2**159 - 1))
def test_crls_are_the_builders(ca_key: KeySpec, revoked: list[RevokedCertificate], window: Window, number: int) -> None:
    """Every TBSCertList equals the builder's: any CA key, none or several entries, any reason, years 1950 to 9999."""
    issuer = make_root(ca_key)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(window[0])
        .next_update(window[1])
        .add_extension(issuer.authority_key_identifier, critical=False)
        .add_extension(x509.CRLNumber(number), critical=False)
    )
    for each in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(each.serial_number).revocation_date(each.revocation_date)
        if each.revocation_reason not in {None, 0, 8}:
            reason = x509.CRLReason(reason_from_code(each.revocation_reason or 0))
            entry = entry.add_extension(reason, critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    built = builder.sign(private_key(ca_key, "Root"), _digest(ca_key))

    encoded = build_crl(revoked, issuer=issuer, crl_number=number, this_update=window[0], next_update=window[1])

    texts = [(str(each[0]), f"{each[1]:%Y%m%d%H%M%SZ}".zfill(15), each[2]) for each in revoked]
    assert encode_entries(texts) == b"".join(map(_entry, revoked))
    made = x509.load_der_x509_crl(encoded)
    assert built.tbs_certlist_bytes == made.tbs_certlist_bytes
    assert encoded == signed(built.tbs_certlist_bytes, issuer.signer, made.signature)
    assert made.is_signature_valid(issuer.signer.public_key)


@few
@given(first=_revocations(), second=_revocations(), window=windows(), number=st.integers(0, 2**159 - 1))
def test_a_crl_is_continued(
    first: list[RevokedCertificate], second: list[RevokedCertificate], window: Window, number: int
) -> None:
    """The entries of a CRL and those after it make the CRL that has them all."""
    make = partial(build_crl, issuer=make_root(), crl_number=number, this_update=window[0], next_update=window[1])
    entries: list[bytes | memoryview] = [encoded_entries(make(first)), *map(_entry, second)]
    continued = sign_crl(entries, issuer=make_root(), crl_number=number, this_update=window[0], next_update=window[1])
    made, whole = x509.load_der_x509_crl(continued), x509.load_der_x509_crl(make([*first, *second]))
    assert made.tbs_certlist_bytes == whole.tbs_certlist_bytes
    assert made.is_signature_valid(make_root().signer.public_key)


_CRL = build_crl(
    [RevokedCertificate(7, NOW, 1)], issuer=make_root(), crl_number=1, this_update=NOW, next_update=NOW + timedelta(1)
)


@few
@given(damaged=mutations([_CRL]) | st.binary(max_size=80))
def test_what_is_no_crl_of_ours_is_not_continued(damaged: bytes) -> None:
    """Whatever the octets are, it is entries or ValueError."""
    with suppress(ValueError):
        assert len(encoded_entries(damaged)) <= len(damaged)


def test_a_crl_without_extensions_is_not_continued() -> None:
    """Another program's may have none; what stands in their place are its entries."""
    whole = der.sequence(der.sequence(der.integer(1), der.time(NOW), der.sequence(der.integer(7))))
    with pytest.raises(ValueError, match="cannot be continued"):
        encoded_entries(whole)
