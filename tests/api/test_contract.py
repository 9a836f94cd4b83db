"""Sentences of the contract that hold for many routes at once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.api.answers import issued, problem
from tests.api.asking import csr, fresh_key, fresh_name
from tests.running import CERTIFICATES, RunningService

JSON = {"Accept": "application/json"}
AUDIT = "/api/v1/audit"


def _issue(api: httpx.Client) -> str:
    serial: str = issued(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))["serial_number"]
    return serial


def _caller(api: httpx.Client, service: RunningService, **fields: object) -> httpx.Client:
    token = api.post("/api/v1/tokens", json={"name": "x", **fields}).json()["token"]
    client = service.anonymous()
    client.headers["Authorization"] = f"Bearer {token}"
    return client


@pytest.mark.parametrize(
    "path", [CERTIFICATES, "/api/v1/tokens", "/api/v1/issuers", "/api/v1/profiles", "/api/v1/jobs", AUDIT]
)
def test_a_list_is_json_alone(api: httpx.Client, path: str) -> None:
    """An Accept that has no place for JSON is 406; one that takes anything is not."""
    problem(api.get(path, headers={"Accept": "application/pkix-cert"}), 406)
    assert api.get(path, headers={"Accept": "text/html, */*;q=0.1"}).status_code == 200


def test_an_answer_that_cannot_be_given_is_not_acted_on(api: httpx.Client) -> None:
    """406 comes before the act."""
    serial = _issue(api)
    answer = api.post(f"{CERTIFICATES}/{serial}/revoke", json={}, headers={"Accept": "application/pkix-cert"})
    problem(answer, 406)
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "valid"


@pytest.mark.parametrize("body", [b'{"x":1}', b"{{{", b"\xff\xfe{"])
def test_a_body_where_none_is_read(api: httpx.Client, body: bytes) -> None:
    """What would be ignored is refused, and nothing is done."""
    serial = _issue(api)
    api.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "certificateHold"})
    issuer = api.get("/api/v1/issuers").json()["items"][0]["id"]
    for path in (f"{CERTIFICATES}/{serial}/unhold", f"/api/v1/issuers/{issuer}/crl", "/api/v1/jobs/forget/run"):
        problem(api.post(path, content=body), 422, field="body")
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "revoked"
    assert api.post(f"{CERTIFICATES}/{serial}/unhold", content=b"{}").status_code == 200


def test_who_may_issue_may_export(api: httpx.Client, service: RunningService) -> None:
    """PKCS #12 needs the permission to issue, and no other; another's certificate is outside ``own_only``."""
    key = fresh_key()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with _caller(api, service, permissions=["certificates:issue"], own_only=True) as caller:
        own = issued(caller.post(CERTIFICATES, content=csr(key=key), headers=JSON))["serial_number"]
        body = {"private_key": pem, "password": "a long password"}
        assert caller.post(f"{CERTIFICATES}/{own}/pkcs12", json=body).status_code == 200
        problem(caller.post(f"{CERTIFICATES}/{_issue(api)}/pkcs12", json=body), 403, rule="own_only")


def test_the_audit_of_own_acts(api: httpx.Client, service: RunningService) -> None:
    """With ``own_only``, the audit has one's own acts."""
    _issue(api)
    with _caller(api, service, permissions=["audit:read", "certificates:issue"], own_only=True) as caller:
        mine = issued(caller.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))["serial_number"]
        rows = caller.get(AUDIT).json()["items"]
        assert [row["serial_number"] for row in rows] == [mine]
        assert caller.get(AUDIT, params={"actor": "admin"}).json()["items"] == []


