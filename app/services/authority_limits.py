"""Who may do what with CAs, beyond the permission: what limits say of something that is everybody's."""

from __future__ import annotations

from typing import Final

from app.auth.caller import Caller
from tiny_ca.exc import Forbidden

__all__ = ["PROFILE", "check_all", "check_may_import", "check_within"]

PROFILE: Final = "intermediate"


def check_within(caller: Caller, identifier: str) -> None:
    """Forbidden for a CA that is outside the caller's limits."""
    check_all(caller)
    allowed = caller.principal.limits.issuers
    if allowed is not None and identifier not in allowed:
        message = f"{caller.principal.id} may not use issuer {identifier[:64]}"
        raise Forbidden(message, rule="issuer", value=identifier[:64])


def check_all(caller: Caller) -> None:
    """A CA is everybody's who has a certificate of it, and so nobody's own."""
    if caller.principal.own_only:
        message = f"{caller.principal.id} acts on certificates that they issued themselves, and a CA is nobody's own"
        raise Forbidden(message, rule="own_only", value=None)


def check_may_import(caller: Caller) -> None:
    """What an imported CA signed, or signs where else its key is, is held to nobody's limits."""
    check_all(caller)
    limits = caller.principal.limits
    if limits.profiles is not None and PROFILE not in limits.profiles:
        message = f"{caller.principal.id} may not use profile {PROFILE!r}, which CAs have"
        raise Forbidden(message, rule="profile", value=PROFILE)
    if limits.max_lifetime is not None:
        message = f"{caller.principal.id} is limited in lifetime, which an imported CA is not"
        raise Forbidden(message, rule="limits.max_lifetime", value=None)
    if limits.issuers is not None:
        message = f"{caller.principal.id} is limited to some issuers, and an imported one is none of them"
        raise Forbidden(message, rule="issuer", value=None)
    if limits.effective_subject is not None:
        message = f"{caller.principal.id} is limited in names, which an imported CA is not"
        raise Forbidden(message, rule="limits.names", value=None)
