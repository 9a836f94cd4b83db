"""``/api/v1/certificates``: issue, look up, delete. What else is done to one is in ``acts``."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.responses import JSONResponse, Response

from app.api.body import field_of_json, is_raw_csr, parse_json
from app.api.documentation import ISSUE_BODY, PROBLEMS
from app.api.key_files import NO_KEY, RAW_FORMS_WITH_KEY, form_with_key, pkcs12_response
from app.api.negotiation import choose
from app.api.pages import PageQuery, cut, read_row_id
from app.api.parameters import JSON_ALONE, NO_QUERY, NO_REPEATS, PLAIN, SerialNumber, read_serial
from app.api.requests import IssueFromConfig, IssueFromCSR
from app.api.schemas import CertificateAnswer, CertificatePage, Digits, Instant, StatusAnswer
from app.api.views import CHAIN, DER, FORMS, JSON, RAW_FORMS, certificate_response, certificate_view, status_of
from app.auth.principal import Permission
from app.dependencies import Called, Creating, Running, Service, needs
from app.services.lifecycle import Made, Wish
from app.services.records import load
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.entries import CertificateFilter
from tiny_ca.db.models import CertificateRecord
from tiny_ca.exc import Invalid
from tiny_ca.models.fields import CertificateTypeName, Lifetime
from tiny_ca.models.revocation import reason_name
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["RAW_ORDER", "IssueQuery", "issue", "made", "made_with_key", "recorded", "router"]

# Beside a raw CSR, whoever accepts anything gets PEM.
RAW_ORDER: Final = (CHAIN, DER, JSON)


class IssueQuery(BaseModel):
    """Beside a raw body; with JSON, the body says it all."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    profile: Annotated[str | None, Field(min_length=1, max_length=64, examples=["server"])] = None
    issuer_id: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    lifetime: Lifetime | None = None
    days_valid: Annotated[int | None, Digits, Field(ge=1, le=3_650_000)] = None

    def check_none(self) -> None:
        """Beside JSON it has nothing to say.

        Raises
        ------
        Invalid
            It says something.
        """
        if self.model_fields_set:
            name = min(self.model_fields_set)
            raise Invalid(f"with a JSON body, {name} belongs into the body, not into the query", field=name)

    def wish(self) -> Wish:
        """What it asks for."""
        if self.lifetime is not None and self.days_valid is not None:
            raise Invalid("give lifetime or days_valid, not both", field="lifetime")
        lifetime = timedelta(days=self.days_valid) if self.days_valid is not None else self.lifetime
        return Wish(profile=self.profile, issuer_id=self.issuer_id, lifetime=lifetime)


router = APIRouter(
    prefix="/api/v1/certificates",
    tags=["certificates"],
    responses=PROBLEMS,
)


class _ListQuery(PageQuery):
    """Every filter given must match; ``common_name`` and ``san`` are exact, or a suffix as ``*.example.org``."""

    status: CertificateStatus | None = None
    key_type: CertificateTypeName | None = None
    common_name: Annotated[str | None, Field(max_length=255, pattern=PLAIN)] = None
    san: Annotated[str | None, Field(max_length=2048, pattern=PLAIN)] = None
    profile: Annotated[str | None, Field(max_length=64, pattern=PLAIN)] = None
    issuer_id: Annotated[str | None, Field(max_length=64, pattern=PLAIN)] = None
    requester: Annotated[str | None, Field(max_length=255, pattern=PLAIN)] = None
    expires_before: Instant | None = None
    expires_after: Instant | None = None
    spki_sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None


@router.post(
    "",
    status_code=201,
    response_model=CertificateAnswer,
    responses={201: RAW_FORMS_WITH_KEY},
    summary="Issue a certificate, from a CSR or from a config",
    openapi_extra=ISSUE_BODY,
    dependencies=[needs(Permission.CERTIFICATES_ISSUE, "certificate.issue"), *NO_REPEATS],
)
async def issue(
    request: Request, service: Running, caller: Creating, query: Annotated[IssueQuery, Query()]
) -> Response:
    """A CSR as the body itself (PEM or DER), a CSR in JSON, or what the certificate shall say in JSON.

    Of the last the service makes the key, and the answer holds it: as JSON, as PEM chain, or with `pkcs12_password` as
    PKCS #12. `application/pkix-cert` is for CSRs alone (else 406): it has no room for a key, which would be lost.
    """
    body = await request.body()
    accept = request.headers.get("accept")
    lifecycle = service.lifecycle
    if is_raw_csr(body):
        form = choose(accept, RAW_ORDER, why=NO_KEY)
        return made(service, form, await lifecycle.issue_from_csr(caller, body, query.wish()))
    query.check_none()
    if field_of_json(body, "csr"):
        form = choose(accept, FORMS, why=NO_KEY)
        asked = parse_json(body, IssueFromCSR)
        return made(service, form, await lifecycle.issue_from_csr(caller, asked.csr.encode(), asked.wish()))
    config = parse_json(body, IssueFromConfig)
    form = form_with_key(accept, config.pkcs12_password)
    certificate = await lifecycle.issue_from_config(
        caller,
        config.request(),
        config.wish(),
        default_profile=config.default_profile,
        for_pkcs12=config.pkcs12_password is not None,
    )
    return await made_with_key(service, form, certificate, config.pkcs12_password)


