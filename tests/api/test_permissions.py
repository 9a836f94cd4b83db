"""Every route of the document, asked by nobody, by one whose token has expired, and by one who may not."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.api.answers import problem
from tests.running import RunningService

# What any valid token may ask.
_ANYBODY = {"/api/v1/inspect", "/api/v1/verify", "/api/v1/crl/verify"}
# What no token opens: the certificate itself does.
_BY_CERTIFICATE = {"/api/v1/certificates/renew"}


@pytest.fixture(scope="module")
def routes(anybody: httpx.Client) -> list[tuple[str, str]]:
    """``(method, path)`` of everything under /api."""
    paths = anybody.get("/openapi.json").json()["paths"]
    return [(method, path) for path, item in paths.items() if path.startswith("/api/") for method in item]


def _token(api: httpx.Client, **fields: object) -> dict[str, str]:
    made = api.post("/api/v1/tokens", json={"name": "x", **fields})
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['token']}"}


def _ask(client: httpx.Client, method: str, path: str, headers: dict[str, str]) -> httpx.Response:
    """Ask with nothing in the body: who may not is told so before anything is read."""
    filled = path.format(serial_number="1", token_id="x", name="mark_expired", issuer_id="0123456789abcdef")
    return client.request(method.upper(), filled, headers=headers, json={} if method in {"post", "patch"} else None)


def test_without_a_token(anybody: httpx.Client, routes: list[tuple[str, str]]) -> None:
    """401, whatever is asked."""
    assert len(routes) > 20
    for method, path in routes:
        problem(_ask(anybody, method, path, {}), 401)


def test_with_an_expired_token(api: httpx.Client, anybody: httpx.Client, routes: list[tuple[str, str]]) -> None:
    """401, whatever it would have granted."""
    ends = datetime.now(UTC) + timedelta(seconds=2)
    token = _token(api, role="admin", expires_at=ends.strftime("%Y-%m-%dT%H:%M:%SZ"))
    while anybody.get("/api/v1/certificates", headers=token).status_code != 401:
        assert datetime.now(UTC) < ends + timedelta(seconds=5)
        time.sleep(0.1)
    for method, path in routes:
        refused = problem(_ask(anybody, method, path, token), 401)
        assert "expired" in refused["detail"] or path in _BY_CERTIFICATE


def test_with_a_token_that_grants_nothing(
    api: httpx.Client, anybody: httpx.Client, routes: list[tuple[str, str]]
) -> None:
    """403 with the permission that is missing, and an audit row for it; what any token may ask is not refused."""
    token = _token(api, permissions=[])
    refused = 0
    for method, path in routes:
        response = _ask(anybody, method, path, token)
        if path in _ANYBODY:
            assert response.status_code not in {401, 403}
        elif path in _BY_CERTIFICATE:
            problem(response, 401)
        else:
            problem(response, 403, rule="permission")
            refused += 1
    rows = api.get("/api/v1/audit", params={"outcome": "refused", "limit": 1000}).json()["items"]
    assert len([row for row in rows if row["rule"] == "permission"]) >= refused


def test_each_permission_opens_its_own(api: httpx.Client, service: RunningService) -> None:
    """A token with one permission is refused by no route that needs just that one."""
    opens = {
        "certificates:issue": ("post", "/api/v1/certificates"),
        "certificates:read": ("get", "/api/v1/certificates"),
        "certificates:revoke": ("post", "/api/v1/certificates/{serial_number}/revoke"),
        "certificates:delete": ("delete", "/api/v1/certificates/{serial_number}"),
        "certificates:cosign": ("post", "/api/v1/cosign"),
        "profiles:read": ("get", "/api/v1/profiles"),
        "tokens:manage": ("get", "/api/v1/tokens"),
        "audit:read": ("get", "/api/v1/audit"),
        "jobs:read": ("get", "/api/v1/jobs"),
        "jobs:run": ("post", "/api/v1/jobs/{name}/run"),
    }
    with service.anonymous() as client:
        for permission, (method, path) in opens.items():
            response = _ask(client, method, path, _token(api, permissions=[permission]))
            assert response.status_code not in {401, 403}, (permission, response.text)
            for other, (its_method, its_path) in opens.items():
                if other != permission:
                    refused = _ask(client, its_method, its_path, _token(api, permissions=[permission]))
                    assert refused.status_code == 403, (permission, other, refused.text)
