"""The hot paths: a POST of a certificate, and the files that relying parties fetch, go straight to their functions.

FastAPI finds a route, solves its dependencies and validates its query anew for each request, which costs more than to
sign. What it would find fault with, it gets; for the rest, the same functions are called by hand, in the same order.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import lru_cache
from typing import Final, TypeAlias

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api import certificates, public
from app.auth.principal import Permission
from app.dependencies import Service, creating_caller, current_caller, running
from app.problems import error_response
from tiny_ca.exc import TinyCAError

__all__ = ["DirectRoutes"]

_Act: TypeAlias = Callable[[Request, Service], Awaitable[Response]]


class DirectRoutes:
    """Inside of what gives each request its id, its bounds and its log line; outside of all that is FastAPI's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = _ROUTES.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        act = found and found[1](scope)
        if found is None or act is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = found[0]  # for whoever wants to name it
        request = Request(scope, receive)
        try:
            response = await act(request, await running(request))
        except TinyCAError as error:
            response = await error_response(request, error)
        await response(scope, receive, send)


def _issuing(scope: Scope) -> _Act | None:
    """What a POST of a certificate does; None where FastAPI shall explain what is wrong with its query."""
    query = _query(scope["query_string"])
    if query is None:
        return None

    async def issue(request: Request, service: Service) -> Response:
        caller = await current_caller(request, None)
        await service.audit.require(caller, Permission.CERTIFICATES_ISSUE, "certificate.issue")
        caller = await creating_caller(request, caller, request.headers.get("idempotency-key"))
        return await certificates.issue(request, service, caller, query)

    return issue


_NOTHING_ASKED: Final = certificates.IssueQuery()
_USUAL_QUERY: Final = 256


def _query(query_string: bytes) -> certificates.IssueQuery | None:
    if not query_string:
        return _NOTHING_ASKED
    return _known_query(query_string) if len(query_string) <= _USUAL_QUERY else _read_query(query_string)


def _read_query(query_string: bytes) -> certificates.IssueQuery | None:
    given = QueryParams(query_string)
    if len(given.multi_items()) != len(given):  # one comes twice
        return None
    try:
        return certificates.IssueQuery.model_validate(dict(given))
    except (ValidationError, TinyCAError):
        return None


_known_query: Final = lru_cache(maxsize=256)(_read_query)  # pipelines ask for the same again and again


def _always(act: _Act) -> Callable[[Scope], _Act]:
    return lambda _scope: act


def _routes() -> Iterator[tuple[tuple[str, str], tuple[APIRoute, Callable[[Scope], _Act | None]]]]:
    for route in (*certificates.router.routes, *public.router.routes):
        if not isinstance(route, APIRoute):
            continue
        for method in route.methods or ():
            if route.endpoint is certificates.issue:
                yield (method, route.path), (route, _issuing)
            elif route.endpoint in public.PUBLISHED:
                yield (method, route.path), (route, _always(route.endpoint))


_ROUTES: Final[Mapping[tuple[str, str], tuple[APIRoute, Callable[[Scope], _Act | None]]]] = dict(_routes())