@router.get(
    "",
    response_model=CertificatePage,
    summary="List certificates, newest first",
    dependencies=[needs(Permission.CERTIFICATES_READ, "certificate.list"), *NO_REPEATS, *JSON_ALONE],
)
async def list_certificates(service: Running, caller: Called, query: Annotated[_ListQuery, Query()]) -> Response:
    """One page of what matches; ``next_cursor`` asks for the next, and costs the same however deep."""
    wanted = CertificateFilter(**query.model_dump(exclude={"limit", "cursor"}))
    records = await service.records.page(caller, wanted, limit=query.limit + 1, before_id=read_row_id(query.cursor))
    page, cursor = cut(records, query, key=lambda record: record.id)
    now = service.records.now()
    items = await asyncio.to_thread(lambda: [certificate_view(record, load(record), now) for record in page])
    return JSONResponse({"items": items, "next_cursor": cursor})


@router.get(
    "/{serial_number:serial}",
    response_model=CertificateAnswer,
    responses={200: RAW_FORMS},
    summary="One certificate",
    dependencies=[needs(Permission.CERTIFICATES_READ, "certificate.read"), *NO_QUERY],
)
async def get(request: Request, serial_number: SerialNumber, service: Running, caller: Called) -> Response:
    """The record as JSON, or the certificate as PEM chain or DER, by ``Accept``."""
    form = choose(request.headers.get("accept"), FORMS)
    record = await service.records.get(caller, read_serial(serial_number))
    return recorded(service, form, record)


@router.get(
    "/{serial_number:serial}/status",
    response_model=StatusAnswer,
    summary="Valid, revoked, expired or unknown",
    dependencies=[needs(Permission.CERTIFICATES_READ, "certificate.read"), *NO_QUERY, *JSON_ALONE],
)
async def status(serial_number: SerialNumber, service: Running, caller: Called) -> Response:
    """The state by the clock; 200 also for a serial number that nobody knows."""
    serial = read_serial(serial_number)
    record = await service.records.status(caller, serial)
    state = CertificateStatus.UNKNOWN if record is None else status_of(record, service.records.now())
    return JSONResponse({"serial_number": f"{serial:x}", "status": state.value, **_revocation(record)})


@router.get(
    "/{serial_number:serial}/chain",
    response_class=Response,
    responses={200: {"content": {CHAIN: {}}}},
    summary="The chain as PEM, leaf first",
    dependencies=[needs(Permission.CERTIFICATES_READ, "certificate.read"), *NO_QUERY],
)
async def chain(serial_number: SerialNumber, service: Running, caller: Called) -> Response:
    """The certificate and the intermediates above it, as a TLS server sends them."""
    record = await service.records.get(caller, read_serial(serial_number))
    return recorded(service, CHAIN, record)


@router.delete(
    "/{serial_number:serial}",
    response_model=CertificateAnswer,
    summary="Delete the record of an expired certificate",
    dependencies=[needs(Permission.CERTIFICATES_DELETE, "certificate.delete"), *NO_QUERY, *JSON_ALONE],
)
async def delete(serial_number: SerialNumber, service: Running, caller: Called) -> Response:
    """The record as it was. 409 for one that has not expired: it would fall off the CRL."""
    return recorded(service, JSON, await service.revocations.delete(caller, read_serial(serial_number)))


def recorded(service: Service, form: str, record: CertificateRecord) -> Response:
    """A certificate on record, in the form that was asked for."""
    records = service.records
    return certificate_response(form, Made(record, load(record), records.chain(record)), now=records.now())


def made(service: Service, form: str, certificate: Made) -> Response:
    """A certificate that was made for this request: 201, and where it is."""
    now, headers = service.records.now(), _location(certificate)
    return certificate_response(form, certificate, now=now, status=201, headers=headers)


async def made_with_key(service: Service, form: str, certificate: Made, password: SecretStr | None) -> Response:
    """As ``made``; with a password, in a PKCS #12 file."""
    if password is None:
        return made(service, form, certificate)
    return await pkcs12_response(certificate, password, _location(certificate))


def _location(certificate: Made) -> dict[str, str]:
    return {"Location": f"{router.prefix}/{int(certificate.facts.serial_number):x}"}


def _revocation(record: CertificateRecord | None) -> dict[str, Any]:
    if record is None or record.revocation_date is None:
        return {"revocation_date": None, "revocation_reason": None}
    return {
        "revocation_date": rfc3339(record.revocation_date),
        "revocation_reason": reason_name(record.revocation_reason or 0),
    }
