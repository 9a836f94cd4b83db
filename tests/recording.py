"""A proxy on loopback that keeps what it was sent, and fails when told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import httpx

__all__ = ["RecordingProxy"]

_HOP_BY_HOP = frozenset({"connection", "content-length", "host", "transfer-encoding"})


@dataclass
class RecordingProxy:
    """``with RecordingProxy(url) as proxy:`` forwards to ``url`` and records every request, head and body.

    ``busy``: so many requests get 503 instead. ``losing``: so many are forwarded, and their answers dropped.
    ``is_down``: connections are closed without an answer. ``redirects_to``: every answer is 307 to there.
    """

    upstream: str
    busy: int = 0
    losing: int = 0
    is_down: bool = False
    redirects_to: str = ""
    requests: list[bytes] = field(default_factory=list)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Self:
        proxy = self

        class Handler(_Handler):
            @property
            def owner(self) -> RecordingProxy:
                return proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"

    def count(self, method: str) -> int:
        """How many requests of this method came."""
        return sum(request.startswith(method.encode() + b" ") for request in self.requests)


class _Handler(BaseHTTPRequestHandler):
    @property
    def owner(self) -> RecordingProxy:
        """Whose requests these are."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Any method."""
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        proxy = self.owner
        proxy.requests.append(f"{self.requestline}\n{self.headers}".encode() + body)
        if proxy.is_down:
            self.close_connection = True
            return
        if proxy.redirects_to:
            self._answer(307, {"Location": proxy.redirects_to + self.path}, b"")
            return
        if proxy.busy:
            proxy.busy -= 1
            self._answer(503, {"Retry-After": "0"}, b"")
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP}
        with httpx.Client(base_url=proxy.upstream, timeout=30) as client:
            answer = client.request(self.command, self.path, content=body, headers=headers)
        if proxy.losing:
            proxy.losing -= 1
            self.close_connection = True
            return
        kept = {"content-type", "location", "retry-after", "x-request-id"}
        self._answer(
            answer.status_code, {name: answer.headers[name] for name in kept if name in answer.headers}, answer.content
        )

    do_POST = do_DELETE = do_GET  # noqa: N815  # the library's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, ANN401  # the library's signature
        """Say nothing."""

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
