"""What an identity token's claims grant: the rules that must match, and the rights that they give."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from app.auth.grants import Grant
from app.auth.oidc_claims import ClaimRule, Claims, NameTemplate, UnfitClaim
from app.auth.principal import NotGranted, Permission
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.profiles import Limits
from tiny_ca.ca_factory.subject_patterns import SubjectPattern
from tiny_ca.exc import Invalid

__all__ = ["RULE", "GrantRule"]

RULE: Final = "oidc"


@dataclass(frozen=True, slots=True, kw_only=True)
class GrantRule:
    """Where every rule matches, the rights; None is no limit, an empty tuple is nothing."""

    rules: tuple[ClaimRule, ...]
    permissions: frozenset[Permission]
    profiles: tuple[str, ...]
    issuers: tuple[str, ...] | None
    names: tuple[NameTemplate, ...]
    ip_ranges: tuple[str, ...] | None
    uris: tuple[NameTemplate, ...] | None
    emails: tuple[NameTemplate, ...] | None
    subject: tuple[SubjectPattern, ...]
    max_lifetime: timedelta | None
    own_only: bool

    def matches(self, claims: Claims) -> bool:
        """Whether every rule does."""
        return all(rule.matches(claims) for rule in self.rules)

    def grant(self, claims: Claims, *, actor: str) -> Grant:
        """The rights of this token.

        Raises
        ------
        NotGranted
            A claim that is part of a name is not fit for one.
        """
        try:
            names = NamePatterns.parse(
                dns=_filled(self.names, claims),
                ip_ranges=self.ip_ranges,
                uris=_filled(self.uris, claims),
                emails=_filled(self.emails, claims),
            )
        except UnfitClaim as error:
            value = f"{error.path}={ascii(error.value)[:80]}"
            raise NotGranted(f"{actor}: {error}", actor=actor, rule=RULE, value=value) from None
        except Invalid as error:  # the labels are sound, the whole is longer than a name may be
            raise NotGranted(f"{actor}: {error.message}", actor=actor, rule=RULE, value=error.value) from None
        limits = Limits(
            profiles=self.profiles,
            issuers=self.issuers,
            names=names,
            subject=self.subject,
            max_lifetime=self.max_lifetime,
        )
        return Grant(permissions=self.permissions, limits=limits, own_only=self.own_only)


def _filled(templates: tuple[NameTemplate, ...] | None, claims: Claims) -> list[str] | None:
    return None if templates is None else [template.fill(claims) for template in templates]
