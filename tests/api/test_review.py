"""What reviewers broke once, each mended: nothing is silently resolved, and no value of a caller's is our failure."""

from __future__ import annotations

import socket
import time
from contextlib import closing

import httpx
import pytest

from tests.api.answers import problem
from tests.api.asking import csr
from tests.running import CERTIFICATES, RunningService


@pytest.mark.parametrize(
    "query", ["lifetime=15m&lifetime=90d", "profile=server&profile=ci", "limit=1&limit=2", "cursor=a&cursor=b"]
)
def test_a_query_parameter_that_comes_twice(api: httpx.Client, query: str) -> None:
    """Nobody can tell which one was meant: 422, and nothing is issued."""
    name = query.partition("=")[0]
    url = f"{CERTIFICATES}?{query}"
    response = api.post(url, content=csr()) if name in {"lifetime", "profile"} else api.get(url)
    problem(response, 422, field=name)


@pytest.mark.parametrize(
    "body, field",
    [
        ('{"common_name": "a.example.org", "lifetime": "1h", "lifetime": "397d"}', "lifetime"),
        ('{"common_name": "a.example.org", "key": {"algorithm": "rsa", "algorithm": "ec"}}', "algorithm"),
    ],
)
def test_a_json_field_that_comes_twice(api: httpx.Client, body: str, field: str) -> None:
    """The last one does not win: 422."""
    problem(api.post(CERTIFICATES, content=body), 422, field=field)


@pytest.mark.parametrize("name", ["expires_before", "expires_after"])
@pytest.mark.parametrize(
    "moment", ["2027", "1795525200", "2027-01-01", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "soon"]
)
def test_a_moment_that_is_none(api: httpx.Client, name: str, moment: str) -> None:
    """Only RFC 3339 is a moment, and only within the calendar: 422."""
    problem(api.get(CERTIFICATES, params={name: moment}), 422, field=name)


@pytest.mark.parametrize("moment", ["1795525200", "2027-01-01", "9999-12-31T23:59:59-23:59"])
def test_a_start_that_is_no_moment(api: httpx.Client, moment: str) -> None:
    """``valid_from`` is read as strictly."""
    body = {"common_name": "a.example.org", "valid_from": moment}
    problem(api.post(CERTIFICATES, json=body), 422, field="valid_from")


@pytest.mark.parametrize("name", ["common_name", "san", "requester"])
def test_control_characters_in_a_filter(api: httpx.Client, name: str) -> None:
    """A NUL is in no name, and some databases cannot hold one: 422."""
    problem(api.get(CERTIFICATES, params={name: "a\0b"}), 422, field=name)


def test_no_ca_key_leaves(api: httpx.Client) -> None:
    """A CA from a config would carry its private key over the API: 403, whatever the role."""
    root = api.get(CERTIFICATES, params={"key_type": "CA"}).json()["items"][-1]
    body = {"common_name": "Evil CA", "profile": "intermediate", "issuer_id": root["issuer_id"]}
    problem(api.post(CERTIFICATES, json=body), 403, rule="certificate_authority")


@pytest.mark.parametrize("name", ["*", "*.com", "a.*.b", "127.1", "foo_bar.bank.com", "bücher.example"])
def test_a_common_name_that_only_looks_like_a_host(api: httpx.Client, name: str) -> None:
    """Under every profile that serves TLS it is refused, for patterns could not hold it."""
    document = problem(api.post(CERTIFICATES, json={"common_name": name, "profile": "ci"}), 403, rule="common_name")
    if name == "bücher.example":
        assert "xn--bcher-kva.example" in document["detail"]


@pytest.mark.parametrize("spelling", ["ONE.example.org", "one.example.org."])
def test_a_unique_name_in_another_spelling(api: httpx.Client, spelling: str) -> None:
    """Case and a trailing dot make no other name: 409."""
    api.post(CERTIFICATES, json={"common_name": "one.example.org", "profile": "single"})
    problem(api.post(CERTIFICATES, json={"common_name": spelling, "profile": "single"}), 409)


def test_flags_that_say_no(api: httpx.Client) -> None:
    """Neither server nor client is nothing: 422; no server under ``peer`` is a client."""
    neither = {"common_name": "a.example.org", "is_server_cert": False, "is_client_cert": False}
    problem(api.post(CERTIFICATES, json=neither), 422)
    client_only = {"common_name": "a.example.org", "profile": "peer", "is_server_cert": False}
    made = api.post(CERTIFICATES, json=client_only)
    assert made.status_code == 201
    assert b"1.3.6.1.5.5.7.3" not in made.content  # what it may be used for is in the certificate, not in the JSON


def _talk(service: RunningService, *parts: bytes) -> bytes:
    """Send these and return what came until the service closed."""
    port = int(service.url.rpartition(":")[2])
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            pass
        return answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: ca\r\nX: " + b"a" * 200_000,
        b"GET /healthz HTTP/1.1\r\nHost: ca\r\n" + b"X: a\r\n" * 30_000 + b"\r\n",
        b"GET /" + b"a" * 200_000,
    ],
    ids=["one field", "many fields", "target"],
)
def test_a_head_without_end(service: RunningService, head: bytes) -> None:
    """A request's head is bounded: 431 as a problem document, and the connection is closed."""
    answer = _talk(service, head)
    assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]
    assert b"application/problem+json" in answer
    assert b"x-request-id: " in answer


def test_what_is_no_http(service: RunningService) -> None:
    """Bytes that are no request are answered by a problem document with a request id."""
    answer = _talk(service, b"FOO BAR BAZ\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert b"x-request-id: " in answer


def test_a_head_that_never_ends_is_not_waited_for(service: RunningService) -> None:
    """Half a head, and then silence: the connection is closed after ten seconds."""
    began = time.monotonic()
    answer = _talk(service, b"POST /api/v1/certificates HTTP/1.1\r\nHost: ca\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 9 < time.monotonic() - began < 15
