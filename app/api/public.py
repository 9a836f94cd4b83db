"""What relying parties fetch without a token: CA certificates and CRLs, from memory, with validators."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Annotated, Final, TypeAlias, TypeVar

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.api.documentation import PROBLEMS
from app.dependencies import Running
from app.services.publication import PublicFile

__all__ = ["PUBLISHED", "router"]

router = APIRouter(tags=["public"], responses={status: PROBLEMS[status] for status in (404, 422, 429, 503)})


_ACCEPT_ENCODING, _IF_NONE_MATCH, _IF_MODIFIED_SINCE = b"accept-encoding", b"if-none-match", b"if-modified-since"
_ASKED: Final = frozenset({_ACCEPT_ENCODING, _IF_NONE_MATCH, _IF_MODIFIED_SINCE})
_MAX_ACCEPT: Final = 1000
_REFUSED: Final = re.compile(r"q\s*=\s*0(\.0*)?")
_Head: TypeAlias = tuple[tuple[bytes, bytes], ...]
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
    asked = _asked(request)
    gzipped = file.gzipped is not None and _takes_gzip(asked.get(_ACCEPT_ENCODING, "")[:_MAX_ACCEPT])
    etag = file.gzip_etag if gzipped else file.etag
    if _is_fresh(asked, file, etag):
        return _Prepared(304, _head(file.media_type, file.last_modified, etag, max_age), b"")
    content = (await file.compressed() if gzipped else None) or file.content
    head = _head(file.media_type, file.last_modified, etag, max_age, length=len(content), gzipped=gzipped)
    return _Prepared(200, head, b"" if request.method == "HEAD" else content)


class _Prepared(Response):
    """An answer whose head is there already: to encode it costs as much as to send it."""

    def __init__(self, status_code: int, head: _Head, body: bytes) -> None:
        self.status_code = status_code
        self.raw_headers = [*head]  # whoever adds to it adds to this answer alone
        self.body = body
        self.background = None


@lru_cache(maxsize=256)
def _head(
    media_type: str, last_modified: str, etag: str, max_age: int, *, length: int | None = None, gzipped: bool = False
) -> _Head:
    """The head of an answer with so many octets, or of a 304 (``length`` None)."""
    headers = {
        "ETag": etag,
        "Last-Modified": last_modified,
        "Cache-Control": f"public, max-age={max_age}",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if length is None:
        return tuple(Response(status_code=304, headers=headers).raw_headers)
    headers["Content-Length"] = str(length)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    return tuple(Response(headers=headers, media_type=media_type).raw_headers)


def _asked(request: Request) -> dict[bytes, str]:
    """What the client says of encodings and of what it has; what comes in several lines is one list (RFC 9110 §5.3)."""
    asked: dict[bytes, str] = {}
    for name, value in request.scope["headers"]:
        if name in _ASKED:
            text = value.decode("latin-1")
            asked[name] = f"{asked[name]}, {text}" if name in asked else text
    return asked


@lru_cache(maxsize=64)  # clients of a kind say the same
def _takes_gzip(accept_encoding: str) -> bool:
    """Whether gzip is named, and not with a weight of zero (RFC 9110 §12.5.3)."""
    for part in accept_encoding.lower().split(","):
        coding, _, weight = (piece.strip() for piece in part.partition(";"))
        if coding == "gzip":
            return not _REFUSED.fullmatch(weight)
    return False


def _is_fresh(asked: Mapping[bytes, str], file: PublicFile, etag: str) -> bool:
    tags = asked.get(_IF_NONE_MATCH)
    if tags is not None:  # RFC 9110 §13.1.3: If-Modified-Since counts only without it
        return tags.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in tags.split(",")}
    since = asked.get(_IF_MODIFIED_SINCE)
    if since is None or not file.dated:
        return False
    try:
        return parsedate_to_datetime(since) >= file.modified
    except (ValueError, TypeError, OverflowError):
        return False
