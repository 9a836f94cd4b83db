"""Keys and requests, made here: a private key is in no request that leaves this machine."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from app.client.errors import ClientError, ExitCode
from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.names import AlternativeNames

__all__ = ["csr_like", "csr_of_name", "key_pem", "load_key", "private_key_block", "sort_names"]

_MAX_COMMON_NAME: Final = 64  # RFC 5280 appendix A, ub-common-name
_KEY_BLOCK: Final = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.+?-----END \1-----\n?", re.DOTALL)
_KINDS: Final = ("dns", "ip", "uri", "email")


def key_pem(key: PrivateKey) -> bytes:
    """PKCS #8, not encrypted: a server reads it without being asked for a password."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def private_key_block(pem: bytes) -> bytes | None:
    """The first private key in a PEM text."""
    found = _KEY_BLOCK.search(pem)
    return found[0] if found else None


def load_key(pem: bytes, *, source: str) -> PrivateKey:
    """Read an unencrypted private key in PEM; its kind is for the service to judge.

    Raises
    ------
    ClientError
        It is none.
    """
    try:
        return cast("PrivateKey", load_pem_private_key(pem, None))
    except (ValueError, TypeError, UnsupportedAlgorithm):  # its text may quote what it read
        raise ClientError(f"{source} holds no unencrypted private key in PEM", code=ExitCode.USAGE) from None


def csr_of_name(key: PrivateKey, name: str, names: Iterable[str]) -> str:
    """A CSR in PEM whose common name is ``name``; one that is too long, or a URI, goes to the SAN alone.

    A host needs no mention among ``names``: the service adds the common name under profiles that serve TLS.

    Raises
    ------
    Invalid
        A name is none.
    """
    fits = len(name) <= _MAX_COMMON_NAME and "://" not in name
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if fits else []
    kinds = sort_names(names if fits else (name, *names))
    alternative = AlternativeNames.parse(
        dns=kinds["dns"], ip=kinds["ip"], uris=kinds["uri"], emails=kinds["email"], prefix="san."
    ).general_names()
    return _signed(key, x509.Name(subject), x509.SubjectAlternativeName(alternative) if alternative else None)


def csr_like(key: PrivateKey, certificate: x509.Certificate) -> str:
    """A CSR in PEM for another key with the subject and the names of this certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        names = None
    return _signed(key, certificate.subject, names)


def sort_names(names: Iterable[str]) -> dict[str, list[str]]:
    """Names by kind: as said (``DNS:``, ``IP:``, ``URI:``, ``email:``, as openssl writes it), else as they look."""
    kinds: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for name in names:
        said, _, rest = name.partition(":")
        if said.lower() in _KINDS and not rest.startswith("//"):
            kinds[said.lower()].append(rest)
        else:
            kinds[_kind(name)].append(name)
    return kinds


def _kind(name: str) -> str:
    if "://" in name:
        return "uri"
    if "@" in name:
        return "email"
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "dns"
    return "ip"


def _signed(key: PrivateKey, subject: x509.Name, names: x509.SubjectAlternativeName | None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if names is not None:
        builder = builder.add_extension(names, critical=not subject.rdns)  # RFC 5280 §4.2.1.6
    # Ed25519 and ML-DSA hash by themselves.
    digest = hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) else None
    return builder.sign(key, digest).public_bytes(Encoding.PEM).decode("ascii")
