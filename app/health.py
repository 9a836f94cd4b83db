"""``tiny-ca health``: is the service of these settings well? For healthchecks of containers, on its own machine."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Final
from urllib.parse import urlsplit

from app.net import is_unspecified
from app.settings import Settings

__all__ = ["Unwell", "ask_health", "own_url"]

_TIMEOUT_SECONDS: Final = 3.0
_LARGEST: Final = 65536


class Unwell(Exception):
    """It does not answer, or says that something is missing; the text tells what."""


def own_url(settings: Settings) -> str:
    """Where the service of these settings listens, seen from its own machine."""
    host = settings.host
    if is_unspecified(host):
        host = "::1" if ":" in host else "127.0.0.1"
    scheme = "http" if settings.tls_mode == "off" else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"


def ask_health(url: str, *, ready: bool) -> None:
    """Return if the service lives; ``ready``: if it can issue now. Its certificate is not checked: no secret is sent.

    Raises
    ------
    Unwell
        It does not, or cannot.
    """
    path = "/readyz" if ready else "/healthz"
    try:
        connection = _connection(url)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            status, body = response.status, response.read(_LARGEST)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise Unwell(f"{url}{path} does not answer: {error}") from error
    if status != http.HTTPStatus.OK:
        raise Unwell(f"{url}{path} answers {status}{_failed(body)}")


def _connection(url: str) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or parts.hostname is None:
        raise ValueError("write a URL such as https://127.0.0.1:8000")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=_TIMEOUT_SECONDS, context=context)


def _failed(body: bytes) -> str:
    """The checks that failed, as far as the answer names them."""
    try:
        checks = dict(json.loads(body)["checks"])
    except (ValueError, KeyError, TypeError):
        return ""
    return ": " + "; ".join(f"{name}: {result}" for name, result in checks.items() if result != "ok")
