"""What a certificate must satisfy before the real key touches it (RFC 5280 §4, RFC 9608).

``lint`` reads the very octets that are about to be signed, as a relying party's parser would, and trusts nothing that
``plan`` computed beyond what was asked. A finding is a defect of ours: the request was allowed, the result is unfit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, ObjectIdentifier

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.extensions import NO_REV_AVAIL
from tiny_ca.ca_factory.keys import public_key_der
from tiny_ca.ca_factory.names import MAX_NAMES, AlternativeNames
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.exc import Invalid, LintError

__all__ = ["lint"]

_E = TypeVar("_E", bound=x509.ExtensionType)

_MAX_SERIAL_OCTETS: Final = 20
_MIN_SERIAL_BITS: Final = 64

# RFC 5280 §4.2.1, RFC 9608 §2: what is always critical, what never is; the SAN depends on the subject.
_CRITICALITY: Final = {
    ExtensionOID.BASIC_CONSTRAINTS: True,
    ExtensionOID.KEY_USAGE: True,
    ExtensionOID.EXTENDED_KEY_USAGE: False,
    ExtensionOID.SUBJECT_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_KEY_IDENTIFIER: False,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS: False,
    ExtensionOID.CRL_DISTRIBUTION_POINTS: False,
    NO_REV_AVAIL: False,
}

# RFC 5280 Appendix A.1, the ub- constants.
_UPPER_BOUNDS: Final = {
    NameOID.COMMON_NAME: 64,
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.LOCALITY_NAME: 128,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.COUNTRY_NAME: 2,
    NameOID.EMAIL_ADDRESS: 255,
}


def lint(certificate: x509.Certificate, plan: Plan) -> None:
    """Hold a certificate, whose signature need not be there yet, against the standard and against its plan.

    Raises
    ------
    LintError
        With every finding, not only the first.
    """
    findings = tuple(finding for rule in _RULES for finding in rule(certificate, plan))
    if findings:
        message = f"the certificate about to be signed is unfit: {'; '.join(findings)}"
        raise LintError(message, findings=findings)


def _fields(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    if certificate.version is not x509.Version.v3:
        yield "version is not v3 (RFC 5280 §4.1.2.1)"
    serial = certificate.serial_number
    if serial <= 0 or serial.bit_length() > _MAX_SERIAL_OCTETS * 8 - 1:
        yield "serial number is not positive in 20 octets (RFC 5280 §4.1.2.2)"
    if serial.bit_length() < _MIN_SERIAL_BITS:
        yield "serial number has less than 64 bits"
    if serial != plan.serial_number:
        yield "serial number is not the planned one"
    if public_key_der(certificate.public_key()) != public_key_der(plan.public_key):  # type: ignore[arg-type]
        yield "public key is not the requested one"


def _issuer(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    expected = plan.issuer.subject if plan.issuer else plan.subject
    if not certificate.issuer.rdns:
        yield "issuer is empty (RFC 5280 §4.1.2.4)"
    if certificate.issuer.public_bytes() != expected.public_bytes():
        yield "issuer is not the subject of the CA (RFC 5280 §6.1.3)"


def _subject(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    if certificate.subject != plan.subject:
        yield "subject is not the planned one"
    if not certificate.subject.rdns and plan.profile.ca:
        yield "a CA's subject is empty (RFC 5280 §4.1.2.6)"
    for attribute in certificate.subject:
        bound = _UPPER_BOUNDS.get(attribute.oid)
        if bound is None:
            yield f"subject holds the attribute {attribute.oid.dotted_string}, which no profile gives"
        elif not 0 < len(attribute.value) <= bound:
            yield f"subject attribute {attribute.oid.dotted_string} has not 1 to {bound} characters (RFC 5280 A.1)"
        if not str(attribute.value).isprintable():
            yield f"subject attribute {attribute.oid.dotted_string} holds control characters"


def _validity(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if (start, end) != (plan.not_valid_before, plan.not_valid_after):
        yield "validity is not the planned one"
    if start >= end:
        yield "validity is empty (RFC 5280 §4.1.2.5)"
    if end - start > plan.profile.max_lifetime:
        yield f"validity is longer than profile {plan.profile.name!r} allows"
    if plan.issuer and not (
        plan.issuer.certificate.not_valid_before_utc <= start and end <= plan.issuer.not_valid_after
    ):
        yield "validity is not inside the issuer's"
    # RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime after; parsers differ on the others.
    if der.sequence(der.time(start), der.time(end)) not in certificate.tbs_certificate_bytes:
        yield "validity is not encoded as its years demand (RFC 5280 §4.1.2.5)"


def _extension_set(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    present = {extension.oid for extension in certificate.extensions}
    for extension in certificate.extensions:
        oid = extension.oid
        expected = (
            not certificate.subject.rdns if oid == ExtensionOID.SUBJECT_ALTERNATIVE_NAME else _CRITICALITY.get(oid)
        )
        if expected is None:
            yield f"extension {oid.dotted_string} is in no profile"
        elif extension.critical is not expected:
            yield f"extension {oid.dotted_string} must {'' if expected else 'not '}be critical (RFC 5280 §4.2.1)"
    yield from (f"extension {oid.dotted_string} is missing" for oid in _required(plan) - present)
    yield from (f"extension {oid.dotted_string} must not be there" for oid in _excluded(plan) & present)


def _required(plan: Plan) -> set[ObjectIdentifier]:
    profile, issuer = plan.profile, plan.issuer
    wanted = {
        ExtensionOID.BASIC_CONSTRAINTS: True,
        ExtensionOID.KEY_USAGE: True,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER: True,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER: True,
        ExtensionOID.EXTENDED_KEY_USAGE: bool(profile.extended_key_usage),
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME: profile.require_san or not plan.subject.rdns,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS: bool(
            issuer and issuer.urls.ca_issuers and profile.authority_information_access
        ),
        ExtensionOID.CRL_DISTRIBUTION_POINTS: bool(issuer and issuer.urls.crl and profile.crl_distribution_points),
        NO_REV_AVAIL: profile.no_rev_avail,
    }
    return {oid for oid, is_wanted in wanted.items() if is_wanted}


def _excluded(plan: Plan) -> set[ObjectIdentifier]:
    excluded = set()
    if plan.profile.no_rev_avail:  # RFC 9608 §4: the two contradict each other
        excluded |= {ExtensionOID.CRL_DISTRIBUTION_POINTS, ExtensionOID.FRESHEST_CRL}
    if plan.profile.ca or not plan.profile.no_rev_avail:  # RFC 9608 §3: never in a CA's
        excluded.add(NO_REV_AVAIL)
    return excluded


def _authority(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    constraints = _value(certificate, x509.BasicConstraints)
    usage = _value(certificate, x509.KeyUsage)
    extended = _value(certificate, x509.ExtendedKeyUsage)
    is_ca = constraints is not None and constraints.ca
    if is_ca is not plan.profile.ca:
        yield f"basicConstraints says CA:{str(is_ca).upper()}, the profile otherwise (RFC 5280 §4.2.1.9)"
    if usage is not None:
        if usage.key_cert_sign is not plan.profile.ca:
            yield "keyCertSign and CA:TRUE go together (RFC 5280 §4.2.1.3)"
        if (usage.key_encipherment or usage.data_encipherment) and plan.key_spec.algorithm != "rsa":
            yield "encipherment with a key that only signs (RFC 8813 §3, RFC 8410 §5, RFC 9881 §5)"
    if is_ca and plan.issuer and plan.issuer.path_length is not None:
        length = constraints.path_length if constraints else None
        if length is None or length >= plan.issuer.path_length:
            yield "path length is not below the issuer's (RFC 5280 §4.2.1.9)"
    if extended is not None:
        if ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in extended:
            yield "anyExtendedKeyUsage allows everything"
        if not set(extended) <= set(plan.profile.extended_key_usage):
            yield "an extended key usage the profile does not give"


def _names(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    extension = _value(certificate, x509.SubjectAlternativeName)
    try:
        names = AlternativeNames.from_extension(extension, field="san") if extension else AlternativeNames()
    except Invalid as error:
        yield f"subject alternative name: {error.message}"
        return
    if names != plan.names:
        yield "subject alternative names are not the planned ones"
    if len(names) > MAX_NAMES:
        yield f"more than {MAX_NAMES} subject alternative names"
    for kind, name in plan.profile.names.uncovered(names):
        yield f"the {kind} name {name!r} is outside the profile"


def _key_identifiers(certificate: x509.Certificate, plan: Plan) -> Iterator[str]:
    own = _value(certificate, x509.SubjectKeyIdentifier)
    authority = _value(certificate, x509.AuthorityKeyIdentifier)
    if own is not None and own != x509.SubjectKeyIdentifier.from_public_key(plan.public_key):
        yield "subjectKeyIdentifier is not of this key (RFC 5280 §4.2.1.2)"
    expected = plan.issuer.authority_key_identifier.key_identifier if plan.issuer else (own and own.digest)
    if authority is not None and authority.key_identifier != expected:
        yield "authorityKeyIdentifier is not the issuer's (RFC 5280 §4.2.1.1)"


def _value(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


_RULES: Final[tuple[Callable[[x509.Certificate, Plan], Iterator[str]], ...]] = (
    _fields,
    _issuer,
    _subject,
    _validity,
    _extension_set,
    _authority,
    _names,
    _key_identifiers,
)
