"""What a certificate says, in plain values. Nothing here verifies anything."""

from __future__ import annotations

from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.exc import Invalid
from tiny_ca.models.certificate import CertificateDetails

__all__ = ["inspect_certificate"]

_E = TypeVar("_E", bound=x509.ExtensionType)
_KEY_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
)
_WITH_KEY_AGREEMENT: Final = ("encipher_only", "decipher_only")  # RFC 5280 §4.2.1.3: without it they mean nothing


def inspect_certificate(cert: x509.Certificate) -> CertificateDetails:
    """Read a certificate of any issuer; what it does not say is None or an empty list.

    Raises
    ------
    Invalid
        Its names or extensions cannot be decoded, or one comes twice.
    """
    try:
        return _details(cert)
    except UNREADABLE as error:
        raise Invalid(f"the certificate cannot be read: {error}", field="cert") from error


def _details(cert: x509.Certificate) -> CertificateDetails:
    constraints = _extension(cert, x509.BasicConstraints)
    names = _extension(cert, x509.SubjectAlternativeName)
    purposes = _extension(cert, x509.ExtendedKeyUsage)
    key_identifier = _extension(cert, x509.SubjectKeyIdentifier)
    return CertificateDetails(
        serial_number=cert.serial_number,
        common_name=_first(cert.subject, NameOID.COMMON_NAME),
        organization=_first(cert.subject, NameOID.ORGANIZATION_NAME),
        country=_first(cert.subject, NameOID.COUNTRY_NAME),
        issuer_cn=_first(cert.issuer, NameOID.COMMON_NAME),
        not_valid_before=cert.not_valid_before_utc,
        not_valid_after=cert.not_valid_after_utc,
        is_ca=bool(constraints and constraints.ca),
        san_dns=names.get_values_for_type(x509.DNSName) if names else [],
        san_ip=[str(address) for address in names.get_values_for_type(x509.IPAddress)] if names else [],
        key_usage=_key_usages(_extension(cert, x509.KeyUsage)),
        extended_key_usage=[purpose.dotted_string for purpose in purposes or ()],
        fingerprint_sha256=cert.fingerprint(hashes.SHA256()).hex(":").upper(),
        subject_key_identifier=key_identifier.digest.hex() if key_identifier else None,
        public_key_size=_rsa_size(cert),
    )


def _key_usages(usage: x509.KeyUsage | None) -> list[str]:
    if usage is None:
        return []
    names = (*_KEY_USAGES, *(_WITH_KEY_AGREEMENT if usage.key_agreement else ()))
    return [name for name in names if getattr(usage, name)]


def _rsa_size(cert: x509.Certificate) -> int | None:
    try:
        key = cert.public_key()
    except (ValueError, UnsupportedAlgorithm):  # of a kind that nobody here knows
        return None
    return key.key_size if isinstance(key, rsa.RSAPublicKey) else None


def _first(name: x509.Name, oid: ObjectIdentifier) -> str | None:
    found = name.get_attributes_for_oid(oid)
    return str(found[0].value) if found else None


def _extension(cert: x509.Certificate, kind: type[_E]) -> _E | None:
    return next((extension.value for extension in cert.extensions if isinstance(extension.value, kind)), None)
