"""``/healthz``, ``/readyz``, ``/metrics``: for probes and monitoring, without a token."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse, PlainTextResponse, Response

from app.api.schemas import ReadyAnswer
from app.dependencies import Running

__all__ = ["router"]

router = APIRouter(tags=["health"])
_DAY: Final = timedelta(days=1)


@router.head("/healthz", include_in_schema=False)
@router.get("/healthz", response_class=PlainTextResponse, summary="The process lives")
async def healthz() -> Response:
    """Asks nobody; that is ``/readyz``."""
    return PlainTextResponse("ok\n")


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    response_model=ReadyAnswer,
    responses={503: {"model": ReadyAnswer, "description": "Something that issuing needs is missing."}},
    summary="It can issue now",
)
async def readyz(service: Running) -> Response:
    """Database, migrations, a test signature, fresh CRLs, an issuer that lasts, jobs that run."""
    report = await service.readiness.report()
    status = 200 if report.ready else 503
    headers = {"Cache-Control": "no-store"} | ({} if report.ready else {"Retry-After": "1"})
    return JSONResponse({"ready": report.ready, "checks": report.checks}, status, headers)


@router.get("/metrics", response_class=PlainTextResponse, summary="Prometheus text")
async def metrics(service: Running) -> Response:
    """Counters and histograms of this process; when jobs last ended well, on whichever."""
    now = service.records.now()
    for issuer in service.issuers.signing:
        service.metrics.issuer_not_after.labels(issuer.id).set(issuer.not_valid_after.timestamp())
        service.metrics.issuer_days_left.labels(issuer.id).set((issuer.not_valid_after - now) / _DAY)
        crl = service.crls.peek(issuer.id)
        if crl is not None:
            service.metrics.crl_this_update.labels(issuer.id).set(crl.this_update.timestamp())
            service.metrics.crl_age.labels(issuer.id).set((now - crl.this_update).total_seconds())
    for job in service.jobs.seen.values():
        if job.last_success is not None:
            service.metrics.job_last_success.labels(job.name).set(job.last_success.timestamp())
    return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)
