"""Bodies that are too large, too slow, too deep, or not what they claim to be."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Scope

from app.metrics import Metrics
from app.middleware import BodyLimitMiddleware, RequestMiddleware
from tests.api.answers import detail_of_refusal, problem
from tests.api.asking import csr
from tests.running import CERTIFICATES

LIMIT = 64 * 1024


def _chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1024):
        yield b"x" * 1024


class TestSize:
    def test_announced(self, api: httpx.Client) -> None:
        """A body of 65 KiB is 413 by its Content-Length, with the limit; the connection is closed."""
        response = api.post(CERTIFICATES, content=b"x" * (65 * 1024))
        assert problem(response, 413)["limit"] == LIMIT
        assert response.headers["connection"] == "close"

    def test_chunked(self, api: httpx.Client) -> None:
        """A body of 65 KiB that does not announce its length is 413 all the same."""
        assert problem(api.post(CERTIFICATES, content=_chunks(65 * 1024)), 413)["limit"] == LIMIT

    @pytest.mark.parametrize("content_length", ["99999999999999999999999999", "65537"])
    def test_announced_and_not_sent(self, service_address: tuple[str, int], content_length: str) -> None:
        """A giant Content-Length is refused before a byte of the body is waited for."""
        head = f"POST {CERTIFICATES} HTTP/1.1\r\nHost: ca\r\nContent-Length: {content_length}\r\n\r\n"
        status = _status_line(service_address, head.encode())
        assert status.split()[1] in {"400", "413"}

    def test_a_csr(self, api: httpx.Client) -> None:
        """A CSR of 65 KiB is 413, whatever is in it."""
        padded = csr().replace(b"-----END", b"\n" * (65 * 1024) + b"-----END")
        problem(api.post(CERTIFICATES, content=padded), 413)

    def test_just_within(self, api: httpx.Client) -> None:
        """A body of exactly 64 KiB is read, and judged by what it holds."""
        body = csr()
        padded = body.replace(b"-----END", b"\n" * (LIMIT - len(body)) + b"-----END")
        assert len(padded) == LIMIT
        assert api.post(CERTIFICATES, content=padded).status_code == 201

    def test_without_a_token(self, anybody: httpx.Client) -> None:
        """Who has no token may not send more either."""
        problem(anybody.post(CERTIFICATES, content=b"x" * (65 * 1024)), 413)


class TestTime:
    @pytest.mark.anyio
    async def test_a_body_that_never_ends(self) -> None:
        """A body that is not there when its time is over is 408, and the connection is closed."""
        app = RequestMiddleware(BodyLimitMiddleware(_echo(), seconds=0.05), Metrics())
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        parts: list[Message] = [{"type": "http.request", "body": b"some", "more_body": True}]

        async def receive() -> Message:
            if parts:
                return parts.pop()
            await anyio.sleep_forever()
            raise AssertionError

        await app(_scope(), receive, send)
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        response = httpx.Response(sent[0]["status"], headers=headers, content=sent[1]["body"])
        assert "0.05 seconds" in detail_of_refusal(response, 408)
        assert headers["connection"] == "close"

    @pytest.mark.anyio
    async def test_a_client_that_goes_away(self) -> None:
        """A client that goes away in the middle of its body gets no answer, and harms nobody."""
        app = RequestMiddleware(BodyLimitMiddleware(_echo()), Metrics())
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        async def receive() -> Message:
            return {"type": "http.disconnect"}

        await app(_scope(), receive, send)
        assert sent == []


class TestJSON:
    @pytest.mark.parametrize(
        "body",
        [
            b"", b"hello", b"{", b'{"csr": ', b'{"csr": "a"} trailing', b"\xff\xfe{}", b'{"csr": NaN}x',
            b'{"common_name": "\xff"}', b"[" * 60_000, b'{"a":' * 10_000, b'{"csr": ' + b"[" * 50_000,
            b'{"common_name": "\\ud800"}',
        ],
        ids=lambda body: repr(body[:12]),
    )  # fmt: skip
    def test_that_is_none(self, api: httpx.Client, body: bytes) -> None:
        """What is no JSON is 400, be it nested ever so deep."""
        problem(api.post(CERTIFICATES, content=body, headers={"Content-Type": "application/json"}), 400)

    @pytest.mark.parametrize("value", [[], "text", 1, None, True, [{}]])
    def test_that_is_no_object(self, api: httpx.Client, value: Any) -> None:  # noqa: ANN401  # any JSON
        """JSON that is no object is 422."""
        problem(api.post(CERTIFICATES, content=json.dumps(value)), 422)

    @pytest.mark.parametrize(
        "body,field",
        [
            ({"csr": 1}, "csr"),
            ({"csr": None}, "csr"),
            ({"csr": ["a"]}, "csr"),
            ({"csr": csr().decode(), "profile": 1}, "profile"),
            ({"csr": csr().decode(), "lifetime": 24}, "lifetime"),
            ({"csr": csr().decode(), "lifetime": ["24h"]}, "lifetime"),
            ({"csr": csr().decode(), "days_valid": "10"}, "days_valid"),
            ({"csr": csr().decode(), "days_valid": 1.5}, "days_valid"),
            ({"csr": csr().decode(), "days_valid": True}, "days_valid"),
            ({"csr": csr().decode(), "san_dns": "a.example.org"}, "san_dns"),
            ({"csr": csr().decode(), "san_dns": [1]}, "san_dns.0"),
            ({"csr": csr().decode(), "san_dns": {"a": 1}}, "san_dns"),
            ({"common_name": 1}, "common_name"),
            ({"common_name": "a.example.org", "is_server_cert": "yes"}, "is_server_cert"),
            ({"common_name": "a.example.org", "key": []}, "key"),
            ({"common_name": "a.example.org", "key": {"algorithm": "rsa", "size": "2048"}}, "key.size"),
            ({"common_name": "a.example.org", "valid_from": 0}, "valid_from"),
        ],
    )
    def test_with_wrong_types(self, api: httpx.Client, body: dict[str, Any], field: str) -> None:
        """A value of another type is 422 and its field named; nothing is converted on a guess."""
        problem(api.post(CERTIFICATES, json=body), 422, field=field)

    @pytest.mark.parametrize("beside", [{"csr": csr().decode()}, {"common_name": "app.example.org"}])
    def test_with_an_unknown_field(self, api: httpx.Client, beside: dict[str, str]) -> None:
        """A field that is not known is 422, with those that are: a mistyped ``lifetme`` gives no certificate."""
        response = api.post(CERTIFICATES, json=beside | {"lifetme": "1h"})
        problem(response, 422, field="lifetme")
        assert "lifetime" in response.text

    def test_with_every_error_at_once(self, api: httpx.Client) -> None:
        """All the wrong fields of a request are told at once."""
        body = problem(api.post(CERTIFICATES, json={"common_name": 1, "country": 2, "colour": "red"}), 422)
        assert {error["field"] for error in body["errors"]} == {"common_name", "country", "colour"}


class TestQuery:
    @pytest.mark.parametrize("name", ["lifetme", "foo", "accept", "san_dns"])
    def test_unknown_beside_a_csr(self, api: httpx.Client, name: str) -> None:
        """A query parameter that is not known is 422."""
        problem(api.post(CERTIFICATES, content=csr(), params={name: "1h"}), 422, field=name)

    @pytest.mark.parametrize("name,value", [("profile", "server"), ("lifetime", "1h"), ("lifetme", "1h")])
    def test_beside_json(self, api: httpx.Client, name: str, value: str) -> None:
        """With JSON the body says it all: a query parameter is 422, not ignored."""
        response = api.post(CERTIFICATES, content=json.dumps({"csr": csr().decode()}), params={name: value})
        problem(response, 422, field=name)


def _echo() -> Starlette:
    async def echo(request: Request) -> Response:
        return PlainTextResponse(await request.body())

    return Starlette(routes=[Route("/", echo, methods=["POST"])])


def _scope() -> Scope:
    return {
        "type": "http",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "headers": [(b"transfer-encoding", b"chunked")],
        "http_version": "1.1",
        "scheme": "http",
        "server": ("127.0.0.1", 80),
        "client": ("127.0.0.1", 1),
        "root_path": "",
    }


def _status_line(address: tuple[str, int], head: bytes) -> str:
    with socket.create_connection(address, timeout=10) as connection:
        connection.sendall(head)
        return connection.recv(4096).decode().partition("\r\n")[0]


@pytest.fixture
def service_address(api: httpx.Client) -> tuple[str, int]:
    """Host and port of the service."""
    return str(api.base_url.host), int(api.base_url.port or 0)
