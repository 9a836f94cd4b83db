"""The public keys of an identity provider: which of a JWK Set are taken, which fit a token, how long they are kept."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal, TypeAlias

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.util import urlsafe_b64decode

from app.auth.oidc_sources import KeySource, SourceError
from app.auth.oidc_tokens import IdentityToken
from tiny_ca.exc import Unauthenticated, Unavailable

__all__ = ["FLOOR", "FRESH", "KEPT", "Algorithm", "KeyCache", "VerificationKey", "check_signature", "parse_key_set"]

_log = structlog.get_logger(__name__)
VerificationKey: TypeAlias = RSAKey | ECKey | OKPKey

# RFC 8725 §3.1, §3.2: signatures of a private key alone. Never ``none``, and no HS*: with those, the public key would
# be the secret. Ed25519 is what RFC 9864 §2.2 calls EdDSA with that curve.
Algorithm: TypeAlias = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"
]
_CURVES: Final = frozenset({"P-256", "P-384", "P-521", "Ed25519"})
_KINDS: Final[dict[str, type[VerificationKey]]] = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
_MAX_KEYS: Final = 100
# RFC 7518 §3.3: 2048 bits or more. No more than 8192, whose signatures still take less than a millisecond to check.
_RSA_BITS: Final = range(2048, 8192 + 1)
_EXPONENT_BITS: Final = range(2, 32 + 1)

FLOOR: Final = timedelta(seconds=30)  # between two fetches, however many tokens name keys that are not known
FRESH: Final = timedelta(minutes=10)  # so long a key that its issuer withdrew may live
KEPT: Final = timedelta(hours=24)  # so long an issuer may be down


def parse_key_set(octets: bytes) -> tuple[VerificationKey, ...]:
    """Read a JWK Set; what is no public key for signatures of a kind taken here is left out (RFC 7517 §5).

    Raises
    ------
    SourceError
        It is no such set, or nothing is left.
    """
    try:
        document = json.loads(octets)
    except (ValueError, RecursionError):
        document = None
    members = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(members, list) or len(members) > _MAX_KEYS:
        raise SourceError(f"no JWK Set (RFC 7517 §5) of at most {_MAX_KEYS} keys")
    keys = tuple(key for member in members if (key := _key(member)) is not None)
    if not keys:
        raise SourceError("a JWK Set without a public key for signatures of a kind taken here")
    return keys


def _key(member: Any) -> VerificationKey | None:  # noqa: ANN401  # JSON
    if not isinstance(member, dict) or str(member.get("kty")) not in _KINDS:
        return None
    if "d" in member:  # whoever read the set has the private key too
        _log.warning("oidc.private_key_published", kid=ascii(member.get("kid"))[:80])
        return None
    try:
        if not _is_strong(member):
            return None
        key = _KINDS[member["kty"]].import_key(member)
        key.check_use("sig")
        key.check_key_op("verify")
    except (
        JoseError,
        ValueError,
        TypeError,
        AttributeError,
        LookupError,
    ):  # a member of another type than it should be
        return None
    return key


def _is_strong(member: dict[str, Any]) -> bool:
    """Whether it has a size or curve that is taken; looked at before the key is made, which takes as long as it is."""
    if member["kty"] != "RSA":
        return member.get("crv") in _CURVES
    return _bits(member["n"]) in _RSA_BITS and _bits(member["e"]) in _EXPONENT_BITS


def _bits(number: str) -> int:
    return int.from_bytes(urlsafe_b64decode(number.encode("ascii"))).bit_length()


def check_signature(token: IdentityToken, key: VerificationKey) -> bool:
    """Whether the signature is this key's: 20 to 350 microseconds, done in the event loop, for a thread costs as much.

    The algorithm is the token's, which the caller has found among the allowed ones and to fit the key.
    """
    return JWSRegistry.algorithms[token.algorithm].verify(token.signed, token.signature, key)


def _fits(key: VerificationKey, algorithm: str) -> bool:
    """RFC 8725 §3.1: each key with its own algorithm; RFC 7518 §3.4: each curve with its own hash."""
    try:
        JWSRegistry.algorithms[algorithm].check_key(key)
        key.check_alg(algorithm)
    except JoseError:
        return False
    return True


class KeyCache:
    """The keys of one issuer. A fetch that fails leaves the old ones, which are taken for a day more."""

    def __init__(
        self,
        source: KeySource,
        *,
        issuer: str,
        floor: timedelta = FLOOR,
        on_fetch: Callable[[str], None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._issuer = issuer
        self._floor = floor.total_seconds()
        self._on_fetch = on_fetch
        self._monotonic = monotonic
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched: float | None = None
        self._tried: float | None = None
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def find(self, token: IdentityToken) -> tuple[VerificationKey, ...]:
        """The keys that may have signed it: of its kid, or the only one where it names none.

        Raises
        ------
        Unauthenticated
            Its issuer has no such key, or one that does not fit the algorithm.
        Unavailable
            It cannot be told: the keys cannot be had.
        """
        if self._age() > FRESH.total_seconds():
            await self._fetch()
        named = self._named(token.kid)
        if not named:
            await self._fetch()
            named = self._named(token.kid)
        if self._age() > KEPT.total_seconds() or (self._failed and not named):
            raise Unavailable(
                "the keys of the token's issuer cannot be had just now; try again", retry_after=self._until_next()
            )
        if not named:
            raise Unauthenticated("the identity token is signed with a key that its issuer does not publish")
        fitting = tuple(key for key in named if _fits(key, token.algorithm))
        if not fitting:
            raise Unauthenticated("the identity token's algorithm does not fit its key")
        if token.kid is None and len(fitting) > 1:
            raise Unauthenticated("the identity token does not say by its kid which key signed it")
        return fitting

    async def close(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])

    def _named(self, kid: str | None) -> tuple[VerificationKey, ...]:
        return tuple(key for key in self._keys if kid is None or key.kid == kid)

    def _age(self) -> float:
        return float("inf") if self._fetched is None else self._monotonic() - self._fetched

    def _until_next(self) -> float:
        return 0.0 if self._tried is None else max(0.0, self._tried + self._floor - self._monotonic())

    async def _fetch(self) -> None:
        """Wait for the fetch that is under way, or for a new one if the last began longer ago than the floor."""
        if self._fetching is None or self._fetching.done():
            if self._until_next() > 0:
                return
            self._tried = self._monotonic()
            self._fetching = asyncio.create_task(self._load())
        task = self._fetching
        await asyncio.wait([task])  # a caller who goes away does not end it for the others
        if not task.cancelled():
            task.result()  # a defect of ours is heard of

    async def _load(self) -> None:
        try:
            octets = await self._source.load()
            # In a thread: a megabyte of JSON takes some milliseconds to read.
            self._keys = await asyncio.to_thread(parse_key_set, octets)
        except SourceError as error:
            self._failed = True
            self._on_fetch("failure")
            _log.warning("oidc.keys_not_fetched", issuer=self._issuer, error=str(error))
            return
        self._failed = False
        self._fetched = self._monotonic()
        self._on_fetch("success")
