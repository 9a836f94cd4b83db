"""Identity tokens as they are written (RFC 7515, RFC 7519): read strictly, their claims checked, no key looked for.

Whatever does not fit is Unauthenticated, with a reason that holds nothing of the token but names of claims.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NoReturn

from joserfc.util import urlsafe_b64decode

from app.auth.oidc_claims import Claims
from tiny_ca.exc import Unauthenticated

__all__ = ["LEEWAY", "MAX_TOKEN", "IdentityToken", "check_audience", "checked_times", "read_token", "text_claim"]

MAX_TOKEN: Final = 16 * 1024
LEEWAY: Final = timedelta(seconds=30)
_MAX_DATE: Final = 2**33  # the year 2242: what is later is no time, and may be past the end of the calendar
_TYPES: Final = frozenset({"JWT", "APPLICATION/JWT"})


@dataclass(frozen=True, slots=True)
class IdentityToken:
    """What it says; not whether it is true. ``signed`` is what the signature is over."""

    algorithm: str
    kid: str | None
    claims: Claims
    signed: bytes
    signature: bytes

    @property
    def issuer(self) -> str:
        """Who it says made it."""
        return text_claim(self.claims, "iss")


def read_token(token: str) -> IdentityToken:
    """Read a JWS in its compact form whose payload is a set of claims.

    Raises
    ------
    Unauthenticated
        It is none, is longer than 16 KiB, or wants to be read in a way that is not known here.
    """
    if len(token) > MAX_TOKEN:
        raise Unauthenticated(f"an identity token has at most {MAX_TOKEN} characters")
    try:
        octets = token.encode("ascii")
        parts = octets.split(b".")
        decoded = [urlsafe_b64decode(part) for part in parts]
        header, claims = (_json_object(part) for part in decoded[:2])
    except (ValueError, RecursionError):  # binascii's, json's and the codecs' errors are ValueErrors
        raise Unauthenticated("the identity token cannot be read (RFC 7515 §3.1, RFC 7519 §3)") from None
    if len(parts) != 3:
        raise Unauthenticated("the identity token has not three parts (RFC 7515 §3.1)")
    _check_header(header)
    # RFC 8725 §3.10: ``jwk``, ``jku``, ``x5u`` and ``x5c`` are not looked at; a key that a token brings proves nothing.
    return IdentityToken(header["alg"], header.get("kid"), claims, octets.rpartition(b".")[0], decoded[2])


def _check_header(header: Claims) -> None:
    if not isinstance(header.get("alg"), str):
        raise Unauthenticated("the identity token names no algorithm (RFC 7515 §4.1.1)")
    if not isinstance(header.get("kid"), str | None):
        raise Unauthenticated("the identity token's kid is no text (RFC 7515 §4.1.4)")
    # RFC 7515 §4.1.11: no extension is understood here. RFC 7797 §6: ``b64`` would be one.
    if "crit" in header or "b64" in header:
        raise Unauthenticated("the identity token wants an extension that is not known here (RFC 7515 §4.1.11)")
    # RFC 8725 §3.11: another kind of token is not taken for an identity.
    if str(header.get("typ", "JWT")).upper() not in _TYPES:
        raise Unauthenticated("the token's typ is not JWT")


def text_claim(claims: Claims, name: str, *, max_length: int = 1024) -> str:
    """A claim that must be there, as printable text.

    Raises
    ------
    Unauthenticated
        It is not, is too long, or holds what neither a log nor a database should.
    """
    value = claims.get(name)
    if value is None:
        raise Unauthenticated(f"the identity token lacks the claim {name}")
    if not isinstance(value, str) or not 0 < len(value) <= max_length or not value.isprintable():
        raise Unauthenticated(f"the claim {name} is not printable text of 1 to {max_length} characters")
    return value


def check_audience(claims: Claims, audience: str) -> None:
    """Whether the token was made for this service, and for it alone.

    Raises
    ------
    Unauthenticated
        It was not. A token for two audiences could be sent on by the other one.
    """
    given = claims.get("aud")
    if given not in (audience, [audience]):  # RFC 7519 §4.1.3: one text, or a list
        raise Unauthenticated("the identity token was not made for this service alone: its aud is another")


def checked_times(claims: Claims, *, now: datetime, max_age: timedelta) -> tuple[datetime, datetime]:
    """When it expires, and until when it is taken; the clocks may differ by ``LEEWAY``.

    Raises
    ------
    Unauthenticated
        ``exp`` or ``iat`` is missing, or now is not between them.
    """
    expires, issued = _date(claims, "exp"), _date(claims, "iat")
    begins = issued if claims.get("nbf") is None else _date(claims, "nbf")
    if now >= expires + LEEWAY:  # RFC 7519 §4.1.4
        raise Unauthenticated("the identity token has expired")
    if now < begins - LEEWAY or now < issued - LEEWAY:  # RFC 7519 §4.1.5
        raise Unauthenticated("the identity token is not valid yet")
    if now >= issued + max_age + LEEWAY:
        raise Unauthenticated("the identity token is older than is taken here; ask the platform for a new one")
    return expires, min(expires, issued + max_age) + LEEWAY


def _date(claims: Claims, name: str) -> datetime:
    value = claims.get(name)
    if value is None:
        raise Unauthenticated(f"the identity token lacks the claim {name}")
    # RFC 7519 §2: a NumericDate, in seconds; JSON's true is a number to Python alone. A NaN compares as false.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < _MAX_DATE:
        raise Unauthenticated(f"the claim {name} is no time in seconds since 1970")
    return datetime.fromtimestamp(value, UTC)


def _json_object(octets: bytes) -> dict[str, Any]:
    value = json.loads(octets.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004  # the caller takes every reason alike
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """RFC 7515 §4, RFC 7519 §4: of two members of one name, parsers disagree on which counts."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("a member comes twice")
    return members


def _no_number(_: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON (RFC 8259 §6)")
