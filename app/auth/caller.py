"""Who asks, by which request, from where: what an act needs to know of its caller."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.auth.principal import Principal
from tiny_ca.db.entries import AuditEntry, IdempotencyClaim

__all__ = ["Caller"]


@dataclass(frozen=True, slots=True)
class Caller:
    """``peer`` is the address that the request came from, ``claim`` the idempotency key that it brought."""

    principal: Principal
    request_id: str
    peer: str | None = None
    claim: IdempotencyClaim | None = None

    def audit(self, action: str, at: datetime, **facts: Any) -> AuditEntry:  # noqa: ANN401  # AuditEntry checks them
        """A row of the audit for what they do; it has succeeded unless the facts say otherwise."""
        return AuditEntry(
            **{
                "at": at,
                "actor": self.principal.id,
                "action": action,
                "outcome": "success",
                "request_id": self.request_id,
                "peer": self.peer,
                **facts,
            }
        )
