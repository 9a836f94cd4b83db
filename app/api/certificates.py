"""``/api/v1/certificates``: issue, look up, revoke."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
from datetime import timedelta
from typing import Annotated, Any, Final

from cryptography import x509
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from app.api.body import field_of_json, is_raw_csr, json_body, parse_json
from app.api.documentation import ISSUE_BODY, PROBLEMS, REVOKE_BODY
from app.api.negotiation import choose
from app.api.schemas import (
    CertificateAnswer,
    CertificatePage,
    Digits,
    Instant,
    IssueFromConfig,
    IssueFromCSR,
    RevokeRequest,
    StatusAnswer,
    rfc3339,
)
from app.api.views import CHAIN, DER, FORMS, JSON, certificate_response, certificate_view, status_of
from app.dependencies import Called, Running, Service
from app.services.issuance import Issued
from app.services.lifecycle import Wish
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.entries import CertificateFilter
from tiny_ca.db.models import CertificateRecord
from tiny_ca.exc import Invalid
from tiny_ca.models.fields import CertificateTypeName, Lifetime
from tiny_ca.models.revocation import reason_from_name, reason_name

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/certificates", tags=["certificates"], responses=PROBLEMS)

_RAW_FORMS: Final = (CHAIN, DER, JSON)
_PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"  # a database may hold no NUL, and no name has control characters
_SERIAL: Final = re.compile(r"0*[0-9a-f]{1,40}")  # RFC 5280 §4.1.2.2: at most 20 octets


class _IssueQuery(BaseModel):
    """Beside a raw CSR; with JSON, the body says it all."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    profile: Annotated[str | None, Field(min_length=1, max_length=64, examples=["server"])] = None
    issuer_id: Annotated[str | None, Field(min_length=1, max_length=64)] = None
    lifetime: Lifetime | None = None
    days_valid: Annotated[int | None, Digits, Field(ge=1, le=3_650_000)] = None


class _ListQuery(BaseModel):
    """Every filter given must match; ``common_name`` and ``san`` are exact, or a suffix as ``*.example.org``."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    status: CertificateStatus | None = None
    key_type: CertificateTypeName | None = None
    common_name: Annotated[str | None, Field(max_length=255, pattern=_PLAIN)] = None
    san: Annotated[str | None, Field(max_length=2048, pattern=_PLAIN)] = None
    profile: Annotated[str | None, Field(max_length=64, pattern=_PLAIN)] = None
    issuer_id: Annotated[str | None, Field(max_length=64, pattern=_PLAIN)] = None
    requester: Annotated[str | None, Field(max_length=255, pattern=_PLAIN)] = None
    expires_before: Instant | None = None
    expires_after: Instant | None = None
    spki_sha256: Annotated[str | None, Field(pattern="^[0-9a-f]{64}$")] = None
    limit: Annotated[int, Digits, Field(ge=1, le=1000)] = 100
    cursor: Annotated[str | None, Field(max_length=64)] = None


async def _no_query(request: Request) -> None:
    """Refuse any query parameter, where none is known: ``?reason=keyCompromise`` must not revoke without a reason."""
    if request.query_params:
        name = min(request.query_params)
        raise Invalid(f"{name[:80]!r} is no query parameter of this request; it takes none", field=name[:80])


async def _no_repeats(request: Request) -> None:
    """Refuse a query parameter that comes twice, for it cannot be told which one was meant."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"the query parameter {repeated[:80]!r} comes twice; send it once", field=repeated[:80])


# Coroutines, for FastAPI gives every plain function a thread hop.
_NO_QUERY: Final = [Depends(_no_query)]
_NO_REPEATS: Final = [Depends(_no_repeats)]
Serial = Annotated[str, Path(description="Hex; colons and upper case are accepted.", max_length=128)]


@router.post(
    "",
    status_code=201,
    response_model=CertificateAnswer,
    summary="Issue a certificate, from a CSR or from a config",
    openapi_extra=ISSUE_BODY,
    dependencies=_NO_REPEATS,
)
async def issue(request: Request, service: Running, caller: Called, query: Annotated[_IssueQuery, Query()]) -> Response:
    """A CSR as the body itself (PEM or DER), a CSR in JSON, or what the certificate shall say in JSON."""
    body = await request.body()
    accept = request.headers.get("accept")
    if is_raw_csr(body):
        form = choose(accept, _RAW_FORMS)
        issued = await service.lifecycle.issue_from_csr(caller, body, _wish(query))
        return _issued(service, form, issued)
    if query.model_fields_set:
        name = min(query.model_fields_set)
        raise Invalid(f"with a JSON body, {name} belongs into the body, not into the query", field=name)
    if field_of_json(body, "csr"):
        form = choose(accept, FORMS)
        asked = parse_json(body, IssueFromCSR)
        issued = await service.lifecycle.issue_from_csr(caller, asked.csr.encode(), asked.wish())
        return _issued(service, form, issued)
    form = choose(accept, (JSON, CHAIN))  # DER would leave no room for the key that is made
    config = parse_json(body, IssueFromConfig)
    issued, private_key = await service.lifecycle.issue_from_config(
        caller, config.request(), config.wish(), default_profile=config.default_profile
    )
    return _issued(service, form, issued, private_key)


