"""A CA that was made elsewhere: read from PEM or PKCS #12, and held against everything that a CA here must be.

    read_pem, read_pkcs12 -> Material -> complete -> the CAs above it, root last

Every refusal names the field of the request. All of it takes its time: never on an event loop.
"""

from __future__ import annotations

import binascii
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_pem_private_key
from cryptography.x509.oid import ExtensionOID

from app.services.key_stretching import check_stretching
from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.key_quality import check_public_key
from tiny_ca.ca_factory.keys import PrivateKey, PublicKey, public_key_der
from tiny_ca.ca_factory.name_constraints import violations
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.exc import Invalid
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Material", "complete", "read_key", "read_pem", "read_pkcs12"]

_E = TypeVar("_E", bound=x509.ExtensionType)

MAX_CHAIN: Final = 10
_SECONDS: Final = 5.0
_PEM_KEY: Final = re.compile(r"-----BEGIN ((?:ENCRYPTED |RSA |EC )?PRIVATE KEY)-----(.*?)-----END \1-----", re.DOTALL)
_CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Critical in a CA's certificate, and either understood here or no hindrance to what it signs.
_CRITICAL: Final = frozenset(
    {
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.CERTIFICATE_POLICIES,
    }
)


@dataclass(frozen=True, slots=True)
class Material:
    """What somebody sent: a certificate, its private key, and certificates among which are the CAs above it.

    ``where``: what the three are called in the request.
    """

    certificate: x509.Certificate
    private_key: PrivateKey = field(repr=False)
    others: tuple[x509.Certificate, ...]
    where: tuple[str, str, str]


def read_pem(certificate: str, chain: Sequence[str], private_key: str, password: str | None) -> Material:
    """Read each from PEM.

    Raises
    ------
    Invalid
        One is none, the password does not open the key, or the key is of a kind that is not taken.
    """
    found = _certificates(certificate, "certificate")
    if len(found) != 1:
        message = f"certificate holds {len(found)} certificates; send the CA's own, and those above it in chain"
        raise Invalid(message, field="certificate")
    others = tuple(one for text in chain for one in _certificates(text, "chain"))
    return Material(found[0], read_key(private_key, password), others, ("certificate", "private_key", "chain"))


def read_pkcs12(content: bytes, password: str) -> Material:
    """Read a PKCS #12 file, in a process of its own that has some seconds.

    Raises
    ------
    Invalid
        It is none, has no key or no certificate, the password does not open it, or it takes too long.
    """
    # 1. What it costs, as far as the file says so itself.
    check_stretching(content, field="pkcs12")
    # 2. An encrypted part may hold another one, which nobody sees before it is opened: that process can be ended.
    parts = _opened(content, password)
    # 3. Key, certificate, the rest.
    key, certificate, *others = parts
    if not key or not certificate:
        raise Invalid("pkcs12 holds no private key with its certificate", field="pkcs12")
    try:
        private_key = load_der_private_key(key, None)
        loaded = [x509.load_der_x509_certificate(one) for one in (certificate, *others)]
    except UNREADABLE:
        raise Invalid("pkcs12 holds a key or a certificate that cannot be read", field="pkcs12") from None
    return Material(loaded[0], cast("PrivateKey", private_key), tuple(loaded[1:]), ("pkcs12", "pkcs12", "pkcs12"))


def complete(material: Material, known: Sequence[x509.Certificate], *, now: datetime) -> tuple[x509.Certificate, ...]:
    """Check the CA, and find those above it among what was sent and what is known here; root last.

    Raises
    ------
    Invalid
        It is no CA that can work here; ``field`` is the part that is wrong, and the message says what would be right.
    """
    certificate_field, key_field, chain_field = material.where
    # 1. The certificate: a CA's, fit, and valid now.
    _check_ca(material.certificate, certificate_field, now)
    # 2. The key is its key.
    given = material.private_key.public_key()
    check_public_key(given, field=key_field)
    if public_key_der(given) != public_key_der(cast("PublicKey", material.certificate.public_key())):
        message = "the private key does not belong to the certificate"
        raise Invalid(message, field=key_field)
    # 3. The CAs above it, each one valid.
    above = _path(material, known, chain_field)
    for one in above:
        _check_ca(one, chain_field, now)
    _check_together((material.certificate, *above), chain_field)
    # 4. Nothing was sent for nothing: a forgotten certificate may be the one that was meant.
    for other in material.others:
        if other not in above and other != material.certificate:
            name = other.subject.rfc4514_string()
            raise Invalid(f"{chain_field} holds {name!r}, which is not above the CA; leave it out", field=chain_field)
    Issuer(material.certificate, SoftwareSigner(material.private_key), chain=above)
    return above


