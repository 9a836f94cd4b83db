"""Probes and metrics."""

from __future__ import annotations

import re

import httpx

from tests.api.asking import csr
from tests.running import CERTIFICATES


def test_healthz(anybody: httpx.Client) -> None:
    """The process lives."""
    response = anybody.get("/healthz")
    assert (response.status_code, response.text) == (200, "ok\n")


def test_readyz(anybody: httpx.Client) -> None:
    """It can issue now, and each thing that takes is named."""
    response = anybody.get("/readyz")
    names = ["database", "migrations", "signature", "crl", "issuer", "jobs"]
    assert (response.status_code, response.json()) == (200, {"ready": True, "checks": dict.fromkeys(names, "ok")})
    assert response.headers["cache-control"] == "no-store"


def _value(text: str, sample: str) -> float:
    found = re.search(rf"^{re.escape(sample)} (\S+)$", text, flags=re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics(api: httpx.Client, anybody: httpx.Client) -> None:
    """Prometheus text counts what was issued, refused, revoked and turned away."""
    samples = {
        'tiny_ca_certificates_issued_total{profile="peer"}': 2,
        'tiny_ca_certificates_revoked_total{reason="aACompromise"}': 1,
        'tiny_ca_refused_total{profile="peer",rule="max_lifetime"}': 1,
        "tiny_ca_unauthenticated_total": 1,
    }
    before = anybody.get("/metrics")
    assert before.headers["content-type"].startswith("text/plain; version=")
    json = {"Accept": "application/json"}
    serials = [
        api.post(CERTIFICATES, content=csr(), params={"profile": "peer"}, headers=json).json()["serial_number"]
        for _ in range(2)
    ]
    api.post(f"{CERTIFICATES}/{serials[0]}/revoke", json={"reason": "aACompromise"}).raise_for_status()
    api.post(CERTIFICATES, content=csr(), params={"profile": "peer", "lifetime": "399d"})
    anybody.get(CERTIFICATES)
    after = anybody.get("/metrics").text
    assert samples == {sample: _value(after, sample) - _value(before.text, sample) for sample in samples}


def test_labels_cannot_be_made_up(anybody: httpx.Client) -> None:
    """Paths and methods that a caller invents are no labels: they would fill the memory."""
    anybody.get("/invented-by-a-caller")
    anybody.get(f"{CERTIFICATES}/abcdef/invented")
    text = anybody.get("/metrics").text
    assert "invented" not in text
    assert "abcdef" not in text
