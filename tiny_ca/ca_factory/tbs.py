"""From a Plan to the octets that are signed (RFC 5280 §4.1): TBSCertificate, and Certificate around it."""

from __future__ import annotations

from typing import Final

from cryptography import x509

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.keys import public_key_der
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.signer import Signer

__all__ = ["encode_extensions", "encode_tbs", "signed"]

_VERSION_3: Final = der.context(0, der.integer(2))


def encode_tbs(plan: Plan, signer: Signer) -> bytes:
    """DER of the TBSCertificate; byte for byte what the crypto library's builder makes of the same fields."""
    subject = plan.subject.public_bytes()
    return der.sequence(
        _VERSION_3,
        der.integer(plan.serial_number),
        signer.algorithm_identifier,
        plan.issuer.subject_der if plan.issuer else subject,
        der.sequence(der.time(plan.not_valid_before), der.time(plan.not_valid_after)),
        subject,
        public_key_der(plan.public_key),
        der.context(3, encode_extensions(plan.extensions)),
    )


def encode_extensions(extensions: tuple[x509.Extension[x509.ExtensionType], ...]) -> bytes:
    """DER of ``Extensions`` (RFC 5280 §4.1.2.9); a FALSE ``critical`` is left out, as DER wants a DEFAULT to be."""
    return der.sequence(
        *(
            der.sequence(
                der.object_identifier(extension.oid.dotted_string),
                der.TRUE if extension.critical else b"",
                der.octet_string(extension.value.public_bytes()),
            )
            for extension in extensions
        )
    )


def signed(tbs: bytes, signer: Signer, signature: bytes) -> bytes:
    """DER of ``SIGNED{…}`` (RFC 5280 §4.1.1): the same for certificates and CRLs."""
    return der.sequence(tbs, signer.algorithm_identifier, der.bit_string(signature))
