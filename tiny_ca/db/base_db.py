"""The contract of a certificate registry. Sync implementations return values, async ones awaitables of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Generator
from typing import TypeAlias, TypeVar

from cryptography import x509

from tiny_ca.const import CertType
from tiny_ca.db.const import RevokeStatus
from tiny_ca.db.entries import RevokedRow
from tiny_ca.db.models import CertificateRecord

__all__ = ["BaseDB", "MaybeAwaitable", "RevokedRows"]

_T = TypeVar("_T")
MaybeAwaitable: TypeAlias = _T | Awaitable[_T]
RevokedRows: TypeAlias = Generator[RevokedRow, None, None] | AsyncGenerator[RevokedRow, None]


class BaseDB(ABC):
    """What the managers need of a registry; a record that does not exist is None or False, never an exception."""

    @abstractmethod
    def get_by_serial(self, serial: int) -> MaybeAwaitable[CertificateRecord | None]:
        """Return the record, whatever its status."""

    @abstractmethod
    def get_by_name(self, common_name: str) -> MaybeAwaitable[CertificateRecord | None]:
        """Return the VALID record with this CN, never a revoked or expired one."""

    @abstractmethod
    def register_cert_in_db(
        self, cert: x509.Certificate, uuid: str, key_type: CertType = CertType.DEVICE
    ) -> MaybeAwaitable[bool]:
        """Record a newly issued certificate as VALID; ``uuid`` names its folder in the storage.

        Returns
        -------
        bool
            False when it was not recorded; nothing is left of it then, and the reason is logged.
        """

    @abstractmethod
    def revoke_certificate(
        self, serial_number: int, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified
    ) -> MaybeAwaitable[tuple[bool, RevokeStatus]]:
        """Revoke a VALID certificate, now; ``(False, NOT_FOUND)`` where there is none with that serial."""

    @abstractmethod
    def get_revoked_certificates(self) -> RevokedRows:
        """Yield ``serial_number``, ``revocation_date`` and ``revocation_reason`` of whatever a CRL must name."""

    @abstractmethod
    def list_all(
        self,
        status: str | None = None,
        key_type: str | CertType | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> MaybeAwaitable[list[CertificateRecord]]:
        """Return records, newest first; ``key_type`` is a CertType, its value or its name in any case."""

    @abstractmethod
    def get_expiring(self, within_days: int = 30) -> MaybeAwaitable[list[CertificateRecord]]:
        """Return the VALID records that expire within so many days, soonest first."""

    @abstractmethod
    def update_status_expired(self) -> MaybeAwaitable[int]:
        """Mark every VALID record whose time has passed as EXPIRED; return how many."""

    @abstractmethod
    def delete_by_uuid(self, uuid: str) -> MaybeAwaitable[bool]:
        """Delete the record for good; False where there is none. Its files are the caller's to delete."""
