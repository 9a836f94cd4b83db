"""What reviewers broke once, each mended: nothing is silently resolved, and no value of a caller's is our failure."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from tests.api.answers import issued, problem
from tests.api.asking import csr
from tests.pkilint_check import certificate_findings
from tests.running import CERTIFICATES, RunningService

JSON = {"Accept": "application/json"}


@pytest.mark.parametrize(
    "query", ["lifetime=15m&lifetime=90d", "profile=server&profile=ci", "limit=1&limit=2", "cursor=a&cursor=b"]
)
def test_a_query_parameter_that_comes_twice(api: httpx.Client, query: str) -> None:
    """Nobody can tell which one was meant: 422, and nothing is issued."""
    name = query.partition("=")[0]
    url = f"{CERTIFICATES}?{query}"
    response = api.post(url, content=csr()) if name in {"lifetime", "profile"} else api.get(url)
    problem(response, 422, field=name)


@pytest.mark.parametrize(
    "body, field",
    [
        ('{"common_name": "a.example.org", "lifetime": "1h", "lifetime": "397d"}', "lifetime"),
        ('{"common_name": "a.example.org", "key": {"algorithm": "rsa", "algorithm": "ec"}}', "algorithm"),
    ],
)
def test_a_json_field_that_comes_twice(api: httpx.Client, body: str, field: str) -> None:
    """The last one does not win: 422."""
    problem(api.post(CERTIFICATES, content=body), 422, field=field)


@pytest.mark.parametrize("name", ["expires_before", "expires_after"])
@pytest.mark.parametrize(
    "moment", ["2027", "1795525200", "2027-01-01", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "soon"]
)
def test_a_moment_that_is_none(api: httpx.Client, name: str, moment: str) -> None:
    """Only RFC 3339 is a moment, and only within the calendar: 422."""
    problem(api.get(CERTIFICATES, params={name: moment}), 422, field=name)


@pytest.mark.parametrize("moment", ["1795525200", "2027-01-01", "9999-12-31T23:59:59-23:59"])
def test_a_start_that_is_no_moment(api: httpx.Client, moment: str) -> None:
    """``valid_from`` is read as strictly."""
    body = {"common_name": "a.example.org", "valid_from": moment}
    problem(api.post(CERTIFICATES, json=body), 422, field="valid_from")


@pytest.mark.parametrize("name", ["common_name", "san", "requester"])
def test_control_characters_in_a_filter(api: httpx.Client, name: str) -> None:
    """A NUL is in no name, and some databases cannot hold one: 422."""
    problem(api.get(CERTIFICATES, params={name: "a\0b"}), 422, field=name)


def test_no_ca_key_leaves(api: httpx.Client) -> None:
    """A CA from a config would carry its private key over the API: 403, whatever the role."""
    root = api.get(CERTIFICATES, params={"key_type": "CA"}).json()["items"][-1]
    body = {"common_name": "Evil CA", "profile": "intermediate", "issuer_id": root["issuer_id"]}
    problem(api.post(CERTIFICATES, json=body), 403, rule="certificate_authority")


@pytest.mark.parametrize("name", ["*", "*.com", "a.*.b", "127.1", "foo_bar.bank.com", "bücher.example"])
def test_a_common_name_that_only_looks_like_a_host(api: httpx.Client, name: str) -> None:
    """Under every profile that serves TLS it is refused, for patterns could not hold it."""
    document = problem(api.post(CERTIFICATES, json={"common_name": name, "profile": "ci"}), 403, rule="common_name")
    if name == "bücher.example":
        assert "xn--bcher-kva.example" in document["detail"]


@pytest.mark.parametrize("spelling", ["ONE.example.org", "one.example.org."])
def test_a_unique_name_in_another_spelling(api: httpx.Client, spelling: str) -> None:
    """Case and a trailing dot make no other name: 409."""
    api.post(CERTIFICATES, json={"common_name": "one.example.org", "profile": "single"})
    problem(api.post(CERTIFICATES, json={"common_name": spelling, "profile": "single"}), 409)


def test_flags_that_say_no(api: httpx.Client) -> None:
    """Neither server nor client is nothing: 422; no server under ``peer`` is a client."""
    neither = {"common_name": "a.example.org", "is_server_cert": False, "is_client_cert": False}
    problem(api.post(CERTIFICATES, json=neither), 422)
    client_only = {"common_name": "a.example.org", "profile": "peer", "is_server_cert": False}
    made = api.post(CERTIFICATES, json=client_only)
    assert made.status_code == 201
    assert b"1.3.6.1.5.5.7.3" not in made.content  # what it may be used for is in the certificate, not in the JSON


def _talk(service: RunningService, *parts: bytes) -> bytes:
    """Send these and return what came until the service closed."""
    port = int(service.url.rpartition(":")[2])
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as connection:
        answer = b""
        try:
            for part in parts:
                connection.sendall(part)
            while chunk := connection.recv(65536):
                answer += chunk
        except ConnectionError:
            pass
        return answer


@pytest.mark.parametrize(
    "head",
    [
        b"GET /healthz HTTP/1.1\r\nHost: ca\r\nX: " + b"a" * 200_000,
        b"GET /healthz HTTP/1.1\r\nHost: ca\r\n" + b"X: a\r\n" * 30_000 + b"\r\n",
        b"GET /" + b"a" * 200_000,
    ],
    ids=["one field", "many fields", "target"],
)
def test_a_head_without_end(service: RunningService, head: bytes) -> None:
    """A request's head is bounded: 431 as a problem document, and the connection is closed."""
    answer = _talk(service, head)
    assert answer.startswith(b"HTTP/1.1 431 "), answer[:200]
    assert b"application/problem+json" in answer
    assert b"x-request-id: " in answer