def _certificates(text: str, name: str) -> list[x509.Certificate]:
    blocks = _CERTIFICATE.findall(text)
    if not blocks:
        message = f"{name} is no PEM: it has nothing between -----BEGIN CERTIFICATE----- and -----END CERTIFICATE-----"
        raise Invalid(message, field=name)
    if len(blocks) > MAX_CHAIN:
        raise Invalid(f"{name} holds {len(blocks)} certificates, more than the {MAX_CHAIN} of any chain", field=name)
    try:
        return [x509.load_pem_x509_certificate(block.encode()) for block in blocks]
    except UNREADABLE as error:
        raise Invalid(f"{name} holds a certificate that cannot be read: {error}", field=name) from None


def read_key(text: str, password: str | None) -> PrivateKey:
    """A private key from PEM; a password is given where it is encrypted, and only there.

    Raises
    ------
    Invalid
        It is none, or the password does not open it; ``field`` is ``private_key`` or ``private_key_password``.
    """
    found = _PEM_KEY.search(text)
    if found is None:
        message = "private_key is no private key in PEM (PKCS #8, or an RSA or EC key as OpenSSL writes it)"
        raise Invalid(message, field="private_key")
    is_encrypted = found[1].startswith("ENCRYPTED") or "Proc-Type: 4,ENCRYPTED" in found[2]
    if is_encrypted and password is None:
        raise Invalid("the private key is encrypted: send its password", field="private_key_password")
    if password is not None and not is_encrypted:
        message = "the private key is not encrypted: leave the password out"
        raise Invalid(message, field="private_key_password")
    if found[1].startswith("ENCRYPTED"):
        check_stretching(_decoded(found[2]), field="private_key")
    try:
        key = load_pem_private_key(found[0].encode(), None if password is None else password.encode())
    except UNREADABLE:  # its text may quote what it read
        if is_encrypted:
            message = "the password does not open the private key, or the key is damaged"
            raise Invalid(message, field="private_key_password") from None
        raise Invalid(
            "private_key cannot be read: it is damaged, or of a kind not known", field="private_key"
        ) from None
    return cast("PrivateKey", key)  # ``complete`` refuses kinds that are not taken


def _decoded(base64: str) -> bytes:
    try:
        return binascii.a2b_base64("".join(base64.split()), strict_mode=True)
    except binascii.Error:
        raise Invalid("private_key is damaged: it is no base64", field="private_key") from None


# -I and nothing but the crypto library: what it reads comes from outside. Parts go out as length and octets.
_CHILD: Final = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (5, 5))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.serialization import pkcs12
size = int.from_bytes(sys.stdin.buffer.read(4), "big")
password, content = sys.stdin.buffer.read(size), sys.stdin.buffer.read()
try:
    found = pkcs12.load_pkcs12(content, password)
    key = found.key and found.key.private_bytes(s.Encoding.DER, s.PrivateFormat.PKCS8, s.NoEncryption())
    loaded = (found.cert, *found.additional_certs)
    certificates = [one.certificate.public_bytes(s.Encoding.DER) if one else b"" for one in loaded]
except Exception:
    sys.exit(3)
for part in (key or b"", *certificates):
    sys.stdout.buffer.write(len(part).to_bytes(4, "big") + part)
