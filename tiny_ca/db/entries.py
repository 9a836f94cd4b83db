"""Values that cross into and out of the registry: frozen, and free of SQL."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256, Hash
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from datetime import datetime

    from tiny_ca.const import CertType
    from tiny_ca.db.const import CertificateStatus

__all__ = [
    "AuditEntry",
    "AuditFilter",
    "CRLEntry",
    "CRLSnapshot",
    "CertificateEntry",
    "CertificateFilter",
    "IdempotencyClaim",
    "IssuerEntry",
    "JobState",
    "NoticeEntry",
    "RevokedRow",
    "RevokedText",
    "TokenEntry",
    "common_name_of",
]

_T = TypeVar("_T")
# A PostgreSQL index row holds 2,704 bytes. Longer names are in the certificate and cannot be searched for.
_MAX_INDEXED_NAME = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateEntry:
    """A row of ``certificates`` to be, with its ``(kind, value)`` names, kind one of dns, ip, uri, email."""

    serial_number: str
    common_name: str | None
    not_valid_before: datetime
    not_valid_after: datetime
    key_type: str
    certificate_pem: str
    fingerprint_sha256: str
    spki_sha256: str
    names: tuple[tuple[str, str], ...]
    created_at: datetime
    uuid: str | None = None
    issuer_id: str | None = None
    profile: str | None = None
    requester: str | None = None
    unique_name: str | None = None

    @classmethod
    def of(
        cls,
        cert: x509.Certificate,
        *,
        key_type: CertType,
        created_at: datetime,
        uuid: str | None = None,
        issuer_id: str | None = None,
        profile: str | None = None,
        requester: str | None = None,
        unique_name: str | None = None,
    ) -> CertificateEntry:
        """Read everything from the signed certificate, so that the record cannot tell another story.

        ``unique_name`` claims the name: no other entry may hold it until this one expires or is revoked.
        """
        return cls(
            serial_number=str(cert.serial_number),
            common_name=common_name_of(cert),
            not_valid_before=cert.not_valid_before_utc,
            not_valid_after=cert.not_valid_after_utc,
            key_type=key_type.value,
            certificate_pem=cert.public_bytes(Encoding.PEM).decode("ascii"),
            fingerprint_sha256=cert.fingerprint(SHA256()).hex(),
            spki_sha256=_spki_sha256(cert),
            names=_names(cert),
            created_at=created_at,
            uuid=uuid,
            issuer_id=issuer_id,
            profile=profile,
            requester=requester,
            unique_name=unique_name,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the audit; ``serial_number`` is decimal, as in ``certificates``."""

    at: datetime
    actor: str
    action: str
    outcome: str
    serial_number: str | None = None
    issuer_id: str | None = None
    profile: str | None = None
    request_id: str | None = None
    peer: str | None = None
    rule: str | None = None
    detail: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerEntry:
    """A CA to be kept; ``private_key_pem`` must be encrypted PKCS#8 already, which is not checked here.

    ``crl_number`` is the last one that it gave out elsewhere, or more.
    """

    id: str
    common_name: str
    certificate_pem: str
    private_key_pem: str | None = field(repr=False)
    created_at: datetime
    parent_id: str | None = None
    is_root: bool = False
    enabled: bool = True
    is_default: bool = False
    crl_number: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLEntry:
    """A signed CRL to be published."""

    issuer_id: str
    number: int
    this_update: datetime
    next_update: datetime
    revocation_count: int = 0
    der: bytes = field(repr=False)
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntry:
    """An API token to be kept by its SHA-256, lower-case hex."""

    id: str
    name: str
    token_sha256: str = field(repr=False)
    created_at: datetime
    expires_at: datetime | None = None
    grants: dict[str, Any] | None = None
    created_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IdempotencyClaim:
    """A key that a caller gave to one request: it may be sent again, and acts once.

    ``part_of``: the caller's own key, where this one is of a part of what they sent.
    """

    actor: str
    key: str
    request_sha256: str
    part_of: str | None = None

    @property
    def whole(self) -> IdempotencyClaim:
        """The claim of all that was sent."""
        return self if self.part_of is None else replace(self, key=self.part_of, part_of=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeEntry:
    """A notice to be sent: of one certificate, for one threshold; ``serial_number`` is decimal."""

    serial_number: str
    threshold_days: int
    not_valid_after: datetime
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows of the audit to list; every field given must match. ``since`` is inclusive, ``until`` exclusive."""

    actor: str | None = None
    action: str | None = None
    serial_number: str | None = None
    outcome: str | None = None
    request_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class RevokedText(NamedTuple):
    """As ``RevokedRow``, with the date as ``YYYYMMDDHHMMSSZ``: half the cost, where there are a million."""

    serial_number: str
    revocation_date: str
    revocation_reason: int | None


class RevokedRow(NamedTuple):
    """What a CRL says of one certificate: decimal serial, UTC date, RFC 5280 §5.3.1 integer."""

    serial_number: str
    revocation_date: datetime
    revocation_reason: int


class ContinuedCRL(NamedTuple):
    """A CRL to which the next one adds; ``created_at`` tells it from another one that was given its number."""

    number: int
    created_at: datetime
    this_update: datetime
    revocation_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLSnapshot(Generic[_T]):
    """What the CRL with this number must say, and how many revocations it covers; ``this_update`` in whole seconds.

    ``revoked``: a row for each entry, or what was made of many rows at once. ``whole`` False: only of what is not yet
    on the CRL that was asked to be continued.
    """

    issuer_id: str
    number: int
    this_update: datetime
    revocation_count: int
    revoked: tuple[_T, ...]
    whole: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateFilter:
    """Which certificates to list; every field given must match.

    ``common_name`` and ``san`` match exactly, or by suffix when they start with ``*.``. ``expires_before`` and
    ``expires_after`` are exclusive.
    """

    status: CertificateStatus | None = None
    key_type: CertType | None = None
    common_name: str | None = None
    san: str | None = None
    profile: str | None = None
    issuer_id: str | None = None
    requester: str | None = None
    expires_before: datetime | None = None
    expires_after: datetime | None = None
    spki_sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """How the last run of a job went, on whichever replica, and when the next is due; one that never ran has no last.

    ``error`` is the kind of the failure, ``done`` how many things a success did. ``failures`` are those in a row.
    """

    name: str
    last_run: datetime | None = None
    last_success: datetime | None = None
    replica: str | None = None
    error: str | None = None
    done: int | None = None
    milliseconds: int | None = None
    failures: int = 0
    next_due: datetime | None = None
    running_on: str | None = None
    is_due: bool = False


def common_name_of(cert: x509.Certificate) -> str | None:
    """Return the first CN of the subject, None where there is none."""
    for attribute in cert.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
        return str(attribute.value)
    return None


def _spki_sha256(cert: x509.Certificate) -> str:
    digest = Hash(SHA256())
    digest.update(cert.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()


def _names(cert: x509.Certificate) -> tuple[tuple[str, str], ...]:
    try:
        extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    # A certificate may repeat a name; the record need not.
    return tuple(dict.fromkeys(item for name in extension if (item := _indexed_name(name)) is not None))


def _indexed_name(name: x509.GeneralName) -> tuple[str, str] | None:
    match name:
        case x509.DNSName():
            # RFC 4343: DNS names compare without case, so they are kept in one.
            item = ("dns", name.value.lower())
        case x509.IPAddress():
            item = ("ip", str(name.value))
        case x509.UniformResourceIdentifier():
            item = ("uri", name.value)
        case x509.RFC822Name():
            item = ("email", name.value)
        case _:
            return None
    return item if len(item[1]) <= _MAX_INDEXED_NAME else None
