"""A CA from two PEM files."""

from __future__ import annotations

from itertools import pairwise
from logging import Logger
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.keys import PrivateKey, PublicKey, key_spec, public_key_der
from tiny_ca.const import ALLOWED_CERT_EXTENSIONS
from tiny_ca.exc import ErrorLoadCert, IsNotFile, NotExistCertFile, WrongType
from tiny_ca.models.certificate import CertificateInfo
from tiny_ca.settings import DEFAULT_LOGGER

__all__ = ["CAFileLoader", "ICALoader"]

# A chain of ML-DSA-87 certificates stays far below; a file past this is no CA's.
_MAX_FILE_SIZE = 1 << 20


@runtime_checkable
class ICALoader(Protocol):
    """Whatever can say who the CA is and lend its key.

    One that also has ``ca_chain``, the certificates above the CA's, nearest first, lets chains go up to the root.
    """

    @property
    def ca_cert(self) -> x509.Certificate:
        """The CA certificate."""
        ...

    @property
    def ca_key(self) -> PrivateKey:
        """The CA's private key."""
        ...

    @property
    def base_info(self) -> CertificateInfo:
        """What the CA certificate's subject says."""
        ...


class CAFileLoader:
    """Reads and checks both files at once; afterwards nothing changes.

    Raises
    ------
    NotExistCertFile, IsNotFile, WrongType
        A path leads to nothing, to no regular file, or to one of another extension.
    ErrorLoadCert
        A file is no PEM, the password is wrong or missing, key and certificate do not belong together, or what follows
        the CA's certificate in its file is not the chain above it.
    """

    def __init__(
        self,
        ca_cert_path: str | Path,
        ca_key_path: str | Path,
        ca_key_password: str | bytes | None = None,
        logger: Logger | None = None,
    ) -> None:
        self._logger = logger or DEFAULT_LOGGER
        self._ca_cert, *above = _load_certificates(_read(ca_cert_path), ca_cert_path)
        self._ca_chain = _linked(self._ca_cert, above, ca_cert_path)
        self._ca_key = _load_key(_read(ca_key_path), ca_key_path, ca_key_password)
        try:
            own_key = public_key_der(cast("PublicKey", self._ca_cert.public_key()))
            self._base_info = certificate_info(self._ca_cert)
            name = self._ca_cert.subject.rfc4514_string()
        except UNREADABLE as error:
            message = f"the certificate in {ca_cert_path} cannot be read: {error}"
            raise ErrorLoadCert(message, field="ca_cert_path", value=str(ca_cert_path)) from error
        if public_key_der(self._ca_key.public_key()) != own_key:
            message = f"the key in {ca_key_path} does not belong to the certificate in {ca_cert_path}"
            raise ErrorLoadCert(message, field="ca_key_path", value=str(ca_key_path))
        self._logger.debug("loaded CA %s", name)

    @property
    def ca_cert(self) -> x509.Certificate:
        """The CA certificate."""
        return self._ca_cert

    @property
    def ca_key(self) -> PrivateKey:
        """The CA's private key."""
        return self._ca_key

    @property
    def ca_chain(self) -> tuple[x509.Certificate, ...]:
        """What stood below the CA's certificate in its file: the CAs above it, nearest first."""
        return self._ca_chain

    @property
    def base_info(self) -> CertificateInfo:
        """What the CA certificate's subject says."""
        return self._base_info


def certificate_info(certificate: x509.Certificate) -> CertificateInfo:
    """Read the owner out of a certificate's subject; what is absent is None."""

    def first(oid: ObjectIdentifier) -> str | None:
        found = certificate.subject.get_attributes_for_oid(oid)
        return str(found[0].value) if found else None

    return CertificateInfo(
        organization=first(NameOID.ORGANIZATION_NAME),
        organizational_unit=first(NameOID.ORGANIZATIONAL_UNIT_NAME),
        country=first(NameOID.COUNTRY_NAME),
        state=first(NameOID.STATE_OR_PROVINCE_NAME),
        locality=first(NameOID.LOCALITY_NAME),
    )


def _read(path: str | Path) -> bytes:
    file = Path(path)
    if not file.exists():
        raise NotExistCertFile(f"there is no file {file}")
    if not file.is_file():
        raise IsNotFile(f"{file} is no regular file", field="path", value=str(file))
    if file.suffix not in ALLOWED_CERT_EXTENSIONS:
        allowed = ", ".join(ALLOWED_CERT_EXTENSIONS)
        raise WrongType(f"{file} must end in one of {allowed}, not {file.suffix!r}", field="path", value=str(file))
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_FILE_SIZE + 1)
    except OSError as error:
        message = f"{file} cannot be read: {error.strerror}"
        raise ErrorLoadCert(message, field="path", value=str(file)) from error
    if len(data) > _MAX_FILE_SIZE:
        raise ErrorLoadCert(f"{file} is larger than {_MAX_FILE_SIZE} bytes", field="path", value=str(file))
    return data


def _load_certificates(data: bytes, path: str | Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(data)
    except UNREADABLE as error:
        raise ErrorLoadCert(
            f"{path} holds no PEM certificate: {error}", field="ca_cert_path", value=str(path)
        ) from error


def _linked(
    certificate: x509.Certificate, above: list[x509.Certificate], path: str | Path
) -> tuple[x509.Certificate, ...]:
    """Check that each certificate was signed by the next."""
    for below, issuer in pairwise((certificate, *above)):
        try:
            below.verify_directly_issued_by(issuer)
        except (*UNREADABLE, InvalidSignature) as error:
            message = (
                f"in {path} {below.subject.rfc4514_string()!r} is followed by {issuer.subject.rfc4514_string()!r}, "
                "which did not issue it; put each CA below the one it issued, root last"
            )
            raise ErrorLoadCert(message, field="ca_cert_path", value=str(path)) from error
    return tuple(above)


def _load_key(data: bytes, path: str | Path, password: str | bytes | None) -> PrivateKey:
    given: object = password
    if not isinstance(given, str | bytes | None):
        message = f"ca_key_password is str, bytes or None, not {type(given).__name__}"
        raise ErrorLoadCert(message, field="ca_key_password")
    try:
        secret = password.encode() if isinstance(password, str) else password
    except UnicodeEncodeError as error:
        raise ErrorLoadCert(f"ca_key_password is no text: {error.reason}", field="ca_key_password") from None
    try:
        key = load_pem_private_key(data, secret or None)
    except UNREADABLE as error:
        # The library's text may quote what it read; only its kind is told. TypeError: a password and no need, or the
        # other way round.
        if isinstance(error, TypeError):
            fault = "is not encrypted: give no password" if secret else "is encrypted: give ca_key_password"
        else:
            fault = f"holds no private key in PEM that this password opens ({type(error).__name__})"
        raise ErrorLoadCert(f"{path} {fault}", field="ca_key_path", value=str(path)) from None
    if key_spec(key.public_key()) is None:
        message = f"{path} holds a {type(key).__name__}; a CA key is RSA, P-256/384/521, Ed25519 or ML-DSA"
        raise ErrorLoadCert(message, field="ca_key_path", value=str(path))
    return cast("PrivateKey", key)
