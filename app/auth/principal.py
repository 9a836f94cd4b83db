"""Who asks, and what they may do: what every way of logging in yields, and all that the rest of the service sees."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from tiny_ca.ca_factory.profiles import NO_LIMITS, Limits
from tiny_ca.exc import Forbidden

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ROLES", "NotGranted", "Permission", "Principal"]


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


_READING: Final = frozenset(
    {Permission.CERTIFICATES_READ, Permission.ISSUERS_READ, Permission.PROFILES_READ, Permission.JOBS_READ}
)

# What a role stands for when a token is made; the token keeps the permissions, not the role.
ROLES: Final[Mapping[str, frozenset[Permission]]] = MappingProxyType(
    {
        "admin": frozenset(Permission),
        "operator": frozenset(Permission) - {Permission.TOKENS_MANAGE, Permission.ISSUERS_MANAGE},
        "auditor": _READING | {Permission.AUDIT_READ},
        "issuer": frozenset(
            {Permission.CERTIFICATES_ISSUE, Permission.CERTIFICATES_READ, Permission.CERTIFICATES_REVOKE}
        ),
    }
)


class NotGranted(Forbidden):
    """They have proved who they are, which grants nothing here; ``actor`` is what the audit calls them."""

    def __init__(self, message: str, *, actor: str, rule: str, value: object = None) -> None:
        super().__init__(message, rule=rule, value=value)
        self.actor = actor


@dataclass(frozen=True, slots=True)
class Principal:
    """``id`` is what records and audit rows call them; ``limits`` bound what they may have signed.

    ``own_only``: they read and act on certificates that they issued themselves alone. ``expires_at``: whatever they
    hand on ends no later. ``certificate``: the serial number of the one that they proved to hold, and may renew.
    """

    id: str
    permissions: frozenset[Permission]
    limits: Limits = NO_LIMITS
    own_only: bool = False
    expires_at: datetime | None = None
    certificate: int | None = None

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
