"""What relying parties fetch without a token: CA certificates and CRLs, from memory, with validators."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.api.documentation import PROBLEMS
from app.dependencies import Running
from app.services.publication import PublicFile

__all__ = ["PUBLISHED", "router"]

router = APIRouter(tags=["public"], responses={status: PROBLEMS[status] for status in (404, 422, 429, 503)})


_REFUSED: Final = re.compile(r"q\s*=\s*0(\.0*)?")
_Endpoint = TypeVar("_Endpoint", bound=Callable[..., Awaitable[Response]])


def _published(path: str, summary: str) -> Callable[[_Endpoint], _Endpoint]:
    """GET and HEAD; the document needs to say only one of them."""

    def add(endpoint: _Endpoint) -> _Endpoint:
        router.head(path, include_in_schema=False)(endpoint)
        return router.get(path, response_class=Response, summary=summary)(endpoint)

    return add


IssuerId = Annotated[str, Path(max_length=64, examples=["0123456789abcdef"])]


@_published("/ca.pem", "The issuing CA, then its root")
async def ca_pem(request: Request, service: Running) -> Response:
    """What ``openssl verify -CAfile`` takes."""
    return await _serve(request, service, service.issuers.bundle)


@_published("/roots.pem", "The roots alone")
async def roots_pem(request: Request, service: Running) -> Response:
    """The trust anchors."""
    return await _serve(request, service, service.issuers.roots)


@_published("/crl.pem", "The newest CRL, PEM")
async def crl_pem(request: Request, service: Running) -> Response:
    """Of the default issuer."""
    crl = await service.crls.current(service.issuers.default.id)
    return await _serve(request, service, await crl.pem.get(), ends=crl.next_update)


@_published("/crl.der", "The newest CRL, DER")
async def crl_der(request: Request, service: Running) -> Response:
    """Of the default issuer."""
    crl = await service.crls.current(service.issuers.default.id)
    return await _serve(request, service, crl.der, ends=crl.next_update)


@_published("/issuers/{issuer_id}.der", "What AIA caIssuers points to")
async def issuer_der(request: Request, issuer_id: IssuerId, service: Running) -> Response:
    """One CA certificate, DER (RFC 5280 §4.2.2.1)."""
    return await _serve(request, service, service.issuers.file(issuer_id))


@_published("/issuers/{issuer_id}/crl.der", "What the CDP points to")
async def issuer_crl(request: Request, issuer_id: IssuerId, service: Running) -> Response:
    """The newest CRL of one CA, DER (RFC 5280 §4.2.1.13)."""
    crl = await service.crls.current(issuer_id)
    return await _serve(request, service, crl.der, ends=crl.next_update)


# Those whose path says it all.
PUBLISHED: Final = frozenset({ca_pem, roots_pem, crl_pem, crl_der})


async def _serve(request: Request, service: Running, file: PublicFile, *, ends: datetime | None = None) -> Response:
    """Answer with the file, or with 304 where the client has it (RFC 9110 §13.2.2); no cache keeps it past its end."""
    max_age = service.settings.public_max_age
    if ends is not None:
        max_age = max(0, min(max_age, int((ends - service.records.now()).total_seconds())))
    gzipped = await file.compressed() if _takes_gzip(request.headers.get("accept-encoding", "")) else None
    etag = file.etag if gzipped is None else file.gzip_etag
    headers = {
        "ETag": etag,
        "Last-Modified": file.last_modified,
        "Cache-Control": f"public, max-age={max_age}",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_fresh(request, file, etag):
        return Response(status_code=304, headers=headers)
    content = file.content if gzipped is None else gzipped
    if gzipped is not None:
        headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(content))
    return Response(b"" if request.method == "HEAD" else content, headers=headers, media_type=file.media_type)


def _takes_gzip(accept_encoding: str) -> bool:
    """Whether gzip is named, and not with a weight of zero (RFC 9110 §12.5.3)."""
    for part in accept_encoding[:1000].lower().split(","):
        coding, _, weight = (piece.strip() for piece in part.partition(";"))
        if coding == "gzip":
            return not _REFUSED.fullmatch(weight)
    return False


def _is_fresh(request: Request, file: PublicFile, etag: str) -> bool:
    asked = request.headers.get("if-none-match")
    if asked is not None:  # RFC 9110 §13.1.3: If-Modified-Since counts only without it
        return asked.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in asked.split(",")}
    since = request.headers.get("if-modified-since")
    if since is None or not file.dated:
        return False
    try:
        return parsedate_to_datetime(since) >= file.modified
    except (ValueError, TypeError, OverflowError):
        return False
