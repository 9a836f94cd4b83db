"""Whatever a CSR that could be read asks for, it is signed or refused by one of our errors."""

from __future__ import annotations

from datetime import timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strategies import alternative_names, mutations, subjects
from tests.unit.ca_factory.authorities import NOW, P256, make_root, private_key
from tiny_ca.ca_factory import csr as csr_module
from tiny_ca.ca_factory.csr import ParsedCSR, parse_csr
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.exc import LintError, TinyCAError

every_profile = pytest.mark.parametrize("profile", BUILT_IN_PROFILES.values(), ids=lambda profile: profile.name)
Subject = tuple[tuple[x509.ObjectIdentifier, str], ...]


USAGES = [
    ExtendedKeyUsageOID.SERVER_AUTH,
    ExtendedKeyUsageOID.CLIENT_AUTH,
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,
    ExtendedKeyUsageOID.TIME_STAMPING,
]


def _csr(subject: Subject, names: AlternativeNames, usages: list[x509.ObjectIdentifier]) -> bytes:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names.general_names()), critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(private_key(P256, "leaf"), hashes.SHA256()).public_bytes(Encoding.DER)


@cache
def _seeds() -> list[bytes]:
    common_name = x509.NameOID.COMMON_NAME
    names = AlternativeNames.parse(
        dns=["app.example.org", "*.example.org"],
        ip=["192.0.2.1"],
        uris=["spiffe://a.example/x"],
        emails=["a@b.example"],
    )
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = ((x509.NameOID.COUNTRY_NAME, "DE"), (common_name, "app.example.org"))
    return [_csr(subject, names, usages), _csr(((common_name, "Alice"),), AlternativeNames(), []), _csr((), names, [])]


def _sign(parsed: ParsedCSR, profile: Profile) -> None:
    """Plan and lint never disagree: what is allowed is fit."""
    request = CertificateRequest.from_csr(parsed, lifetime=timedelta(hours=1))
    try:
        sign_certificate(plan(request, profile=profile, limits=NO_LIMITS, issuer=make_root(), now=NOW))
    except LintError:
        raise
    except TinyCAError:
        return


@every_profile
@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_csrs(profile: Profile, monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    """A damaged CSR is signed or refused, even where its signature were not looked at."""
    monkeypatch.setattr(csr_module, "_check_signature", lambda _: None)
    try:
        parsed = parse_csr(data.draw(mutations(_seeds())))
    except TinyCAError:
        return
    _sign(parsed, profile)


@every_profile
@settings(deadline=None, max_examples=30)
@given(
    subject=subjects(),
    names=alternative_names(),
    usages=st.lists(st.sampled_from(USAGES), max_size=3),
)
def test_sound_csrs(
    profile: Profile, subject: Subject, names: AlternativeNames, usages: list[x509.ObjectIdentifier]
) -> None:
    """So is any sound one, whatever its names."""
    try:
        parsed = parse_csr(_csr(subject, names, usages))
    except TinyCAError:
        return
    _sign(parsed, profile)
