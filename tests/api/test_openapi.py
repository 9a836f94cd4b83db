"""The OpenAPI document: whole in itself, and its examples work when they are sent."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.running import CERTIFICATES

PATHS = {
    CERTIFICATES: {"get", "post"},
    f"{CERTIFICATES}/batch": {"post"},
    f"{CERTIFICATES}/renew": {"post"},
    f"{CERTIFICATES}/{{serial_number}}": {"get", "delete"},
    f"{CERTIFICATES}/{{serial_number}}/status": {"get"},
    f"{CERTIFICATES}/{{serial_number}}/chain": {"get"},
    f"{CERTIFICATES}/{{serial_number}}/revoke": {"post"},
    f"{CERTIFICATES}/{{serial_number}}/unhold": {"post"},
    f"{CERTIFICATES}/{{serial_number}}/renew": {"post"},
    f"{CERTIFICATES}/{{serial_number}}/rotate": {"post"},
    f"{CERTIFICATES}/{{serial_number}}/pkcs12": {"post"},
    "/api/v1/simulate": {"post"},
    "/api/v1/inspect": {"post"},
    "/api/v1/verify": {"post"},
    "/api/v1/crl/verify": {"post"},
    "/api/v1/cosign": {"post"},
    "/api/v1/tokens": {"get", "post"},
    "/api/v1/tokens/{token_id}": {"delete", "get"},
    "/api/v1/issuers": {"get", "post"},
    "/api/v1/issuers/{issuer_id}": {"get", "patch"},
    "/api/v1/issuers/{issuer_id}/crl": {"post"},
    "/api/v1/issuers/{issuer_id}/revoke": {"post"},
    "/api/v1/profiles": {"get"},
    "/api/v1/audit": {"get"},
    "/api/v1/jobs": {"get"},
    "/api/v1/jobs/{name}/run": {"post"},
    "/ca.pem": {"get"},
    "/roots.pem": {"get"},
    "/crl.pem": {"get"},
    "/crl.der": {"get"},
    "/issuers/{issuer_id}.der": {"get"},
    "/issuers/{issuer_id}/crl.der": {"get"},
    "/healthz": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


@pytest.fixture(scope="module")
def document(anybody: httpx.Client) -> dict[str, Any]:
    """The document as it is served."""
    response = anybody.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    body: dict[str, Any] = response.json()
    return body


def _walk(node: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401  # JSON
    if isinstance(node, dict):
        yield node
        for value in node.values():
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


def test_every_path(document: dict[str, Any]) -> None:
    """Everything that is served is described, and nothing else."""
    assert document["openapi"].startswith("3.1")
    assert {path: set(operations) for path, operations in document["paths"].items()} == PATHS


def test_references(document: dict[str, Any]) -> None:
    """Every ``$ref`` leads somewhere inside the document."""
    schemas = document["components"]["schemas"]
    references = {node["$ref"] for node in _walk(document) if isinstance(node.get("$ref"), str)}
    assert {ref for ref in references if ref.removeprefix("#/components/schemas/") not in schemas} == set()


def test_operations(document: dict[str, Any]) -> None:
    """Every operation has an id of its own, a summary, and the answers of its successes."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    assert all(operation["summary"] for operation in operations)
    assert all({"200", "201"} & set(operation["responses"]) for operation in operations)


def test_problems(document: dict[str, Any]) -> None:
    """Each operation of the API documents its refusals as problems, 422 among them, and that it wants a token."""
    for path, item in document["paths"].items():
        if not path.startswith("/api/"):
            continue
        for operation in item.values():
            assert operation["security"]
            for status in ("401", "422", "503"):
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"]


def _examples(document: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for media_type, content in document["paths"][path]["post"]["requestBody"]["content"].items():
        if "example" in content:
            yield media_type, content["example"]
        for example in content.get("examples", {}).values():
            yield media_type, example["value"]


def _post(api: httpx.Client, path: str, media_type: str, example: Any) -> httpx.Response:  # noqa: ANN401  # JSON
    content = json.dumps(example) if media_type == "application/json" else example
    return api.post(path, content=content, headers={"Content-Type": media_type, "Accept": "application/json"})


def test_examples_of_issuing(api: httpx.Client, document: dict[str, Any]) -> None:
    """Each example of a request for a certificate gives one."""
    examples = list(_examples(document, CERTIFICATES))
    assert len(examples) >= 3
    for media_type, example in examples:
        response = _post(api, CERTIFICATES, media_type, example)
        assert response.status_code == 201, response.text


def test_the_example_of_revoking(api: httpx.Client, document: dict[str, Any]) -> None:
    """The example of a revocation revokes."""
    path = f"{CERTIFICATES}/{{serial_number}}/revoke"
    for media_type, example in _examples(document, path):
        serial = api.post(CERTIFICATES, json={"common_name": "app.example.org"}).json()["serial_number"]
        response = _post(api, path.format(serial_number=serial), media_type, example)
        assert (response.status_code, response.json()["revocation_reason"]) == (200, "keyCompromise")


def test_an_answer_has_what_is_described(api: httpx.Client, document: dict[str, Any]) -> None:
    """An answer's fields are those of its schema, the required ones all there."""
    schema = document["components"]["schemas"]["CertificateAnswer"]
    body = api.post(CERTIFICATES, json={"common_name": "app.example.org"}).json()
    assert set(body) <= set(schema["properties"])
    assert set(schema["required"]) <= set(body)


def test_docs(anybody: httpx.Client) -> None:
    """``/docs`` shows it, and everything that the page loads comes from this service."""
    page = anybody.get("/docs")
    assert page.status_code == 200
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(loaded) == 3
    for path in loaded:
        assert path.startswith("/")
        assert anybody.get(path).status_code == 200
    assert "connect-src 'self'" in page.headers["content-security-policy"]
    assert anybody.get("/docs/static/../../../etc/passwd").status_code == 404
    assert anybody.get("/docs/static/%2e%2e/%2e%2e/core.py").status_code == 404
