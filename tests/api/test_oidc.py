"""CI without secrets, over a socket: a real provider, the real service, and what a job can and cannot get."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from tests.api.answers import certificate_of, detail_of_refusal, issued, problem
from tests.api.asking import csr, fresh_name
from tests.conftest import NewEnvironment
from tests.oidc_provider import JOB, RunningProvider
from tests.running import CERTIFICATES, RunningService, tiny_ca

AUDIENCE = "https://ca.example.org"
GRANTS = """
[[oidc.grants]]
claims = { repository_owner = "octo-org", ref = "refs/heads/*" }
names = ["{repository_owner}.ci.example.org", "*.{repository_owner}.ci.example.org"]
max_lifetime = "1h"

[[oidc.grants]]
claims = { repository_owner = "*", event_name = "team" }
names = ["{team}.ci.example.org"]

[[oidc.grants]]
claims = { event_name = "audit" }
names = []
permissions = ["audit:read"]
"""
JSON = {"Accept": "application/json"}


def _config(folder: Path, provider: RunningProvider, *entries: str) -> None:
    lines = ["[[oidc]]", f'issuer = "{provider.issuer}"', f'audience = "{AUDIENCE}"', *entries]
    (folder / "config.toml").write_text("\n".join(lines) + "\n" + GRANTS)


@pytest.fixture(scope="module")
def process() -> Iterator[RunningProvider]:
    """A provider for all tests of this file."""
    with RunningProvider() as running:
        yield running


@pytest.fixture
def provider(process: RunningProvider) -> RunningProvider:
    """The provider, behaving well."""
    process.behave()
    return process


@pytest.fixture(scope="module")
def ci(
    process: RunningProvider, tmp_path_factory: pytest.TempPathFactory, new_environment: NewEnvironment
) -> Iterator[RunningService]:
    """A service that trusts it."""
    folder = tmp_path_factory.mktemp("ci")
    _config(folder, process, "one_use = true")
    with (
        new_environment() as environment,
        RunningService(folder, "--config-file", "config.toml", environment=environment) as running,
    ):
        yield running


def _ask(
    service: RunningService, token: str, name: str = "app.octo-org.ci.example.org", **parameters: str
) -> httpx.Response:
    headers = {"Authorization": f"Bearer {token}", **JSON}
    query = {"profile": "ci", **parameters}
    return httpx.post(service.url + CERTIFICATES, content=csr(name), headers=headers, params=query, timeout=30)


def _audit(service: RunningService, **filters: str) -> list[dict[str, Any]]:
    with service.client() as admin:
        items: list[dict[str, Any]] = admin.get("/api/v1/audit", params=filters).raise_for_status().json()["items"]
    return items


def test_a_job_gets_a_certificate(ci: RunningService, provider: RunningProvider) -> None:
    """With nothing but its identity token; the record and the audit name issuer and subject."""
    name = fresh_name("octo-org.ci.example.org")
    body = issued(_ask(ci, provider.token(audience=AUDIENCE), name))
    san = certificate_of(body).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.DNSName) == [name]
    (row,) = _audit(ci, serial_number=body["serial_number"])
    assert row["actor"] == f"{provider.issuer} {JOB['sub']}"
    with ci.client() as admin:
        record = admin.get(f"{CERTIFICATES}/{body['serial_number']}", headers=JSON).json()
    assert record["requester"] == row["actor"]


def test_names_of_others(ci: RunningService, provider: RunningProvider) -> None:
    """A job gets the names of its own owner alone."""
    for name in ("app.evil.ci.example.org", "ci.example.org", "octo-org.ci.example.org.evil.example", "x.org"):
        problem(_ask(ci, provider.token(audience=AUDIENCE), name), 403, rule="limits.names")


def test_other_profiles_and_lifetimes(ci: RunningService, provider: RunningProvider) -> None:
    """The profile ``ci`` unless the grant says more, and no longer than the grant says."""
    problem(_ask(ci, provider.token(audience=AUDIENCE), profile="server"), 403, rule="profile")
    problem(_ask(ci, provider.token(audience=AUDIENCE), lifetime="2h"), 403, rule="limits.max_lifetime")


def test_other_permissions(ci: RunningService, provider: RunningProvider) -> None:
    """Issuing is all that a grant gives unless it says more; what it says replaces that."""
    for event, path, status in (("push", "audit", 403), ("push", "tokens", 403), ("audit", "audit", 200)):
        token = provider.token(audience=AUDIENCE, event_name=event, ref="refs/heads/x" if event == "push" else "x")
        response = httpx.get(f"{ci.url}/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})
        assert response.status_code == status, response.text


@pytest.mark.parametrize("value", ["a.b", "*", "", "x" * 64, "Octo-Org", "bücher", "\ud800", None], ids=ascii)
def test_a_claim_that_would_be_another_name(ci: RunningService, provider: RunningProvider, value: object) -> None:
    """Forbidden, naming the claim."""
    token = provider.token(audience=AUDIENCE, event_name="team", ref="x", team=value)
    assert "claim 'team' is" in detail_of_refusal(_ask(ci, token, "a.ci.example.org"), 403, rule="oidc")


def test_nothing_is_granted(ci: RunningService, provider: RunningProvider) -> None:
    """A sound token of somebody else is 403, wherever it is sent, and stands in the audit."""
    subject = "repo:evil/fork:ref:refs/heads/main"
    token = provider.token(audience=AUDIENCE, sub=subject, repository_owner="evil", event_name="push")
    answer = _ask(ci, token)
    request_id = problem(answer, 403, rule="oidc")["request_id"]
    (row,) = _audit(ci, request_id=request_id)
    assert (row["actor"], row["action"], row["outcome"]) == (f"{provider.issuer} {subject}", "login", "refused")


@pytest.mark.parametrize(
    "claims",
    [
        {"audience": "other"},
        {"audience": [AUDIENCE, "other"]},
        {"audience": AUDIENCE, "exp": 1},
        {"audience": AUDIENCE, "nbf": 2**32},
        {"audience": AUDIENCE, "sub": None},
        {"audience": AUDIENCE, "jti": None},
        {"audience": AUDIENCE, "iss": "http://127.0.0.1:1"},
        {"audience": AUDIENCE, "groups": ["x" * 15_000]},
        {"audience": AUDIENCE, "header": {"kid": "../../../etc/passwd"}},
    ],
    ids=lambda claims: ascii(claims)[:40],
)
def test_an_unsound_token(ci: RunningService, provider: RunningProvider, claims: dict[str, Any]) -> None:
    """401, with a reason in which nothing of the token stands."""
    token = provider.token(**claims)
    answer = _ask(ci, token)
    problem(answer, 401)
    assert not any(part in answer.text for part in token.split("."))


def test_one_use_at_once(ci: RunningService, provider: RunningProvider) -> None:
    """Of eight requests with one token at the same time, one gets a certificate, and the others 401."""
    token = provider.token(audience=AUDIENCE)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: _ask(ci, token), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 7


def test_one_use_across_replicas(process: RunningProvider, tmp_path: Path, postgres_database: str) -> None:
    """Of the workers of two services over one PostgreSQL database, one lets a token in, once."""
    process.behave()
    environment = {"TINY_CA_DATABASE_URL": postgres_database, "TINY_CA_KEY_PASSPHRASE": "a passphrase of both"}
    environment["TINY_CA_ADMIN_TOKEN"] = "the admin's of both, of 32 letters"
    with ExitStack() as stack:
        services = []
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            _config(tmp_path / name, process, "one_use = true")
            flags = ("--config-file", "config.toml", "--workers", "2")
            services.append(stack.enter_context(RunningService(tmp_path / name, *flags, environment=environment)))
            services[-1].wait_until_ready()
        for _ in range(5):
            token = process.token(audience=AUDIENCE)
            with ThreadPoolExecutor(8) as pool:
                answers = list(pool.map(lambda service: _ask(service, token), services * 4))  # noqa: B023  # ends here
            assert sorted(answer.status_code for answer in answers) == [201] + [401] * 7


def test_a_flood_of_unknown_kids(process: RunningProvider, tmp_path: Path) -> None:
    """However many tokens name keys that nobody has, the provider is asked once in a floor."""
    process.behave()
    _config(tmp_path, process, 'refresh_floor = "1h"')
    with RunningService(tmp_path, "--config-file", "config.toml") as running:
        tokens = [process.token(audience=AUDIENCE, header={"kid": f"k{number}"}) for number in range(100)]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda token: _ask(running, token), tokens))
        assert {answer.status_code for answer in answers} == {401}
        assert process.seen() == {"discovery": 1, "keys": 1}
        issued(_ask(running, process.token(audience=AUDIENCE)))


def test_a_provider_that_is_down(tmp_path: Path) -> None:
    """503 with Retry-After, while the service is ready for all others; when it is back, jobs get their certificates."""
    with RunningProvider() as provider:
        _config(tmp_path, provider, 'refresh_floor = "1s"')
        token = provider.token(audience=AUDIENCE)
        provider.stop()
        with RunningService(tmp_path, "--config-file", "config.toml") as running:
            for _ in range(3):
                problem(_ask(running, token), 503)
            with running.client() as admin:
                assert admin.get("/readyz").status_code == 200
                issued(admin.post(CERTIFICATES, content=csr(), headers=JSON))
                assert 'oidc_key_fetches_total{issuer="' in admin.get("/metrics").text
            provider.start()
            new = provider.token(audience=AUDIENCE)
            answer = _ask(running, new)
            while answer.status_code == 503:
                time.sleep(float(answer.headers["retry-after"]))
                answer = _ask(running, new)
            issued(answer)


def test_a_provider_that_never_answers(provider: RunningProvider, tmp_path: Path) -> None:
    """Its tokens are 503 within seconds, and the event loop is free meanwhile."""
    _config(tmp_path, provider)
    provider.behave(keys="silent")
    with RunningService(tmp_path, "--config-file", "config.toml") as running, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_ask, running, provider.token(audience=AUDIENCE))
        with running.client() as admin:
            issued(admin.post(CERTIFICATES, content=csr(), headers=JSON))
        assert not waiting.done()
        problem(waiting.result(), 503)
    assert provider.seen()["keys"] == 1


def test_without_issuers(anybody: httpx.Client, provider: RunningProvider) -> None:
    """A service that trusts nobody takes no identity token."""
    headers = {"Authorization": f"Bearer {provider.token(audience=AUDIENCE)}"}
    assert "no issuer of them" in detail_of_refusal(anybody.get(CERTIFICATES, headers=headers), 401)


def test_tokens_are_in_no_log(ci: RunningService, provider: RunningProvider) -> None:
    """Neither those that were taken nor those that were refused."""
    for token in (provider.token(audience=AUDIENCE), provider.token(audience="other")):
        _ask(ci, token)
        assert not any(part in ci.log for part in token.split("."))


def test_a_wrong_file_stops_the_start(tmp_path: Path) -> None:
    """With the file, the entry, what would be right, and exit code 2."""
    (tmp_path / "config.toml").write_text('[[oidc]]\nisuer = "https://x.example.org"\n')
    code, _, lines = tiny_ca(tmp_path, "serve", TINY_CA_CONFIG_FILE="config.toml")
    assert code == 2
    assert any("TINY_CA_CONFIG_FILE: config.toml: oidc[0].isuer: not known here; known are" in line for line in lines)
