"""Answers that hold a key made here, with ``application/x-pkcs12`` among their forms."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from pydantic import SecretStr
from starlette.responses import Response

from app.api.negotiation import choose
from app.api.views import CHAIN, JSON, RAW_FORMS
from app.services.lifecycle import Made
from tiny_ca.ca_factory.pkcs12 import export_pkcs12
from tiny_ca.exc import Invalid

__all__ = ["NO_KEY", "PKCS12", "PKCS12_FORM", "RAW_FORMS_WITH_KEY", "form_with_key", "pkcs12_response"]

PKCS12: Final = "application/x-pkcs12"
PKCS12_FORM: Final[dict[str, Any]] = {PKCS12: {"schema": {"type": "string", "format": "binary"}}}
# Why a CSR's answer is no PKCS #12.
NO_KEY: Final = "for PKCS #12, send the key and a password to the certificate's /pkcs12, as a CSR brings no key"
RAW_FORMS_WITH_KEY: Final = {"content": {**RAW_FORMS["content"], **PKCS12_FORM}}


def form_with_key(accept: str | None, password: SecretStr | None) -> str:
    """The form of an answer whose key is made here; a password is for PKCS #12, and PKCS #12 needs one.

    Raises
    ------
    NotAcceptable
        ``Accept`` takes none; DER is none, for it has no place for the key, which would be lost.
    Invalid
        PKCS #12 without a password.
    """
    if password is not None:
        return choose(accept, (PKCS12,), why="a pkcs12_password is for nothing else")
    form = choose(accept, (JSON, CHAIN, PKCS12), why="the key is made here, and DER would leave no room for it")
    if form == PKCS12:
        raise Invalid("application/x-pkcs12 needs a pkcs12_password, which encrypts the key", field="pkcs12_password")
    return form


async def pkcs12_response(certificate: Made, password: SecretStr, headers: dict[str, str]) -> Response:
    """A certificate just made, its chain and its key in one file: 201, in no cache."""
    assert certificate.private_key is not None  # noqa: S101  # a replay of what held a key is refused
    content = await asyncio.to_thread(
        export_pkcs12,
        certificate.certificate,
        certificate.private_key,
        chain=certificate.above,
        password=password.get_secret_value().encode(),
    )
    return Response(content, 201, {**headers, "Cache-Control": "no-store"}, PKCS12)
