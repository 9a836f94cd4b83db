"""Requests whose end two parsers could see in two places (RFC 9112 §11.2): what follows is never another request."""

from __future__ import annotations

import re
import socket

import pytest

from tests.running import CERTIFICATES, RunningService

_HEAD = f"POST {CERTIFICATES} HTTP/1.1\r\nHost: ca\r\n"
_HIDDEN = "GET /healthz HTTP/1.1\r\nHost: ca\r\nX-Request-Id: hidden\r\n\r\n"
_LENGTH = len(_HIDDEN)
_CHUNKED = "Transfer-Encoding: chunked\r\n"
_END = "0\r\n\r\n"


@pytest.mark.parametrize(
    "fields, body",
    [
        # RFC 9112 §6.1, §6.3: of a length and a coding, one is a lie.
        (f"Content-Length: {len(_END) + _LENGTH}\r\n{_CHUNKED}", _END),
        (f"{_CHUNKED}Content-Length: 4\r\n", f"{_LENGTH:x}\r\n"),
        (f"{_CHUNKED}Content-Length: 0\r\n", _END),
        (f"Content-Length: 0\r\nContent-Length: {_LENGTH}\r\n", ""),
        (f"Content-Length: {_LENGTH}\r\nContent-Length: 0\r\n", ""),
        (f"Content-Length: {_LENGTH}, 0\r\n", ""),
        (f"Content-Length: +{_LENGTH}\r\n", ""),
        ("Content-Length: -1\r\n", ""),
        (f"Content-Length: 0x{_LENGTH:x}\r\n", ""),
        (f"Content-Length: {_LENGTH} 0\r\n", ""),
        # §6.1: chunked is the last coding, and there is no other here.
        ("Transfer-Encoding: xchunked\r\n", _END),
        ("Transfer-Encoding: chunked, identity\r\n", _END),
        (f"{_CHUNKED}Transfer-Encoding: identity\r\n", _END),
        # §5.1: no blank before the colon; §5.2: no line folding.
        ("Transfer-Encoding : chunked\r\n", _END),
        ("Transfer-Encoding: \x0bchunked\r\n", _END),
        ("Transfer-Encoding:\r\n chunked\r\n", _END),
        (f"Content-Length:\r\n {_LENGTH}\r\n", ""),
        (f"X-A: b\r\n Content-Length: {_LENGTH}\r\n", ""),
        # §2.2: a bare CR ends no line.
        (f"X-A: b\rContent-Length: {_LENGTH}\r\n", ""),
        (f"X-A: b\nContent-Length: {_LENGTH}\n", ""),
        (f"X-A: b\x00\r\nContent-Length: {_LENGTH}\r\n", ""),
        # §7.1: chunk sizes are hexadecimal, and end in CRLF.
        (_CHUNKED, "0\n\r\n"),
        (_CHUNKED, "5\nhello\r\n0\r\n\r\n"),
        (_CHUNKED, "5;a\nhello\r\n0\r\n\r\n"),
        (_CHUNKED, "5\r\nhello\n0\r\n\r\n"),
        (_CHUNKED, "0\r\n\n"),
        (_CHUNKED, "-1\r\n\r\n"),
        (_CHUNKED, "0x0\r\n\r\n"),
        (_CHUNKED, f"{'f' * 17}\r\n\r\n"),
    ],
    ids=ascii,
)
def test_what_ends_in_two_places(service: RunningService, fields: str, body: str) -> None:
    """400 and the end of the connection: one answer, and none to what was hidden behind."""
    answers = _answers(service, f"{_HEAD}{fields}\r\n{body}{_HIDDEN}")
    assert [status for status, _ in answers] == ["400"]
    assert "hidden" not in answers[0][1]


def test_chunks_over_http_1_0(service: RunningService) -> None:
    """RFC 9112 §6.1: a coding under HTTP/1.0 is faulty; what comes behind has no answer, and the connection ends."""
    answers = _answers(service, f"{_HEAD.replace('1.1', '1.0')}{_CHUNKED}\r\n{_END}{_HIDDEN}")
    assert len(answers) == 1
    assert "hidden" not in answers[0][1]


def _answers(service: RunningService, sent: str) -> list[tuple[str, str]]:
    """Status and text of each answer until the service closes the connection."""
    host, port = service.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(sent.encode("latin-1"))
        while piece := connection.recv(65536):
            received += piece
    return re.findall(r"^HTTP/1\.1 (\d{3})(.*?)(?=^HTTP/1\.1|\Z)", received.decode(), re.MULTILINE | re.DOTALL)
