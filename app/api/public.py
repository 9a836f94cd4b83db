"""What relying parties fetch without a token: CA certificates and CRLs, from memory, with validators."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from email.utils import parsedate_to_datetime
from typing import Annotated, Final, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.api.documentation import PROBLEMS
from app.dependencies import Running
from app.services.publication import PublicFile

__all__ = ["router"]

router = APIRouter(tags=["public"], responses={404: PROBLEMS[404], 503: PROBLEMS[503]})

_PEM: Final = "application/x-pem-file"
_DER_CERTIFICATE: Final = "application/pkix-cert"

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
    issuer = service.issuers.default
    return _serve(request, service, _bundle((issuer.certificate, *issuer.chain)))


@_published("/roots.pem", "The roots alone")
async def roots_pem(request: Request, service: Running) -> Response:
    """The trust anchors."""
    return _serve(request, service, _bundle(service.issuers.roots))


@_published("/crl.pem", "The newest CRL, PEM")
async def crl_pem(request: Request, service: Running) -> Response:
    """Of the default issuer."""
    return _serve(request, service, (await service.crls.current(service.issuers.default.id)).pem)


@_published("/crl.der", "The newest CRL, DER")
async def crl_der(request: Request, service: Running) -> Response:
    """Of the default issuer."""
    return _serve(request, service, (await service.crls.current(service.issuers.default.id)).der)


@_published("/issuers/{issuer_id}.der", "What AIA caIssuers points to")
async def issuer_der(request: Request, issuer_id: IssuerId, service: Running) -> Response:
    """One CA certificate, DER (RFC 5280 §4.2.2.1)."""
    certificate = service.issuers.get(issuer_id).certificate
    encoded = certificate.public_bytes(Encoding.DER)
    return _serve(request, service, PublicFile(encoded, _DER_CERTIFICATE, certificate.not_valid_before_utc))


@_published("/issuers/{issuer_id}/crl.der", "What the CDP points to")
async def issuer_crl(request: Request, issuer_id: IssuerId, service: Running) -> Response:
    """The newest CRL of one CA, DER (RFC 5280 §4.2.1.13)."""
    return _serve(request, service, (await service.crls.current(issuer_id)).der)


def _bundle(certificates: Iterable[x509.Certificate]) -> PublicFile:
    chosen = tuple(certificates)
    content = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chosen)
    return PublicFile(content, _PEM, max(certificate.not_valid_before_utc for certificate in chosen))


def _serve(request: Request, service: Running, file: PublicFile) -> Response:
    """Answer with the file, or with 304 where the client has it (RFC 9110 §13.2.2)."""
    compressed = "gzip" in request.headers.get("accept-encoding", "") and file.media_type == _PEM
    etag = file.gzip_etag if compressed else file.etag
    headers = {
        "ETag": etag,
        "Last-Modified": file.last_modified,
        "Cache-Control": f"public, max-age={service.settings.public_max_age}",
        "Vary": "Accept-Encoding",
        "X-Content-Type-Options": "nosniff",
    }
    if _is_fresh(request, file, etag):
        return Response(status_code=304, headers=headers)
    content = file.gzipped if compressed else file.content
    if compressed:
        headers["Content-Encoding"] = "gzip"
    headers["Content-Length"] = str(len(content))
    return Response(b"" if request.method == "HEAD" else content, headers=headers, media_type=file.media_type)


def _is_fresh(request: Request, file: PublicFile, etag: str) -> bool:
    asked = request.headers.get("if-none-match")
    if asked is not None:  # RFC 9110 §13.1.3: If-Modified-Since counts only without it
        return asked.strip() == "*" or etag in {one.strip().removeprefix("W/") for one in asked.split(",")}
    since = request.headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return parsedate_to_datetime(since) >= file.modified.replace(microsecond=0)
    except (ValueError, TypeError):
        return False
