"""What Prometheus sees. One registry for each application, so that two in one process do not add up."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Metrics"]


class Metrics:
    """The service's own figures; labels hold profile names and rules, never anything a caller makes up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        self.issued = Counter("tiny_ca_certificates_issued", "Certificates issued.", ["profile"], registry=registry)
        self.revoked = Counter("tiny_ca_certificates_revoked", "Certificates revoked.", ["reason"], registry=registry)
        self.refused = Counter("tiny_ca_refused", "Requests refused.", ["profile", "rule"], registry=registry)
        self.unauthenticated = Counter("tiny_ca_unauthenticated", "Requests with no or wrong token.", registry=registry)
        self.rate_limited = Counter(
            "tiny_ca_rate_limited", "Requests turned away with 429.", ["limit"], registry=registry
        )
        self.oidc_key_fetches = Counter(
            "tiny_ca_oidc_key_fetches", "Fetches of an issuer's keys.", ["issuer", "outcome"], registry=registry
        )
        self.overloaded = Counter("tiny_ca_overloaded", "Requests turned away with 503.", registry=registry)
        self.repeated = Counter("tiny_ca_repeated", "Requests answered from an idempotency key.", registry=registry)
        self.batch_size = Histogram(
            "tiny_ca_issue_batch_size",
            "Certificates in one transaction.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
            registry=registry,
        )
        self.queue_depth = Gauge("tiny_ca_issue_queue", "Requests that wait for the next batch.", registry=registry)
        self.http_seconds = Histogram(
            "tiny_ca_http_request_seconds", "Time to answer.", ["method", "route", "status"], registry=registry
        )
        self.crl_this_update = Gauge(
            "tiny_ca_crl_this_update_seconds", "thisUpdate of the newest CRL.", ["issuer_id"], registry=registry
        )
        self.issuer_not_after = Gauge(
            "tiny_ca_issuer_not_after_seconds", "When the issuer's certificate ends.", ["issuer_id"], registry=registry
        )
        self.job_last_success = Gauge(
            "tiny_ca_job_last_success_timestamp_seconds",
            "When a job last ended well, on any replica.",
            ["job"],
            registry=registry,
        )
        self.notices = Counter("tiny_ca_notices", "Attempts to deliver a notice.", ["outcome"], registry=registry)
        self.notices_waiting = Gauge(
            "tiny_ca_notices_waiting", "Notices that have not arrived, half a minute ago at most.", registry=registry
        )
        self.crl_age = Gauge("tiny_ca_crl_age_seconds", "Age of the newest CRL.", ["issuer_id"], registry=registry)
        self.issuer_days_left = Gauge(
            "tiny_ca_issuer_expiry_days", "Days until the issuer's certificate ends.", ["issuer_id"], registry=registry
        )
        self.job_runs = Counter("tiny_ca_job_runs", "Runs of background jobs.", ["job", "outcome"], registry=registry)

    def text(self) -> bytes:
        """Everything in the Prometheus text format, version 0.0.4."""
        return generate_latest(self.registry)
