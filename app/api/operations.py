"""Profiles, the audit and the jobs: what an operator or an auditor reads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import Field
from starlette.responses import JSONResponse, Response

from app.api.documentation import PROBLEMS
from app.api.pages import PageQuery, cut, page_of, read_row_id
from app.api.parameters import JSON_ALONE, NO_BODY, NO_QUERY, NO_REPEATS, PLAIN, read_serial
from app.api.schemas import AuditPage, Instant, JobAnswer, JobList, ProfileList
from app.api.views import profile_view
from app.auth.principal import Permission
from app.dependencies import Called, Running, needs
from tiny_ca.db.entries import AuditFilter, JobState
from tiny_ca.db.models import AuditRecord
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["operations"], responses=PROBLEMS)


class _AuditQuery(PageQuery):
    """Every filter given must match; ``since`` is inclusive, ``until`` exclusive."""

    actor: Annotated[str | None, Field(max_length=512, pattern=PLAIN)] = None
    action: Annotated[str | None, Field(max_length=64, pattern=PLAIN, examples=["certificate.issue"])] = None
    serial_number: Annotated[str | None, Field(max_length=128)] = None
    outcome: Annotated[str | None, Field(max_length=16, pattern=PLAIN, examples=["refused"])] = None
    request_id: Annotated[str | None, Field(max_length=128, pattern=PLAIN)] = None
    since: Instant | None = None
    until: Instant | None = None


@router.get(
    "/profiles",
    response_model=ProfileList,
    summary="What each profile allows",
    dependencies=[needs(Permission.PROFILES_READ, "profile.list"), *NO_REPEATS, *JSON_ALONE],
)
async def profiles(service: Running, caller: Called, query: Annotated[PageQuery, Query()]) -> Response:
    """By name, as the profiles file writes it; those that the caller may not use are not among them."""
    allowed, known = caller.principal.limits.profiles, service.lifecycle.profiles
    usable = [known[name] for name in sorted(known) if allowed is None or name in allowed]
    page, cursor = page_of(usable, query, key=lambda profile: profile.name)
    return JSONResponse({"items": [profile_view(profile) for profile in page], "next_cursor": cursor})


@router.get(
    "/audit",
    response_model=AuditPage,
    summary="Who did what, newest first",
    dependencies=[needs(Permission.AUDIT_READ, "audit.read"), *NO_REPEATS, *JSON_ALONE],
)
async def audit(service: Running, caller: Called, query: Annotated[_AuditQuery, Query()]) -> Response:
    """One row an act and one a refusal."""
    fields = query.model_dump(exclude={"limit", "cursor"})
    if query.serial_number is not None:
        fields["serial_number"] = str(read_serial(query.serial_number))
    rows = await service.audit.page(
        caller, AuditFilter(**fields), limit=query.limit + 1, before_id=read_row_id(query.cursor)
    )
    page, cursor = cut(rows, query, key=lambda row: row.id)
    return JSONResponse({"items": [_row(row) for row in page], "next_cursor": cursor})


@router.get(
    "/jobs",
    response_model=JobList,
    summary="The jobs and how they ran",
    dependencies=[needs(Permission.JOBS_READ, "job.list"), *NO_REPEATS, *JSON_ALONE],
)
async def jobs(service: Running, query: Annotated[PageQuery, Query()]) -> Response:
    """By name; every replica answers the same."""
    page, cursor = page_of(await service.jobs.states(), query, key=lambda job: job.name)
    return JSONResponse({"items": [_job(job) for job in page], "next_cursor": cursor})


@router.post(
    "/jobs/{name}/run",
    response_model=JobAnswer,
    summary="Run a job now",
    dependencies=[needs(Permission.JOBS_RUN, "job.run"), *NO_QUERY, *NO_BODY, *JSON_ALONE],
)
async def run(name: str, service: Running, caller: Called) -> Response:
    """Answers once it has run, well or not; 409 while it runs already, on whichever replica."""
    async with service.audit.refusals(caller, "job.run", job=name[:80]):
        job = await service.jobs.run_now(name)
    await service.audit.note(caller, "job.run", job=name, error=job.error)
    return JSONResponse(_job(job))


def _row(row: AuditRecord) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": rfc3339(row.at),
        "actor": row.actor,
        "action": row.action,
        "outcome": row.outcome,
        "serial_number": None if row.serial_number is None else f"{int(row.serial_number):x}",
        "issuer_id": row.issuer_id,
        "profile": row.profile,
        "request_id": row.request_id,
        "peer": row.peer,
        "rule": row.rule,
        "detail": row.detail,
    }


def _job(job: JobState) -> dict[str, Any]:
    result = None if job.last_run is None else "success" if job.error is None else "failure"
    return {
        "name": job.name,
        "last_run": None if job.last_run is None else rfc3339(job.last_run),
        "replica": job.replica,
        "result": result,
        "last_error": job.error,
        "done": job.done,
        "milliseconds": job.milliseconds,
        "failures": job.failures,
        "next_due": None if job.next_due is None else rfc3339(job.next_due),
        "running_on": job.running_on,
    }