class TestIdempotency:
    def test_a_batch_is_one_request(self, api: httpx.Client) -> None:
        """A key that was a batch's is no other body's and no other path's, and the other way round."""
        first, other = ({"requests": [{"csr": csr(key=fresh_key()).decode()}]} for _ in range(2))
        headers = {"Idempotency-Key": uuid4().hex}
        before = api.post(f"{CERTIFICATES}/batch", json=first, headers=headers).json()
        problem(api.post(f"{CERTIFICATES}/batch", json=other, headers=headers), 409)
        problem(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=headers), 409)
        again = api.post(f"{CERTIFICATES}/batch", json=first, headers=headers).json()
        serials = [body["results"][0]["certificate"]["serial_number"] for body in (before, again)]
        assert serials[0] == serials[1]
        single = {"Idempotency-Key": uuid4().hex}
        api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=single)
        problem(api.post(f"{CERTIFICATES}/batch", json=first, headers=single), 409)

    def test_a_batch_of_which_nothing_was_made(self, api: httpx.Client) -> None:
        """Refusals are not kept, of a whole batch neither."""
        headers = {"Idempotency-Key": uuid4().hex}
        refused = api.post(f"{CERTIFICATES}/batch", json={"requests": [{"csr": "none"}]}, headers=headers).json()
        assert refused["results"][0]["status"] == 400
        body = {"requests": [{"csr": csr(key=fresh_key()).decode()}]}
        made = api.post(f"{CERTIFICATES}/batch", json=body, headers=headers).json()
        assert made["results"][0]["status"] == 201

    def test_a_conflict_is_audited(self, api: httpx.Client) -> None:
        """Who uses a key for another request is in the audit."""
        key, request_id = uuid4().hex, uuid4().hex
        api.post(CERTIFICATES, content=csr(key=fresh_key()), headers={"Idempotency-Key": key})
        headers = {"Idempotency-Key": key, "X-Request-Id": request_id}
        problem(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=headers), 409)
        (row,) = api.get(AUDIT, params={"request_id": request_id}).json()["items"]
        assert (row["action"], row["outcome"], row["rule"]) == ("certificate.issue", "refused", "conflict")


class TestSimulation:
    def test_a_name_that_is_taken(self, api: httpx.Client) -> None:
        """Where a common name is claimed by one alone, a simulation says that it is taken."""
        name = fresh_name()
        body = {"common_name": name, "profile": "single"}
        assert api.post("/api/v1/simulate", json=body).json()["allowed"] is True
        issued(api.post(CERTIFICATES, json=body))
        said = api.post("/api/v1/simulate", json=body).json()
        assert (said["allowed"], said["certificate"]) == (False, None)
        assert [rule["rule"] for rule in said["rules"] if not rule["passed"]] == ["unique_common_name"]

    def test_an_issuer_that_is_disabled(self, api: httpx.Client) -> None:
        """An issuer that signs nothing is a verdict, not an error."""
        made = api.post("/api/v1/issuers", json={"common_name": f"Off {uuid4().hex[:8]}"}).json()
        api.patch(f"/api/v1/issuers/{made['id']}", json={"enabled": False})
        body = {"common_name": fresh_name(), "issuer_id": made["id"]}
        said = api.post("/api/v1/simulate", json=body)
        assert (said.status_code, said.json()["allowed"]) == (200, False)
        assert [rule["rule"] for rule in said.json()["rules"] if not rule["passed"]] == ["issuer"]
        problem(api.post(CERTIFICATES, json=body), 409)


def test_whose_limit_a_lifetime_breaks(api: httpx.Client, service: RunningService) -> None:
    """A profile's shortest lifetime is policy; a late start that only the caller's limit forbids is the caller's."""
    problem(api.post(CERTIFICATES, json={"common_name": fresh_name(), "lifetime": "30s"}), 422, field="lifetime")
    body = {"common_name": fresh_name(), "profile": "slow", "lifetime": "30m"}
    problem(api.post(CERTIFICATES, json=body), 403, rule="min_lifetime")
    with _caller(api, service, permissions=["certificates:issue"], max_lifetime="1h") as caller:
        later = datetime.now(UTC) + timedelta(hours=2)
        late = {"common_name": fresh_name(), "lifetime": "1h", "valid_from": f"{later:%Y-%m-%dT%H:%M:%SZ}"}
        problem(caller.post(CERTIFICATES, json=late), 403, rule="limits.max_lifetime")
