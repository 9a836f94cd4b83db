"""From ``Authorization`` headers to a Principal, whichever way of logging in they use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from app.auth.principal import Principal
from tiny_ca.exc import Unauthenticated

__all__ = ["Authenticator", "Scheme"]

# An identity token with many claims has some kilobytes.
_MAX_TOKEN_LENGTH: Final = 16 * 1024
_SCHEME: Final = "bearer"


class Scheme(Protocol):
    """One way of logging in."""

    async def authenticate(self, token: str) -> Principal:
        """Tell whose token it is; Unauthenticated where it is nobody's."""
        ...


class Authenticator:
    """Tells an identity token (a JWT) from an API token by its form, and asks the one that knows its kind."""

    def __init__(self, *, api_tokens: Scheme, identity_tokens: Scheme | None = None) -> None:
        self._api_tokens = api_tokens
        self._identity_tokens = identity_tokens

    async def authenticate(self, authorization: Sequence[str]) -> Principal:
        """Tell who sent these ``Authorization`` headers, of which there must be one.

        Raises
        ------
        Unauthenticated
            None or several, another scheme, or a token that is nobody's.
        Unavailable
            It cannot be told just now.
        """
        token = _bearer_token(authorization)
        if token.count(".") == 2:  # RFC 7515 §3.1: a JWS in its compact form
            if self._identity_tokens is None:
                raise Unauthenticated("identity tokens are not accepted here: no issuer of them is configured")
            return await self._identity_tokens.authenticate(token)
        return await self._api_tokens.authenticate(token)


def _bearer_token(authorization: Sequence[str]) -> str:
    if len(authorization) != 1:  # of two, a proxy may have judged by the other one
        raise Unauthenticated("send the header 'Authorization: Bearer TOKEN', once")
    scheme, _, token = authorization[0].partition(" ")
    token = token.strip()
    if scheme.lower() != _SCHEME or not token or len(token) > _MAX_TOKEN_LENGTH or " " in token:
        raise Unauthenticated("the Authorization header is not 'Bearer TOKEN'")
    return token
