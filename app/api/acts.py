"""``/api/v1/certificates/{serial_number}/…``: what is done to one certificate."""

from __future__ import annotations

import asyncio

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from fastapi import APIRouter, Request
from starlette.responses import Response

from app.api.body import json_body
from app.api.certificates import made, made_with_key, recorded
from app.api.documentation import PROBLEMS, REVOKE_BODY, body_of
from app.api.key_files import NO_KEY, PKCS12, PKCS12_FORM, RAW_FORMS_WITH_KEY, form_with_key
from app.api.negotiation import choose
from app.api.parameters import JSON_ALONE, NO_BODY, NO_QUERY, SerialNumber, read_serial
from app.api.requests import PKCS12Request, RenewRequest, RevokeRequest, RotateRequest
from app.api.schemas import CertificateAnswer
from app.api.views import FORMS, JSON, RAW_FORMS
from app.auth.principal import Permission
from app.dependencies import Called, Creating, Running, needs
from app.services.records import load
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.pkcs12 import export_pkcs12
from tiny_ca.exc import Invalid
from tiny_ca.models.revocation import reason_from_name

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/certificates/{serial_number:serial}", tags=["certificates"], responses=PROBLEMS)


@router.post(
    "/revoke",
    response_model=CertificateAnswer,
    summary="Revoke; the CRL that says so is published before the answer",
    openapi_extra=REVOKE_BODY,
    dependencies=[needs(Permission.CERTIFICATES_REVOKE, "certificate.revoke"), *NO_QUERY, *JSON_ALONE],
)
async def revoke(request: Request, serial_number: SerialNumber, service: Running, caller: Called) -> Response:
    """Again with the same reason changes nothing and answers 200. ``keyCompromise`` blocks the key for good."""
    asked = await json_body(request, RevokeRequest)
    record = await service.revocations.revoke(
        caller, read_serial(serial_number), reason_from_name(asked.reason), all_with_key=asked.all_with_key
    )
    return recorded(service, JSON, record)


@router.post(
    "/unhold",
    response_model=CertificateAnswer,
    summary="Lift a certificateHold",
    dependencies=[needs(Permission.CERTIFICATES_REVOKE, "certificate.unhold"), *NO_QUERY, *NO_BODY, *JSON_ALONE],
)
async def unhold(serial_number: SerialNumber, service: Running, caller: Called) -> Response:
    """The certificate is valid again, and on no CRL, before the answer comes."""
    return recorded(service, JSON, await service.revocations.unhold(caller, read_serial(serial_number)))


@router.post(
    "/renew",
    status_code=201,
    response_model=CertificateAnswer,
    responses={201: RAW_FORMS},
    summary="The same key and names for a new time; the old certificate stays valid",
    openapi_extra=body_of(RenewRequest, {"lifetime": "24h"}, required=False),
    dependencies=[needs(Permission.CERTIFICATES_ISSUE, "certificate.renew"), *NO_QUERY],
)
async def renew(request: Request, serial_number: SerialNumber, service: Running, caller: Creating) -> Response:
    """409 for a certificate that is revoked or has expired."""
    form = choose(request.headers.get("accept"), FORMS)
    asked = await json_body(request, RenewRequest)
    return made(service, form, await service.lifecycle.renew(caller, read_serial(serial_number), asked.lifetime))


@router.post(
    "/rotate",
    status_code=201,
    response_model=CertificateAnswer,
    responses={201: RAW_FORMS_WITH_KEY},
    summary="A new key for the same names; the old certificate is revoked as superseded",
    openapi_extra=body_of(RotateRequest, {"key": {"algorithm": "ec", "curve": "P-256"}}, required=False),
    dependencies=[needs(Permission.CERTIFICATES_ISSUE, "certificate.rotate"), *NO_QUERY],
)
async def rotate(request: Request, serial_number: SerialNumber, service: Running, caller: Creating) -> Response:
    """The new key is a CSR's, or made here and returned once.

    Then as JSON, as PEM chain, or with `pkcs12_password` as PKCS #12; `application/pkix-cert` is for CSRs alone (else
    406): it has no room for a key.
    """
    asked = await json_body(request, RotateRequest)
    accept = request.headers.get("accept")
    form = form_with_key(accept, asked.pkcs12_password) if asked.csr is None else choose(accept, FORMS, why=NO_KEY)
    certificate = await service.lifecycle.rotate(
        caller,
        read_serial(serial_number),
        csr=None if asked.csr is None else asked.csr.encode(),
        key=None if asked.key is None else asked.key.spec(),
        for_pkcs12=asked.pkcs12_password is not None,
    )
    return await made_with_key(service, form, certificate, asked.pkcs12_password)


@router.post(
    "/pkcs12",
    response_class=Response,
    responses={200: {"content": PKCS12_FORM}},
    summary="The certificate, its chain and your key in one file",
    openapi_extra=body_of(PKCS12Request, {"private_key": "-----BEGIN PRIVATE KEY-----\n…", "password": "…"}),
    dependencies=[needs(Permission.CERTIFICATES_ISSUE, "certificate.pkcs12"), *NO_QUERY],
)
async def pkcs12(request: Request, serial_number: SerialNumber, service: Running, caller: Called) -> Response:
    """The key must be the certificate's; nothing of it is kept.

    A key that is made here comes as PKCS #12 at once: issue and rotate take a `pkcs12_password`.
    """
    choose(request.headers.get("accept"), (PKCS12,))
    asked = await json_body(request, PKCS12Request)
    record = await service.records.for_export(caller, read_serial(serial_number))
    key = await asyncio.to_thread(_private_key, asked.private_key.get_secret_value())
    content = await asyncio.to_thread(
        export_pkcs12,
        load(record),
        key,
        chain=service.records.chain(record),
        password=asked.password.get_secret_value().encode(),
        compatibility=asked.compatibility,
    )
    return Response(content, headers={"Cache-Control": "no-store"}, media_type=PKCS12)


def _private_key(pem: str) -> PrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):  # its text may quote what it read
        message = "private_key is no unencrypted private key in PEM"
        raise Invalid(message, field="private_key") from None
    return key  # type: ignore[return-value]  # ``export_pkcs12`` refuses kinds that are not taken
