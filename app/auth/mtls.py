"""Client certificates: whoever proves to hold the key of a certificate of this CA may renew that one, and nothing else.

The proof is the TLS handshake's, here or at a proxy that is trusted to tell of it (RFC 9440).
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Callable, Iterator
from datetime import datetime
from enum import Enum, auto
from typing import Final

import structlog
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from starlette.datastructures import Headers
from starlette.types import Scope

from app.auth.principal import NotGranted, Principal
from app.peers import FROM_TRUSTED_PROXY
from tiny_ca.ca_factory.extensions import NO_REV_AVAIL
from tiny_ca.ca_factory.profiles import Limits
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.queries.certificates import certificate_by_fingerprint
from tiny_ca.exc import Unauthenticated
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["CertificateAuthenticator", "Source"]

_log = structlog.get_logger(__name__)
_HEADER: Final = "client-cert"
# RFC 9440 §2.2, RFC 9651 §4.1.8: an Item that is a Byte Sequence, padded; it has no parameters.
_BYTES: Final = re.compile(r":((?:[A-Za-z0-9+/]{4})+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?):")
_MAX_OCTETS: Final = 16 * 1024


class Source(Enum):
    """Who made the handshake."""

    TLS = auto()
    HEADER = auto()


class CertificateAuthenticator:
    """From a client's certificate to a Principal, whose id is ``certificate:<serial number>``.

    1. what was shown, 2. the registry's own copy of it, octet by octet, 3. whether it may renew itself.

    That the chain is sound needs no proof beyond 2: the registry holds what this CA signed. So nothing that others
    have encoded is ever parsed. ``source`` None: nobody is believed.
    """

    def __init__(self, db: AsyncDBHandler, clock: Callable[[], datetime], *, source: Source | None) -> None:
        self._db = db
        self._clock = clock
        self._source = source

    async def authenticate(self, scope: Scope) -> Principal:
        """Tell whose certificate came with a request.

        Raises
        ------
        Unauthenticated
            None came, or none of this CA's.
        NotGranted
            It is this CA's, and may not renew itself.
        Unavailable
            It cannot be told just now.
        """
        try:
            return await self._authenticate(scope)
        except (Unauthenticated, NotGranted) as error:
            _log.info("client_certificate.refused", reason=error.message)
            raise

    async def _authenticate(self, scope: Scope) -> Principal:
        # 1.
        der = self._shown(scope)

        # 2. Not by its serial number: another CA's certificate may have that of one of ours.
        record = await self._db.read(certificate_by_fingerprint, hashlib.sha256(der).hexdigest())
        if record is None or ssl.PEM_cert_to_DER_cert(record.certificate_pem) != der:
            raise Unauthenticated("the client certificate is none that this CA has issued")
        serial_number = int(record.serial_number)

        # 3.
        actor = f"certificate:{serial_number:x}"
        for rule, why in _obstacles(record, x509.load_der_x509_certificate(der), self._clock()):
            message = f"certificate {serial_number:x} {why}"
            raise NotGranted(message, actor=actor, rule=f"client_certificate.{rule}", value=f"{serial_number:x}")
        return Principal(actor, frozenset(), _limits(record), certificate=serial_number)

    def _shown(self, scope: Scope) -> bytes:
        match self._source:
            case Source.TLS:
                return _of_connection(scope)
            case Source.HEADER:
                return _of_header(scope)
            case None:
                raise Unauthenticated("client certificates are not asked for here: TINY_CA_CLIENT_CA is not set")


def _of_connection(scope: Scope) -> bytes:
    """The first of ``client_cert_chain`` in ASGI's TLS extension: the client's own."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain") or ()
    for pem in chain:
        return ssl.PEM_cert_to_DER_cert(pem)
    raise Unauthenticated("no client certificate came with the connection")


def _of_header(scope: Scope) -> bytes:
    """The header ``Client-Cert``. ``Client-Cert-Chain`` is not read: the registry knows the chain."""
    # RFC 9440 §4: from anybody but the proxy it says nothing at all.
    if not scope.get("state", {}).get(FROM_TRUSTED_PROXY, False):
        raise Unauthenticated("no client certificate came by a proxy that is trusted")
    sent = Headers(scope=scope).getlist(_HEADER)
    if not sent:
        raise Unauthenticated("the proxy passed on no client certificate")
    found = _BYTES.fullmatch(sent[0]) if len(sent) == 1 and len(sent[0]) <= _MAX_OCTETS else None
    if found is None:
        raise Unauthenticated(f"the header Client-Cert comes once, as :BASE64:, and has at most {_MAX_OCTETS} octets")
    return base64.b64decode(found[1])


def _obstacles(record: CertificateRecord, certificate: x509.Certificate, now: datetime) -> Iterator[tuple[str, str]]:
    if record.revocation_date is not None:
        yield "revoked", "is revoked"
    if record.not_valid_before > now:
        yield "not_yet_valid", f"is valid from {rfc3339(record.not_valid_before)} on"
    if record.not_valid_after < now:
        yield "expired", f"has expired at {rfc3339(record.not_valid_after)}; ask for a new one with a token"
    extensions = {extension.oid: extension.value for extension in certificate.extensions}
    constraints = extensions.get(x509.BasicConstraints.oid)
    if isinstance(constraints, x509.BasicConstraints) and constraints.ca:
        yield "certificate_authority", "is a CA's, and nobody's client certificate"
    usages = extensions.get(x509.ExtendedKeyUsage.oid)
    if not isinstance(usages, x509.ExtendedKeyUsage) or ExtendedKeyUsageOID.CLIENT_AUTH not in usages:
        yield "extended_key_usage", "is not for client authentication"
    if NO_REV_AVAIL in extensions:  # RFC 9608 §4
        # Whoever stole it could make it last for ever, and nobody would look whether it was revoked.
        yield "no_rev_avail", "is short-lived and without revocation: it ends when it ends"


def _limits(record: CertificateRecord) -> Limits:
    """What it is already: its names are the lifecycle's to keep."""
    return Limits(
        profiles=() if record.profile is None else (record.profile,),
        issuers=() if record.issuer_id is None else (record.issuer_id,),
        max_lifetime=record.not_valid_after - record.not_valid_before,
    )
