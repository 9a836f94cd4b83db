"""Profiles, the audit and the jobs: what an operator or an auditor reads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

from app.api.documentation import PROBLEMS
from app.api.parameters import NO_QUERY, NO_REPEATS, PLAIN, Cursor, next_cursor, read_cursor, read_serial
from app.api.schemas import AuditPage, Digits, Instant, JobAnswer, JobList, ProfileList
from app.api.views import profile_view
from app.auth.principal import Permission
from app.dependencies import Called, Running, needs
from app.jobs import JobState
from tiny_ca.db.entries import AuditFilter
from tiny_ca.db.models import AuditRecord
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["operations"], responses=PROBLEMS)


class _AuditQuery(BaseModel):
    """Every filter given must match; ``since`` is inclusive, ``until`` exclusive."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    actor: Annotated[str | None, Field(max_length=512, pattern=PLAIN)] = None
    action: Annotated[str | None, Field(max_length=64, pattern=PLAIN, examples=["certificate.issue"])] = None
    serial_number: Annotated[str | None, Field(max_length=128)] = None
    outcome: Annotated[str | None, Field(max_length=16, pattern=PLAIN, examples=["refused"])] = None
    request_id: Annotated[str | None, Field(max_length=128, pattern=PLAIN)] = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Digits, Field(ge=1, le=1000)] = 100
    cursor: Cursor = None


@router.get(
    "/profiles",
    response_model=ProfileList,
    summary="What each profile allows",
    dependencies=[needs(Permission.PROFILES_READ, "profile.list"), *NO_QUERY],
)
async def profiles(service: Running, caller: Called) -> Response:
    """As the profiles file writes it; those that the caller may not use are not among them."""
    allowed = caller.principal.limits.profiles
    items = [
        profile_view(profile)
        for profile in service.lifecycle.profiles.values()
        if allowed is None or profile.name in allowed
    ]
    return JSONResponse({"items": items, "next_cursor": None})


@router.get(
    "/audit",
    response_model=AuditPage,
    summary="Who did what, newest first",
    dependencies=[needs(Permission.AUDIT_READ, "audit.read"), *NO_REPEATS],
)
async def audit(service: Running, caller: Called, query: Annotated[_AuditQuery, Query()]) -> Response:
    """One row an act and one a refusal."""
    fields = query.model_dump(exclude={"limit", "cursor"})
    if query.serial_number is not None:
        fields["serial_number"] = str(read_serial(query.serial_number))
    rows = await service.audit.page(
        caller, AuditFilter(**fields), limit=query.limit + 1, before_id=read_cursor(query.cursor)
    )
    page = rows[: query.limit]
    more = len(rows) > query.limit
    return JSONResponse(
        {"items": [_row(row) for row in page], "next_cursor": next_cursor(page[-1].id) if more else None}
    )


@router.get(
    "/jobs",
    response_model=JobList,
    summary="The jobs and how they ran",
    dependencies=[needs(Permission.JOBS_READ, "job.list"), *NO_QUERY],
)
async def jobs(service: Running) -> Response:
    """Of the process that answers."""
    items = [_job(name, state) for name, state in service.jobs.states.items()]
    return JSONResponse({"items": items, "next_cursor": None})


@router.post(
    "/jobs/{name}/run",
    response_model=JobAnswer,
    summary="Run a job now",
    dependencies=[needs(Permission.JOBS_RUN, "job.run"), *NO_QUERY],
)
async def run(name: str, service: Running, caller: Called) -> Response:
    """Answers once it has run, well or not."""
    state = await service.jobs.run_now(name)
    await service.audit.note(caller, "job.run", job=name, error=state.last_error)
    return JSONResponse(_job(name, state))


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


def _job(name: str, state: JobState) -> dict[str, Any]:
    return {
        "name": name,
        "last_run": None if state.last_run is None else rfc3339(state.last_run),
        "last_error": state.last_error,
        "failures": state.failures,
    }
