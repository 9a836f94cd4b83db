"""Requests that are sent again: one acts, whoever asks how often, and nobody waits in vain."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.api.answers import issued, problem
from tests.api.asking import csr, fresh_key, fresh_name
from tests.running import CERTIFICATES, RunningService
from tests.stored import everything, rows

JSON = {"Accept": "application/json"}


def _key() -> dict[str, str]:
    return {"Idempotency-Key": fresh_name()}


def test_the_same_again(api: httpx.Client) -> None:
    """The same request with the same key is the same certificate, in whatever form it is asked for."""
    key, asked = _key(), csr(fresh_name())
    first = issued(api.post(CERTIFICATES, content=asked, headers=JSON | key))
    again = issued(api.post(CERTIFICATES, content=asked, headers=JSON | key))
    assert {name: value for name, value in again.items() if name != "chain"} == {
        name: value for name, value in first.items() if name != "chain"
    }
    assert again["chain"] == first["chain"]
    pem = api.post(CERTIFICATES, content=asked, headers=key)
    assert first["certificate"] in pem.text
    listed = api.get(CERTIFICATES, params={"common_name": str(first["common_name"])}).json()["items"]
    assert len(listed) == 1


@pytest.mark.parametrize("change", ["body", "query", "path"])
def test_another_request(api: httpx.Client, change: str) -> None:
    """The same key for another body, query or path is 409, and nothing is issued."""
    key, asked = _key(), csr(fresh_name())
    made = issued(api.post(CERTIFICATES, content=asked, headers=JSON | key))
    match change:
        case "body":
            other = api.post(CERTIFICATES, content=csr(fresh_name()), headers=key)
        case "query":
            other = api.post(CERTIFICATES, content=asked, headers=key, params={"lifetime": "1h"})
        case _:
            other = api.post(f"{CERTIFICATES}/{made['serial_number']}/renew", headers=key)
    assert "another request" in problem(other, 409)["detail"]


def test_another_caller(api: httpx.Client, service: RunningService) -> None:
    """A key belongs to its caller: another one's request with it is a request of its own."""
    key, asked = _key(), csr(fresh_name())
    first = issued(api.post(CERTIFICATES, content=asked, headers=JSON | key))
    token = api.post("/api/v1/tokens", json={"name": "x", "role": "issuer"}).json()["token"]
    with service.anonymous() as other:
        headers = JSON | key | {"Authorization": f"Bearer {token}"}
        second = issued(other.post(CERTIFICATES, content=asked, headers=headers))
    assert second["serial_number"] != first["serial_number"]


def test_thirty_two_at_once(service: RunningService, api: httpx.Client) -> None:
    """Of 32 clients that send one request at once with one key, all get the one certificate that was issued."""
    key, name = _key(), fresh_name()
    asked = csr(name)

    def ask(_: int) -> str:
        with service.client() as client:
            return str(issued(client.post(CERTIFICATES, content=asked, headers=JSON | key))["serial_number"])

    with ThreadPoolExecutor(32) as pool:
        serials = set(pool.map(ask, range(32)))
    assert len(serials) == 1
    assert len(api.get(CERTIFICATES, params={"common_name": name}).json()["items"]) == 1


def test_a_private_key_is_not_given_twice(api: httpx.Client) -> None:
    """An answer that held a private key is not repeated: 409 names the certificate."""
    key, body = _key(), {"common_name": fresh_name()}
    made = issued(api.post(CERTIFICATES, json=body, headers=key))
    again = problem(api.post(CERTIFICATES, json=body, headers=key), 409)
    assert str(made["serial_number"]) in again["detail"]
    assert "PRIVATE" not in str(again)


@pytest.mark.parametrize("again", ["a long password", "another password"])
def test_a_file_with_a_key_is_not_given_twice(api: httpx.Client, again: str) -> None:
    """Nor is a PKCS #12 file, whatever password the second request brings: 409 names the certificate."""
    key, config = _key(), {"common_name": fresh_name()}
    made = api.post(CERTIFICATES, json=config | {"pkcs12_password": "a long password"}, headers=key)
    assert made.status_code == 201
    said = problem(api.post(CERTIFICATES, json=config | {"pkcs12_password": again}, headers=key), 409)
    assert made.headers["location"].rpartition("/")[2] in said["detail"]
    assert len(api.get(CERTIFICATES, params={"common_name": config["common_name"]}).json()["items"]) == 1


