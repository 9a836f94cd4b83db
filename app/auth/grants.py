"""What a token grants: written to the database, read from it, and never more than its maker has."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

from app.auth.principal import Permission, Principal
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.profiles import NO_LIMITS, Limits
from tiny_ca.ca_factory.subject_patterns import SubjectPattern
from tiny_ca.exc import Forbidden
from tiny_ca.utils.duration import format_duration
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Grant", "parse_subject"]

_Limit = TypeVar("_Limit", str, SubjectPattern)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """Permissions and limits; as JSON it has the fields of the API, lifetimes in seconds."""

    permissions: frozenset[Permission]
    limits: Limits = NO_LIMITS
    own_only: bool = False

    @classmethod
    def of(cls, principal: Principal) -> Grant:
        """All that somebody has."""
        return cls(permissions=principal.permissions, limits=principal.limits, own_only=principal.own_only)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Grant:
        """Read what ``to_json`` wrote; a permission that this program no longer knows grants nothing."""
        known = {permission.value for permission in Permission}
        seconds = stored.get("max_lifetime")
        return cls(
            permissions=frozenset(Permission(name) for name in stored["permissions"] if name in known),
            limits=Limits(
                profiles=_tuple(stored.get("profiles")),
                issuers=_tuple(stored.get("issuers")),
                names=NamePatterns.parse(
                    dns=stored.get("names"),
                    ip_ranges=stored.get("ip_ranges"),
                    uris=stored.get("uris"),
                    emails=stored.get("emails"),
                ),
                subject=parse_subject(stored.get("subject")),
                max_lifetime=None if seconds is None else timedelta(seconds=seconds),
            ),
            own_only=bool(stored.get("own_only")),
        )

    def to_json(self) -> dict[str, Any]:
        """Every field, None for what has no limit."""
        names, lifetime = self.limits.names, self.limits.max_lifetime
        return {
            "permissions": sorted(permission.value for permission in self.permissions),
            "profiles": _list(self.limits.profiles),
            "issuers": _list(self.limits.issuers),
            "names": _list(names.dns),
            "ip_ranges": None if names.ip_ranges is None else [str(network) for network in names.ip_ranges],
            "uris": _list(names.uris),
            "emails": _list(names.emails),
            "subject": None if self.limits.subject is None else [str(pattern) for pattern in self.limits.subject],
            "max_lifetime": None if lifetime is None else int(lifetime.total_seconds()),
            "own_only": self.own_only,
        }

    def check_within(self, holder: Principal, expires_at: datetime | None) -> None:
        """Nobody hands on what they do not have.

        Raises
        ------
        Forbidden
            The grant goes beyond the holder's own; ``rule`` says in what.
        """
        for rule, value in self._beyond(holder, expires_at):
            shown = "no limit" if value is None else value
            raise Forbidden(f"{holder.id} cannot grant {rule} {shown}: it is beyond its own", rule=rule, value=value)

    def is_within(self, holder: Principal, expires_at: datetime | None) -> bool:
        """Whether ``check_within`` would let it pass."""
        return next(self._beyond(holder, expires_at), None) is None

    def _beyond(self, holder: Principal, expires_at: datetime | None) -> Iterator[tuple[str, str | None]]:
        yield from (("permissions", name.value) for name in sorted(self.permissions - holder.permissions))
        mine, theirs = self.limits, holder.limits
        yield from _not_in("profiles", mine.profiles, theirs.profiles)
        yield from _not_in("issuers", mine.issuers, theirs.issuers)
        yield from theirs.effective_names.beyond(mine.effective_names)
        yield from _not_in("subject", mine.effective_subject, theirs.effective_subject, SubjectPattern.covers)
        if theirs.max_lifetime is not None and (mine.max_lifetime is None or mine.max_lifetime > theirs.max_lifetime):
            yield "max_lifetime", None if mine.max_lifetime is None else format_duration(mine.max_lifetime)
        if holder.own_only and not self.own_only:
            yield "own_only", "false"
        if holder.expires_at is not None and (expires_at is None or expires_at > holder.expires_at):
            yield "expires_at", None if expires_at is None else rfc3339(expires_at)


def parse_subject(patterns: Iterable[str] | None) -> tuple[SubjectPattern, ...] | None:
    """The patterns of a grant; Invalid where one is none."""
    return None if patterns is None else tuple(map(SubjectPattern.parse, patterns))


def _not_in(
    rule: str,
    mine: tuple[_Limit, ...] | None,
    theirs: tuple[_Limit, ...] | None,
    covers: Callable[[_Limit, _Limit], bool] = operator.eq,
) -> Iterator[tuple[str, str | None]]:
    if theirs is None:
        return
    if mine is None:
        yield rule, None
        return
    yield from ((rule, str(one)) for one in mine if not any(covers(wider, one) for wider in theirs))


def _tuple(stored: list[str] | None) -> tuple[str, ...] | None:
    return None if stored is None else tuple(stored)


def _list(limits: tuple[str, ...] | None) -> list[str] | None:
    return None if limits is None else list(limits)
