"""What a route asks for: the parts of the running service, and who is asking."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, cast

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from app.auth.tokens import TokenAuthenticator
from app.jobs import JobRunner
from app.metrics import Metrics
from app.services.crls import CRLPublisher
from app.services.issuers import IssuerStore
from app.services.lifecycle import Caller, LifecycleService
from app.services.readiness import Readiness
from app.settings import Settings
from tiny_ca.exc import Unauthenticated

__all__ = ["Called", "Running", "Service", "current_caller", "running"]


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


# Only so that the OpenAPI document says how to log in; ``current_caller`` reads the header itself.
_bearer: Any = HTTPBearer(auto_error=False, description="The token in data/admin-token, or one made by an admin.")


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that runs, put together once in ``main``."""

    settings: Settings
    metrics: Metrics
    authenticator: TokenAuthenticator
    issuers: IssuerStore
    crls: CRLPublisher
    lifecycle: LifecycleService
    readiness: Readiness
    jobs: JobRunner


async def running(request: Request) -> Service:
    """The running service. A coroutine, for FastAPI gives every plain function a thread hop."""
    return _service(request)


async def current_caller(request: Request, _scheme: Annotated[object, Depends(_bearer)]) -> Caller:
    """Who sent the request.

    Raises
    ------
    Unauthenticated
        Nobody we know.
    """
    service = _service(request)
    try:
        principal = await service.authenticator.authenticate(request.headers.getlist("authorization"))
    except Unauthenticated:
        service.metrics.unauthenticated.inc()
        raise
    return Caller(principal, str(request.scope["state"]["request_id"]))


Running = Annotated[Service, Depends(running)]
Called = Annotated[Caller, Depends(current_caller)]
