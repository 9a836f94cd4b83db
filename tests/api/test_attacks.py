"""What an attacker tried once and got, each mended: narrow tokens that reach past their limits, and cheap overload."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.api.answers import issued, problem
from tests.api.asking import Key, csr, fresh_key, fresh_name
from tests.made_elsewhere import foreign_ca
from tests.running import CERTIFICATES, RunningService

ISSUERS = "/api/v1/issuers"
JSON = {"Accept": "application/json"}
MANAGING = ["issuers:manage", "issuers:read", "certificates:issue", "certificates:revoke"]
COSIGNING = ["certificates:cosign", "certificates:revoke", "certificates:issue", "certificates:read"]


@contextmanager
def _as(service: RunningService, api: httpx.Client, **grant: Any) -> Iterator[httpx.Client]:  # noqa: ANN401  # JSON
    made = api.post("/api/v1/tokens", json={"name": "an attacker's", **grant})
    assert made.status_code == 201, made.text
    headers = {"Authorization": f"Bearer {made.json()['token']}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


def _made_elsewhere(name: str, holder: Key) -> str:
    """Somebody's certificate for a key that is not theirs: its issuer only says so."""
    signer, now = fresh_key(), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Elsewhere")])
    begins = foreign_ca().certificate.not_valid_before_utc
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(now)
        .public_key(holder.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=10))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM).decode()


@pytest.mark.parametrize(
    "limit, rule",
    [
        ({"profiles": ["server"]}, "profile"),
        ({"max_lifetime": "1h"}, "limits.max_lifetime"),
        ({"own_only": True}, "own_only"),
    ],
    ids=["profiles", "max_lifetime", "own_only"],
)
def test_a_limited_token_plants_no_trust_anchor(
    service: RunningService, api: httpx.Client, limit: dict[str, Any], rule: str
) -> None:
    """Whoever may make no CA of that kind here brings none from elsewhere either."""
    root = foreign_ca(lasts=timedelta(days=9000))
    with _as(service, api, permissions=MANAGING, **limit) as attacker:
        problem(attacker.post(ISSUERS, json=root.body()), 403, rule=rule)
    assert root.pem not in api.get("/roots.pem").text


def test_a_ca_is_nobodys_own(service: RunningService, api: httpx.Client) -> None:
    """``own_only`` holds on the issuers' paths as on those of certificates."""
    (default,) = [one for one in api.get(ISSUERS).json()["items"] if one["default"]]
    path = f"{ISSUERS}/{default['id']}"
    with _as(service, api, permissions=MANAGING, own_only=True) as attacker:
        problem(attacker.post(f"{path}/revoke", json={"reason": "superseded"}), 403, rule="own_only")
        problem(attacker.patch(path, json={"enabled": False}), 403, rule="own_only")
        problem(attacker.post(f"{path}/crl"), 403, rule="own_only")
        problem(attacker.post(ISSUERS, json={"common_name": "Mine"}), 403, rule="own_only")
    found = api.get(path).json()
    assert (found["revoked"], found["enabled"]) == (False, True)


@pytest.mark.parametrize("known", [True, False], ids=["certified here", "not yet"])
def test_nobody_takes_anothers_key_from_them(service: RunningService, api: httpx.Client, known: bool) -> None:  # noqa: FBT001  # pytest's
    """A co-signed certificate proves no key: to revoke it as compromised blocks its own holder's alone."""
    victim, mine = fresh_key(), fresh_name()
    before = issued(api.post(CERTIFICATES, content=csr(key=victim), headers=JSON)) if known else None
    with _as(service, api, permissions=COSIGNING, own_only=True, names=[mine]) as attacker:
        copy = issued(attacker.post("/api/v1/cosign", json={"certificate": _made_elsewhere(mine, victim)}))
        revoke = f"{CERTIFICATES}/{copy['serial_number']}/revoke"
        assert attacker.post(revoke, json={"reason": "keyCompromise"}).status_code == 200
    if before is not None:
        assert api.post(f"{CERTIFICATES}/{before['serial_number']}/renew").status_code == 201
    issued(api.post(CERTIFICATES, content=csr(key=victim), headers=JSON))


def test_ones_own_key_is_blocked(service: RunningService, api: httpx.Client) -> None:
    """Who proved a key may say that it is compromised, with ``own_only`` too."""
    key, mine = fresh_key(), fresh_name()
    with _as(service, api, permissions=COSIGNING, own_only=True, names=[mine]) as owner:
        made = issued(owner.post(CERTIFICATES, content=csr(mine, key=key), headers=JSON))
        revoke = f"{CERTIFICATES}/{made['serial_number']}/revoke"
        assert owner.post(revoke, json={"reason": "keyCompromise"}).status_code == 200
    problem(api.post(CERTIFICATES, content=csr(key=key), headers=JSON), 403, rule="key_blocked")


