"""``/api/v1/certificates/renew``: a certificate renews itself. By its serial number and a token, it is in ``acts``."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.body import is_raw_csr, json_body
from app.api.certificates import RAW_ORDER, made
from app.api.documentation import PROBLEMS, RENEW_ITSELF
from app.api.negotiation import choose
from app.api.parameters import NO_QUERY
from app.api.requests import RenewItselfRequest
from app.api.schemas import CertificateAnswer
from app.api.views import FORMS, RAW_FORMS
from app.dependencies import Renewing, Running

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/certificates", tags=["certificates"], responses=PROBLEMS)


@router.post(
    "/renew",
    status_code=201,
    response_model=CertificateAnswer,
    responses={201: RAW_FORMS},
    summary="By the client certificate that is to be renewed, without a token; the old one stays valid",
    openapi_extra=RENEW_ITSELF,
    dependencies=NO_QUERY,
)
async def renew_itself(request: Request, service: Running, caller: Renewing) -> Response:
    """For the same key, or that of a CSR with the same subject and names, and for no longer than the old one lasted."""
    accept, body = request.headers.get("accept"), await request.body()
    if is_raw_csr(body):
        form = choose(accept, RAW_ORDER)
        return made(service, form, await service.lifecycle.renew_itself(caller, body))
    form = choose(accept, FORMS)
    asked = await json_body(request, RenewItselfRequest)
    csr = None if asked.csr is None else asked.csr.encode()
    return made(service, form, await service.lifecycle.renew_itself(caller, csr))
