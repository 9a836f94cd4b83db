"""Units of work on identity tokens that may be used once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete
from sqlalchemy.dialects import postgresql, sqlite

from tiny_ca.db.models import UsedIdentityToken

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy.orm import Session

__all__ = ["prune_identity_tokens", "use_identity_token"]


def use_identity_token(session: Session, issuer: str, jti: str, *, expires_at: datetime) -> bool:
    """Note that the token was used; False where it had been already, whoever used it."""
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    used = session.execute(
        insert(UsedIdentityToken)
        .values(issuer=issuer, jti=jti, expires_at=expires_at)
        .on_conflict_do_nothing()
        .returning(UsedIdentityToken.jti)
    )
    return used.one_or_none() is not None


def prune_identity_tokens(session: Session, *, now: datetime) -> int:
    """Forget those that have expired, which nobody takes any more; return how many."""
    expired = delete(UsedIdentityToken).where(UsedIdentityToken.expires_at < now).returning(UsedIdentityToken.jti)
    return len(session.execute(expired).all())
