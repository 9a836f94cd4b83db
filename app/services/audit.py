"""The audit, read."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import datetime

from app.auth.caller import Caller
from app.auth.principal import Permission
from app.services.records import note_refusal, refusals
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditFilter
from tiny_ca.db.models import AuditRecord
from tiny_ca.db.queries.audit import insert_audit, page_audit
from tiny_ca.exc import Forbidden

__all__ = ["AuditTrail"]


class AuditTrail:
    """Who did what, to which certificate, when, and how it ended; written by each act itself."""

    def __init__(self, db: AsyncDBHandler, clock: Callable[[], datetime]) -> None:
        self._db = db
        self._clock = clock

    async def page(
        self, caller: Caller, wanted: AuditFilter, *, limit: int, before_id: int | None
    ) -> list[AuditRecord]:
        """Up to ``limit`` rows that match, newest first, older than ``before_id``; of ``own_only``, their own acts."""
        await self.require(caller, Permission.AUDIT_READ, "audit.read")
        if caller.principal.own_only:
            if wanted.actor not in {None, caller.principal.id}:
                return []
            wanted = replace(wanted, actor=caller.principal.id)
        return await self._db.read(page_audit, wanted, limit=limit, before_id=before_id)

    async def require(self, caller: Caller, permission: Permission, action: str) -> None:
        """Let the caller pass, or audit that they were refused.

        Raises
        ------
        Forbidden
            They lack the permission.
        """
        try:
            caller.principal.require(permission)
        except Forbidden as error:
            await note_refusal(self._db, caller.audit(action, self._clock()), error)
            raise

    def refusals(self, caller: Caller, action: str, **detail: object) -> AbstractAsyncContextManager[None]:
        """Audit what policy or state refuses in the block."""
        return refusals(self._db, caller.audit(action, self._clock(), detail=detail or None))

    async def refused(self, caller: Caller, action: str, error: Forbidden) -> None:
        """Write down what was refused elsewhere."""
        detail = {"message": error.message}
        row = caller.audit(action, self._clock(), outcome="refused", rule=error.rule, detail=detail)
        await self._db.write(insert_audit, [row])

    async def note(self, caller: Caller, action: str, **detail: object) -> None:
        """Write down an act that changes nothing in the database itself."""
        await self._db.write(insert_audit, [caller.audit(action, self._clock(), detail=detail)])
