"""Identity tokens of trusted issuers (OpenID Connect): what a CI job or a pod proves without any secret of ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.auth.grants import Grant
from app.auth.oidc_claims import Claims, find_claim
from app.auth.oidc_grants import RULE, GrantRule
from app.auth.oidc_keys import KeyCache, check_signature
from app.auth.oidc_sources import KeySource
from app.auth.oidc_tokens import IdentityToken, check_audience, checked_times, read_token, text_claim
from app.auth.principal import NotGranted, Principal
from app.metrics import Metrics
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.queries.identity_tokens import use_identity_token
from tiny_ca.exc import Unauthenticated

__all__ = ["OIDCAuthenticator", "TrustedIssuer"]

_log = structlog.get_logger(__name__)
# A used token is remembered longer than it is taken: the clocks of the replicas, of which one forgets, may differ.
_REMEMBERED = timedelta(minutes=5)
_MAX_ID = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedIssuer:
    """Whose tokens are taken, which of them, and what they grant: the first of ``grants`` whose rules match."""

    url: str
    audience: str
    keys: KeySource
    algorithms: tuple[str, ...]
    required_claims: tuple[str, ...]
    max_age: timedelta
    one_use: bool
    refresh_floor: timedelta
    grants: tuple[GrantRule, ...]


class OIDCAuthenticator:
    """From an identity token to a Principal, whose id is ``<issuer> <subject>``.

    1. its form, 2. its issuer, 3. its algorithm and key, 4. its signature, 5. its claims, 6. what they grant,
    7. where the issuer says so, that it was not used before.
    """

    def __init__(
        self,
        issuers: Iterable[TrustedIssuer],
        *,
        db: AsyncDBHandler,
        metrics: Metrics,
        clock: Callable[[], datetime],
    ) -> None:
        self._trusted = {issuer.url: (issuer, _cache(issuer, metrics)) for issuer in issuers}
        self._db = db
        self._clock = clock

    async def authenticate(self, token: str) -> Principal:
        """Tell who was given the token, by an issuer that is trusted, for this service.

        Raises
        ------
        Unauthenticated
            It is not such a token.
        NotGranted
            It is, and nothing is granted to its claims.
        Unavailable
            It cannot be told: the issuer's keys, or the database, cannot be had.
        """
        try:
            return await self._authenticate(token)
        except (Unauthenticated, NotGranted) as error:
            _log.info("identity_token.refused", reason=error.message)
            raise

    async def close(self) -> None:
        """Fetch no more keys."""
        for _, keys in self._trusted.values():
            await keys.close()

    async def _authenticate(self, token: str) -> Principal:
        # 1.
        read = read_token(token)

        # 2. By the whole URL, octet for octet (OpenID Connect Core 1.0 §3.1.3.7): a look-alike is another one.
        trusted, keys = self._trusted.get(read.issuer, (None, None))
        if trusted is None or keys is None:
            raise Unauthenticated("the identity token's issuer is not trusted here")

        # 3. The algorithm is ours to choose, before a key is even looked for (RFC 8725 §3.1).
        if read.algorithm not in trusted.algorithms:
            raise Unauthenticated("the identity token's algorithm is not taken from this issuer")
        fitting = await keys.find(read)

        # 4.
        if not any(check_signature(read, key) for key in fitting):
            raise Unauthenticated("the identity token's signature does not verify")

        # 5.
        subject, expires_at, taken_until = self._check_claims(read, trusted)

        # 6.
        actor = f"{trusted.url} {subject}"
        grant = _grant(read.claims, trusted, actor)

        # 7. Last, so that nothing but an accepted token is ever spent.
        if trusted.one_use:
            await self._spend(read.claims, trusted, taken_until)
        return Principal(actor, grant.permissions, grant.limits, grant.own_only, expires_at)

    def _check_claims(self, token: IdentityToken, trusted: TrustedIssuer) -> tuple[str, datetime, datetime]:
        check_audience(token.claims, trusted.audience)
        expires_at, taken_until = checked_times(token.claims, now=self._clock(), max_age=trusted.max_age)
        for path in trusted.required_claims:
            if find_claim(token.claims, path) is None:
                raise Unauthenticated(f"the identity token lacks the claim {path}")
        return text_claim(token.claims, "sub"), expires_at, taken_until

    async def _spend(self, claims: Claims, trusted: TrustedIssuer, taken_until: datetime) -> None:
        jti = text_claim(claims, "jti", max_length=_MAX_ID)
        forget_at = taken_until + _REMEMBERED
        if not await self._db.write(use_identity_token, trusted.url, jti, expires_at=forget_at):
            raise Unauthenticated("the identity token was used already; ask the platform for a new one")


def _grant(claims: Claims, trusted: TrustedIssuer, actor: str) -> Grant:
    for rule in trusted.grants:
        if rule.matches(claims):
            return rule.grant(claims, actor=actor)
    raise NotGranted(f"{actor}: nothing is granted to the claims of this identity token", actor=actor, rule=RULE)


def _cache(issuer: TrustedIssuer, metrics: Metrics) -> KeyCache:
    def count(outcome: str) -> None:
        metrics.oidc_key_fetches.labels(issuer.url, outcome).inc()

    return KeyCache(issuer.keys, issuer=issuer.url, floor=issuer.refresh_floor, on_fetch=count)
