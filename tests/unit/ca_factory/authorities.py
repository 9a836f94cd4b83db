"""CAs, requests and plans for the tests of this folder: keys are made once, moments stand still."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tiny_ca.ca_factory.issuer import Issuer, IssuerUrls
from tiny_ca.ca_factory.keys import PrivateKey, PublicKey, generate_private_key, public_key_der
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import Plan, plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, ROOT_PROFILE, Limits, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.exc import Forbidden
from tiny_ca.models.key_spec import KeySpec

__all__ = [
    "INTERMEDIATE",
    "KEY_SPECS",
    "NOW",
    "P256",
    "RSA",
    "SERVER",
    "URLS",
    "ask",
    "extension_kinds",
    "kind",
    "make_intermediate",
    "make_plan",
    "make_root",
    "private_key",
    "refusal",
    "with_key",
]

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
P256 = KeySpec.ec("P-256")
RSA = KeySpec.rsa(2048)
KEY_SPECS = (
    RSA,
    P256,
    KeySpec.ec("P-384"),
    KeySpec.ec("P-521"),
    KeySpec.ed25519(),
    KeySpec.mldsa("ML-DSA-44"),
    KeySpec.mldsa("ML-DSA-65"),
    KeySpec.mldsa("ML-DSA-87"),
)
SERVER = BUILT_IN_PROFILES["server"]
INTERMEDIATE = BUILT_IN_PROFILES["intermediate"]
URLS = IssuerUrls(ca_issuers="http://ca.example.org/ca.cer", crl="http://ca.example.org/crl.der")


def kind(value: object) -> str | None:
    """How pytest calls a case that is a key."""
    return str(value) if isinstance(value, KeySpec) else None


@cache
def private_key(spec: KeySpec = P256, owner: str = "") -> PrivateKey:
    """One key for each owner and kind."""
    return generate_private_key(spec)


def ask(
    common_name: str | None = "app.example.org",
    *,
    dns: Iterable[str] = ("app.example.org",),
    ip: Iterable[str] = (),
    uris: Iterable[str] = (),
    emails: Iterable[str] = (),
    spec: KeySpec = P256,
    **more: Any,  # noqa: ANN401  # the request's own fields
) -> CertificateRequest:
    """A request for a server's certificate, or for what the arguments make of it."""
    subject = () if common_name is None else ((NameOID.COMMON_NAME, common_name),)
    fields = {
        "subject": subject,
        "names": AlternativeNames.parse(dns=dns, ip=ip, uris=uris, emails=emails),
        "public_key": private_key(spec, "leaf").public_key(),
        "key_spec": spec,
    }
    return CertificateRequest(**{**fields, **more})


@cache
def make_root(
    spec: KeySpec = P256,
    *,
    common_name: str = "Root",
    now: datetime = NOW,
    path_length: int | None = None,
    urls: IssuerUrls = URLS,
) -> Issuer:
    """A root that began at ``now``."""
    signer = SoftwareSigner(private_key(spec, common_name))
    request = ask(common_name, dns=(), spec=spec, public_key=signer.public_key, path_length=path_length)
    made = plan(request, profile=ROOT_PROFILE, limits=NO_LIMITS, issuer=None, now=now)
    return Issuer(sign_certificate(made, signer), signer, urls=urls)


def make_intermediate(
    above: Issuer,
    spec: KeySpec = P256,
    *,
    common_name: str = "Issuing",
    now: datetime = NOW,
    **more: Any,  # noqa: ANN401  # as in ask
) -> Issuer:
    """A CA below another, valid for 100 days."""
    signer = SoftwareSigner(private_key(spec, common_name))
    fields = {"public_key": signer.public_key, "lifetime": timedelta(days=100), **more}
    request = ask(common_name, dns=(), spec=spec, **fields)
    made = plan(request, profile=INTERMEDIATE, limits=NO_LIMITS, issuer=above, now=now)
    return Issuer(sign_certificate(made), signer, chain=(above.certificate, *above.chain), urls=above.urls)


def with_key(made: Plan, key: PublicKey) -> Plan:
    """The plan for another key; its extensions stay."""
    return replace(made, public_key=key, public_key_info=public_key_der(key))


def make_plan(
    request: CertificateRequest | None = None,
    *,
    profile: Profile = SERVER,
    limits: Limits = NO_LIMITS,
    issuer: Issuer | None = None,
    now: datetime = NOW,
) -> Plan:
    """The plan for a request, by a root unless told otherwise."""
    return plan(request or ask(), profile=profile, limits=limits, issuer=issuer or make_root(), now=now)


def refusal(request: CertificateRequest | None = None, **more: Any) -> tuple[str, object]:  # noqa: ANN401  # the request's own fields
    """``(rule, value)`` of the refusal that a request meets."""
    with pytest.raises(Forbidden) as caught:
        make_plan(request, **more)
    assert caught.value.message
    return caught.value.rule, caught.value.value


def extension_kinds(certificate: x509.Certificate) -> set[str]:
    """The names of the extensions, as RFC 5280 has them."""
    return {extension.oid._name for extension in certificate.extensions}
