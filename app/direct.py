"""The hot path: a POST of a certificate whose query needs no explanation goes straight to its function.

FastAPI finds a route, solves its dependencies and validates its query anew for each request, which costs more than to
sign. What it would find fault with, it gets; for the rest, the same functions are called by hand, in the same order.
"""

from __future__ import annotations

from typing import Final

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.certificates import IssueQuery, issue, router
from app.auth.principal import Permission
from app.dependencies import creating_caller, current_caller, running
from app.problems import error_response
from tiny_ca.exc import TinyCAError

__all__ = ["DirectIssuing"]

_PATH: Final = router.prefix
_ROUTE: Final = next(
    route
    for route in router.routes
    if isinstance(route, Route) and route.path == _PATH and "POST" in (route.methods or ())
)
_NOTHING_ASKED: Final = IssueQuery()


class DirectIssuing:
    """Inside of what gives each request its id, its bounds and its log line; outside of all that is FastAPI's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        query = _query(scope) if scope["type"] == "http" else None
        if query is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = _ROUTE  # for whoever wants to name it
        request = Request(scope, receive)
        try:
            service = await running(request)
            caller = await current_caller(request, None)
            await service.audit.require(caller, Permission.CERTIFICATES_ISSUE, "certificate.issue")
            caller = await creating_caller(request, caller, request.headers.get("idempotency-key"))
            response = await issue(request, service, caller, query)
        except TinyCAError as error:
            response = await error_response(request, error)
        await response(scope, receive, send)


def _query(scope: Scope) -> IssueQuery | None:
    """What the query says; None where FastAPI shall explain what is wrong with it, or where it is another route's."""
    if scope["path"] != _PATH or scope["method"] != "POST":
        return None
    if not scope["query_string"]:
        return _NOTHING_ASKED
    given = QueryParams(scope["query_string"])
    if len(given.multi_items()) != len(given):  # one comes twice
        return None
    try:
        return IssueQuery.model_validate(dict(given))
    except (ValidationError, TinyCAError):
        return None
