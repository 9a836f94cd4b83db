"""OpenTelemetry: spans of requests go to a collector on loopback when the environment says so, and only then."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from app.settings import SettingsError
from app.tracing import tracing_from
from tests.api.asking import csr
from tests.running import CERTIFICATES, RunningService

_TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


class _Collector(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[ExportTraceServiceRequest] = []

    def spans(self) -> list[dict[str, object]]:
        """The attributes of each span, with its name and trace."""
        return [
            {
                "name": span.name,
                "trace": span.trace_id.hex(),
                "service": next(
                    one.value.string_value for one in part.resource.attributes if one.key == "service.name"
                ),
            }
            | {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
            for request in self.requests
            for part in request.resource_spans
            for scope in part.scope_spans
            for span in scope.spans
        ]


class _Handler(BaseHTTPRequestHandler):
    server: _Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.requests.append(ExportTraceServiceRequest.FromString(body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[_Collector]:
    """One that listens."""
    with _Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_request_is_a_span(tmp_path: Path, collector: _Collector) -> None:
    """In the caller's trace, by its route, with its id; log lines name the trace; neither query nor token is in it."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_address[1]}"}
    sent = {"X-Request-Id": "the-one", "traceparent": f"00-{_TRACE_ID}-b7ad6b7169203331-01"}
    with RunningService(tmp_path, environment=endpoint) as service:
        token = service.token
        with service.client() as client:
            asked = client.post(CERTIFICATES, params={"profile": "server"}, content=csr(), headers=sent)
            assert asked.status_code == 201
        assert service.stop() == 0
    (span,) = [one for one in collector.spans() if one.get("tiny_ca.request_id") == "the-one"]
    assert span["trace"] == _TRACE_ID
    assert span["service"] == "tiny-ca"
    assert span["http.route"] == CERTIFICATES
    assert span["http.response.status_code"] == 201
    assert span["url.query"] == "REDACTED"
    assert token not in str(collector.requests)
    line = service.wait_for(r'\{[^\n]*"event": "http.request"[^\n]*"trace_id"[^\n]*\}')[0]
    assert (json.loads(line)["status"], json.loads(line)["trace_id"]) == (201, _TRACE_ID)


def test_a_collector_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """Requests are answered and the service stops in time."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with RunningService(tmp_path, environment=endpoint) as service:
        with service.client() as client:
            assert client.get(CERTIFICATES).status_code == 200
        assert service.stop() == 0


def test_without_it_nothing_is_imported() -> None:
    """The SDK and the exporter are not loaded, and no provider is made."""
    code = (
        "import sys, app.main, app.tracing; assert app.tracing.tracing_from({}) is None; "
        "print([name for name in sys.modules if name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"},
    ],
)
def test_when_nobody_asks(environment: dict[str, str]) -> None:
    """Without an endpoint, with the exporter ``none``, or with the SDK disabled, there are no traces."""
    assert tracing_from(environment) is None


@pytest.mark.parametrize(
    "environment,says",
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: 'zipkin' is not here; there are otlp and none"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not here; there is http/protobuf",
        ),
    ],
)
def test_what_is_not_here_is_refused(environment: dict[str, str], says: str) -> None:
    """Another exporter or protocol stops the start, and what there is is said."""
    with pytest.raises(SettingsError) as refused:
        tracing_from(environment)
    assert str(refused.value) == says
