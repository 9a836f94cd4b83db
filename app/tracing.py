"""OpenTelemetry traces, where the standard ``OTEL_*`` environment asks for them; else nothing of it is imported."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import structlog
from opentelemetry import trace  # the interfaces alone, which FastAPI imports anyway
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.settings import SettingsError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["TracedRequestMiddleware", "close_tracing", "tracing_from"]

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"
_CLOSE_SECONDS: Final = 1.0


def tracing_from(environment: Mapping[str, str]) -> TracerProvider | None:
    """What spans go to; None where nobody asks for them.

    Raises
    ------
    SettingsError
        They are asked for in a way that is not here, or the extra ``otel`` is not installed.
    """
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    has_endpoint = any(environment.get(name) for name in _ENDPOINTS)
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none":
        return None
    if exporter not in {"", "otlp"}:
        raise SettingsError(f"OTEL_TRACES_EXPORTER: {exporter[:80]!r} is not here; there are otlp and none")
    if not exporter and not has_endpoint:
        return None
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        raise SettingsError(f"OTEL_EXPORTER_OTLP_PROTOCOL: {protocol[:80]!r} is not here; there is {_PROTOCOL}")
    return _provider(environment)


def _provider(environment: Mapping[str, str]) -> TracerProvider:
    try:
        # Here, so that who does not trace needs neither the packages nor the time that they take to import.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        message = "OTEL_TRACES_EXPORTER: traces need the extra otel: pip install 'tiny-ca-service[otel]'"
        raise SettingsError(message) from error

    class _WithoutQuery(SpanProcessor):
        """Callers sometimes put into a query what belongs into a header; it is not for others to keep."""

        def on_start(self, span: Span, parent_context: object = None) -> None:
            del parent_context
            if "url.query" in (span.attributes or {}):
                span.set_attribute("url.query", "REDACTED")

    name = environment.get("OTEL_SERVICE_NAME") or "tiny-ca"
    # At its end a process must not wait for a collector; ``close_tracing`` gives it a second.
    provider = TracerProvider(resource=Resource.create({"service.name": name}), shutdown_on_exit=False)
    provider.add_span_processor(_WithoutQuery())
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


async def close_tracing(provider: TracerProvider) -> None:
    """Send what is left; a collector that hangs is not waited for."""
    closing = threading.Thread(target=provider.shutdown, daemon=True)
    closing.start()
    await asyncio.to_thread(closing.join, _CLOSE_SECONDS)


class TracedRequestMiddleware:
    """Ties a request's span and its log lines together: the span has the request's id, the lines have the trace's.

    Outside of what logs, inside of what traces.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        span = trace.get_current_span()

        async def send_traced(message: Message) -> None:
            if message["type"] == "http.response.start":  # by now the request has its id
                span.set_attribute("tiny_ca.request_id", scope["state"]["request_id"])
            await send(message)

        with structlog.contextvars.bound_contextvars(trace_id=f"{span.get_span_context().trace_id:032x}"):
            await self._app(scope, receive, send_traced)
