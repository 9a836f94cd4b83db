"""Certificate signing requests from outside: read, proved to come from the holder of the key, and checked for form.

What the request may have is for profiles and limits to say; here it is only known to be well-formed and sound.
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from typing import Final, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ObjectIdentifier

from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.key_quality import check_public_key
from tiny_ca.ca_factory.keys import KeySpec, PublicKey
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.subject import checked_subject
from tiny_ca.exc import Invalid, Malformed, TooLarge

__all__ = ["MAX_CSR_SIZE", "ParsedCSR", "parse_csr"]

MAX_CSR_SIZE: Final = 64 * 1024

_BEGIN: Final = re.compile(rb"-----BEGIN ([A-Z0-9# ]{1,64})-----")
_LABELS: Final = (b"CERTIFICATE REQUEST", b"NEW CERTIFICATE REQUEST")  # RFC 7468 §7
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_RSASSA_PSS: Final = ObjectIdentifier("1.2.840.113549.1.1.10")
# PKCS #9 extensionRequest (RFC 2985 §5.4.2), and Microsoft's own for the same.
_EXTENSION_REQUESTS: Final = (
    ObjectIdentifier("1.2.840.113549.1.9.14"),
    ObjectIdentifier("1.3.6.1.4.1.311.2.1.14"),
)


@dataclass(frozen=True, slots=True)
class ParsedCSR:
    """A request whose signature was verified. ``attributes``: of its subject, ``(attribute, value)`` in their order.

    ``unknown_extensions``: all but SAN, KU, EKU, BasicConstraints, SKI.
    """

    csr: x509.CertificateSigningRequest
    attributes: tuple[tuple[ObjectIdentifier, str], ...]
    names: AlternativeNames
    public_key: PublicKey
    key_spec: KeySpec
    extended_key_usage: tuple[ObjectIdentifier, ...] | None
    requests_ca: bool
    unknown_extensions: tuple[ObjectIdentifier, ...]

    @property
    def subject(self) -> x509.Name:
        """Each value in the string type that RFC 5280 §4.1.2.4 wants."""
        return x509.Name([x509.NameAttribute(oid, value) for oid, value in self.attributes])


def parse_csr(data: bytes) -> ParsedCSR:
    """Read a PKCS #10 request (RFC 2986), PEM or DER, and check possession of the key, the key, and every name.

    Raises
    ------
    TooLarge
        More than ``MAX_CSR_SIZE`` bytes, or too many names.
    Malformed
        Not a CSR.
    Invalid
        A CSR that nobody could have signed here; ``field`` is ``csr`` or begins with ``csr.``.
    """
    # 1. The bound, before anything looks at the bytes.
    if len(data) > MAX_CSR_SIZE:
        message = f"a CSR of {len(data)} bytes is larger than the {MAX_CSR_SIZE} that are taken"
        raise TooLarge(message, limit=MAX_CSR_SIZE, field="csr", value=len(data))
    # 2. The bytes.
    csr = _load(data if data[:1] == b"\x30" else _pem_to_der(data))
    # 3. The key, before its signature is verified: a giant modulus or exponent must not cost us the computation.
    public_key, spec = _public_key(csr)
    # 4. Proof of possession.
    _check_signature(csr)
    # 5. What is asked for.
    attributes = _subject(csr)
    extensions = _extensions(csr)
    values = {type(extension.value): extension.value for extension in extensions}
    return ParsedCSR(
        csr=csr,
        attributes=attributes,
        names=_names(values.get(x509.SubjectAlternativeName)),
        public_key=public_key,
        key_spec=spec,
        extended_key_usage=_extended_key_usage(values.get(x509.ExtendedKeyUsage)),
        requests_ca=_asks_for_ca(values.get(x509.BasicConstraints), values.get(x509.KeyUsage)),
        unknown_extensions=tuple(extension.oid for extension in extensions if type(extension.value) not in _KNOWN),
    )


_KNOWN: Final = frozenset(
    {
        x509.SubjectAlternativeName,
        x509.KeyUsage,
        x509.ExtendedKeyUsage,
        x509.BasicConstraints,
        x509.SubjectKeyIdentifier,
    }
)


def _pem_to_der(data: bytes) -> bytes:
    """Decode the one block of a PEM text (RFC 7468); text around it is ignored: ``openssl req -text`` writes some."""
    if b"PRIVATE KEY-----" in data or b"PRIVATE KEY BLOCK-----" in data:
        message = (
            "the body holds a private key: send the CSR alone. A private key stays with its owner; "
            "this one has now left home, so make a new one and a new CSR"
        )
        raise Invalid(message, field="csr")
    blocks = list(_BEGIN.finditer(data))
    if not blocks:
        raise Malformed("the body is no CSR: neither DER nor PEM that begins with -----BEGIN CERTIFICATE REQUEST-----")
    label = blocks[0][1]
    if len(blocks) != 1 or label not in _LABELS:
        found = ", ".join(block[1].decode() for block in blocks[:3])
        raise Malformed(f"the body has {len(blocks)} PEM blocks ({found}); send exactly one CERTIFICATE REQUEST")
    end = data.find(b"-----END " + label + b"-----", blocks[0].end())
    if end < 0:
        raise Malformed(f"the PEM block is cut short: -----END {label.decode()}----- is missing")
    try:
        return binascii.a2b_base64(data[blocks[0].end() : end].translate(None, b" \t\r\n"), strict_mode=True)
    except binascii.Error as error:
        raise Malformed(f"the PEM block is not base64: {error}") from error


def _load(der: bytes) -> x509.CertificateSigningRequest:
    try:
        return x509.load_der_x509_csr(der)
    except UNREADABLE as error:
        raise Malformed(f"the body is no PKCS #10 certificate request in DER: {error}") from error


def _public_key(csr: x509.CertificateSigningRequest) -> tuple[PublicKey, KeySpec]:
    field = "csr.public_key"
    # Loaded, it would be an RSA key like any other, and a certificate for that would not fit its owner's private key.
    if csr.public_key_algorithm_oid == _RSASSA_PSS:  # type: ignore[attr-defined]  # its stub lacks the attribute
        message = "the key is marked as RSASSA-PSS only; make a plain RSA key, which may sign with PSS as well"
        raise Invalid(message, field=field, value="RSASSA-PSS")
    try:
        public_key = csr.public_key()
    except UNREADABLE as error:
        raise Invalid(f"the CSR's public key is damaged or of a kind not supported: {error}", field=field) from error
    spec = check_public_key(public_key, field=field)
    return cast("PublicKey", public_key), spec


def _check_signature(csr: x509.CertificateSigningRequest) -> None:
    field = "csr.signature"
    oid = csr.signature_algorithm_oid.dotted_string
    try:
        algorithm = csr.signature_hash_algorithm
        # None: Ed25519 and ML-DSA hash by themselves.
        if algorithm is not None and not isinstance(algorithm, _HASHES):
            message = f"the CSR is signed with {algorithm.name.upper()}; sign it with SHA-256, SHA-384 or SHA-512"
            raise Invalid(message, field=field, value=algorithm.name)
        valid = csr.is_signature_valid
    except UNREADABLE as error:
        message = f"the CSR's signature algorithm {oid} is not supported: {error}; sign it with SHA-256"
        raise Invalid(message, field=field, value=oid) from error
    if not valid:
        message = (
            "the CSR's signature does not verify with its public key: sign it with the private key that belongs to it"
        )
        raise Invalid(message, field=field)


def _subject(csr: x509.CertificateSigningRequest) -> tuple[tuple[ObjectIdentifier, str], ...]:
    """Check each value of the subject."""
    try:
        asked = csr.subject
    except UNREADABLE as error:
        raise Invalid(f"the CSR's subject cannot be read: {error}", field="csr.subject") from error
    # Not flattened: that would sign another name than was asked. And mostly it is a '+' which was meant as a letter.
    if any(len(rdn) != 1 for rdn in asked.rdns):
        message = "the CSR's subject has a multi-valued RDN; separate the attributes, or write a literal '+' as '\\+'"
        raise Invalid(message, field="csr.subject")
    return checked_subject(((attribute.oid, attribute.value) for attribute in asked), field="csr.subject")


def _extensions(csr: x509.CertificateSigningRequest) -> x509.Extensions:
    field = "csr.extensions"
    try:
        requests = sum(attribute.oid in _EXTENSION_REQUESTS for attribute in csr.attributes)
        extensions = csr.extensions
    except x509.DuplicateExtension as error:
        message = f"the CSR has the extension {error.oid.dotted_string} twice; send each once (RFC 5280 §4.2)"
        raise Invalid(message, field=field, value=error.oid.dotted_string) from error
    except x509.UnsupportedGeneralNameType as error:
        message = f"a name in the CSR is of a kind that is not supported: {error}; use DNS, IP, URI or e-mail"
        raise Invalid(message, field=field) from error
    except UNREADABLE as error:
        raise Invalid(f"the CSR's attributes or extensions cannot be read: {error}", field=field) from error
    # cryptography reads the first one only; what stands in a second would be dropped unseen.
    if requests > 1:
        raise Invalid(f"the CSR has {requests} extensionRequest attributes; put all extensions in one", field=field)
    return extensions


def _names(value: x509.ExtensionType | None) -> AlternativeNames:
    if isinstance(value, x509.SubjectAlternativeName):
        return AlternativeNames.from_extension(value, field="csr")
    return AlternativeNames()


def _extended_key_usage(value: x509.ExtensionType | None) -> tuple[ObjectIdentifier, ...] | None:
    return tuple(value) if isinstance(value, x509.ExtendedKeyUsage) else None


def _asks_for_ca(constraints: x509.ExtensionType | None, usage: x509.ExtensionType | None) -> bool:
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        return True
    return isinstance(usage, x509.KeyUsage) and (usage.key_cert_sign or usage.crl_sign)
