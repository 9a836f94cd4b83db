"""Many requests in one, and what would become of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any, Final

from cryptography import x509
from fastapi import APIRouter, Query, Request
from pydantic_core import to_json
from starlette.responses import JSONResponse, Response

from app.api.body import field_of_json, is_raw_csr, json_body, parse_json
from app.api.certificates import IssueQuery
from app.api.documentation import PROBLEMS, SIMULATE_BODY, body_of
from app.api.parameters import JSON_ALONE, NO_QUERY, NO_REPEATS
from app.api.requests import MAX_REQUESTS, BatchRequest, IssueFromConfig, IssueFromCSR
from app.api.schemas import BatchAnswer, SimulationAnswer
from app.api.views import FastJSONResponse, certificate_body
from app.auth.caller import Caller
from app.auth.principal import Permission
from app.dependencies import Called, Creating, Running, Service, needs
from app.middleware import MAX_BODY
from app.problems import problem_body
from app.services.lifecycle import Made, Wish
from tiny_ca.ca_factory.csr import parse_csr
from tiny_ca.ca_factory.plan import planned_window
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.exc import Invalid, TinyCAError, TooLarge
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["router"]

# So that several batches, and those who ask for one certificate, find room in the queue beside each other.
_AT_ONCE: Final = 250

router = APIRouter(prefix="/api/v1", tags=["certificates"], responses=PROBLEMS)


@router.post(
    "/certificates/batch",
    response_model=BatchAnswer,
    summary="Up to 1,000 requests in one; a refusal of one refuses no other",
    openapi_extra=body_of(BatchRequest, {"requests": [{"common_name": "app.example.org", "lifetime": "24h"}]}),
    dependencies=[needs(Permission.CERTIFICATES_ISSUE, "certificate.issue"), *NO_QUERY, *JSON_ALONE],
)
async def batch(request: Request, service: Running, caller: Creating) -> Response:
    """Each as if it were sent alone; the results are in the order of the requests.

    Sent again with its `Idempotency-Key`, a request whose answer held a private key is a 409 inside the 200, naming the
    serial number; one of a CSR has its certificate again.
    """
    asked = await json_body(request, BatchRequest)
    if len(asked.requests) > MAX_REQUESTS:
        message = f"a batch has at most {MAX_REQUESTS} requests, not {len(asked.requests)}; send several"
        raise TooLarge(message, limit=MAX_REQUESTS, field="requests", value=len(asked.requests))
    await service.lifecycle.check_claim(caller, "certificate.issue")
    results: list[dict[str, Any]] = []
    for first in range(0, len(asked.requests), _AT_ONCE):
        some = enumerate(asked.requests[first : first + _AT_ONCE], start=first)
        results += await asyncio.gather(*(_one(service, _part(caller, index), to_json(body)) for index, body in some))
    return FastJSONResponse({"results": results}, headers={"Cache-Control": "no-store"})


@router.post(
    "/simulate",
    response_model=SimulationAnswer,
    summary="What each rule would say; nothing is signed",
    openapi_extra=SIMULATE_BODY,
    dependencies=[needs(Permission.CERTIFICATES_ISSUE, "certificate.simulate"), *NO_REPEATS, *JSON_ALONE],
)
async def simulate(
    request: Request, service: Running, caller: Called, query: Annotated[IssueQuery, Query()]
) -> Response:
    """The body of a request for a certificate, as JSON or as a CSR; the query goes with the latter."""
    body = await request.body()
    read, wish, default_profile = _reading(body, query)
    asked, profile, issuer, said = await service.lifecycle.simulate(caller, read, wish, default_profile=default_profile)
    allowed = all(verdict.passed for verdict in said)
    certificate = None
    if allowed and issuer is not None:
        start, end = planned_window(
            asked, profile=profile, limits=caller.principal.limits, issuer=issuer, now=service.records.now()
        )
        certificate = {
            "profile": profile.name,
            "issuer_id": issuer.id,
            "subject": _subject(asked),
            "san": [name for _, name in asked.names.items()],
            "not_valid_before": rfc3339(start),
            "not_valid_after": rfc3339(end),
        }
    rules = [{"rule": verdict.rule, "passed": verdict.passed, "detail": verdict.detail} for verdict in said]
    return JSONResponse({"allowed": allowed, "rules": rules, "certificate": certificate})


async def _one(service: Service, caller: Caller, body: bytes) -> dict[str, Any]:
    try:
        if len(body) > MAX_BODY:
            message = f"a request of a batch has at most {MAX_BODY} bytes, as one that comes alone"
            raise TooLarge(message, limit=MAX_BODY, field="body")
        made = await _issue(service, caller, body)
    except TinyCAError as error:
        problem = problem_body(error, caller.request_id)
        return {"status": problem["status"], "problem": problem}
    return {"status": 201, "certificate": certificate_body(made, service.records.now())}


async def _issue(service: Service, caller: Caller, body: bytes) -> Made:
    if field_of_json(body, "csr"):
        asked = parse_json(body, IssueFromCSR)
        return await service.lifecycle.issue_from_csr(caller, asked.csr.encode(), asked.wish())
    config = parse_json(body, IssueFromConfig)
    if config.pkcs12_password is not None:
        raise Invalid("a batch answers in JSON; ask for a PKCS #12 file alone", field="pkcs12_password")
    return await service.lifecycle.issue_from_config(
        caller, config.request(), config.wish(), default_profile=config.default_profile
    )


def _part(caller: Caller, index: int) -> Caller:
    """Each request of a batch has a key of its own: a blank is in none that a caller gives."""
    if caller.claim is None:
        return caller
    key = caller.claim.key
    return replace(caller, claim=replace(caller.claim, key=f"{key} {index}", part_of=key))


def _reading(body: bytes, query: IssueQuery) -> tuple[Callable[[], CertificateRequest], Wish, str]:
    if is_raw_csr(body):
        asked_for = query.wish()
        return (lambda: _from_csr(body, asked_for)), asked_for, "server"
    query.check_none()
    if field_of_json(body, "csr"):
        asked = parse_json(body, IssueFromCSR)
        wish = asked.wish()
        return (lambda: _from_csr(asked.csr.encode(), wish)), wish, "server"
    config = parse_json(body, IssueFromConfig)
    return config.request, config.wish(), config.default_profile


def _from_csr(csr: bytes, wish: Wish) -> CertificateRequest:
    return CertificateRequest.from_csr(
        parse_csr(csr),
        names=wish.names,
        lifetime=wish.lifetime,
        valid_from=wish.valid_from,
        certificate_type=wish.certificate_type,
    )


def _subject(asked: CertificateRequest) -> str:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in asked.subject]).rfc4514_string()
