"""The hot path: a POST of certificates whose query needs no explanation goes straight to its function.

FastAPI's own handler solves dependencies and validates the query anew for each request, which costs more than to sign.
What it would find fault with, it gets; for the rest, the same functions are called by hand, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.responses import Response

from app.auth.caller import Caller
from app.auth.principal import Permission
from app.dependencies import Service, creating_caller, current_caller, running
from tiny_ca.exc import TinyCAError

__all__ = ["direct_route"]

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def direct_route(
    path: str, query: Callable[[dict[str, str]], Any], permission: Permission, action: str
) -> type[APIRoute]:
    """A class of routes, of which the POST of ``path`` goes to its ``(request, service, caller, query)`` directly."""

    class DirectRoute(APIRoute):
        def get_route_handler(self) -> Handler:
            standard = super().get_route_handler()
            if (self.path, self.methods) != (path, {"POST"}):
                return standard
            endpoint: Callable[[Request, Service, Caller, Any], Coroutine[Any, Any, Response]] = self.endpoint

            async def direct(request: Request) -> Response:
                given = request.query_params
                try:
                    asked = query(dict(given))
                except (ValidationError, TinyCAError):
                    return await standard(request)
                if len(given.multi_items()) != len(given):  # one comes twice
                    return await standard(request)
                service = await running(request)
                caller = await current_caller(request, None)
                await service.audit.require(caller, permission, action)
                caller = await creating_caller(request, caller, request.headers.get("idempotency-key"))
                return await endpoint(request, service, caller, asked)

            return direct

    return DirectRoute
