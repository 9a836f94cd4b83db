"""What every answer must look like, asserted in one place."""

from __future__ import annotations

from typing import Any

import httpx
from cryptography import x509

__all__ = ["certificate_of", "detail_of_refusal", "issued", "problem"]

_TITLES = {
    400: ("malformed", "Bad Request"),
    401: ("unauthenticated", "Unauthorized"),
    403: ("forbidden", "Forbidden"),
    404: ("not-found", "Not Found"),
    405: ("method-not-allowed", "Method Not Allowed"),
    406: ("not-acceptable", "Not Acceptable"),
    408: ("timeout", "Request Timeout"),
    409: ("conflict", "Conflict"),
    413: ("too-large", "Request Entity Too Large"),
    422: ("invalid", "Unprocessable Entity"),
    429: ("rate-limited", "Too Many Requests"),
    503: ("unavailable", "Service Unavailable"),
}
# Names of RFC 9110, which newer Pythons know.
_NEWER_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


def problem(
    response: httpx.Response,
    status: int,
    *,
    rule: str | None = None,
    field: str | None = None,
    kind: str | None = None,
) -> dict[str, Any]:
    """Assert a whole problem document (RFC 9457) and the headers that go with its status; return the document."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    usual_kind, title = _TITLES[status]
    assert body["type"] == f"urn:tiny-ca:error:{kind or usual_kind}"
    assert body["title"] in {title, _NEWER_TITLES.get(status)}
    assert body["status"] == status
    assert isinstance(body["detail"], str)
    assert body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert "traceback" not in response.text.lower()
    assert ("rule" in body, "value" in body) == (status == 403, status == 403)
    assert body.get("rule") == rule
    assert ("www-authenticate" in response.headers) == (status == 401)
    assert ("retry-after" in response.headers) == (status in {429, 503})
    if field is not None:
        assert field in [error["field"] for error in body["errors"]], body["errors"]
    for error in body.get("errors", ()):
        assert set(error) == {"field", "message"}
    return body


def detail_of_refusal(response: httpx.Response, status: int, **expected: str | None) -> str:
    """Assert the problem; return its text."""
    return str(problem(response, status, **expected)["detail"])


def issued(response: httpx.Response) -> dict[str, Any]:
    """Assert a certificate as JSON, newly made; return it."""
    assert response.status_code == 201, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    body: dict[str, Any] = response.json()
    assert response.headers["location"] == f"/api/v1/certificates/{body['serial_number']}"
    return body


def certificate_of(body: dict[str, Any]) -> x509.Certificate:
    """Read the certificate in an answer."""
    return x509.load_pem_x509_certificate(body["certificate"].encode())
