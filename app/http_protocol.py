"""uvicorn's HTTP/1.1 protocol with what it lacks: a bound on the head of a request, and ASGI's TLS extension.

Without a bound in octets and in time, one connection without a token could send headers for ever and fill the memory.
What the protocol itself refuses is a problem document with a request id, like every other refusal.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import uuid
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.one_write import OneWriteTransport

__all__ = ["BoundedHttpProtocol"]

_MAX_HEAD: Final = 64 * 1024
_HEAD_SECONDS: Final = 10.0
# As in the records of the protocol (RFC 8446 §4.1.2).
_TLS_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
_REASONS: Final = {
    HTTPStatus.BAD_REQUEST: "the request is no HTTP/1.1 that can be read, with one Host (RFC 9112 §3.2)",
    HTTPStatus.REQUEST_TIMEOUT: f"the request's head did not come within {_HEAD_SECONDS:g} seconds",
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE: f"the request's head is larger than {_MAX_HEAD} bytes",
}


class _HeadTooLarge(Exception):
    """Raised through the parser, which stops at it."""


class _BadHost(Exception):
    """Raised through the parser, which stops at it."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Counts a head while it comes, and closes a connection whose head is too large or too slow."""

    _head_octets = 0
    _field_octets = 0
    _hosts = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None
    _tls: dict[object, object] | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first head."""
        super().connection_made(OneWriteTransport(transport, self.loop))
        session = transport.get_extra_info("ssl_object")
        self._tls = None if session is None else _tls_extension(session)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser, which keeps what it has of an unfinished head: that is what must not grow."""
        if self._in_head:
            self._head_octets += len(data)
        super().data_received(data)
        if self._in_head and self._head_octets > _MAX_HEAD and not self.transport.is_closing():
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        if self._tls is not None:
            self.scope["extensions"] = {"tls": self._tls}
        self._in_head = True
        self._field_octets = 0
        self._hosts = 0
        if self._head_timer is None:
            self._await_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header field, unless there are too many in all."""
        super().on_header(name, value)
        self._field_octets += len(name) + len(value)
        self._hosts += name.lower() == b"host"
        if self._field_octets > _MAX_HEAD:
            raise _HeadTooLarge

    def on_headers_complete(self) -> None:
        """The head is there; what follows is the body, which has bounds of its own."""
        self._in_head = False
        self._head_octets = 0
        self._stop_timer()
        # RFC 9112 §3.2: none, where HTTP/1.1 needs one, or several, of which a proxy may have read another.
        if self._hosts > 1 or (not self._hosts and self.parser.get_http_version() == "1.1"):
            raise _BadHost
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser could not, or was not to, read on."""
        del msg  # uvicorn's own words
        too_large = self._in_head and max(self._head_octets, self._field_octets) > _MAX_HEAD
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if too_large else HTTPStatus.BAD_REQUEST)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_is_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self.transport.is_closing():
            return
        if self._head_octets:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT)
        else:
            self.transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        request_id = uuid.uuid4().hex
        kind = status.phrase.lower().replace(" ", "-")
        problem = {
            "type": f"urn:tiny-ca:error:{kind}",
            "title": status.phrase,
            "status": status.value,
            "detail": _REASONS[status],
            "request_id": request_id,
        }
        body = json.dumps(problem).encode("ascii")
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
            f"content-length: {len(body)}\r\nx-request-id: {request_id}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode("ascii") + body)
        self.transport.close()


def _tls_extension(session: Any) -> dict[object, object]:  # noqa: ANN401  # an SSLObject, as far as this goes
    """What ASGI's TLS extension asks for, as far as it is needed; of the client's chain, its certificate alone."""
    certificate = session.getpeercert(binary_form=True)
    return {
        "server_cert": None,
        "client_cert_chain": [] if certificate is None else [ssl.DER_cert_to_PEM_cert(certificate)],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": _TLS_VERSIONS.get(session.version()),
        "cipher_suite": None,
    }
