"""Questions about certificates and CRLs of any origin, and co-signing: what is sent is PEM or DER, raw or in JSON."""

from __future__ import annotations

import asyncio
from typing import Annotated

from cryptography import x509
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app.api.body import parse_json
from app.api.certificates import IssueQuery, made
from app.api.documentation import PROBLEMS, raw_or
from app.api.negotiation import choose
from app.api.parameters import JSON_ALONE, NO_QUERY, NO_REPEATS
from app.api.requests import CosignRequest, CRLQuestion, Question
from app.api.schemas import CertificateAnswer, CRLVerdict, InspectionAnswer, VerificationAnswer
from app.api.views import CHAIN, DER, FORMS, JSON, RAW_FORMS
from app.auth.principal import Permission
from app.dependencies import Called, Creating, Running, needs
from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.inspection import inspect_certificate
from tiny_ca.exc import Malformed
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["examine"], responses=PROBLEMS)


@router.post(
    "/inspect",
    response_model=InspectionAnswer,
    summary="What a certificate says",
    openapi_extra=raw_or(Question, "certificate"),
    dependencies=[*NO_QUERY, *JSON_ALONE],
)
async def inspect(request: Request, _caller: Called) -> Response:
    """Nothing is verified; any valid token may ask."""
    certificate = await _certificate(request)
    details = await asyncio.to_thread(inspect_certificate, certificate)
    body = details.model_dump(mode="python")
    body["serial_number"] = f"{details.serial_number:x}"
    for name in ("not_valid_before", "not_valid_after"):
        body[name] = rfc3339(body[name])
    return JSONResponse(body)


@router.post(
    "/verify",
    response_model=VerificationAnswer,
    summary="Whether this CA vouches for a certificate",
    openapi_extra=raw_or(Question, "certificate"),
    dependencies=[*NO_QUERY, *JSON_ALONE],
)
async def verify(request: Request, service: Running, _caller: Called) -> Response:
    """Chain, time, signature and revocation; any valid token may ask."""
    reason = await service.examination.verify(await _certificate(request))
    return JSONResponse({"valid": reason is None} | ({} if reason is None else {"reason": reason}))


@router.post(
    "/crl/verify",
    response_model=CRLVerdict,
    summary="Whether a CRL is a current one of this CA",
    openapi_extra=raw_or(CRLQuestion, "crl"),
    dependencies=[*NO_QUERY, *JSON_ALONE],
)
async def verify_crl(request: Request, service: Running, _caller: Called) -> Response:
    """Signature and time; any valid token may ask."""
    body = await request.body()
    crl = _crl(body if _is_raw(body) else parse_json(body, CRLQuestion).crl.encode())
    reason = await asyncio.to_thread(service.examination.verify_crl, crl)
    ends = crl.next_update_utc
    answer = {"valid": reason is None, "next_update": None if ends is None else rfc3339(ends)}
    return JSONResponse(answer | ({} if reason is None else {"reason": reason}))


@router.post(
    "/cosign",
    status_code=201,
    response_model=CertificateAnswer,
    responses={201: RAW_FORMS},
    summary="A certificate of ours for what another CA's holds",
    openapi_extra=raw_or(CosignRequest, "certificate"),
    dependencies=[needs(Permission.CERTIFICATES_COSIGN, "certificate.cosign"), *NO_REPEATS],
)
async def cosign(
    request: Request, service: Running, caller: Creating, query: Annotated[IssueQuery, Query()]
) -> Response:
    """Subject, names and key as far as the profile allows them; recorded like any other."""
    body, accept = await request.body(), request.headers.get("accept")
    if _is_raw(body):
        form = choose(accept, (CHAIN, DER, JSON))
        return made(service, form, await service.lifecycle.cosign(caller, _read(body), query.wish()))
    form = choose(accept, FORMS)
    asked = parse_json(body, CosignRequest)
    return made(service, form, await service.lifecycle.cosign(caller, _read(asked.certificate.encode()), asked.wish()))


async def _certificate(request: Request) -> x509.Certificate:
    body = await request.body()
    return _read(body if _is_raw(body) else parse_json(body, Question).certificate.encode())


def _is_raw(body: bytes) -> bool:
    """Whether the body is the thing itself, PEM or DER, whatever its Content-Type says."""
    return body[:1] == b"\x30" or body.lstrip().startswith(b"-----BEGIN")


def _read(data: bytes) -> x509.Certificate:
    try:
        if data[:1] == b"\x30":
            return x509.load_der_x509_certificate(data)
        first, *others = x509.load_pem_x509_certificates(data)
    except UNREADABLE as error:
        raise Malformed(f"this is no certificate in PEM or DER: {error}") from error
    if others:
        raise Malformed(f"there are {len(others) + 1} certificates; send the one that is meant")
    return first


def _crl(data: bytes) -> x509.CertificateRevocationList:
    try:
        if data[:1] == b"\x30":
            return x509.load_der_x509_crl(data)
        return x509.load_pem_x509_crl(data)
    except UNREADABLE as error:
        raise Malformed(f"this is no CRL in PEM or DER: {error}") from error
