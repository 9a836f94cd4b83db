"""The octets that are signed (RFC 5280 §4.1): TBSCertificate from a Plan or from its fields, Certificate around it."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

from cryptography import x509

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.signer import Signer
from tiny_ca.utils.remembered import by_identity

__all__ = ["VERSION_3", "encode_extensions", "encode_fields", "encode_tbs", "encode_validity", "signed", "tbs_fields"]

# What each certificate has of its own; the rest is the same for all of a profile and an issuer.
_OF_ONE: Final = frozenset({x509.SubjectAlternativeName, x509.SubjectKeyIdentifier})
VERSION_3: Final = der.context(0, der.integer(2))


def encode_tbs(plan: Plan, signer: Signer) -> bytes:
    """DER of the TBSCertificate; byte for byte what the crypto library's builder makes of the same fields."""
    subject = plan.subject.public_bytes()
    return encode_fields(
        signer,
        serial_number=plan.serial_number,
        issuer=plan.issuer.subject_der if plan.issuer else subject,
        validity=(plan.not_valid_before, plan.not_valid_after),
        subject=subject,
        public_key=plan.public_key_info,
        extensions=encode_extensions(plan.extensions),
    )


def encode_fields(
    signer: Signer,
    *,
    serial_number: int,
    issuer: bytes,
    validity: tuple[datetime, datetime],
    subject: bytes,
    public_key: bytes,
    extensions: bytes,
) -> bytes:
    """DER of a TBSCertificate of version 3; ``issuer``, ``subject``, ``public_key`` and ``extensions`` are DER."""
    return der.sequence(
        VERSION_3,
        der.integer(serial_number),
        signer.algorithm_identifier,
        issuer,
        encode_validity(*validity),
        subject,
        public_key,
        der.context(3, extensions),
    )


@lru_cache(maxsize=256)  # those who ask in the same second, for as long, share their window
def encode_validity(not_valid_before: datetime, not_valid_after: datetime) -> bytes:
    """DER of ``Validity`` (RFC 5280 §4.1.2.5)."""
    return der.sequence(der.time(not_valid_before), der.time(not_valid_after))


def encode_extensions(extensions: tuple[x509.Extension[x509.ExtensionType], ...]) -> bytes:
    """DER of ``Extensions`` (RFC 5280 §4.1.2.9); a FALSE ``critical`` is left out, as DER wants a DEFAULT to be."""
    return der.sequence(
        *(
            _encoded(extension) if type(extension.value) in _OF_ONE else _encoded_once(extension)
            for extension in extensions
        )
    )


def _encoded(extension: x509.Extension[x509.ExtensionType]) -> bytes:
    return der.sequence(
        der.object_identifier(extension.oid.dotted_string),
        der.TRUE if extension.critical else b"",
        der.octet_string(extension.value.public_bytes()),
    )


_encoded_once: Final = by_identity(_encoded)


def signed(tbs: bytes, signer: Signer, signature: bytes) -> bytes:
    """DER of ``SIGNED{…}`` (RFC 5280 §4.1.1): the same for certificates and CRLs."""
    return der.sequence(tbs, signer.algorithm_identifier, der.bit_string(signature))


def tbs_fields(tbs: bytes) -> tuple[bytes, ...]:
    """DER of each field of a TBSCertificate after the version, in order: serial number, algorithm, issuer, …."""
    first, *rest = der.contents(tbs)
    return tuple(rest) if first[0] == 0xA0 else (first, *rest)  # version 1 says it by saying nothing
