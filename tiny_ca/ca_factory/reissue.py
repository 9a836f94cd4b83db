"""One certificate from another: the same subject, key and extensions, octet by octet, under a new serial number.

    renew     our own certificate  ->  a new window, AKI of today; everything else as it was
    cosign    somebody else's      ->  our issuer and AKI; without what speaks for the issuer it had

What may be copied is asked before anything is encoded; what was encoded is linted before the key touches it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, ObjectIdentifier

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.extensions import NO_REV_AVAIL
from tiny_ca.ca_factory.issuer import Issuer, check_no_ca_name
from tiny_ca.ca_factory.key_quality import check_public_key
from tiny_ca.ca_factory.name_constraints import violations
from tiny_ca.ca_factory.signing import sign_tbs
from tiny_ca.ca_factory.tbs import encode_extensions, encode_fields, tbs_fields
from tiny_ca.const import CertType
from tiny_ca.exc import Forbidden, Invalid, InvalidRangeTimeCertificate, LintError, ValidationCertError
from tiny_ca.utils.rfc3339 import rfc3339
from tiny_ca.utils.serial_generator import SerialWithEncoding

__all__ = ["cosign", "renew"]

_E = TypeVar("_E", bound=x509.ExtensionType)
Validity = tuple[datetime, datetime]

_EXTENSIONS_TAG: Final = 0xA3
_AKI: Final = ExtensionOID.AUTHORITY_KEY_IDENTIFIER
# What a CA says of itself: where it and its CRLs are found, what logs and names it has.
_OF_THE_ISSUER: Final = frozenset(
    {
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.FRESHEST_CRL,
        ExtensionOID.ISSUER_ALTERNATIVE_NAME,
        ExtensionOID.PRECERT_POISON,
        ExtensionOID.PRECERT_SIGNED_CERTIFICATE_TIMESTAMPS,
        NO_REV_AVAIL,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """Every field of the certificate to be."""

    source: x509.Certificate
    issuer: Issuer
    serial_number: int
    validity: Validity
    extensions: tuple[bytes, ...]


def renew(source: x509.Certificate, *, issuer: Issuer, validity: Validity) -> x509.Certificate:
    """Sign our own certificate again, for another window. A root may renew itself beyond its present end.

    Raises
    ------
    ValidationCertError
        It was not signed by this CA: signing it would be co-signing.
    Invalid
        Its key is one that is not taken any more.
    InvalidRangeTimeCertificate
        The window ends after the CA.
    """
    _check_ours(source, issuer)
    _readable(source)
    check_public_key(_public_key(source), field="cert.public_key")
    if source.public_key() != issuer.certificate.public_key():
        _check_window(validity, issuer)
    return _signed(source, issuer, validity, dropped=frozenset())


def cosign(source: x509.Certificate, *, issuer: Issuer, validity: Validity, allow_ca: bool = False) -> x509.Certificate:
    """Sign somebody else's certificate as ours. Whether it was ever valid is not checked.

    Raises
    ------
    Forbidden
        It is a CA's and ``allow_ca`` is False, it would speak for this CA, or bear its name, or name constraints above
        forbid a name of it; ``rule`` says which.
    Invalid
        Its key is weak or of a kind not taken, or it holds what cannot be read or understood.
    InvalidRangeTimeCertificate
        The window has ended, or ends after the CA.
    """
    extensions = _readable(source)
    check_public_key(_public_key(source), field="cert.public_key")
    _check_authority(extensions, issuer, allow_ca=allow_ca)
    _check_critical(extensions)
    check_no_ca_name(((attribute.oid, str(attribute.value)) for attribute in source.subject), issuer)
    _check_named(source, extensions)
    _check_name_constraints(source, extensions, issuer)
    _check_window(validity, issuer)
    return _signed(source, issuer, validity, dropped=_OF_THE_ISSUER)


def _signed(
    source: x509.Certificate, issuer: Issuer, validity: Validity, *, dropped: frozenset[ObjectIdentifier]
) -> x509.Certificate:
    copy = _Copy(
        source=source,
        issuer=issuer,
        serial_number=SerialWithEncoding.generate(_common_name(source), _certificate_type(source)),
        validity=validity,
        extensions=tuple(_extensions(source, issuer, dropped)),
    )
    fields = tbs_fields(source.tbs_certificate_bytes)
    tbs = encode_fields(
        issuer.signer,
        serial_number=copy.serial_number,
        issuer=issuer.subject_der,
        validity=validity,
        subject=fields[4],
        public_key=fields[5],
        extensions=der.sequence(*copy.extensions),
    )
    return sign_tbs(tbs, issuer.signer, lambda preview: _lint(preview, copy, dropped))


def _extensions(source: x509.Certificate, issuer: Issuer, dropped: frozenset[ObjectIdentifier]) -> Iterator[bytes]:
    """DER of each extension, as the source has it but for the AKI, which is always the issuer's."""
    aki = x509.Extension(_AKI, False, issuer.authority_key_identifier)  # noqa: FBT003  # RFC 5280 §4.2.1.1
    (authority_key_identifier,) = der.contents(encode_extensions((aki,)))
    left_out = {der.object_identifier(oid.dotted_string) for oid in dropped}
    replaced = der.object_identifier(_AKI.dotted_string)
    found = False
    for extension in _encoded_extensions(source):
        oid = next(der.contents(extension))
        if oid == replaced:
            found = True
            yield authority_key_identifier
        elif oid not in left_out:
            yield extension
    if not found:
        yield authority_key_identifier