"""
_WRONG_PASSWORD: Final = 3


def _opened(content: bytes, password: str) -> list[bytes]:
    secret = password.encode()
    try:
        done = subprocess.run(  # noqa: S603  # our own program, with nothing of the request in its arguments
            [sys.executable, "-I", "-c", _CHILD],
            input=len(secret).to_bytes(4, "big") + secret + content,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Invalid(f"pkcs12 takes more than {_SECONDS:.0f} s to open", field="pkcs12") from None
    if done.returncode == _WRONG_PASSWORD:
        message = "the password does not open pkcs12, or the file is damaged"
        raise Invalid(message, field="pkcs12_password")
    if done.returncode != 0:
        raise Invalid(f"pkcs12 takes more than {_SECONDS:.0f} s to open, or cannot be opened", field="pkcs12")
    parts, rest = [], done.stdout
    while rest:
        size = 4 + int.from_bytes(rest[:4], "big")
        parts.append(rest[4:size])
        rest = rest[size:]
    return parts


def _check_ca(certificate: x509.Certificate, name: str, now: datetime) -> None:
    """One CA by itself: powers, key, window, and nothing critical that we would break."""
    shown = certificate.subject.rfc4514_string()
    try:
        extensions = certificate.extensions
        public_key = certificate.public_key()
        serial_number = certificate.serial_number
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except UNREADABLE as error:
        raise Invalid(f"the certificate of {shown!r} cannot be read: {error}", field=name) from None
    # RFC 5280 §4.2.1.9 and §4.2.1.3.
    constraints = _extension(extensions, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        raise Invalid(f"{shown!r} is no CA: its certificate lacks basicConstraints CA:TRUE", field=name)
    usage = _extension(extensions, x509.KeyUsage)
    if usage is not None and not (usage.key_cert_sign and usage.crl_sign):
        missing = "keyCertSign" if not usage.key_cert_sign else "cRLSign"
        raise Invalid(f"{shown!r} lacks the key usage {missing}: a CA here signs certificates and CRLs", field=name)
    if not certificate.subject.rdns:
        raise Invalid("a CA without a subject cannot be named as an issuer", field=name)
    if not 0 < serial_number < 1 << 160:  # RFC 5280 §4.1.2.2
        raise Invalid(f"the serial number of {shown!r} is not positive in 20 octets", field=name)
    check_public_key(public_key, field=name)
    if not start <= now:
        raise Invalid(f"{shown!r} is valid from {rfc3339(start)} only", field=name)
    if not now < end:
        raise Invalid(f"{shown!r} expired at {rfc3339(end)}; nothing it signs would be believed", field=name)
    for extension in extensions:
        if extension.critical and extension.oid not in _CRITICAL:
            oid = extension.oid.dotted_string
            raise Invalid(f"{shown!r} has the critical extension {oid}, which is not known here", field=name)


def _path(material: Material, known: Sequence[x509.Certificate], name: str) -> tuple[x509.Certificate, ...]:
    path = [material.certificate]
    while not _is_signed_by(path[-1], path[-1]):
        child = path[-1]
        # What was sent goes before what is known: of two for one CA, the sender's is the one that they mean.
        above = next((one for one in (*material.others, *known) if one not in path and _is_signed_by(child, one)), None)
        if above is None:
            shown = child.issuer.rfc4514_string()
            message = (
                f"the chain breaks below {shown!r}: its certificate was not sent, is not known here, or did not sign"
            )
            raise Invalid(message, field=name)
        path.append(above)
        if len(path) > MAX_CHAIN:
            raise Invalid(f"the chain is longer than {MAX_CHAIN} certificates", field=name)
    return tuple(path[1:])


def _is_signed_by(child: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        child.verify_directly_issued_by(authority)
    except (*UNREADABLE, InvalidSignature):
        return False
    return True


def _check_together(path: Sequence[x509.Certificate], name: str) -> None:
    """What each CA says about those below it (RFC 5280 §6.1.4), and signatures that verifiers still believe."""
    for depth, one in enumerate(path):
        shown = one.subject.rfc4514_string()
        constraints = _extension(one.extensions, x509.BasicConstraints)
        if constraints is not None and constraints.path_length is not None and constraints.path_length < depth:
            message = f"{shown!r} allows {constraints.path_length} CAs below it, and there are {depth}"
            raise Invalid(message, field=name)
        # A root's own signature proves nothing, so nobody looks at it.
        if depth < len(path) - 1 and isinstance(one.signature_hash_algorithm, hashes.SHA1):
            raise Invalid(f"{shown!r} is signed with SHA-1, which is not believed any more", field=name)
        names = _extension(one.extensions, x509.SubjectAlternativeName) or ()
        for kind, value, why in violations(names, one.subject, path[depth + 1 :]):
            raise Invalid(f"the {kind} name {value!r} of {shown!r} breaks name constraints: {why}", field=name)


def _extension(extensions: x509.Extensions, kind: type[_E]) -> _E | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
