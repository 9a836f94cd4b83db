"""What holds for every answer: request ids, unknown paths, methods."""

from __future__ import annotations

import httpx
import pytest

from tests.api.answers import problem
from tests.running import CERTIFICATES


class TestRequestId:
    @pytest.mark.parametrize("request_id", ["abc", "A-1_b.2", "x" * 128, "0"])
    def test_sane(self, api: httpx.Client, request_id: str) -> None:
        """The caller's own id comes back, on successes and in problems."""
        headers = {"X-Request-Id": request_id}
        assert api.get("/healthz", headers=headers).headers["x-request-id"] == request_id
        assert problem(api.get(f"{CERTIFICATES}/abc", headers=headers), 404)["request_id"] == request_id

    @pytest.mark.parametrize("request_id", ["", "a b", "x" * 129, "ä", "a;b", "<script>", "a/b", '"', "a\tb"])
    def test_insane(self, api: httpx.Client, request_id: str) -> None:
        """An id that is too long or holds other characters is replaced, not echoed."""
        response = api.get(f"{CERTIFICATES}/abc", headers=[(b"X-Request-Id", request_id.encode("latin-1"))])
        made = problem(response, 404)["request_id"]
        assert made != request_id
        assert (len(made), made.isalnum()) == (32, True)

    def test_none(self, anybody: httpx.Client) -> None:
        """Without one, each answer has a new id, 401 and 304 included."""
        etag = anybody.get("/ca.pem").headers["etag"]
        answers = [
            anybody.get("/healthz"),
            anybody.get("/ca.pem"),
            anybody.get("/ca.pem", headers={"If-None-Match": etag}),
            anybody.get(CERTIFICATES),
            anybody.get("/nowhere"),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 304, 401, 404]
        assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/api/v1",
        "/api/v1/nowhere",
        "/api/v2/certificates",
        "/ca.pem.bak",
        "/..%2f..%2fetc/passwd",
        "//ca.pem",
    ],
)
def test_unknown_paths(api: httpx.Client, path: str) -> None:
    """A path that is not there is a 404 problem."""
    problem(api.get(path), 404)


@pytest.mark.parametrize("path", [f"{CERTIFICATES}/", "/healthz/", "/ca.pem/"])
def test_a_slash_too_many(api: httpx.Client, path: str) -> None:
    """A trailing slash is another path: no redirect, which a client could follow to another host."""
    problem(api.get(path, headers={"Host": "evil.example"}), 404)


@pytest.mark.parametrize(
    "method,path,allowed",
    [
        ("PUT", CERTIFICATES, {"GET", "POST"}),
        ("DELETE", CERTIFICATES, {"GET", "POST"}),
        ("PATCH", f"{CERTIFICATES}/1", {"DELETE", "GET"}),
        ("POST", f"{CERTIFICATES}/1", {"DELETE", "GET"}),
        ("GET", f"{CERTIFICATES}/1/revoke", {"POST"}),
        ("DELETE", f"{CERTIFICATES}/1/status", {"GET"}),
        ("POST", "/ca.pem", {"GET", "HEAD"}),
        ("DELETE", "/healthz", {"GET", "HEAD"}),
        ("TRACE", CERTIFICATES, {"GET", "POST"}),
    ],
)
def test_methods(api: httpx.Client, method: str, path: str, allowed: set[str]) -> None:
    """A method that is not allowed is 405, with every one that is (RFC 9110 §15.5.6)."""
    response = api.request(method, path)
    problem(response, 405)
    assert allowed == {one.strip() for one in response.headers["allow"].split(",")}


def test_no_software_is_named(anybody: httpx.Client) -> None:
    """No header tells what the service is made of."""
    assert "server" not in anybody.get("/healthz").headers