def test_no_password_is_kept(tmp_path: Path, environment: dict[str, str]) -> None:
    """What is kept of a request says nothing of the password in it, and no log line does."""
    config = {"common_name": fresh_name()}
    bodies = [b'{"common_name":"%s"%s}' % (config["common_name"].encode(), rest) for rest in (
        b"", b',"pkcs12_password":"hunter2"', b',"pkcs12_password":"hunter3"', b',"pkcs12_passw\\u006frd":"hunter4"',
    )]  # fmt: skip
    with RunningService(tmp_path, environment=environment) as service, service.client() as client:
        headers = [_key() for _ in bodies]
        for body, key in zip(bodies, headers, strict=True):
            assert client.post(CERTIFICATES, content=body, headers=key).status_code == 201
        kept = dict(map(tuple, rows(service.database_url, "SELECT key, request_sha256 FROM idempotency_keys")))
        stored = everything(service.database_url)
    assert len({kept[key["Idempotency-Key"]] for key in headers}) == 1
    for text in (stored, service.log):
        assert not [word for word in ("hunter2", "hunter3", "hunter4") if word in text]


def test_a_refusal_is_not_kept(api: httpx.Client) -> None:
    """A refused request is judged afresh when it is sent again, and its key is free for another one."""
    key, asked = _key(), csr(fresh_name())
    refused = {"lifetime": "399d"}
    for _ in range(2):
        problem(api.post(CERTIFICATES, content=asked, headers=key, params=refused), 403, rule="max_lifetime")
    issued(api.post(CERTIFICATES, content=asked, headers=JSON | key))


def test_over_a_restart(tmp_path: Path, environment: dict[str, str]) -> None:
    """The key is as durable as the certificate: after kill -9 it stands for the same one."""
    key, asked = _key(), csr(fresh_name())
    with RunningService(tmp_path, environment=environment) as service:
        with service.client() as client:
            first = issued(client.post(CERTIFICATES, content=asked, headers=JSON | key))
        service.kill()
        service.start()
        with service.client() as client:
            again = issued(client.post(CERTIFICATES, content=asked, headers=JSON | key))
    assert again["serial_number"] == first["serial_number"]


def test_renewal_and_rotation(api: httpx.Client) -> None:
    """Acts on a certificate are done once too; a rotation with a key made here says 409, and rotates nothing more."""
    old = issued(api.post(CERTIFICATES, content=csr(fresh_name(), key=fresh_key()), headers=JSON))
    path, key = f"{CERTIFICATES}/{old['serial_number']}", _key()
    renewed = [issued(api.post(f"{path}/renew", headers=key))["serial_number"] for _ in range(2)]
    assert renewed[0] == renewed[1]
    key, body = _key(), {"csr": csr(key=fresh_key()).decode()}
    rotated = [issued(api.post(f"{path}/rotate", json=body, headers=key))["serial_number"] for _ in range(2)]
    assert rotated[0] == rotated[1]


def test_one_rotation_many_times_at_once(api: httpx.Client) -> None:
    """Who asks again before the first answer is there gets that answer, not that the old certificate is revoked."""
    old = issued(api.post(CERTIFICATES, content=csr(fresh_name(), key=fresh_key()), headers=JSON))
    path, key, body = f"{CERTIFICATES}/{old['serial_number']}/rotate", _key(), {"csr": csr(key=fresh_key()).decode()}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.post(path, json=body, headers=key), range(8)))
    assert len({issued(answer)["serial_number"] for answer in answers}) == 1


def test_a_batch(api: httpx.Client) -> None:
    """What a batch issued is issued once; what it refused is judged afresh."""
    key = _key()
    body = {"requests": [{"csr": csr(fresh_name()).decode()}, {"csr": csr(fresh_name()).decode(), "lifetime": "399d"}]}
    results = [api.post(f"{CERTIFICATES}/batch", json=body, headers=key).json()["results"] for _ in range(2)]
    assert [[one["status"] for one in each] for each in results] == [[201, 403], [201, 403]]
    serials = [each[0]["certificate"]["serial_number"] for each in results]
    assert serials[0] == serials[1]


def test_a_batch_with_keys(api: httpx.Client) -> None:
    """Sent again, a batch answers 200, and in it 409 for each certificate whose key was returned once."""
    key, body = _key(), {"requests": [{"common_name": fresh_name()}, {"csr": csr(fresh_name()).decode()}]}
    first, again = (api.post(f"{CERTIFICATES}/batch", json=body, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200)
    made, replayed = first.json()["results"], again.json()["results"]
    assert [one["status"] for one in made] == [201, 201]
    assert [one["status"] for one in replayed] == [409, 201]
    assert made[0]["certificate"]["serial_number"] in replayed[0]["problem"]["detail"]
    assert made[1]["certificate"]["serial_number"] == replayed[1]["certificate"]["serial_number"]


@pytest.mark.parametrize("key", ["", "a b", "é", "x" * 256])
def test_what_is_no_key(api: httpx.Client, key: str) -> None:
    """Empty, blank, not ASCII or too long: 422, naming the header."""
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    response = api.post(CERTIFICATES, content=csr(), headers=headers)
    problem(response, 422, field="Idempotency-Key")


def test_a_key_that_comes_twice(api: httpx.Client) -> None:
    """Two keys are none."""
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(api.post(CERTIFICATES, content=csr(), headers=headers), 422, field="Idempotency-Key")
