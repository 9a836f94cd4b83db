"""``/api/v1/issuers``: the CAs of this service."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from app.api.body import field_of_json, json_body, parse_json
from app.api.documentation import PROBLEMS, body_of
from app.api.issuer_schemas import (
    CRLAnswer,
    ImportIssuer,
    ImportPKCS12,
    IssuerList,
    IssuerView,
    MakeIssuer,
    PatchIssuer,
    RevokeIssuer,
)
from app.api.pages import PageQuery, moment_key, page_of
from app.api.parameters import JSON_ALONE, NO_BODY, NO_QUERY, NO_REPEATS
from app.api.views import public_key_view
from app.auth.principal import Permission
from app.dependencies import Called, Creating, Running, needs
from app.services.authorities import Authority
from app.services.authority_records import CRLWindow
from app.services.ca_import import read_pem, read_pkcs12
from tiny_ca.ca_factory.name_constraints import described, name_constraints_of
from tiny_ca.models.revocation import reason_from_name, reason_name
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["ISSUER_SCHEMAS", "router"]

router = APIRouter(prefix="/api/v1/issuers", tags=["issuers"], responses=PROBLEMS)

IssuerId = Annotated[str, Path(max_length=64, examples=["0123456789abcdef"])]
_REF: Final = "#/components/schemas/{model}"
# Models that stand only in bodies which the routes read themselves.
ISSUER_SCHEMAS: Final = (MakeIssuer, ImportIssuer, ImportPKCS12, PatchIssuer, RevokeIssuer)
_POST_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [{"$ref": _REF.format(model=model.__name__)} for model in ISSUER_SCHEMAS[:3]],
                },
                "examples": {
                    "make": {
                        "summary": "A CA for one domain, below the root",
                        "value": {
                            "common_name": "Example CI CA",
                            "organization": "Example",
                            "lifetime": "365d",
                            "permitted_dns": ["ci.example.org"],
                            "permitted_ip_ranges": ["10.0.0.0/8"],
                        },
                    },
                },
            }
        },
    }
}


@router.get(
    "",
    response_model=IssuerList,
    summary="The issuers",
    dependencies=[needs(Permission.ISSUERS_READ, "issuer.list"), *NO_REPEATS, *JSON_ALONE],
)
async def list_issuers(service: Running, caller: Called, query: Annotated[PageQuery, Query()]) -> Response:
    """Oldest first; those outside the caller's limits are not among them."""
    visible = await service.authorities.page(caller)
    page, cursor = page_of(visible, query, key=lambda one: moment_key(one.record.created_at, one.record.id))
    return JSONResponse({"items": [issuer_view(one) for one in page], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    response_model=IssuerView,
    summary="Make an intermediate, or import a CA made elsewhere",
    openapi_extra=_POST_BODY,
    dependencies=[needs(Permission.ISSUERS_MANAGE, "issuer.create"), *NO_QUERY, *JSON_ALONE],
)
async def create(request: Request, service: Running, caller: Creating) -> Response:
    """Its first CRL can be fetched before the answer comes. With ``certificate`` or ``pkcs12`` it is an import."""
    body = await request.body()
    if field_of_json(body, "pkcs12"):
        file = parse_json(body, ImportPKCS12)
        content = file.content()
        password = file.pkcs12_password.get_secret_value()
        made = await service.authorities.take(caller, lambda: read_pkcs12(content, password))
    elif field_of_json(body, "certificate") or field_of_json(body, "private_key"):
        sent = parse_json(body, ImportIssuer)
        key, secret = sent.private_key.get_secret_value(), sent.private_key_password
        made = await service.authorities.take(
            caller,
            lambda: read_pem(
                sent.certificate, sent.chain_texts, key, None if secret is None else secret.get_secret_value()
            ),
        )
    else:
        wish = parse_json(body, MakeIssuer)
        made = await service.authorities.create(caller, wish.request(), wish.parent_id)
    return JSONResponse(issuer_view(made), 201, {"Location": f"{router.prefix}/{made.record.id}"})


@router.get(
    "/{issuer_id}",
    response_model=IssuerView,
    summary="One issuer",
    dependencies=[needs(Permission.ISSUERS_READ, "issuer.read"), *NO_QUERY, *JSON_ALONE],
)
async def get(issuer_id: IssuerId, service: Running, caller: Called) -> Response:
    """Its certificate and chain, its newest CRL, and whether it can sign."""
    return JSONResponse(issuer_view(await service.authorities.get(caller, issuer_id)))


@router.patch(
    "/{issuer_id}",
    response_model=IssuerView,
    summary="Enable, disable, make the default",
    openapi_extra=body_of(PatchIssuer, {"enabled": True}),
    dependencies=[needs(Permission.ISSUERS_MANAGE, "issuer.change"), *NO_QUERY, *JSON_ALONE],
)
async def change(request: Request, issuer_id: IssuerId, service: Running, caller: Called) -> Response:
    """A disabled issuer issues nothing; its CRLs go on."""
    asked = await json_body(request, PatchIssuer)
    changed = await service.authorities.change(
        caller, issuer_id, enabled=asked.enabled, make_default=asked.default is True
    )
    return JSONResponse(issuer_view(changed))


@router.post(
    "/{issuer_id}/crl",
    response_model=CRLAnswer,
    summary="Make a new CRL now",
    dependencies=[needs(Permission.ISSUERS_MANAGE, "issuer.crl"), *NO_QUERY, *NO_BODY, *JSON_ALONE],
)
async def make_crl(issuer_id: IssuerId, service: Running, caller: Called) -> Response:
    """It can be fetched before the answer comes."""
    window, pem = await service.authorities.publish_crl(caller, issuer_id)
    return JSONResponse({"issuer_id": issuer_id, **_crl_view(window), "crl": pem.decode("ascii")})


@router.post(
    "/{issuer_id}/revoke",
    response_model=IssuerView,
    summary="Revoke an intermediate; its parent's CRL says so before the answer comes",
    openapi_extra=body_of(RevokeIssuer, {"reason": "cACompromise"}, required=False),
    dependencies=[needs(Permission.ISSUERS_MANAGE, "issuer.revoke"), *NO_QUERY, *JSON_ALONE],
)
async def revoke(request: Request, issuer_id: IssuerId, service: Running, caller: Called) -> Response:
    """Nothing that it signed is believed any more, and it signs nothing but its CRLs. Roots cannot be revoked: 409."""
    asked = await json_body(request, RevokeIssuer)
    return JSONResponse(
        issuer_view(await service.authorities.revoke(caller, issuer_id, reason_from_name(asked.reason)))
    )


def issuer_view(authority: Authority) -> dict[str, Any]:
    """The fields of ``IssuerView``."""
    record, own, certificate = authority.record, authority.own, authority.chain[0]
    revoked_at = own.revocation_date if own else None
    constraints = name_constraints_of(certificate)
    return {
        "id": record.id,
        "common_name": record.common_name,
        "subject": certificate.subject.rfc4514_string(),
        "serial_number": f"{certificate.serial_number:x}",
        "is_root": record.is_root,
        "enabled": record.enabled,
        "default": record.is_default,
        "parent_id": record.parent_id,
        "has_key": record.private_key_pem is not None,
        "revoked": revoked_at is not None,
        "revocation_date": rfc3339(revoked_at) if revoked_at else None,
        "revocation_reason": reason_name(own.revocation_reason or 0) if own and revoked_at else None,
        "not_valid_before": rfc3339(certificate.not_valid_before_utc),
        "not_valid_after": rfc3339(certificate.not_valid_after_utc),
        "path_length": _path_length(certificate),
        "name_constraints": None
        if constraints is None
        else {
            "permitted": described(constraints.permitted_subtrees),
            "excluded": described(constraints.excluded_subtrees),
        },
        "public_key": public_key_view(certificate),
        "fingerprint_sha256": certificate.fingerprint(hashes.SHA256()).hex(),
        "created_at": rfc3339(record.created_at),
        "crl": None if authority.crl is None else _crl_view(authority.crl),
        "certificate": record.certificate_pem,
        "chain": list(_pem(authority.chain[1:])),
    }


def _crl_view(window: CRLWindow) -> dict[str, Any]:
    return {
        "number": window.number,
        "this_update": rfc3339(window.this_update),
        "next_update": rfc3339(window.next_update),
    }


def _path_length(certificate: x509.Certificate) -> int | None:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length


def _pem(certificates: Iterable[x509.Certificate]) -> Iterable[str]:
    return (one.public_bytes(Encoding.PEM).decode("ascii") for one in certificates)
