"""Records as the API shows them, in each of the forms an answer can have."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic_core import to_json
from starlette.responses import JSONResponse, Response

from app.services.lifecycle import Made
from tiny_ca.ca_factory.keys import PrivateKey, key_spec
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.profiles import Profile
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.entries import CertificateEntry
from tiny_ca.db.models import CertificateRecord
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.models.revocation import reason_name
from tiny_ca.utils.duration import format_duration
from tiny_ca.utils.remembered import by_identity
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = [
    "CHAIN",
    "DER",
    "FORMS",
    "JSON",
    "RAW_FORMS",
    "FastJSONResponse",
    "certificate_body",
    "certificate_response",
    "certificate_view",
    "profile_view",
    "public_key_view",
    "status_of",
]

JSON: Final = "application/json"
CHAIN: Final = "application/pem-certificate-chain"
DER: Final = "application/pkix-cert"
FORMS: Final = (JSON, CHAIN, DER)
# The forms beside the model's JSON, as the document tells them.
RAW_FORMS: Final = {"content": {CHAIN: {"schema": {"type": "string"}}, DER: {"schema": {"type": "string"}}}}


class FastJSONResponse(JSONResponse):
    """JSON of certificates, of which a batch has a thousand: the same octets in a fifth of the time."""

    def render(self, content: Any) -> bytes:  # noqa: ANN401  # as Starlette has it
        """Encode; every string in it was read as UTF-8 before."""
        return to_json(content)


# What an entry about to be recorded and a record that was read have in common: every column but the revocation.
CertificateFacts: TypeAlias = CertificateEntry | CertificateRecord


def status_of(facts: CertificateFacts, now: datetime) -> CertificateStatus:
    """The state by the clock and the revocation date, whatever the stored status says."""
    if getattr(facts, "revocation_date", None) is not None:
        return CertificateStatus.REVOKED
    return CertificateStatus.EXPIRED if facts.not_valid_after < now else CertificateStatus.VALID


def certificate_view(
    facts: CertificateFacts, certificate: x509.Certificate, now: datetime, plan: Plan | None = None
) -> dict[str, Any]:
    """The fields of ``CertificateView``. Where its plan is at hand, the certificate need not be read again."""
    revoked_at = getattr(facts, "revocation_date", None)
    reason = getattr(facts, "revocation_reason", None)
    return {
        "serial_number": f"{int(facts.serial_number):x}",
        "status": status_of(facts, now).value,
        "profile": facts.profile,
        "issuer_id": facts.issuer_id,
        "requester": facts.requester,
        "subject": (certificate if plan is None else plan).subject.rfc4514_string(),
        "common_name": facts.common_name,
        # What is about to be recorded has them read already.
        "san": [name for _, name in facts.names] if isinstance(facts, CertificateEntry) else _names(certificate),
        "key_type": facts.key_type,
        "public_key": public_key_view(certificate) if plan is None else _key_view(plan.key_spec),
        "not_valid_before": rfc3339(facts.not_valid_before),
        "not_valid_after": rfc3339(facts.not_valid_after),
        "fingerprint_sha256": facts.fingerprint_sha256,
        "spki_sha256": facts.spki_sha256,
        "revocation_date": rfc3339(revoked_at) if revoked_at else None,
        "revocation_reason": reason_name(reason) if revoked_at and reason is not None else None,
        "certificate": facts.certificate_pem,
    }


def public_key_view(certificate: x509.Certificate) -> dict[str, Any]:
    """The fields of ``PublicKeyView``."""
    return _key_view(key_spec(certificate.public_key()))


def _key_view(spec: KeySpec | None) -> dict[str, Any]:
    return {
        "algorithm": spec.algorithm if spec else "unknown",
        "size": spec and spec.size,
        "curve": spec and spec.curve,
        "parameter_set": spec and spec.parameter_set,
    }


def certificate_response(
    form: str, made: Made, *, now: datetime, status: int = 200, headers: dict[str, str] | None = None
) -> Response:
    """One certificate in the form that was asked for."""
    # What held a private key is in no cache.
    sent = {**(headers or {}), "Cache-Control": "no-store"}
    if form == DER:
        return Response(made.certificate.public_bytes(Encoding.DER), status, sent, DER)
    if form == CHAIN:
        key_pem = "" if made.private_key is None else _key_pem(made.private_key)
        return Response(key_pem + _pem_chain(made.facts, made.above[:-1]), status, sent, CHAIN)
    return FastJSONResponse(certificate_body(made, now), status, sent)


def certificate_body(made: Made, now: datetime) -> dict[str, Any]:
    """The fields of ``CertificateAnswer``."""
    body = certificate_view(made.facts, made.certificate, now, made.plan)
    body["chain"] = [_authority_pem(authority) for authority in made.above]
    if made.private_key is not None:
        body["private_key"] = _key_pem(made.private_key)
    return body


def profile_view(profile: Profile) -> dict[str, Any]:
    """The fields of ``ProfileView``, written as in a profiles file; None: no limit."""
    names = profile.names
    return {
        "name": profile.name,
        "default_lifetime": format_duration(profile.default_lifetime),
        "max_lifetime": format_duration(profile.max_lifetime),
        "min_lifetime": format_duration(profile.min_lifetime),
        "certificate_type": profile.certificate_type.value,
        "keys": [str(key) for key in profile.keys],
        "key_usage": list(profile.key_usage),
        "extended_key_usage": [usage.dotted_string for usage in profile.extended_key_usage],
        "subject": list(profile.subject),
        "dns": names.dns,
        "ip_ranges": None if names.ip_ranges is None else [str(network) for network in names.ip_ranges],
        "uris": names.uris,
        "emails": names.emails,
        "wildcards": profile.wildcards,
        "require_san": profile.require_san,
        "host_common_name": profile.host_common_name,
        "unique_common_name": profile.unique_common_name,
        "unknown_extensions": profile.unknown_extensions,
        "crl_distribution_points": profile.crl_distribution_points,
        "authority_information_access": profile.authority_information_access,
        "no_rev_avail": profile.no_rev_avail,
        "ca": profile.ca,
        "path_length": profile.path_length,
    }


def _pem_chain(facts: CertificateFacts, above: Sequence[x509.Certificate]) -> str:
    return "".join([str(facts.certificate_pem), *map(_authority_pem, above)])


@by_identity
def _authority_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode("ascii")


def _key_pem(private_key: PrivateKey) -> str:
    return private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")


def _names(certificate: x509.Certificate) -> list[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [value for _, value in AlternativeNames.from_extension(extension, field="san").items()]