def _encoded_extensions(source: x509.Certificate) -> Iterator[bytes]:
    for field in tbs_fields(source.tbs_certificate_bytes)[6:]:
        if field[0] == _EXTENSIONS_TAG:
            (sequence,) = der.contents(field)
            yield from der.contents(sequence)


def _check_ours(source: x509.Certificate, issuer: Issuer) -> None:
    try:
        source.verify_directly_issued_by(issuer.certificate)
    except (*UNREADABLE, InvalidSignature) as error:
        name = issuer.subject.rfc4514_string()
        message = f"certificate {source.serial_number:x} was not issued by {name!r}, which renews only what it issued"
        raise ValidationCertError(message, field="cert", value=f"{source.serial_number:x}") from error


def _check_window(validity: Validity, issuer: Issuer) -> None:
    _, end = validity
    if end <= datetime.now(UTC):
        message = f"the certificate would have ended at {rfc3339(end)}; give days_valid for a new window"
        raise InvalidRangeTimeCertificate(message, field="days_valid", value=rfc3339(end))
    if end > issuer.not_valid_after:
        message = (
            f"a certificate until {rfc3339(end)} would outlive its CA, "
            f"which ends {rfc3339(issuer.not_valid_after)}; give fewer days_valid"
        )
        raise InvalidRangeTimeCertificate(message, field="days_valid", value=rfc3339(end))


def _readable(source: x509.Certificate) -> x509.Extensions:
    try:
        _, extensions = source.subject.rfc4514_string(), source.extensions
    except x509.DuplicateExtension as error:
        message = f"the certificate has the extension {error.oid.dotted_string} twice (RFC 5280 §4.2)"
        raise Invalid(message, field="cert.extensions", value=error.oid.dotted_string) from error
    except UNREADABLE as error:
        raise Invalid(f"the certificate holds what cannot be read: {error}", field="cert") from error
    return extensions


def _public_key(source: x509.Certificate) -> object:
    try:
        return source.public_key()
    except UNREADABLE as error:
        message = f"the certificate's public key is damaged or of a kind not supported: {error}"
        raise Invalid(message, field="cert.public_key") from error


def _check_authority(extensions: x509.Extensions, issuer: Issuer, *, allow_ca: bool) -> None:
    """Nobody becomes a CA, or speaks for ours, by being co-signed."""
    constraints, usage = _value(extensions, x509.BasicConstraints), _value(extensions, x509.KeyUsage)
    is_ca = bool(constraints and constraints.ca)
    if (is_ca or (usage and (usage.key_cert_sign or usage.crl_sign))) and not allow_ca:
        message = "the certificate is a CA's (CA:TRUE, keyCertSign or cRLSign); co-sign it only with allow_ca=True"
        raise Forbidden(message, rule="certificate_authority", value="CA:TRUE")
    if is_ca and issuer.path_length is not None:
        # RFC 5280 §4.2.1.9: pathLenConstraint counts the CAs below.
        length = constraints.path_length if constraints else None
        if issuer.path_length == 0 or length is None or length >= issuer.path_length:
            message = f"the CA's path length ({length}) is more than this CA leaves ({issuer.path_length - 1})"
            raise Forbidden(message, rule="path_length", value=length)
    purposes = _value(extensions, x509.ExtendedKeyUsage)
    if purposes and ExtendedKeyUsageOID.OCSP_SIGNING in purposes:
        # RFC 6960 §4.2.2.2: signed by us, it would answer for every certificate of ours.
        message = "the certificate may sign OCSP answers (OCSPSigning); signed by this CA it would speak for this CA"
        raise Forbidden(message, rule="extended_key_usage", value="OCSPSigning")


