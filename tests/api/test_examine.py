"""Inspect, verify, co-sign; batches and simulations; profiles, the audit, jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from socket import gethostname
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.api.answers import certificate_of, issued, problem
from tests.api.asking import csr, fresh_key, fresh_name
from tests.pkilint_check import certificate_findings
from tests.running import CERTIFICATES

JSON = {"Accept": "application/json"}


def _foreign(*extensions: tuple[x509.ExtensionType, bool], name: str = "app.example.org") -> x509.Certificate:
    """Another CA's certificate."""
    key, now = fresh_key(), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Another CA")])
    builder = x509.CertificateBuilder(issuer, subject, key.public_key(), 7, now, now + timedelta(days=30))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def _pem(certificate: x509.Certificate | x509.CertificateRevocationList) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()


class TestQuestions:
    @pytest.mark.parametrize("form", ["json", "pem", "der"])
    def test_inspect(self, api: httpx.Client, form: str) -> None:
        """Any certificate is read, however it is sent."""
        certificate = _foreign()
        match form:
            case "json":
                answer = api.post("/api/v1/inspect", json={"certificate": _pem(certificate)})
            case "pem":
                answer = api.post("/api/v1/inspect", content=_pem(certificate))
            case _:
                answer = api.post("/api/v1/inspect", content=certificate.public_bytes(Encoding.DER))
        body = answer.json()
        assert (answer.status_code, body["serial_number"], body["issuer_cn"]) == (200, "7", "Another CA")
        assert body["not_valid_after"].endswith("Z")

    def test_verify(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """Ours and valid: true. Another CA's, revoked, tampered: false with the reason. The CAs themselves: true."""
        made = issued(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))
        certificate = certificate_of(made)
        assert _verdict(api, certificate) == {"valid": True}
        for authority in x509.load_pem_x509_certificates(anybody.get("/ca.pem").content):
            assert _verdict(api, authority) == {"valid": True}
        assert "no CA of this service" in _verdict(api, _foreign())["reason"]
        octets = certificate.public_bytes(Encoding.DER).replace(b"example", b"exbmple")
        assert _verdict(api, x509.load_der_x509_certificate(octets))["valid"] is False
        api.post(f"{CERTIFICATES}/{made['serial_number']}/revoke")
        assert "revoked" in _verdict(api, certificate)["reason"]

    @pytest.mark.parametrize("form", ["json", "pem", "der"])
    def test_verify_a_crl(self, api: httpx.Client, anybody: httpx.Client, form: str) -> None:
        """Our newest CRL is good, with the moment when the next is due."""
        pem, der = anybody.get("/crl.pem").text, anybody.get("/crl.der").content
        content: Any = {"json": {"json": {"crl": pem}}, "pem": {"content": pem}, "der": {"content": der}}[form]
        answer = api.post("/api/v1/crl/verify", **content).json()
        assert answer["valid"] is True
        assert answer["next_update"].endswith("Z")

    def test_another_cas_crl(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """A CRL of another CA, even one of our CA's name, is not ours."""
        ours = x509.load_der_x509_crl(anybody.get("/crl.der").content)
        now = datetime.now(UTC)
        for name, says in ((ours.issuer, "signature"), (_foreign().subject, "name")):
            builder = x509.CertificateRevocationListBuilder(name, now, now + timedelta(days=1))
            crl = builder.sign(fresh_key(), hashes.SHA256())
            answer = api.post("/api/v1/crl/verify", content=_pem(crl)).json()
            assert answer["valid"] is False
            assert says in answer["reason"]

    @pytest.mark.parametrize("path", ["inspect", "verify", "crl/verify", "cosign"])
    @pytest.mark.parametrize(
        "body", [b"", b"\x30\x03\x02\x01\x01", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"[]"]
    )
    def test_what_is_none(self, api: httpx.Client, path: str, body: bytes) -> None:
        """What cannot be read is 400, JSON of another shape 422."""
        answer = api.post(f"/api/v1/{path}", content=body)
        problem(answer, 422 if body == b"[]" else 400)


class TestCosigning:
    def test_under_a_profile(self, api: httpx.Client) -> None:
        """Subject, names and key of the foreign certificate under our profile, recorded like any other."""
        name = fresh_name()
        source = _foreign((x509.SubjectAlternativeName([x509.DNSName(name)]), False), name=name)
        made = issued(api.post("/api/v1/cosign", json={"certificate": _pem(source), "lifetime": "1h"}))
        assert certificate_of(made).public_key() == source.public_key()
        assert (made["san"], made["profile"]) == ([name], "server")
        assert certificate_findings(certificate_of(made)) == []
        assert api.get(f"{CERTIFICATES}/{made['serial_number']}").status_code == 200
        raw = api.post("/api/v1/cosign", content=_pem(source), params={"lifetime": "1h"})
        assert (raw.status_code, raw.content.count(b"BEGIN CERTIFICATE")) == (201, 2)

    def test_no_ca(self, api: httpx.Client) -> None:
        """A CA's certificate is refused under every profile that makes none; what it brings is not copied."""
        source = _foreign((x509.BasicConstraints(ca=True, path_length=None), True))
        problem(api.post("/api/v1/cosign", json={"certificate": _pem(source)}), 403, rule="certificate_authority")
        odd = _foreign((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True))
        made = certificate_of(issued(api.post("/api/v1/cosign", json={"certificate": _pem(odd)})))
        assert "1.2.3.4" not in {extension.oid.dotted_string for extension in made.extensions}


class TestBatches:
    def test_each_is_judged_alone(self, api: httpx.Client) -> None:
        """In order: certificates, refusals, unreadable ones and what is no object; none touches its neighbours."""
        requests: list[Any] = [
            {"csr": csr(fresh_name()).decode()},
            {"common_name": fresh_name(), "lifetime": "1h"},
            {"csr": csr().decode(), "lifetime": "399d"},
            {"csr": "no csr"},
            {"common_name": "app.example.org", "lifetme": "1h"},
            {"csr": csr(fresh_name()).decode(), "profile": "ci"},
            "no object",
            None,
            [{"common_name": "app.example.org"}],
        ]
        answer = api.post(f"{CERTIFICATES}/batch", json={"requests": requests})
        results = answer.json()["results"]
        assert [one["status"] for one in results] == [201, 201, 403, 400, 422, 201, 422, 422, 422]
        assert results[2]["problem"]["rule"] == "max_lifetime"
        assert "private_key" in results[1]["certificate"]
        assert results[5]["certificate"]["profile"] == "ci"

    def test_a_thousand(self, api: httpx.Client) -> None:
        """A thousand are taken in one; one more is too large, and says the limit; none is 422."""
        asked = csr(fresh_name()).decode()
        many = {"requests": [{"csr": asked, "lifetime": "1h"}] * 1000}
        results = api.post(f"{CERTIFICATES}/batch", json=many).json()["results"]
        assert {one["status"] for one in results} == {201}
        assert len({one["certificate"]["serial_number"] for one in results}) == 1000
        more = api.post(f"{CERTIFICATES}/batch", json={"requests": many["requests"] + many["requests"][:1]})
        assert problem(more, 422, field="requests", kind="too-large")["limit"] == 1000
        problem(api.post(f"{CERTIFICATES}/batch", json={"requests": []}), 422, field="requests")

    def test_bounds_of_the_body(self, api: httpx.Client) -> None:
        """A batch may have 4 MiB, anything else 64 KiB."""
        big = b'{"requests": [{"csr": "' + b"A" * 65_000 + b'"}]}'
        assert api.post(f"{CERTIFICATES}/batch", content=big.ljust(200_000)).status_code == 200
        body = problem(api.post(f"{CERTIFICATES}/batch", content=b" " * (4 * 1024 * 1024 + 1)), 413, kind="too-large")
        assert body["limit"] == 4 * 1024 * 1024


class TestSimulating:
    def test_allowed(self, api: httpx.Client) -> None:
        """Every rule passes, the certificate is shown, and none is issued."""
        name = fresh_name()
        answer = api.post("/api/v1/simulate", json={"common_name": name, "lifetime": "1h"})
        body = answer.json()
        assert (answer.status_code, body["allowed"]) == (200, True)
        assert all(rule["passed"] for rule in body["rules"])
        assert body["certificate"]["subject"] == f"CN={name}"
        assert api.get(CERTIFICATES, params={"common_name": name}).json()["items"] == []

    def test_every_rule_that_refuses(self, api: httpx.Client) -> None:
        """All that is wrong is told at once."""
        body = {"common_name": "My Server", "profile": "narrow", "key": {"algorithm": "ed25519"}, "lifetime": "399d"}
        answer = api.post("/api/v1/simulate", json=body).json()
        refused = {rule["rule"] for rule in answer["rules"] if not rule["passed"]}
        assert (answer["allowed"], answer["certificate"]) == (False, None)
        assert {"key", "common_name", "max_lifetime", "require_san"} <= refused

    def test_a_csr(self, api: httpx.Client) -> None:
        """A CSR as the body, or in JSON."""
        assert api.post("/api/v1/simulate", content=csr()).json()["allowed"] is True
        assert api.post("/api/v1/simulate", json={"csr": csr().decode()}).json()["allowed"] is True
        problem(api.post("/api/v1/simulate", json={"csr": csr().decode(), "profile": "none"}), 422, field="profile")


class TestOperations:
    def test_profiles(self, api: httpx.Client) -> None:
        """Every profile with what it allows."""
        items = {one["name"]: one for one in api.get("/api/v1/profiles").json()["items"]}
        assert {"server", "client", "peer", "ci", "intermediate", "narrow"} <= set(items)
        assert items["narrow"]["dns"] == ["*.example.org"]
        assert (items["ci"]["max_lifetime"], items["ci"]["no_rev_avail"]) == ("1d", True)

    def test_the_audit_is_filtered_and_paged(self, api: httpx.Client) -> None:
        """Newest first, by every filter, in pages that fit together."""
        made = [issued(api.post(CERTIFICATES, content=csr(fresh_name()), headers=JSON)) for _ in range(6)]
        serial = str(made[1]["serial_number"])
        (row,) = api.get("/api/v1/audit", params={"serial_number": serial}).json()["items"]
        assert (row["action"], row["outcome"], row["actor"], row["profile"]) == (
            "certificate.issue",
            "success",
            "admin",
            "server",
        )
        assert api.get("/api/v1/audit", params={"request_id": row["request_id"]}).json()["items"] == [row]
        pages, cursor = [], None
        for _ in range(3):
            params = {"limit": "2", "action": "certificate.issue"} | ({"cursor": cursor} if cursor else {})
            page = api.get("/api/v1/audit", params=params).json()
            pages += page["items"]
            cursor = page["next_cursor"]
        ids = [one["id"] for one in pages]
        assert ids == sorted(set(ids), reverse=True)
        later = api.get("/api/v1/audit", params={"since": "2099-01-01T00:00:00Z"}).json()
        assert later == {"items": [], "next_cursor": None}

    @pytest.mark.parametrize("params", [{"since": "now"}, {"limit": "0"}, {"cursor": "!"}, {"actr": "admin"}])
    def test_wrong_filters(self, api: httpx.Client, params: dict[str, str]) -> None:
        """A filter that is none is 422, never ignored."""
        problem(api.get("/api/v1/audit", params=params), 422, field=next(iter(params)))

    def test_jobs(self, api: httpx.Client) -> None:
        """Each job with its last run; one is run now and audited, an unknown one is 404."""
        names = {one["name"] for one in api.get("/api/v1/jobs").json()["items"]}
        assert {"mark_expired", "regenerate_crls", "forget"} <= names
        ran = api.post("/api/v1/jobs/mark_expired/run").json()
        assert (ran["name"], ran["result"], ran["last_error"], ran["failures"]) == ("mark_expired", "success", None, 0)
        assert ran["last_run"] < ran["next_due"]
        assert ran["replica"].startswith(f"{gethostname()}:")
        assert (ran["done"] >= 0, ran["milliseconds"] >= 0, ran["running_on"]) == (True, True, None)
        problem(api.post("/api/v1/jobs/none/run"), 404)
        (row, *_) = api.get("/api/v1/audit", params={"action": "job.run"}).json()["items"]
        assert row["detail"]["job"] == "mark_expired"


def _verdict(api: httpx.Client, certificate: x509.Certificate) -> dict[str, Any]:
    answer = api.post("/api/v1/verify", json={"certificate": _pem(certificate)})
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_simulated_csr_has_its_query(api: httpx.Client) -> None:
    """A raw CSR is simulated as it is issued: profile and lifetime in the query, which JSON does without."""
    path = "/api/v1/simulate"
    body = api.post(path, content=csr(), params={"profile": "ci", "lifetime": "15m"}).json()
    assert (body["allowed"], body["certificate"]["profile"]) == (True, "ci")
    told = b"of our build machine:\n" + csr()
    assert api.post(path, content=told, params={"profile": "ci"}).json()["allowed"] is True
    refused = api.post(path, content=csr(), params={"profile": "ci", "lifetime": "48h"}).json()
    assert (refused["allowed"], refused["certificate"]) == (False, None)
    problem(api.post(path, json={"common_name": "a.example.org"}, params={"profile": "ci"}), 422, field="profile")


@pytest.mark.parametrize("days", [3_649_999, 3_650_000])
def test_a_simulated_lifetime_of_millennia(api: httpx.Client, days: int) -> None:
    """Longer than allowed, and past the end of the calendar: refused by each rule that it breaks."""
    body = api.post("/api/v1/simulate", json={"common_name": "a.example.org", "days_valid": days}).json()
    assert body["allowed"] is False
    assert "max_lifetime" in {one["rule"] for one in body["rules"] if not one["passed"]}


_LISTS = ["tokens", "profiles", "issuers", "jobs", "audit", "certificates"]


@pytest.mark.parametrize("path", _LISTS)
def test_every_list_is_like_any(api: httpx.Client, path: str) -> None:
    """Items, and where the next ones are: pages of one that fit together are a page of three."""
    if path == "tokens":
        for _ in range(3):
            api.post("/api/v1/tokens", json={"name": "one of many", "role": "issuer"})
    whole = api.get(f"/api/v1/{path}", params={"limit": "3"}).json()
    assert set(whole) == {"items", "next_cursor"}
    items, params = [], {"limit": "1"}
    for _ in whole["items"]:
        page = api.get(f"/api/v1/{path}", params=params).json()
        items += page["items"]
        params["cursor"] = page["next_cursor"]
    assert len(items) > 1
    key = next(one for one in ("id", "name", "serial_number") if one in items[0])
    assert [one[key] for one in items] == [one[key] for one in whole["items"]]
    assert len({one[key] for one in items}) == len(items)


@pytest.mark.parametrize("path", _LISTS)
@pytest.mark.parametrize(
    "query",
    ["limit=0", "limit=1001", "limit=1_0", "cursor=!", "cursor=", "cursor=4pyT", "limt=1"],
)
def test_a_wrong_page_of_any_list(api: httpx.Client, path: str, query: str) -> None:
    """What is no limit, no cursor or no parameter is 422 and named."""
    problem(api.get(f"/api/v1/{path}?{query}"), 422, field=query.partition("=")[0])


@pytest.mark.parametrize("path", _LISTS)
def test_the_last_page_of_any_list(api: httpx.Client, path: str) -> None:
    """Whoever follows the cursors comes to an end."""
    params = {"limit": "1000"}
    while True:
        page = api.get(f"/api/v1/{path}", params=params).json()
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
