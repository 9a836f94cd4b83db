"""Who may ask at all."""

from __future__ import annotations

import httpx
import pytest

from tests.api.answers import problem
from tests.running import CERTIFICATES, RunningService

PROTECTED = [
    ("POST", ""), ("GET", ""), ("GET", "/1"), ("GET", "/1/status"), ("GET", "/1/chain"), ("POST", "/1/revoke"),
]  # fmt: skip


@pytest.mark.parametrize("method,path", PROTECTED)
def test_without_a_token(anybody: httpx.Client, method: str, path: str) -> None:
    """Every path of the API wants a token: without one it is 401, whatever is asked, and how to log in is said."""
    response = anybody.request(method, CERTIFICATES + path)
    problem(response, 401)
    assert response.headers["www-authenticate"] == 'Bearer realm="tiny-ca"'


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "bearer", "Basic YWRtaW46YWRtaW4=", "Token abc", "abc", "Bearer a b", "Bearer\tx",
        "Bearer tcat_wrong", "Bearer " + "x" * 10_240, "Bearer null", "Bearer \xe9\xff", "Bearer ' OR 1=1 --",
    ],
    ids=lambda header: repr(header[:20]),
)  # fmt: skip
def test_a_wrong_token(anybody: httpx.Client, header: str) -> None:
    """A token that is unknown, of another scheme, cut, 10 KB long or no text at all: 401, and it is not repeated."""
    response = anybody.get(CERTIFICATES, headers=[(b"Authorization", header.encode("latin-1"))])
    problem(response, 401)
    assert "tcat_wrong" not in response.text


def test_almost_the_token(service: RunningService, anybody: httpx.Client) -> None:
    """A token that is cut, longer or in other letters is another one."""
    for token in (service.token[:-1], service.token + "x", service.token.swapcase()):
        problem(anybody.get(CERTIFICATES, headers={"Authorization": f"Bearer {token}"}), 401)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_token(service: RunningService, anybody: httpx.Client, scheme: str) -> None:
    """The admin's token is let in, the scheme in any case (RFC 9110 §11.1)."""
    assert anybody.get(CERTIFICATES, headers={"Authorization": f"{scheme} {service.token}"}).status_code == 200


def test_the_token_in_other_places(service: RunningService, anybody: httpx.Client) -> None:
    """A token in the query or in a cookie is none: it would stand in logs, or be sent by browsers unasked."""
    problem(anybody.get(CERTIFICATES, params={"access_token": service.token}), 401)
    problem(anybody.get(CERTIFICATES, headers={"Cookie": f"token={service.token}"}), 401)


def test_the_token_is_in_no_log(service: RunningService, api: httpx.Client) -> None:
    """What the service logs holds neither the token nor a part of it."""
    assert api.get(CERTIFICATES).status_code == 200
    assert service.token[5:20] not in service.log


@pytest.mark.parametrize(
    "path", ["/ca.pem", "/roots.pem", "/crl.pem", "/crl.der", "/healthz", "/readyz", "/openapi.json"]
)
def test_public_paths_ignore_the_header(anybody: httpx.Client, path: str) -> None:
    """What is public stays so for those who send a wrong token."""
    assert anybody.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 200
