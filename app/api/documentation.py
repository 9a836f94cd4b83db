"""What FastAPI cannot read off the code: raw bodies, problem answers, and examples that work."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from app.api.requests import (
    BatchRequest,
    CosignRequest,
    CRLQuestion,
    IssueFromConfig,
    IssueFromCSR,
    PKCS12Request,
    Question,
    RenewItselfRequest,
    RenewRequest,
    RevokeRequest,
    RotateRequest,
    TokenRequest,
)
from app.api.schemas import Problem

__all__ = ["ISSUE_BODY", "PROBLEMS", "RENEW_ITSELF", "REVOKE_BODY", "SCHEMAS", "SIMULATE_BODY", "body_of", "raw_or"]

_REF: Final = "#/components/schemas/{model}"
_PROBLEM: Final[dict[str, Any]] = {"application/problem+json": {"schema": {"$ref": _REF.format(model="Problem")}}}

# Models that stand only in bodies which the routes read themselves.
SCHEMAS: Final = (
    IssueFromCSR,
    IssueFromConfig,
    RevokeRequest,
    RenewRequest,
    RenewItselfRequest,
    RotateRequest,
    PKCS12Request,
    Question,
    CRLQuestion,
    CosignRequest,
    BatchRequest,
    TokenRequest,
    Problem,
)


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": _PROBLEM}


PROBLEMS: Final[dict[int | str, dict[str, Any]]] = {
    400: _problem("The body cannot be read as what it claims to be."),
    401: _problem("No token or client certificate, or a wrong one."),
    403: _problem("Policy says no; `rule` names the constraint."),
    404: _problem("It does not exist."),
    405: _problem("The method is not allowed here."),
    406: _problem("No form of the answer is one that Accept takes."),
    408: _problem("The body did not come in time."),
    409: _problem("The present state does not allow it."),
    413: _problem("The body is larger than is taken."),
    422: _problem("A field is wrong, or the CSR is unfit whoever asks."),
    429: _problem("Too often; try again after Retry-After seconds."),
    503: _problem("Try again after Retry-After seconds."),
}

_CSR: Final = """-----BEGIN CERTIFICATE REQUEST-----
MIIBAjCBqQIBADAaMRgwFgYDVQQDDA9hcHAuZXhhbXBsZS5vcmcwWTATBgcqhkjO
PQIBBggqhkjOPQMBBwNCAAR1jEbxp6dV1iYA2ZNQlPhidnyZnRWC/oc79GoCo7z1
lSJQhpi0RMv8c8TqYHTzgIua8//VHTY9V6XoueaGIhcpoC0wKwYJKoZIhvcNAQkO
MR4wHDAaBgNVHREEEzARgg9hcHAuZXhhbXBsZS5vcmcwCgYIKoZIzj0EAwIDSAAw
RQIgRp/EUiNxlDRerG791NXUufkZ+JNWiKlva5gQtYrrWIQCIQDVTvZJD1JF9VW2
r12n94tMATAPmwkUL5kIhiQWKXv1rg==
-----END CERTIFICATE REQUEST-----
"""

ISSUE_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"$ref": _REF.format(model="IssueFromCSR")},
                        {"$ref": _REF.format(model="IssueFromConfig")},
                    ]
                },
                "examples": {
                    "csr": {
                        "summary": "A CSR, for a day",
                        "value": {"csr": _CSR, "profile": "server", "lifetime": "24h"},
                    },
                    "config": {
                        "summary": "The service makes the key",
                        "value": {
                            "common_name": "app.example.org",
                            "san_dns": ["www.example.org"],
                            "key": {"algorithm": "ec", "curve": "P-256"},
                            "lifetime": "24h",
                        },
                    },
                },
            },
            "application/pkcs10": {"schema": {"type": "string", "format": "binary"}},
            "application/x-pem-file": {"schema": {"type": "string"}, "example": _CSR},
        },
    }
}

SIMULATE_BODY: Final = ISSUE_BODY


def body_of(model: type[BaseModel], example: object, *, required: bool = True) -> dict[str, Any]:
    """A JSON body that the route reads itself."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    return {
        "requestBody": {
            "required": required,
            "content": {"application/json": {"schema": schema, "example": example}},
        }
    }


def raw_or(model: type[BaseModel], field: str) -> dict[str, Any]:
    """What is asked about as the body itself, PEM or DER, or in a field of JSON."""
    schema = {"$ref": _REF.format(model=model.__name__)}
    label = "X509 CRL" if field == "crl" else "CERTIFICATE"
    text = f"-----BEGIN {label}-----\n…"
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": schema, "example": {field: text}},
                "application/x-pem-file": {"schema": {"type": "string"}, "example": text},
                "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            },
        }
    }


RENEW_ITSELF: Final[dict[str, Any]] = {
    "security": [{"mutualTLS": []}],
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {"schema": {"$ref": _REF.format(model="RenewItselfRequest")}, "example": {}},
            "application/pkcs10": {"schema": {"type": "string", "format": "binary"}},
            "application/x-pem-file": {"schema": {"type": "string"}, "example": _CSR},
        },
    },
}

REVOKE_BODY: Final = body_of(RevokeRequest, {"reason": "keyCompromise"}, required=False)