def test_a_limited_token_joins_no_group(service: RunningService, api: httpx.Client) -> None:
    """Who is limited in names has no organization that its token does not allow: Kubernetes reads groups out of it."""
    mine, group = fresh_name(), (NameOID.ORGANIZATION_NAME, "system:masters")
    theirs = issued(api.post(CERTIFICATES, content=csr(mine, subject=[group]), headers=JSON))
    asked = csr(mine, subject=[group])
    with _as(service, api, permissions=COSIGNING, names=[mine]) as attacker:
        for answer in (
            attacker.post(CERTIFICATES, content=asked),
            attacker.post(CERTIFICATES, json={"common_name": mine, "organization": "system:masters"}),
            attacker.post("/api/v1/cosign", json={"certificate": theirs["certificate"]}),
            attacker.post(f"{CERTIFICATES}/{theirs['serial_number']}/renew"),
            attacker.post(f"{CERTIFICATES}/{theirs['serial_number']}/rotate"),
        ):
            assert "system:masters" in problem(answer, 403, rule="limits.subject")["detail"]
        simulated = attacker.post("/api/v1/simulate", content=asked).json()
        assert "limits.subject" in [rule["rule"] for rule in simulated["rules"] if not rule["passed"]]
        issued(attacker.post(CERTIFICATES, content=csr(mine), headers=JSON))
    with _as(service, api, role="issuer", names=[mine], subject=["organization=system:masters"]) as trusted:
        issued(trusted.post(CERTIFICATES, content=asked, headers=JSON))


def test_who_lifts_a_hold(service: RunningService, api: httpx.Client) -> None:
    """``own_only`` lifts a hold that it placed itself, and no one else's; who is not so limited lifts any."""
    with _as(service, api, role="issuer", own_only=True) as owner:
        made = issued(owner.post(CERTIFICATES, content=csr(fresh_name()), headers=JSON))
        path, hold = f"{CERTIFICATES}/{made['serial_number']}", {"reason": "certificateHold"}
        for holder, lifts in ((owner, True), (api, False), (owner, True)):
            assert holder.post(f"{path}/revoke", json=hold).status_code == 200
            # Whoever repeats a hold has not placed it.
            assert (api if holder is owner else owner).post(f"{path}/revoke", json=hold).status_code == 200
            lifted = owner.post(f"{path}/unhold")
            if not lifts:
                problem(lifted, 403, rule="own_only")
                lifted = api.post(f"{path}/unhold")
            assert (lifted.status_code, lifted.json()["status"]) == (200, "valid")
        problem(owner.post(f"{path}/unhold"), 409)


def test_a_compromised_ca_key_is_blocked(api: httpx.Client) -> None:
    """``cACompromise`` says of a CA's key what ``keyCompromise`` says of another's."""
    key = fresh_key()
    made = issued(api.post(CERTIFICATES, content=csr(key=key), headers=JSON))
    revoke = f"{CERTIFICATES}/{made['serial_number']}/revoke"
    assert api.post(revoke, json={"reason": "cACompromise"}).status_code == 200
    problem(api.post(CERTIFICATES, content=csr(key=key), headers=JSON), 403, rule="key_blocked")


@pytest.mark.parametrize("year", ["99999999999999999999", "0000"])
def test_a_date_off_the_calendar(anybody: httpx.Client, year: str) -> None:
    """An ``If-Modified-Since`` that is no date is as none (RFC 9110 §13.1.3)."""
    since = f"Mon, 01 Jan {year} 00:00:00 GMT"
    assert anybody.get("/ca.pem", headers={"If-Modified-Since": since}).status_code == 200


def test_a_hundred_thousand_fields(api: httpx.Client) -> None:
    """One entry of a batch is bounded as a request alone is, and reading it takes time in proportion to its length."""
    fields = {f"k{number}": 0 for number in range(100_000)}
    body = json.dumps({"requests": [{"common_name": "app.example.org"}, fields]}).encode()
    began = time.monotonic()
    answer = api.post(f"{CERTIFICATES}/batch", content=body)
    assert time.monotonic() - began < 20, "in proportion to its square, it takes a minute and more"
    assert [one["status"] for one in answer.json()["results"]] == [201, 413]
