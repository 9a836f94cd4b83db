"""Kinds of errors as RFC 9457 problem documents: the one table of HTTP statuses from 400 up."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any, Final

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match

from tiny_ca import exc

__all__ = [
    "InvalidFields",
    "NotAcceptable",
    "Timeout",
    "add_problem_handlers",
    "error_response",
    "problem_body",
    "problem_response",
]

_log = structlog.get_logger(__name__)
_MEDIA_TYPE: Final = "application/problem+json"
_TYPE: Final = "urn:tiny-ca:error:"


class InvalidFields(exc.Invalid):
    """Several fields of one request are wrong: ``errors`` holds ``(field, message)`` pairs."""

    def __init__(self, errors: tuple[tuple[str, str], ...]) -> None:
        super().__init__("; ".join(f"{field}: {message}" for field, message in errors), field=errors[0][0])
        self.errors = errors


class NotAcceptable(exc.TinyCAError):
    """No form of the answer is one that ``Accept`` takes."""


class Timeout(exc.TinyCAError):
    """The request's body did not come in time."""


# From a kind to its status; the nearest ancestor of an exception decides.
_STATUSES: Final[Mapping[type[exc.TinyCAError], tuple[HTTPStatus, str]]] = {
    exc.Malformed: (HTTPStatus.BAD_REQUEST, "malformed"),
    exc.Invalid: (HTTPStatus.UNPROCESSABLE_ENTITY, "invalid"),
    exc.TooLarge: (HTTPStatus.UNPROCESSABLE_ENTITY, "too-large"),
    exc.Unauthenticated: (HTTPStatus.UNAUTHORIZED, "unauthenticated"),
    exc.Forbidden: (HTTPStatus.FORBIDDEN, "forbidden"),
    exc.NotFound: (HTTPStatus.NOT_FOUND, "not-found"),
    exc.Conflict: (HTTPStatus.CONFLICT, "conflict"),
    exc.RateLimited: (HTTPStatus.TOO_MANY_REQUESTS, "rate-limited"),
    exc.Unavailable: (HTTPStatus.SERVICE_UNAVAILABLE, "unavailable"),
    NotAcceptable: (HTTPStatus.NOT_ACCEPTABLE, "not-acceptable"),
    Timeout: (HTTPStatus.REQUEST_TIMEOUT, "timeout"),
}
_INTERNAL: Final = (HTTPStatus.INTERNAL_SERVER_ERROR, "internal")


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem document."""
    app.add_exception_handler(exc.TinyCAError, error_response)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)


def problem_body(error: Exception, request_id: str) -> dict[str, Any]:
    """The document of one error; of an unexpected one it tells nothing."""
    status, kind = _status(error)
    body: dict[str, Any] = {
        "type": _TYPE + kind,
        "title": status.phrase,
        "status": status.value,
        "detail": _detail(error, status),
        "request_id": request_id,
    }
    if isinstance(error, exc.Forbidden):
        body |= {"rule": error.rule, "value": _shown(error.value)}
    elif isinstance(error, InvalidFields):
        body["errors"] = [{"field": field, "message": message} for field, message in error.errors]
    elif isinstance(error, exc.Invalid) and error.field:
        body["errors"] = [{"field": error.field, "message": error.message}]
    if isinstance(error, exc.TooLarge):
        body["limit"] = error.limit
    return body


def problem_response(error: Exception, request_id: str) -> JSONResponse:
    """The answer to one error, with the headers that its status asks for."""
    body = problem_body(error, request_id)
    return JSONResponse(body, body["status"], headers=_headers(error), media_type=_MEDIA_TYPE)


def _status(error: Exception) -> tuple[HTTPStatus, str]:
    # A body past its bound never was read (413); a value past its bound was (422).
    if isinstance(error, exc.TooLarge) and error.field in {"body", "csr"}:
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-large"
    return next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), _INTERNAL)


def _detail(error: Exception, status: HTTPStatus) -> str:
    if isinstance(error, exc.RegistryUnavailable):  # its text may name hosts, users and tables
        # Where the answer to a COMMIT was lost, nobody here knows whether it was done.
        return "the database does not answer just now; ask again, under an Idempotency-Key nothing is made twice"
    if isinstance(error, exc.TinyCAError) and status != _INTERNAL[0]:
        return error.message
    return "an unexpected failure of the service; its log has more under this request_id"


def _headers(error: Exception) -> dict[str, str]:
    if isinstance(error, exc.Unauthenticated):
        return {"WWW-Authenticate": 'Bearer realm="tiny-ca"'}
    if isinstance(error, exc.RateLimited | exc.Unavailable):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    return {}


async def error_response(request: Request, error: Exception) -> Response:
    """The answer to an error of ours; what its operator should know of is in the log."""
    if isinstance(error, exc.RegistryUnavailable):
        _log.warning("registry.unavailable", error=error.message)
    if _status(error) == _INTERNAL:  # a defect of ours that has a name: LintError, DBNotInitedError
        _log.error("request.failed", exc_info=error)
    return problem_response(error, _request_id(request))


async def _on_http(request: Request, error: Exception) -> Response:
    """Starlette's own refusals: no such path, a method not allowed."""
    assert isinstance(error, HTTPException)  # noqa: S101  # what it was registered for
    status = HTTPStatus(error.status_code)
    kind = status.phrase.lower().replace(" ", "-")
    detail = f"{request.method} {request.url.path}: {status.description or status.phrase}"
    body = {"type": _TYPE + kind, "title": status.phrase, "status": status.value, "detail": detail}
    body["request_id"] = _request_id(request)
    headers = dict(error.headers or {})
    if status is HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = ", ".join(_allowed(request))
    return JSONResponse(body, status.value, headers=headers, media_type=_MEDIA_TYPE)


def _allowed(request: Request) -> list[str]:
    """Every method of the path (RFC 9110 §10.2.1); Starlette names those of the first route alone."""
    matching = [route for route in _flat(request.app.routes) if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in matching for method in getattr(route, "methods", None) or ()})


def _flat(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """The routes themselves, also where FastAPI keeps those of an included router together."""
    for route in routes:
        included = getattr(route, "original_router", None)
        yield from [route] if included is None else _flat(included.routes)


async def _on_validation(request: Request, error: Exception) -> Response:
    """Query and path parameters that FastAPI could not read."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # what it was registered for
    problems = tuple((str(item["loc"][-1]), str(item["msg"]).removeprefix("Value error, ")) for item in error.errors())
    return problem_response(InvalidFields(problems), _request_id(request))


def _request_id(request: Request) -> str:
    return str(request.scope.get("state", {}).get("request_id", ""))


def _shown(value: object) -> object:
    return value if isinstance(value, str | int | float | bool | None) else str(value)
