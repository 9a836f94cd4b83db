"""The extensions of a certificate, from what was asked and what the profile and the issuer say (RFC 5280 §4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ObjectIdentifier

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.keys import key_identifier
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.profiles import Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.models.key_spec import KeySpec

__all__ = ["NO_REV_AVAIL", "extensions_of", "key_usages", "path_length_bound"]

NO_REV_AVAIL: Final = ObjectIdentifier("2.5.29.56")  # RFC 9608 §2

_KEPT: Final = 256
_KEY_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def extensions_of(
    request: CertificateRequest,
    public_key_info: bytes,
    *,
    profile: Profile,
    issuer: Issuer | None,
    names: AlternativeNames,
    anonymous: bool,
) -> tuple[x509.Extension[x509.ExtensionType], ...]:
    """Everything the certificate says besides its fields, with the criticality that RFC 5280 §4.2.1 asks for.

    ``public_key_info``: DER of SubjectPublicKeyInfo. ``anonymous``: the subject is empty. ``issuer`` None: the
    certificate signs itself.
    """
    return tuple(_extensions(request, public_key_info, profile, issuer, names, anonymous=anonymous))


def path_length_bound(profile: Profile, issuer: Issuer | None) -> int | None:
    """The longest path length the profile and the issuer leave to a CA below it; None for no bound."""
    below = issuer.path_length - 1 if issuer and issuer.path_length is not None else None
    return min((bound for bound in (profile.path_length, below) if bound is not None), default=None)


def key_usages(profile: Profile, spec: KeySpec) -> frozenset[str]:
    """The profile's key usages that a key of this kind can have."""
    return _fitting(profile.key_usage, spec.algorithm)


@lru_cache(maxsize=_KEPT)
def _fitting(key_usage: tuple[str, ...], algorithm: str) -> frozenset[str]:
    usages = frozenset(key_usage)
    if algorithm != "rsa":  # RFC 8813 §3, RFC 8410 §5, RFC 9881 §5
        usages -= {"key_encipherment", "data_encipherment"}
    if algorithm != "ec":  # RFC 3279 §2.3.1, RFC 8410 §5, RFC 9881 §5
        usages -= {"key_agreement"}
    return usages


def _extensions(
    request: CertificateRequest,
    public_key_info: bytes,
    profile: Profile,
    issuer: Issuer | None,
    names: AlternativeNames,
    *,
    anonymous: bool,
) -> Iterator[x509.Extension[x509.ExtensionType]]:
    # §4.2.1.9: critical in a CA's certificate, and absent or not in others; present everywhere, old verifiers want it.
    yield _basic_constraints(profile.ca, _path_length(request, profile, issuer))
    yield _key_usage(key_usages(profile, request.key_spec))
    usages = request.extended_key_usage or profile.extended_key_usage
    if usages:
        yield _extended_key_usage(tuple(usages))
    if request.name_constraints and profile.ca:
        yield _extension(request.name_constraints.to_extension(), critical=True)  # §4.2.1.10
    if names:
        # §4.2.1.6: critical where the subject is empty, for then it alone names the holder.
        yield _extension(x509.SubjectAlternativeName(names.general_names()), critical=anonymous)
    ski = x509.SubjectKeyIdentifier(key_identifier(public_key_info))
    yield _extension(ski, critical=False)
    own = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier
    yield _authority_key_identifier(issuer.authority_key_identifier if issuer else own(ski))
    if issuer and issuer.urls.ca_issuers and profile.authority_information_access:
        yield _authority_information_access(issuer.urls.ca_issuers)
    if issuer and issuer.urls.crl and profile.crl_distribution_points:
        yield _crl_distribution_points(issuer.urls.crl)
    if profile.no_rev_avail:
        yield _NO_REV_AVAIL


# What all certificates of a profile and an issuer have alike is made once.


@lru_cache(maxsize=_KEPT)
def _basic_constraints(ca: bool, path_length: int | None) -> x509.Extension[x509.ExtensionType]:  # noqa: FBT001
    return _extension(x509.BasicConstraints(ca=ca, path_length=path_length), critical=True)


@lru_cache(maxsize=_KEPT)
def _key_usage(given: frozenset[str]) -> x509.Extension[x509.ExtensionType]:
    return _extension(x509.KeyUsage(**{usage: usage in given for usage in _KEY_USAGES}), critical=True)  # §4.2.1.3


@lru_cache(maxsize=_KEPT)
def _extended_key_usage(usages: tuple[ObjectIdentifier, ...]) -> x509.Extension[x509.ExtensionType]:
    # RFC 3161 §2.3: a time stamping authority's is critical.
    critical = ExtendedKeyUsageOID.TIME_STAMPING in usages
    return _extension(x509.ExtendedKeyUsage(dict.fromkeys(usages)), critical=critical)


@lru_cache(maxsize=_KEPT)
def _authority_key_identifier(value: x509.AuthorityKeyIdentifier) -> x509.Extension[x509.ExtensionType]:
    return _extension(value, critical=False)


@lru_cache(maxsize=_KEPT)
def _authority_information_access(url: str) -> x509.Extension[x509.ExtensionType]:
    access = x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(url))
    return _extension(x509.AuthorityInformationAccess([access]), critical=False)


@lru_cache(maxsize=_KEPT)
def _crl_distribution_points(url: str) -> x509.Extension[x509.ExtensionType]:
    full_name = [x509.UniformResourceIdentifier(url)]
    point = x509.DistributionPoint(full_name, relative_name=None, reasons=None, crl_issuer=None)
    return _extension(x509.CRLDistributionPoints([point]), critical=False)


def _path_length(request: CertificateRequest, profile: Profile, issuer: Issuer | None) -> int | None:
    if not profile.ca:
        return None
    return request.path_length if request.path_length is not None else path_length_bound(profile, issuer)


def _extension(value: x509.ExtensionType, *, critical: bool) -> x509.Extension[x509.ExtensionType]:
    return x509.Extension(value.oid, critical, value)


_NO_REV_AVAIL: Final = _extension(x509.UnrecognizedExtension(NO_REV_AVAIL, der.NULL), critical=False)  # RFC 9608 §2
