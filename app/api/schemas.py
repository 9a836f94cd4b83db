"""What callers get, as it stands in the OpenAPI document. What they send is in ``requests``."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
)

from tiny_ca.db.const import CertificateStatus
from tiny_ca.models.certificate import CertificateDetails
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = [
    "AuditPage",
    "AuditRow",
    "BatchAnswer",
    "BatchResult",
    "CRLVerdict",
    "CertificateAnswer",
    "CertificatePage",
    "CertificateView",
    "Digits",
    "FieldProblem",
    "InspectionAnswer",
    "Instant",
    "JobAnswer",
    "JobList",
    "Moment",
    "NewTokenAnswer",
    "Problem",
    "ProfileList",
    "ProfileView",
    "PublicKeyView",
    "ReadyAnswer",
    "RuleVerdict",
    "SimulatedCertificate",
    "SimulationAnswer",
    "StatusAnswer",
    "TokenList",
    "TokenView",
    "VerificationAnswer",
]

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,6})?([Zz]|[+-]\d\d:\d\d)")


Moment = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


def _instant(value: object) -> datetime:
    """Read RFC 3339 and nothing else: a bare number would be taken for seconds since 1970."""
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        raise ValueError("write a moment as in 2026-11-23T12:00:00Z (RFC 3339)")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{value} is no moment of any calendar: {error}") from None


def _digits(value: object) -> object:
    """Read a query's integer: int() would also take ``1_0``, blanks and a plus sign."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("write a whole number in digits")
    return value


Digits = BeforeValidator(_digits, json_schema_input_type=int)
Instant = Annotated[datetime, BeforeValidator(_instant, json_schema_input_type=datetime)]


class PublicKeyView(BaseModel):
    """Which kind of key a certificate is for."""

    algorithm: str = Field(examples=["ec"])
    size: int | None = Field(default=None, description="RSA: bits.")
    curve: str | None = Field(default=None, examples=["P-256"])
    parameter_set: str | None = Field(default=None, description="ML-DSA.")


class CertificateView(BaseModel):
    """One certificate on record."""

    serial_number: str = Field(description="Lower-case hex.", examples=["53560a1b"])
    status: CertificateStatus
    profile: str | None
    issuer_id: str | None
    requester: str | None
    subject: str = Field(examples=["CN=app.example.org"])
    common_name: str | None
    san: list[str] = Field(examples=[["app.example.org", "10.1.2.3"]])
    key_type: str = Field(description="Category: CA, USR, SVC, DEV, INT.")
    public_key: PublicKeyView
    not_valid_before: Moment
    not_valid_after: Moment
    fingerprint_sha256: str = Field(description="Of the certificate's DER, lower-case hex.")
    spki_sha256: str = Field(description="Of the SubjectPublicKeyInfo, lower-case hex.")
    revocation_date: Moment | None = None
    revocation_reason: str | None = None
    certificate: str = Field(description="PEM.")


class CertificateAnswer(CertificateView):
    """One certificate with the CAs above it: issuing CA first, root last."""

    chain: list[str]
    private_key: str | None = Field(default=None, description="PEM, PKCS#8; only where the service made it, only once.")


class CertificatePage(BaseModel):
    """One page, newest first; ``next_cursor`` asks for the one after it."""

    items: list[CertificateView]
    next_cursor: str | None


class StatusAnswer(BaseModel):
    """What is known of a serial number; ``unknown`` is an answer too."""

    serial_number: str
    status: CertificateStatus
    revocation_date: Moment | None = None
    revocation_reason: str | None = None


class ReadyAnswer(BaseModel):
    """Whether a certificate could be issued now, and each thing that takes."""

    ready: bool
    checks: dict[str, str]


class FieldProblem(BaseModel):
    """One wrong field."""

    field: str
    message: str