def test_what_is_no_http(service: RunningService) -> None:
    """Bytes that are no request are answered by a problem document with a request id."""
    answer = _talk(service, b"FOO BAR BAZ\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in answer
    assert b"x-request-id: " in answer


def test_a_head_that_never_ends_is_not_waited_for(service: RunningService) -> None:
    """Half a head, and then silence: the connection is closed after ten seconds."""
    began = time.monotonic()
    answer = _talk(service, b"POST /api/v1/certificates HTTP/1.1\r\nHost: ca\r\n")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 9 < time.monotonic() - began < 15


class TestSecondReview:
    """What a second pair of eyes found."""

    @pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2009"])
    def test_blanks_of_other_scripts(self, api: httpx.Client, blank: str) -> None:
        """A blank that is not U+0020 is a character like any other in an organization's name."""
        name = f"株式会社{blank}例"
        asked = {"common_name": "app.example.org", "organization": name}
        made = issued(api.post(CERTIFICATES, json=asked))
        organization, *_ = _read(made).subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
        assert organization.value == name

    def test_a_mailbox_in_the_subject_joins_the_san(self, api: httpx.Client) -> None:
        """RFC 5280 §4.1.2.6: an emailAddress of the subject stands in the SAN too."""
        asked = csr("x", subject=[(NameOID.EMAIL_ADDRESS, "a@example.org")])
        made = issued(api.post(CERTIFICATES, content=asked, params={"profile": "client"}, headers=JSON))
        assert made["san"] == ["a@example.org"]
        assert certificate_findings(_read(made)) == []

    def test_text_before_a_csr(self, api: httpx.Client) -> None:
        """However much `openssl req -text` wrote before it, a CSR is one."""
        text = b"Certificate Request:\n" + b" " * 20_000 + b"\n" + csr()
        issued(api.post(CERTIFICATES, content=text, headers=JSON))

    @pytest.mark.parametrize("number", ["1_0", "1.0", " 1", "+1", "1e1", "\u0661"])
    def test_numbers_in_a_query_are_digits(self, api: httpx.Client, number: str) -> None:
        """What int() would also read is no number here."""
        problem(api.post(CERTIFICATES, content=csr(), params={"days_valid": number}), 422, field="days_valid")
        problem(api.get(CERTIFICATES, params={"limit": number}), 422, field="limit")

    def test_headers_that_come_twice(self, service: RunningService, anybody: httpx.Client) -> None:
        """Two tokens are none, whichever comes first; two request ids are replaced."""
        good, bad = ("Authorization", f"Bearer {service.token}"), ("Authorization", "Bearer wrong")
        for pair in ([good, bad], [bad, good], [good, good]):
            problem(anybody.get(CERTIFICATES, headers=pair), 401)
        twice = anybody.get("/healthz", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
        assert twice.headers["x-request-id"] not in {"a", "b"}

    @pytest.mark.parametrize(
        "head, status",
        [
            (b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", b"400"),
            (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: a\r\nConnection: close\r\n\r\n", b"400"),
            (b"GET /healthz HTTP/1.0\r\n\r\n", b"200"),
            (b"GET /healthz HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n", b"200"),
        ],
    )
    def test_host(self, service: RunningService, head: bytes, status: bytes) -> None:
        """RFC 9112 §3.2: HTTP/1.1 has exactly one Host, be it empty."""
        with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2])), timeout=10) as connection:
            connection.sendall(head)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.split(b" ")[1] == status
        assert b"x-request-id" in answer.lower()

    @pytest.mark.parametrize("profile", ["client", "intermediate"])
    def test_the_name_of_a_ca_below(self, api: httpx.Client, profile: str) -> None:
        """The issuing CA's name is given to nobody, not even by the root."""
        bundle = x509.load_pem_x509_certificates(api.get("/ca.pem").content)
        issuing, root = bundle
        query = {"profile": profile, "issuer_id": root.fingerprint(hashes.SHA256()).hex()[:16]}
        asked = csr(None, subject=[(one.oid, str(one.value)) for one in issuing.subject])
        problem(api.post(CERTIFICATES, content=asked, params=query), 403, rule="subject")

    def test_a_wildcard_is_linted(self, api: httpx.Client) -> None:
        """Pkilint finds nothing else in a wildcard's certificate than what RFC 5280 leaves open."""
        asked = csr(None, x509.DNSName("*.example.org"))
        assert certificate_findings(_read(issued(api.post(CERTIFICATES, content=asked, headers=JSON)))) == []


def _read(answer: dict[str, Any]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(answer["certificate"].encode())
