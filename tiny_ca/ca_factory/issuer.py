"""The CA that signs: certificate, signer, chain, and where relying parties find both (AIA, CDP)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ObjectIdentifier

from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.keys import PublicKey, public_key_der
from tiny_ca.ca_factory.signer import Signer
from tiny_ca.exc import ErrorLoadCert, Forbidden

__all__ = ["Issuer", "IssuerUrls", "check_no_ca_name", "issuer_id"]

_E = TypeVar("_E", bound=x509.ExtensionType)


@dataclass(frozen=True, slots=True)
class IssuerUrls:
    """Where certificates point to; None leaves the pointer out."""

    ca_issuers: str | None = None
    crl: str | None = None


@dataclass(frozen=True)
class Issuer:
    """A CA ready to sign. ``chain``: its own issuers, nearest first, root last; empty for a root.

    ``peers``: other CAs whose names nothing signed here may bear. ``found_sound``: ``lint``'s own, kept here so that it
    lives no longer than the CA.

    Raises
    ------
    ErrorLoadCert
        The key does not belong to the certificate, or the certificate may sign no others.
    """

    certificate: x509.Certificate
    signer: Signer
    chain: tuple[x509.Certificate, ...] = ()
    urls: IssuerUrls = IssuerUrls()
    peers: tuple[x509.Certificate, ...] = ()
    found_sound: dict[tuple[object, ...], object] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_readable(self.certificate)
        if public_key_der(self.signer.public_key) != public_key_der(cast("PublicKey", self.certificate.public_key())):
            message = (
                f"the private key does not belong to the CA certificate {self.certificate.subject.rfc4514_string()!r}"
            )
            raise ErrorLoadCert(message, field="ca_key")
        if not _basic_constraints(self.certificate).ca:
            message = f"{self.certificate.subject.rfc4514_string()!r} is no CA certificate (basicConstraints CA:TRUE)"
            raise ErrorLoadCert(message, field="ca_cert")
        usage = _extension(self.certificate, x509.KeyUsage)
        if usage and not usage.key_cert_sign:  # RFC 5280 §4.2.1.3
            message = f"{self.certificate.subject.rfc4514_string()!r} may not sign certificates (keyUsage keyCertSign)"
            raise ErrorLoadCert(message, field="ca_cert")

    @cached_property
    def id(self) -> str:
        """The short name that paths and URLs use."""
        return issuer_id(self.certificate)

    @cached_property
    def subject(self) -> x509.Name:
        """The name that goes into ``issuer`` of what is signed."""
        return self.certificate.subject

    @cached_property
    def subject_der(self) -> bytes:
        """The subject as the CA certificate encodes it: relying parties compare octets (RFC 5280 §7.1)."""
        return self.certificate.subject.public_bytes()

    @cached_property
    def not_valid_before(self) -> datetime:
        """When this CA begins, and all above it have begun."""
        return max(certificate.not_valid_before_utc for certificate in (self.certificate, *self.chain))

    @cached_property
    def not_valid_after(self) -> datetime:
        """When this CA ends, and with it everything it signed."""
        return min(certificate.not_valid_after_utc for certificate in (self.certificate, *self.chain))

    @cached_property
    def path_length(self) -> int | None:
        """How many CAs may stand below, as this CA and all above it say; None for no limit, never less than 0."""
        lengths = (_basic_constraints(certificate).path_length for certificate in (self.certificate, *self.chain))
        bounds = [length - depth for depth, length in enumerate(lengths) if length is not None]
        return max(min(bounds), 0) if bounds else None

    @cached_property
    def ca_names(self) -> Mapping[tuple[tuple[ObjectIdentifier, str], ...], x509.Name]:
        """The names of this CA, of those above it and of its peers, by what makes no other name of them."""
        names = (certificate.subject for certificate in (self.certificate, *self.chain, *self.peers))
        return {_folded((attribute.oid, str(attribute.value)) for attribute in name): name for name in names}

    @cached_property
    def constrained(self) -> tuple[x509.Certificate, ...]:
        """Those of this CA and the ones above it that have name constraints (RFC 5280 §4.2.1.10)."""
        above = (self.certificate, *self.chain)
        return tuple(certificate for certificate in above if _extension(certificate, x509.NameConstraints) is not None)

    @cached_property
    def authority_key_identifier(self) -> x509.AuthorityKeyIdentifier:
        """What goes into everything signed; from the CA's own SKI where it has one (RFC 5280 §4.2.1.1)."""
        ski = _extension(self.certificate, x509.SubjectKeyIdentifier)
        if ski is None:
            return x509.AuthorityKeyIdentifier.from_issuer_public_key(self.signer.public_key)
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(ski)


def check_no_ca_name(subject: Iterable[tuple[ObjectIdentifier, str]], issuer: Issuer) -> None:
    """Keep the names of CAs to CAs: the issuer's name in another certificate is taken for the issuer.

    Raises
    ------
    Forbidden
        The subject is the name of this CA, of one above it, or of a peer.
    """
    # RFC 5280 §4.1.2.6: a name belongs to one subject, and §7.1: letter case and blanks make no other name.
    taken = issuer.ca_names.get(_folded(subject))
    if taken is not None:
        name = taken.rfc4514_string()
        raise Forbidden(f"the subject {name!r} is the name of a CA", rule="subject", value=name)


def issuer_id(certificate: x509.Certificate) -> str:
    """The first 16 hex digits of the certificate's SHA-256 fingerprint."""
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]


def _check_readable(certificate: x509.Certificate) -> None:
    try:
        name, _ = certificate.subject.rfc4514_string(), certificate.extensions
    except UNREADABLE as error:
        raise ErrorLoadCert(f"the CA certificate cannot be read: {error}", field="ca_cert") from error
    if not name:  # RFC 5280 §4.1.2.4: it would be the issuer of all that is signed
        raise ErrorLoadCert(
            "the CA certificate has no subject, and what it signs would have no issuer", field="ca_cert"
        )


def _basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints:
    return _extension(certificate, x509.BasicConstraints) or x509.BasicConstraints(ca=False, path_length=None)


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _folded(subject: Iterable[tuple[ObjectIdentifier, str]]) -> tuple[tuple[ObjectIdentifier, str], ...]:
    return tuple((oid, " ".join(value.casefold().split())) for oid, value in subject)
