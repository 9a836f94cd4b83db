"""What a route asks for: the parts of the running service, and who is asking."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, cast

from fastapi import Depends, Header, Request
from fastapi.security import HTTPBearer

from app.auth.authenticator import Authenticator
from app.auth.caller import Caller
from app.auth.mtls import CertificateAuthenticator
from app.auth.principal import NotGranted, Permission, Principal
from app.jobs import JobRunner
from app.metrics import Metrics
from app.middleware import MAX_BODY
from app.rate_limits import RateLimits
from app.services.audit import AuditTrail
from app.services.authorities import Authorities
from app.services.crls import CRLPublisher
from app.services.examination import Examination
from app.services.idempotency import request_sha256
from app.services.issuers import IssuerStore
from app.services.lifecycle import LifecycleService
from app.services.readiness import Readiness
from app.services.records import Records
from app.services.reload import Reloader
from app.services.revocations import Revocations
from app.services.server_certificate import ServerCertificate
from app.services.tokens import Tokens
from app.settings import Settings
from tiny_ca.db.entries import IdempotencyClaim
from tiny_ca.exc import Invalid, RateLimited, Unauthenticated

__all__ = [
    "Called",
    "Creating",
    "Renewing",
    "Running",
    "Service",
    "creating_caller",
    "current_caller",
    "needs",
    "renewing_caller",
    "running",
]

_KEY: Final = re.compile(r"[!-~]{1,255}")  # visible ASCII


def _service(request: Request) -> Service:
    return cast("Service", request.app.state.service)


# Only so that the OpenAPI document says how to log in; ``current_caller`` reads the header itself.
_bearer: Any = HTTPBearer(auto_error=False, description="The token in data/admin-token, or one made by an admin.")


@dataclass(frozen=True, slots=True)
class Service:
    """Everything that runs, put together once in ``main``."""

    settings: Settings
    metrics: Metrics
    authenticator: Authenticator
    rate_limits: RateLimits
    issuers: IssuerStore
    authorities: Authorities
    crls: CRLPublisher
    lifecycle: LifecycleService
    records: Records
    revocations: Revocations
    examination: Examination
    tokens: Tokens
    audit: AuditTrail
    readiness: Readiness
    jobs: JobRunner
    reloader: Reloader
    server_certificate: ServerCertificate | None
    client_certificates: CertificateAuthenticator


async def running(request: Request) -> Service:
    """The running service. A coroutine, for FastAPI gives every plain function a thread hop."""
    return _service(request)


async def current_caller(request: Request, _scheme: Annotated[object, Depends(_bearer)]) -> Caller:
    """Who sent the request.

    Raises
    ------
    Unauthenticated
        Nobody we know.
    NotGranted
        Somebody that an identity provider knows, to whom nothing is granted here.
    RateLimited
        They, or those at their address whom nobody knows, come too often.
    """
    sent = request.headers.getlist("authorization")
    return await _logged_in(request, _service(request).authenticator.authenticate(sent), tries=bool(sent))


async def _logged_in(request: Request, login: Awaitable[Principal], *, tries: bool) -> Caller:
    service = _service(request)
    peer = request.client.host if request.client else None
    try:
        principal = await login
    except Unauthenticated:
        service.metrics.unauthenticated.inc()
        if tries:  # who sends no token is not trying one
            _within("failed_logins", service, lambda: service.rate_limits.check_failed_login(str(peer)))
        raise
    except NotGranted as error:
        nobody = Caller(Principal(error.actor, frozenset()), str(request.scope["state"]["request_id"]), peer)
        _within("requests", service, lambda: service.rate_limits.check_request(nobody.principal.id))
        await service.audit.refused(nobody, "login", error)
        raise
    _within("requests", service, lambda: service.rate_limits.check_request(principal.id))
    return Caller(principal, str(request.scope["state"]["request_id"]), peer)


def _within(limit: str, service: Service, check: Callable[[], None]) -> None:
    try:
        check()
    except RateLimited:
        service.metrics.rate_limited.labels(limit).inc()
        raise


_IdempotencyKey = Annotated[
    str | None,
    Header(
        description="The same key, caller and request: the same answer, for 24 hours.",
        json_schema_extra={"pattern": "^[!-~]{1,255}$"},
    ),
]


async def creating_caller(
    request: Request,
    caller: Annotated[Caller, Depends(current_caller)],
    idempotency_key: _IdempotencyKey = None,
) -> Caller:
    """Who sent a request that makes something, with the key under which they may send it again.

    Raises
    ------
    Invalid
        The key is none.
    """
    return await _claiming(request, caller, idempotency_key)


async def renewing_caller(request: Request, idempotency_key: _IdempotencyKey = None) -> Caller:
    """Who proved to hold a certificate; asked for by the one route where that counts. Raises as the others do."""
    login = _service(request).client_certificates.authenticate(request.scope)
    return await _claiming(request, await _logged_in(request, login, tries=False), idempotency_key)


async def _claiming(request: Request, caller: Caller, idempotency_key: str | None) -> Caller:
    if idempotency_key is None:
        return caller
    given = request.headers.getlist("idempotency-key")
    if len(given) != 1 or not _KEY.fullmatch(idempotency_key):
        message = "an Idempotency-Key is 1 to 255 visible ASCII characters, and comes once"
        raise Invalid(message, field="Idempotency-Key", value=idempotency_key[:80])
    # What may differ is how the answer shall look.
    body = await request.body()
    said = (request.method, request.url.path, request.url.query, body)
    # A batch is read for tens of milliseconds, too long for the event loop.
    digest = request_sha256(*said) if len(body) <= MAX_BODY else await asyncio.to_thread(request_sha256, *said)
    claim = IdempotencyClaim(actor=caller.principal.id, key=idempotency_key, request_sha256=digest)
    return replace(caller, claim=claim)


Running = Annotated[Service, Depends(running)]
Called = Annotated[Caller, Depends(current_caller)]
Creating = Annotated[Caller, Depends(creating_caller)]
Renewing = Annotated[Caller, Depends(renewing_caller)]


def needs(permission: Permission, action: str) -> Any:  # noqa: ANN401  # FastAPI's Depends
    """A dependency that lets pass who has the permission, before anything of the request is read; audited where not."""

    async def check(service: Running, caller: Called) -> None:
        await service.audit.require(caller, permission, action)

    return Depends(check)
