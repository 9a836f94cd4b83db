"""What Prometheus scrapes after real acts, and what every line of the log holds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.api.asking import csr
from tests.running import CERTIFICATES, RunningService

_DAY = 86_400
# Every family of ours, by the name of its samples without suffix, and its labels.
_FAMILIES: Mapping[str, set[str]] = {
    "tiny_ca_certificates_issued": {"profile"},
    "tiny_ca_certificates_revoked": {"reason"},
    "tiny_ca_refused": {"profile", "rule"},
    "tiny_ca_unauthenticated": set(),
    "tiny_ca_rate_limited": {"limit"},
    "tiny_ca_overloaded": set(),
    "tiny_ca_repeated": set(),
    "tiny_ca_issue_batch_size": {"le"},
    "tiny_ca_issue_queue": set(),
    "tiny_ca_http_request_seconds": {"method", "route", "status", "le"},
    "tiny_ca_crl_this_update_seconds": {"issuer_id"},
    "tiny_ca_crl_age_seconds": {"issuer_id"},
    "tiny_ca_issuer_not_after_seconds": {"issuer_id"},
    "tiny_ca_issuer_expiry_days": {"issuer_id"},
    "tiny_ca_job_runs": {"job", "outcome"},
    "tiny_ca_job_last_success_timestamp_seconds": {"job"},
    "tiny_ca_notices": {"outcome"},
    "tiny_ca_notices_waiting": set(),
}
_CONFIG = "[rate_limits]\nfailed_logins_per_minute = 0.06\nfailed_logins_burst = 1\n"


class _Scrape:
    """The families of one scrape."""

    def __init__(self, client: httpx.Client) -> None:
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        families = list(text_string_to_metric_families(answer.text))
        self.families = {family.name: family for family in families}
        assert len(self.families) == len(families)

    def value(self, sample: str, **labels: str) -> float:
        """The one sample with this name and these labels, 0 where there is none yet."""
        found = [
            one.value
            for family in self.families.values()
            for one in family.samples
            if one.name == sample and labels.items() <= one.labels.items()
        ]
        assert len(found) <= 1, (sample, labels, found)
        return found[0] if found else 0.0


def test_each_family_after_real_acts(tmp_path: Path) -> None:
    """Issue, refuse, revoke, fail to log in, run a job: each is counted, with labels that nobody makes up."""
    (tmp_path / "tiny-ca.toml").write_text(_CONFIG)
    with RunningService(tmp_path, "--config-file", "tiny-ca.toml") as service, service.client() as client:
        first = client.post(CERTIFICATES, content=csr(), headers={"Accept": "application/json"})
        serial = first.json()["serial_number"]
        long = {"lifetime": "3000d", "profile": "server"}
        assert client.post(CERTIFICATES, content=csr(), params=long).status_code == 403
        assert client.post(CERTIFICATES, content=csr(), params={"profile": "made-up"}).status_code == 422
        assert client.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "superseded"}).status_code == 200
        assert client.request("PROPFIND", "/made/up").status_code == 404
        assert client.get("/healthz").status_code == 200
        with service.anonymous() as anybody:
            codes = [anybody.get(CERTIFICATES, headers={"Authorization": "Bearer x"}).status_code for _ in range(2)]
        assert codes == [401, 429]
        began = time.time()
        assert client.post("/api/v1/jobs/mark_expired/run").json()["last_error"] is None
        scrape = _Scrape(client)

    ours = {name: family for name, family in scrape.families.items() if name.startswith("tiny_ca_")}
    assert set(_FAMILIES) <= set(ours)
    for name, labels in _FAMILIES.items():
        assert {label for sample in ours[name].samples for label in sample.labels} <= labels, name
    value = scrape.value
    assert value("tiny_ca_certificates_issued_total", profile="server") == 1
    assert value("tiny_ca_certificates_revoked_total", reason="superseded") == 1
    assert value("tiny_ca_refused_total", profile="server", rule="max_lifetime") == 1
    assert value("tiny_ca_unauthenticated_total") == 2
    assert value("tiny_ca_rate_limited_total", limit="failed_logins") == 1
    assert value("tiny_ca_overloaded_total") == 0
    assert value("tiny_ca_issue_batch_size_count") >= 2
    assert value("tiny_ca_issue_queue") == 0
    route = f"{CERTIFICATES}/{{serial_number}}/revoke"
    assert value("tiny_ca_http_request_seconds_count", route=route, method="POST", status="200") == 1
    assert value("tiny_ca_job_runs_total", job="mark_expired", outcome="success") == 1
    assert abs(value("tiny_ca_job_last_success_timestamp_seconds", job="mark_expired") - began) < 30
    issuer = first.json()["issuer_id"]
    assert 0 <= value("tiny_ca_crl_age_seconds", issuer_id=issuer) < 60
    assert abs(value("tiny_ca_crl_this_update_seconds", issuer_id=issuer) - began) < 60
    assert 1824 < value("tiny_ca_issuer_expiry_days", issuer_id=issuer) < 1826
    assert abs(value("tiny_ca_issuer_not_after_seconds", issuer_id=issuer) - began - 1825 * _DAY) < 2 * _DAY
    assert value("tiny_ca_notices_waiting") == 0
    values = {value for family in ours.values() for sample in family.samples for value in sample.labels.values()}
    assert values.isdisjoint({"made-up", "/made/up", "PROPFIND"})


def test_every_line_of_a_request_has_its_id(tmp_path: Path) -> None:
    """Whatever is logged between a request's beginning and its end says whose it is, at debug level too."""
    sent = {"X-Request-Id": "the-revocation"}
    with RunningService(tmp_path, environment={"TINY_CA_LOG_LEVEL": "debug"}) as service:
        with service.client() as client:
            as_json = {"Accept": "application/json", "X-Request-Id": "the-issuance"}
            serial = client.post(CERTIFICATES, content=csr(), headers=as_json).json()["serial_number"]
            url = f"{CERTIFICATES}/{serial}/revoke"
            assert client.post(url, headers=sent).status_code == 200
            assert client.get("/readyz", headers={"X-Request-Id": "the-probe"}).status_code == 200
        assert service.stop() == 0
    lines = [json.loads(line) for line in service.log.splitlines() if line.startswith("{")]
    by_request: dict[str, list[str]] = {}
    for line in lines:
        by_request.setdefault(line.get("request_id", ""), []).append(line["event"])
    assert by_request["the-issuance"][-1] == "http.request"
    assert set(by_request["the-revocation"]) >= {"crl.published", "http.request"}
    assert "http.request" in by_request["the-probe"]
    assert "http.request" not in by_request[""]
