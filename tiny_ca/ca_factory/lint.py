"""What a certificate must satisfy before the real key touches it (RFC 5280 §4, RFC 9608).

``lint`` reads the very octets that are about to be signed, as a relying party's parser would, and trusts nothing that
``plan`` computed beyond what was asked. A finding is a defect of ours: the request was allowed, the result is unfit.

What certificates of one profile, issuer and kind of key have alike, octet by octet, is held against the standard once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import (
    AuthorityInformationAccessOID,
    ExtendedKeyUsageOID,
    ExtensionOID,
    NameOID,
    ObjectIdentifier,
    SignatureAlgorithmOID,
)

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.extensions import NO_REV_AVAIL, key_usages
from tiny_ca.ca_factory.keys import key_identifier, key_spec, public_key_der
from tiny_ca.ca_factory.lint_case import Case
from tiny_ca.ca_factory.name_constraints import violations
from tiny_ca.ca_factory.names import MAX_NAMES, AlternativeNames, host_name
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.profiles import Profile
from tiny_ca.ca_factory.subject import is_visible
from tiny_ca.ca_factory.tbs import encode_validity
from tiny_ca.exc import Invalid, LintError
from tiny_ca.models.key_spec import KeySpec

__all__ = ["lint"]

_MAX_SERIAL_OCTETS: Final = 20
_MIN_SERIAL_BITS: Final = 64

# RFC 5280 §4.2.1, RFC 9608 §2: what is always critical, what never is; SAN and EKU depend on what they stand beside.
_CRITICALITY: Final = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.NAME_CONSTRAINTS: True,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
    NO_REV_AVAIL: False,
}

# RFC 5280 Appendix A.1: the ub- constants.
_UPPER_BOUNDS: Final = {
    NameOID.COMMON_NAME: 64,
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.LOCALITY_NAME: 128,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.COUNTRY_NAME: 2,
    NameOID.EMAIL_ADDRESS: 255,
}
# RFC 5280 §4.1.2.4: the two kinds of DirectoryString that new certificates use; Appendix A.1 for the other two.
_DIRECTORY_STRING: Final = frozenset({_ASN1Type.UTF8String, _ASN1Type.PrintableString})
_STRING_TYPES: Final = {
    NameOID.COUNTRY_NAME: frozenset({_ASN1Type.PrintableString}),
    NameOID.EMAIL_ADDRESS: frozenset({_ASN1Type.IA5String}),
}

# RFC 4055 §5, RFC 5758 §3.2, RFC 8410 §3, RFC 9881 §2: what each kind of key signs with.
_SIGNATURE_ALGORITHMS: Final = {
    "rsa": SignatureAlgorithmOID.RSA_WITH_SHA256,
    "P-256": SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    "P-384": SignatureAlgorithmOID.ECDSA_WITH_SHA384,
    "P-521": SignatureAlgorithmOID.ECDSA_WITH_SHA512,
    "ed25519": SignatureAlgorithmOID.ED25519,
    "ML-DSA-44": ObjectIdentifier("2.16.840.1.101.3.4.3.17"),
    "ML-DSA-65": ObjectIdentifier("2.16.840.1.101.3.4.3.18"),
    "ML-DSA-87": ObjectIdentifier("2.16.840.1.101.3.4.3.19"),
}
_KEY_USAGES: Final = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment",
                      "key_agreement", "key_cert_sign", "crl_sign")  # fmt: skip
_UNIQUE_IDENTIFIER_TAGS: Final = (0x81, 0x82, 0xA1, 0xA2)
_HTTP: Final = re.compile(r"https?://\S+")
_MAX_FOUND_SOUND: Final = 1024


def lint(certificate: x509.Certificate, plan: Plan) -> None:
    """Hold a certificate, whose signature need not be there yet, against the standard and against its plan.

    Raises
    ------
    LintError
        With every finding, not only the first.
    """
    case = Case(certificate, plan)
    if _is_known(case):
        return
    unreadable = tuple(_unreadable(certificate))
    findings = unreadable or (*_findings(_RULES, case), *_findings_alike(case))
    if findings:
        message = f"the certificate about to be signed is unfit: {'; '.join(findings)}"
        raise LintError(message, findings=findings)


def _is_known(case: Case) -> bool:
    """Whether all of it is known to be sound: what is alike was found so, the rest is as planned, and that is fit.

    Then no rule finds anything, and no parser has to read the certificate anew. A property test holds this to the
    rules.
    """
    plan = case.plan
    return (
        plan.issuer is not None
        and not plan.issuer.constrained
        and case.alike in plan.issuer.found_sound
        and case.is_as_planned
        and case.fields[4] != plan.issuer.subject_der
        and not any(finding for rule in _RULES_OF_A_PLAN for finding in rule(plan))
    )


def _findings(rules: tuple[Callable[[Case], Iterator[str]], ...], case: Case) -> tuple[str, ...]:
    return tuple(finding for rule in rules for finding in rule(case))


def _findings_alike(case: Case) -> tuple[str, ...]:
    issuer, alike = case.plan.issuer, case.alike
    if issuer is None or alike is None:
        return _findings(_RULES_ALIKE, case)
    if alike in issuer.found_sound:
        return ()
    findings = _findings(_RULES_ALIKE, case)
    if not findings:
        if len(issuer.found_sound) >= _MAX_FOUND_SOUND:
            issuer.found_sound.clear()
        issuer.found_sound[alike] = case.plan.profile  # held, so that no other profile gets its id
    return findings


def _unreadable(certificate: x509.Certificate) -> Iterator[str]:
    """What no other rule could read past."""
    try:
        _ = certificate.extensions, certificate.subject, certificate.issuer
    except x509.DuplicateExtension as error:
        yield f"extension {error.oid.dotted_string} is there twice (RFC 5280 §4.2)"
    except (ValueError, TypeError, KeyError, x509.UnsupportedGeneralNameType) as error:
        yield f"a name or an extension cannot be read: {error}"


def _fields(case: Case) -> Iterator[str]:
    if case.certificate.version is not x509.Version.v3:
        yield "version is not v3 (RFC 5280 §4.1.2.1)"
    serial = case.certificate.serial_number
    yield from _serial_number(serial)
    if serial != case.plan.serial_number:
        yield "serial number is not the planned one"
    if case.fields[5] != public_key_der(case.plan.public_key):
        yield "public key is not the requested one, as its kind is encoded (RFC 5280 §4.1.2.7)"
    if any(field[0] in _UNIQUE_IDENTIFIER_TAGS for field in case.fields[6:]):
        yield "a unique identifier is there (RFC 5280 §4.1.2.8)"


def _serial_number(serial: int) -> Iterator[str]:
    if serial <= 0 or serial.bit_length() > _MAX_SERIAL_OCTETS * 8 - 1:
        yield "serial number is not positive in 20 octets (RFC 5280 §4.1.2.2)"
    elif serial.bit_length() < _MIN_SERIAL_BITS:
        yield "serial number has less than 64 bits"


def _signature_algorithm(case: Case) -> Iterator[str]:
    outer = case.outer_algorithm
    if case.fields[1] != outer:
        yield "the signature algorithm inside is not the one outside (RFC 5280 §4.1.1.2)"
    spec = key_spec(case.signing_key)
    oid = _SIGNATURE_ALGORITHMS[_kind(spec)] if spec else None
    parameters = der.NULL if spec and spec.algorithm == "rsa" else b""
    if oid is None or outer != der.sequence(der.object_identifier(oid.dotted_string), parameters):
        yield "the signature algorithm is not that of the signing key (RFC 5280 §4.1.1.2)"


def _issuer(case: Case) -> Iterator[str]:
    expected = case.plan.issuer.subject_der if case.plan.issuer else case.fields[4]
    if not case.certificate.issuer.rdns:
        yield "issuer is empty (RFC 5280 §4.1.2.4)"
    if case.fields[2] != expected:
        yield "issuer is not the subject of the CA, octet by octet (RFC 5280 §7.1)"


def _subject(case: Case) -> Iterator[str]:
    subject = case.certificate.subject
    if subject != case.plan.subject:
        yield "subject is not the planned one"
    if case.plan.issuer and case.fields[4] == case.plan.issuer.subject_der:
        yield "subject is the name of its CA (RFC 5280 §4.1.2.6)"
    if case.anonymous and case.plan.profile.ca:
        yield "a CA's subject is empty (RFC 5280 §4.1.2.6)"
    yield from _attributes(subject)


def _attributes(subject: x509.Name) -> Iterator[str]:
    for attribute in subject:
        name, value, bound = attribute.oid.dotted_string, attribute.value, _UPPER_BOUNDS.get(attribute.oid)
        if bound is None:
            yield f"subject holds the attribute {name}, which no profile gives"
        elif not 0 < len(value) <= bound:
            yield f"subject attribute {name} has not 1 to {bound} characters (RFC 5280 A.1)"
        if isinstance(value, str) and not is_visible(value):
            yield f"subject attribute {name} holds control or invisible characters"
        if attribute._type not in _STRING_TYPES.get(attribute.oid, _DIRECTORY_STRING):  # noqa: SLF001  # nothing else tells
            yield f"subject attribute {name} is a {attribute._type.name} (RFC 5280 §4.1.2.4)"  # noqa: SLF001


def _validity(case: Case) -> Iterator[str]:
    plan = case.plan
    start, end = case.certificate.not_valid_before_utc, case.certificate.not_valid_after_utc
    if (start, end) != (plan.not_valid_before, plan.not_valid_after):
        yield "validity is not the planned one"
    yield from _window(plan, start, end)
    # UTCTime through 2049, GeneralizedTime after; parsers differ on the others.
    if case.fields[3] != encode_validity(start, end):
        yield "validity is not encoded as its years demand (RFC 5280 §4.1.2.5)"


def _window(plan: Plan, start: datetime, end: datetime) -> Iterator[str]:
    if start >= end:
        yield "validity is empty (RFC 5280 §4.1.2.5)"
    if end - start > plan.profile.max_lifetime:
        yield f"validity is longer than profile {plan.profile.name!r} allows"
    begins = plan.issuer.not_valid_before if plan.issuer and plan.profile.nested else start
    if plan.issuer and not begins <= start <= end <= plan.issuer.not_valid_after:
        yield "validity is not inside the issuer's"


def _extension_set(case: Case) -> Iterator[str]:
    present = {extension.oid for extension in case.certificate.extensions}
    for extension in case.certificate.extensions:
        expected = _criticality(case, extension)
        name = extension.oid.dotted_string
        if expected is None:
            yield f"extension {name} is in no profile"
        elif extension.critical is not expected:
            yield f"extension {name} must {'' if expected else 'not '}be critical (RFC 5280 §4.2.1)"
    wanted = _wanted(case.plan)
    for oid, is_wanted in wanted.items():
        if is_wanted and oid not in present:
            yield f"extension {oid.dotted_string} is missing"
        if is_wanted is False and oid in present:
            yield f"extension {oid.dotted_string} must not be there"


def _criticality(case: Case, extension: x509.Extension[x509.ExtensionType]) -> bool | None:
    if extension.oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME:
        return case.anonymous
    if isinstance(extension.value, x509.ExtendedKeyUsage):
        return ExtendedKeyUsageOID.TIME_STAMPING in extension.value  # RFC 3161 §2.3
    return _CRITICALITY.get(extension.oid)


def _wanted(plan: Plan) -> dict[ObjectIdentifier, bool | None]:
    """Whether each extension must be there, must not be, or (None) may."""
    profile, urls = plan.profile, plan.issuer.urls if plan.issuer else None
    return {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: True,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: True,
        ExtensionOID.EXTENDED_KEY_USAGE: bool(profile.extended_key_usage),
        # §4.2.1.10: in CA certificates alone.
        ExtensionOID.NAME_CONSTRAINTS: profile.ca and plan.name_constraints is not None,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: True if profile.require_san or not plan.subject.rdns else None,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS: bool(
            urls and urls.ca_issuers and profile.authority_information_access
        ),
        # RFC 9608 §4: noRevAvail and these contradict each other; §3: it is never in a CA's.
        ExtensionOID.CRL_DISTRIBUTION_POINTS: bool(
            urls and urls.crl and profile.crl_distribution_points and not profile.no_rev_avail
        ),
        NO_REV_AVAIL: profile.no_rev_avail and not profile.ca,
    }


def _basic_constraints(case: Case) -> Iterator[str]:
    constraints = case.value(x509.BasicConstraints)
    if constraints is None:
        return
    if constraints.ca is not case.plan.profile.ca:
        yield f"basicConstraints says CA:{str(constraints.ca).upper()}, the profile otherwise (RFC 5280 §4.2.1.9)"
    if not constraints.ca:
        return
    length, issuer, profile = constraints.path_length, case.plan.issuer, case.plan.profile
    if issuer and issuer.path_length is not None and (length is None or length >= issuer.path_length):
        yield "path length is not below the issuer's (RFC 5280 §4.2.1.9)"
    if profile.path_length is not None and (length is None or length > profile.path_length):
        yield f"path length is more than profile {profile.name!r} allows"


def _key_usage(case: Case) -> Iterator[str]:
    usage = case.value(x509.KeyUsage)
    if usage is None:
        return
    profile, given = case.plan.profile, {name for name in _KEY_USAGES if getattr(usage, name)}
    if usage.key_agreement:
        given |= {name for name in ("encipher_only", "decipher_only") if getattr(usage, name)}
    if not given:
        yield "keyUsage gives nothing (RFC 5280 §4.2.1.3)"
    if usage.key_cert_sign is not profile.ca:
        yield "keyCertSign and CA:TRUE go together (RFC 5280 §4.2.1.3)"
    if usage.crl_sign and not profile.ca:
        yield "cRLSign is a CA's (RFC 5280 §4.2.1.3)"
    authority = {"key_cert_sign", "crl_sign"}
    for name in sorted(given - authority - key_usages(profile, case.plan.key_spec)):
        yield f"keyUsage {name} is not the profile's, or not for a key of this kind"


def _extended_key_usage(case: Case) -> Iterator[str]:
    usage = case.value(x509.ExtendedKeyUsage)
    if usage is None:
        return
    usages = tuple(usage)
    if not usages:
        yield "extendedKeyUsage is empty (RFC 5280 §4.2.1.12)"
    if len(set(usages)) < len(usages):
        yield "an extended key usage is there twice"
    if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usages:
        yield "anyExtendedKeyUsage allows everything"
    elif case.plan.profile.extended_key_usage and not set(usages) <= set(case.plan.profile.extended_key_usage):
        yield "an extended key usage the profile does not give"
    if ExtendedKeyUsageOID.TIME_STAMPING in usages and len(set(usages)) > 1:
        yield "timeStamping stands alone (RFC 3161 §2.3)"


def _names(case: Case) -> Iterator[str]:
    extension, profile = case.value(x509.SubjectAlternativeName), case.plan.profile
    if extension is not None and not len(extension):
        yield "subjectAltName is empty (RFC 5280 §4.2.1.6)"
    try:
        names = AlternativeNames.from_extension(extension, field="san") if extension else AlternativeNames()
    except Invalid as error:
        yield f"subject alternative name: {error.message}"
        return
    if names != case.plan.names:
        yield "subject alternative names are not the planned ones"
    elif extension is not None and list(extension) != names.general_names():
        yield "subject alternative names are not in normal form"
    yield from _named(profile, names, case.certificate.subject)


def _named(profile: Profile, names: AlternativeNames, subject: x509.Name) -> Iterator[str]:
    if len(names) > MAX_NAMES:
        yield f"more than {MAX_NAMES} subject alternative names"
    hosts = [host for name in _common_names(subject) if (host := host_name(name)) is not None]
    if profile.serves_tls and any(host not in (*names.dns, *names.ip) for host in hosts):
        yield "the common name is a host that the subject alternative names lack (RFC 9525 §2)"
    for host in hosts:
        names = names.with_host(host)
    for kind, name in profile.names.uncovered(names):
        yield f"the {kind} name {name!r} is outside the profile"
    if not profile.wildcards and any(name.startswith("*") for name in names.dns):
        yield "a wildcard, which the profile does not give"


def _in_normal_form(names: AlternativeNames) -> Iterator[str]:
    try:
        normal = AlternativeNames.parse(dns=names.dns, ip=names.ip, uris=names.uri, emails=names.email)
    except Invalid as error:
        yield f"subject alternative name: {error.message}"
    else:
        if names != normal:
            yield "subject alternative names are not in normal form"


def _name_constraints(case: Case) -> Iterator[str]:
    constraints, planned = case.value(x509.NameConstraints), case.plan.name_constraints
    if constraints is not None and not (constraints.permitted_subtrees or constraints.excluded_subtrees):
        yield "nameConstraints is empty (RFC 5280 §4.2.1.10)"
    if constraints is not None and planned is not None and constraints != planned.to_extension():
        yield "nameConstraints is not the planned one"
    if case.plan.issuer is None:
        return
    names = case.value(x509.SubjectAlternativeName) or ()
    for kind, name, why in violations(names, case.certificate.subject, case.plan.issuer.constrained):
        yield f"the {kind} name {name!r} breaks name constraints: {why} (RFC 5280 §4.2.1.10)"


def _common_names(subject: x509.Name) -> list[str]:
    return [str(each.value) for each in subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def _key(case: Case) -> Iterator[str]:
    spec = key_spec(case.plan.public_key)
    if spec is None or spec != case.plan.key_spec or not any(each.allows(spec) for each in case.plan.profile.keys):
        yield "the public key is of a kind that the profile does not take"


def _subject_key_identifier(case: Case) -> Iterator[str]:
    own = case.value(x509.SubjectKeyIdentifier)
    if own is not None and own.digest != key_identifier(case.fields[5]):
        yield "subjectKeyIdentifier is not of this key (RFC 5280 §4.2.1.2)"


def _authority_key_identifier(case: Case) -> Iterator[str]:
    own, authority = case.value(x509.SubjectKeyIdentifier), case.value(x509.AuthorityKeyIdentifier)
    if authority is None:
        return
    issuer = case.plan.issuer
    expected = issuer.authority_key_identifier.key_identifier if issuer else (own and own.digest)
    if authority.key_identifier != expected:
        yield "authorityKeyIdentifier is not the issuer's (RFC 5280 §4.2.1.1)"
    if authority.authority_cert_issuer is not None or authority.authority_cert_serial_number is not None:
        yield "authorityKeyIdentifier names a certificate: that pins the chain to one of the issuer's certificates"


def _pointers(case: Case) -> Iterator[str]:
    urls = case.plan.issuer.urls if case.plan.issuer else None
    access = case.value(x509.AuthorityInformationAccess)
    if access is not None:
        methods = [description.access_method for description in access]
        if case.plan.profile.no_rev_avail and AuthorityInformationAccessOID.OCSP in methods:
            yield "noRevAvail and a pointer to OCSP contradict each other (RFC 9608 §4)"
        found = [each.access_location for each in access if each.access_method == _CA_ISSUERS]
        if urls and not _is_url(found, urls.ca_issuers):
            yield "authorityInfoAccess does not point to the issuer's certificate alone (RFC 5280 §4.2.2.1)"
    points = case.value(x509.CRLDistributionPoints)
    if points is not None and urls and not _is_full_crl(points, urls.crl):
        yield "cRLDistributionPoints does not point to the issuer's full CRL alone (RFC 5280 §4.2.1.13)"
    unknown = case.value(x509.UnrecognizedExtension)
    if unknown is not None and unknown.oid == NO_REV_AVAIL and unknown.value != der.NULL:
        yield "noRevAvail is not NULL (RFC 9608 §2)"


_CA_ISSUERS: Final = AuthorityInformationAccessOID.CA_ISSUERS


def _is_full_crl(points: x509.CRLDistributionPoints, url: str | None) -> bool:
    return len(points) == 1 and all(
        _is_url(point.full_name or [], url) and point.reasons is None and point.crl_issuer is None for point in points
    )


def _is_url(names: list[x509.GeneralName], url: str | None) -> bool:
    is_planned = [name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)] == [url]
    return is_planned and len(names) == 1 and _HTTP.fullmatch(str(url)) is not None


def _kind(spec: KeySpec) -> str:
    return spec.curve or spec.parameter_set or spec.algorithm


_RULES: Final[tuple[Callable[[Case], Iterator[str]], ...]] = (
    _fields,
    _subject,
    _validity,
    _names,
    _name_constraints,
    _subject_key_identifier,
)
# What the first five look for in a certificate, looked for in its plan.
_RULES_OF_A_PLAN: Final[tuple[Callable[[Plan], Iterator[str]], ...]] = (
    lambda plan: _serial_number(plan.serial_number),
    lambda plan: _attributes(plan.subject),
    lambda plan: _window(plan, plan.not_valid_before, plan.not_valid_after),
    lambda plan: _in_normal_form(plan.names),
    lambda plan: _named(plan.profile, plan.names, plan.subject),
)
# They read nothing of a leaf but what is in ``Case.alike``, and its issuer.
_RULES_ALIKE: Final[tuple[Callable[[Case], Iterator[str]], ...]] = (
    _signature_algorithm,
    _issuer,
    _extension_set,
    _basic_constraints,
    _key_usage,
    _extended_key_usage,
    _key,
    _authority_key_identifier,
    _pointers,
)
