"""The pkilint package as a third opinion beside our own lint and openssl."""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pkilint import loader, pkix
from pkilint.pkix import certificate, crl, extension, name
from pkilint.validation import ValidationFindingSeverity

__all__ = ["certificate_findings", "crl_findings"]


def certificate_findings(cert: x509.Certificate) -> list[str]:
    """What pkilint's RFC 5280 linter calls an error, or worse, in a certificate."""
    document = loader.RFC5280CertificateDocumentLoader().load_der_document(cert.public_bytes(Encoding.DER))
    return _errors(_certificate_validator().validate(document.root))


def crl_findings(revoked: x509.CertificateRevocationList) -> list[str]:
    """What pkilint's RFC 5280 linter calls an error, or worse, in a CRL."""
    document = loader.RFC5280CertificateListDocumentLoader().load_der_document(revoked.public_bytes(Encoding.DER))
    return _errors(_crl_validator().validate(document.root))


def _errors(results: Any) -> list[str]:  # noqa: ANN401  # pkilint has no types
    return [
        f"{result.node.path}: {description}"
        for result in results
        for description in result.finding_descriptions
        if description.finding.severity <= ValidationFindingSeverity.ERROR  # the worse, the lower
        and not _is_wildcard(str(description))
    ]


def _is_wildcard(finding: str) -> bool:
    """RFC 5280 §4.2.1.6 leaves wildcards to others (RFC 9525 §6.3 has them); pkilint calls each a broken name."""
    return "pkix.invalid_domain_name_syntax" in finding and _WILDCARD.search(finding) is not None


_WILDCARD: Final = re.compile(r'"\*(\.[a-z0-9-]{1,63}){2,}"')


@cache
def _certificate_validator() -> Any:  # noqa: ANN401  # as above
    return certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )


@cache
def _crl_validator() -> Any:  # noqa: ANN401  # as above
    return crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )
