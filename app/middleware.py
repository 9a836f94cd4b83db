"""What happens around every request: an id, a bound on the body, a log line, a measurement."""

from __future__ import annotations

import asyncio
import os
import re
import time
from functools import lru_cache
from typing import Final

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.metrics import Metrics
from app.problems import Timeout, problem_response
from tiny_ca.exc import TinyCAError, TooLarge

__all__ = ["MAX_BODY", "BodyLimitMiddleware", "RequestMiddleware"]

_log = structlog.get_logger(__name__)
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,128}")
MAX_BODY: Final = 64 * 1024
# A path that takes more, and how much.
_LARGER: Final = {"/api/v1/certificates/batch": 4 * 1024 * 1024}
_BODY_SECONDS: Final = 5.0  # less than a stop leaves for what is in flight


class RequestMiddleware:
    """Gives each request its id (the caller's, if sane), answers what nobody expected, and logs how it ended."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._seconds = lru_cache(maxsize=1024)(metrics.http_seconds.labels)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = [value for name, value in scope["headers"] if name == b"x-request-id"]
        sane = len(sent) == 1 and _REQUEST_ID.fullmatch(sent[0]) is not None
        request_id = sent[0].decode("ascii") if sane else _new_id()
        scope.setdefault("state", {})["request_id"] = request_id
        began, status = time.perf_counter(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode("ascii"))]
                message = {**message, "headers": headers}
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                await self._app(scope, receive, send_with_id)
            except Exception as error:
                _log.error("request.failed", exc_info=error)
                if status:  # half an answer is out; the server closes the connection
                    raise
                await problem_response(error, request_id)(scope, receive, send_with_id)
            finally:
                self._tell(scope, status, time.perf_counter() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's pattern, never the path itself: a caller must not be able to make up labels.
        route = getattr(scope.get("route"), "path_format", "unmatched")
        self._seconds(scope["method"] if route != "unmatched" else "-", route, status).observe(seconds)
        quiet = route in {"/healthz", "/readyz", "/metrics"} and status < 400
        log = _log.debug if quiet else _log.info
        log(
            "http.request",
            method=scope["method"],
            path=ascii(scope["path"])[1:-1],  # no control or right-to-left character reaches a terminal
            status=status,
            milliseconds=round(seconds * 1000, 1),
            client=(scope.get("client") or ("-",))[0],
        )


def _new_id() -> str:
    """32 hex digits, first the time, as in RFC 9562 §5.7: an index over them grows at its end alone."""
    return f"{time.time_ns() // 1_000_000:012x}{os.urandom(10).hex()}"


class BodyLimitMiddleware:
    """Bounds a body in bytes and in time, whether its length was announced or not."""

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY, seconds: float = _BODY_SECONDS) -> None:
        self._app = app
        self._limit = limit
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:  # RFC 9112 §6.3: no body
            await self._app(scope, receive, send)
            return
        try:
            limit = _LARGER.get(scope["path"], self._limit)
            body = await self._read(headers, receive, limit)
        except TinyCAError as error:
            response = problem_response(error, scope["state"]["request_id"])
            response.headers["Connection"] = "close"  # what is left of the body is not read
            await response(scope, receive, send)
            return
        if body is None:  # the client is gone
            return
        delivered = False

        async def replay() -> Message:
            nonlocal delivered
            if delivered:
                return await receive()
            delivered = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)

    async def _read(self, headers: Headers, receive: Receive, limit: int) -> bytes | None:
        announced = headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
            raise _too_large(limit)
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > limit:
                        raise _too_large(limit)
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise Timeout(f"the body did not come within {self._seconds:g} seconds") from None


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than the {limit} bytes that are taken", limit=limit, field="body")