@router.get("", response_model=CertificatePage, summary="List certificates, newest first", dependencies=_NO_REPEATS)
async def list_certificates(service: Running, caller: Called, query: Annotated[_ListQuery, Query()]) -> Response:
    """One page of what matches; ``next_cursor`` asks for the next, and costs the same however deep."""
    wanted = CertificateFilter(**query.model_dump(exclude={"limit", "cursor"}))
    records = await service.lifecycle.page(caller, wanted, limit=query.limit + 1, before_id=_read_cursor(query.cursor))
    page = records[: query.limit]
    more = len(records) > query.limit
    now = service.lifecycle.now()
    items = await asyncio.to_thread(lambda: [certificate_view(record, _load(record), now) for record in page])
    return JSONResponse({"items": items, "next_cursor": _cursor(page[-1].id) if more else None})


@router.get("/{serial_number}", response_model=CertificateAnswer, summary="One certificate", dependencies=_NO_QUERY)
async def get(request: Request, serial_number: Serial, service: Running, caller: Called) -> Response:
    """The record as JSON, or the certificate as PEM chain or DER, by ``Accept``."""
    form = choose(request.headers.get("accept"), FORMS)
    record = await service.lifecycle.get(caller, _read_serial(serial_number))
    return _recorded(service, form, record)


@router.get(
    "/{serial_number}/status",
    response_model=StatusAnswer,
    summary="Valid, revoked, expired or unknown",
    dependencies=_NO_QUERY,
)
async def status(serial_number: Serial, service: Running, caller: Called) -> Response:
    """The state by the clock; 200 also for a serial number that nobody knows."""
    serial = _read_serial(serial_number)
    record = await service.lifecycle.status(caller, serial)
    state = CertificateStatus.UNKNOWN if record is None else status_of(record, service.lifecycle.now())
    return JSONResponse({"serial_number": f"{serial:x}", "status": state.value, **_revocation(record)})


@router.get(
    "/{serial_number}/chain",
    response_class=Response,
    responses={200: {"content": {CHAIN: {}}}},
    summary="The chain as PEM, leaf first",
    dependencies=_NO_QUERY,
)
async def chain(serial_number: Serial, service: Running, caller: Called) -> Response:
    """The certificate and the intermediates above it, as a TLS server sends them."""
    record = await service.lifecycle.get(caller, _read_serial(serial_number))
    return _recorded(service, CHAIN, record)


@router.post(
    "/{serial_number}/revoke",
    response_model=CertificateAnswer,
    summary="Revoke; the CRL that says so is published before the answer",
    openapi_extra=REVOKE_BODY,
    dependencies=_NO_QUERY,
)
async def revoke(request: Request, serial_number: Serial, service: Running, caller: Called) -> Response:
    """Again with the same reason changes nothing and answers 200."""
    asked = await json_body(request, RevokeRequest)
    record = await service.lifecycle.revoke(caller, _read_serial(serial_number), reason_from_name(asked.reason))
    return _recorded(service, JSON, record)


def _recorded(service: Service, form: str, record: CertificateRecord) -> Response:
    lifecycle = service.lifecycle
    return certificate_response(form, record, _load(record), lifecycle.chain(record), now=lifecycle.now())


def _issued(service: Service, form: str, issued: Issued, private_key: PrivateKey | None = None) -> Response:
    above = (issued.issuer.certificate, *issued.issuer.chain)
    location = f"{router.prefix}/{int(issued.entry.serial_number):x}"
    return certificate_response(
        form,
        issued.entry,
        issued.certificate,
        above,
        now=service.lifecycle.now(),
        private_key=private_key,
        status=201,
        headers={"Location": location},
    )


def _wish(query: _IssueQuery) -> Wish:
    if query.lifetime is not None and query.days_valid is not None:
        raise Invalid("give lifetime or days_valid, not both", field="lifetime")
    lifetime = timedelta(days=query.days_valid) if query.days_valid is not None else query.lifetime
    return Wish(profile=query.profile, issuer_id=query.issuer_id, lifetime=lifetime)


def _read_serial(text: str) -> int:
    digits = text.lower().replace(":", "")
    if not _SERIAL.fullmatch(digits):
        message = f"{text[:80]!r} is no serial number: up to 40 hex digits, with or without colons"
        raise Invalid(message, field="serial_number", value=text[:80])
    return int(digits, 16)


def _revocation(record: CertificateRecord | None) -> dict[str, Any]:
    if record is None or record.revocation_date is None:
        return {"revocation_date": None, "revocation_reason": None}
    return {
        "revocation_date": rfc3339(record.revocation_date),
        "revocation_reason": reason_name(record.revocation_reason or 0),
    }


def _load(record: CertificateRecord) -> x509.Certificate:
    return x509.load_pem_x509_certificate(record.certificate_pem.encode())


def _cursor(row_id: int) -> str:
    return base64.urlsafe_b64encode(str(row_id).encode()).decode().rstrip("=")


def _read_cursor(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise Invalid("the cursor is none that this service gave", field="cursor", value=cursor)
    return int(text)