def _check_critical(extensions: x509.Extensions) -> None:
    for extension in extensions:
        dropped = extension.oid in _OF_THE_ISSUER
        if extension.critical and isinstance(extension.value, x509.UnrecognizedExtension) and not dropped:
            oid = extension.oid.dotted_string
            message = f"the certificate has the critical extension {oid}, which is not known here and so not signed"
            raise Invalid(message, field="cert.extensions", value=oid)


def _check_named(source: x509.Certificate, extensions: x509.Extensions) -> None:
    if source.subject.rdns:
        return
    # RFC 5280 §4.1.2.6: without a subject, a critical SAN names the holder.
    if not any(isinstance(one.value, x509.SubjectAlternativeName) and one.critical for one in extensions):
        message = "the certificate names nobody: its subject is empty, and it has no critical subjectAltName"
        raise Invalid(message, field="cert.subject", value="")


def _check_name_constraints(source: x509.Certificate, extensions: x509.Extensions, issuer: Issuer) -> None:
    # RFC 5280 §4.2.1.10: with one name outside them, the whole certificate is believed by nobody.
    names = _value(extensions, x509.SubjectAlternativeName) or ()
    for kind, name, why in violations(names, source.subject, (issuer.certificate, *issuer.chain)):
        message = f"the {kind} name {name!r} would never be believed: {why}"
        raise Forbidden(message, rule="name_constraints", value=name)


def _lint(preview: x509.Certificate, copy: _Copy, dropped: frozenset[ObjectIdentifier]) -> None:
    findings = tuple(_findings(preview, copy, dropped))
    if findings:
        message = f"the certificate about to be signed is unfit: {'; '.join(findings)}"
        raise LintError(message, findings=findings)


def _findings(preview: x509.Certificate, copy: _Copy, dropped: frozenset[ObjectIdentifier]) -> Iterator[str]:
    """What a relying party would read of it, against what was meant."""
    made, source = tbs_fields(preview.tbs_certificate_bytes), tbs_fields(copy.source.tbs_certificate_bytes)
    if preview.serial_number != copy.serial_number or preview.serial_number == copy.source.serial_number:
        yield "serial number is not a new one (RFC 5280 §4.1.2.2)"
    if made[2] != copy.issuer.subject_der:
        yield "issuer is not the subject of the CA, octet by octet (RFC 5280 §7.1)"
    if (made[4], made[5]) != (source[4], source[5]):
        yield "subject or key is not the source's"
    if (preview.not_valid_before_utc, preview.not_valid_after_utc) != copy.validity:
        yield "validity is not the planned one"
    try:
        extensions = preview.extensions
    except UNREADABLE as error:
        yield f"an extension cannot be read: {error}"
        return
    if _value(extensions, x509.AuthorityKeyIdentifier) != copy.issuer.authority_key_identifier:
        yield "the authority key identifier is not the CA's (RFC 5280 §4.2.1.1)"
    for extension in extensions:
        if extension.oid in dropped:
            yield f"extension {extension.oid.dotted_string} speaks for another issuer"


def _certificate_type(source: x509.Certificate) -> CertType:
    constraints = _value(source.extensions, x509.BasicConstraints)
    if constraints and constraints.ca:
        return CertType.CA
    known, _ = SerialWithEncoding.parse(source.serial_number)
    return known if known not in {None, CertType.CA} else CertType.SERVICE


def _common_name(source: x509.Certificate) -> str:
    found = source.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _value(extensions: x509.Extensions, kind: type[_E]) -> _E | None:
    return next((extension.value for extension in extensions if isinstance(extension.value, kind)), None)