class Problem(BaseModel):
    """RFC 9457, with the request's id."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:tiny-ca:error:forbidden"])
    title: str
    status: int
    detail: str
    request_id: str
    rule: str | None = Field(default=None, description="403: the constraint that refused.")
    value: Any = Field(default=None, description="403: what offended it.")
    errors: list[FieldProblem] | None = None


class InspectionAnswer(CertificateDetails):
    """What a certificate says."""

    serial_number: str  # type: ignore[assignment]  # hex here


class VerificationAnswer(BaseModel):
    """Whether this CA vouches for it; ``reason`` says why not."""

    valid: bool
    reason: str | None = None


class CRLVerdict(VerificationAnswer):
    """Whether a CRL is a current one, and when the next is due."""

    next_update: Moment | None


class BatchResult(BaseModel):
    """What became of one request: 201 and a certificate, or a problem."""

    status: int
    certificate: CertificateAnswer | None = None
    problem: Problem | None = None


class BatchAnswer(BaseModel):
    """In the order of the requests."""

    results: list[BatchResult]


class RuleVerdict(BaseModel):
    """What one rule says."""

    rule: str
    passed: bool
    detail: str | None


class SimulatedCertificate(BaseModel):
    """What would be signed."""

    profile: str
    issuer_id: str
    subject: str
    san: list[str]
    not_valid_before: Moment
    not_valid_after: Moment


class SimulationAnswer(BaseModel):
    """Each rule's verdict, and the certificate if all let it pass."""

    allowed: bool
    rules: list[RuleVerdict]
    certificate: SimulatedCertificate | None


class TokenView(BaseModel):
    """A token without the token; null is no limit, an empty list is nothing."""

    id: str
    name: str
    permissions: list[str]
    profiles: list[str] | None
    issuers: list[str] | None
    names: list[str] | None
    ip_ranges: list[str] | None
    uris: list[str] | None
    emails: list[str] | None
    subject: list[str] | None
    max_lifetime: str | None
    own_only: bool
    created_at: Moment
    created_by: str | None
    expires_at: Moment | None
    last_used_at: Moment | None = Field(description="To the minute.")


class NewTokenAnswer(TokenView):
    """The token itself, here and never again."""

    token: str = Field(examples=["tcat_…"])


class TokenList(BaseModel):
    """One page, newest first; it is short where some are not the caller's to see."""

    items: list[TokenView]
    next_cursor: str | None


class AuditRow(BaseModel):
    """Who did what to which certificate when, and how it ended."""

    id: int
    at: Moment
    actor: str
    action: str
    outcome: str
    serial_number: str | None
    issuer_id: str | None
    profile: str | None
    request_id: str | None
    peer: str | None
    rule: str | None
    detail: dict[str, Any] | None


class AuditPage(BaseModel):
    """One page, newest first."""

    items: list[AuditRow]
    next_cursor: str | None


class JobAnswer(BaseModel):
    """How the last run of a job went, on whichever replica, and when the next is due; null for what has never been."""

    name: str
    last_run: Moment | None = Field(description="When it ended, by the database's clock, as `next_due`.")
    replica: str | None = Field(description="Which ran it: host and process.", examples=["ca-1:4711"])
    result: Literal["success", "failure"] | None
    last_error: str | None = Field(description="The kind of the failure.", examples=["RegistryUnavailable"])
    done: int | None = Field(description="How many things a success did.")
    milliseconds: int | None
    failures: int = Field(description="In a row.")
    next_due: Moment | None
    running_on: str | None = Field(description="The replica that runs it now.")


class JobList(BaseModel):
    """One page, by name."""

    items: list[JobAnswer]
    next_cursor: str | None


class ProfileView(BaseModel):
    """What certificates of one kind may hold; null is no limit."""

    name: str
    default_lifetime: str
    max_lifetime: str
    min_lifetime: str
    certificate_type: str
    keys: list[str]
    key_usage: list[str]
    extended_key_usage: list[str]
    subject: list[str]
    dns: list[str] | None
    ip_ranges: list[str] | None
    uris: list[str] | None
    emails: list[str] | None
    wildcards: bool
    require_san: bool
    host_common_name: bool
    unique_common_name: bool
    unknown_extensions: str
    crl_distribution_points: bool
    authority_information_access: bool
    no_rev_avail: bool
    ca: bool
    path_length: int | None


class ProfileList(BaseModel):
    """One page of the profiles that the caller may use, by name."""

    items: list[ProfileView]
    next_cursor: str | None
