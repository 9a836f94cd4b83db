"""Who asks, and what they may do: what every way of logging in yields, and all that the rest of the service sees."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from tiny_ca.ca_factory.profiles import NO_LIMITS, Limits
from tiny_ca.exc import Forbidden

__all__ = ["Permission", "Principal"]


class Permission(StrEnum):
    """One act, or one kind of reading; what is not granted is denied."""

    CERTIFICATES_ISSUE = "certificates:issue"
    CERTIFICATES_READ = "certificates:read"
    CERTIFICATES_REVOKE = "certificates:revoke"
    CERTIFICATES_DELETE = "certificates:delete"
    CERTIFICATES_COSIGN = "certificates:cosign"
    ISSUERS_READ = "issuers:read"
    ISSUERS_MANAGE = "issuers:manage"
    PROFILES_READ = "profiles:read"
    TOKENS_MANAGE = "tokens:manage"
    AUDIT_READ = "audit:read"
    JOBS_READ = "jobs:read"
    JOBS_RUN = "jobs:run"


@dataclass(frozen=True, slots=True)
class Principal:
    """``id`` is what records and audit rows call them; ``limits`` bound what they may have signed."""

    id: str
    permissions: frozenset[Permission]
    limits: Limits = NO_LIMITS

    def require(self, permission: Permission) -> None:
        """Let the caller pass.

        Raises
        ------
        Forbidden
            The permission was not granted.
        """
        if permission not in self.permissions:
            message = f"{self.id} lacks the permission {permission.value}"
            raise Forbidden(message, rule="permission", value=permission.value)
