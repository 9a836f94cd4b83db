"""TLS as this service speaks it: which versions and ciphers, whose certificate, and whose clients."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from tiny_ca.ca_factory.keys import PrivateKey

__all__ = ["ask_for_client_certificates", "put_in_place", "server_context"]

# RFC 9325 §4.2: forward secrecy and authenticated encryption; TLS 1.3 has nothing else.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context() -> ssl.SSLContext:
    """A context without a certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    return context


def put_in_place(context: ssl.SSLContext, chain: Iterable[x509.Certificate], key: PrivateKey) -> None:
    """Use this certificate from the next handshake on; connections that are open stay as they are.

    To be called where the handshakes are made: OpenSSL takes no lock on what is replaced here.
    """
    # OpenSSL is given a file: the password of what is in it exists in this function alone.
    password = secrets.token_urlsafe(32)
    encryption = BestAvailableEncryption(password.encode())
    with NamedTemporaryFile(prefix="tiny-ca-") as file:  # mode 0600
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        file.writelines(certificate.public_bytes(Encoding.PEM) for certificate in chain)
        file.flush()
        context.load_cert_chain(file.name, password=password)


def ask_for_client_certificates(context: ssl.SSLContext, trusted: Path | Iterable[x509.Certificate]) -> None:
    """Let clients show a certificate; one that is not under these CAs ends the handshake.

    Raises
    ------
    OSError
        The file cannot be read, or holds no certificates.
    """
    if isinstance(trusted, Path):
        context.load_verify_locations(trusted)
    else:
        pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in trusted)
        context.load_verify_locations(cadata=pem.decode("ascii"))
    context.verify_mode = ssl.CERT_OPTIONAL
