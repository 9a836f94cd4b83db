"""``/api/v1/tokens``: API tokens, shown once."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from app.api.body import json_body
from app.api.documentation import PROBLEMS, body_of
from app.api.pages import PageQuery, moment_key, next_cursor, read_moment_key
from app.api.parameters import JSON_ALONE, NO_QUERY, NO_REPEATS
from app.api.requests import TokenRequest
from app.api.schemas import NewTokenAnswer, TokenList, TokenView
from app.auth.grants import Grant
from app.auth.principal import Permission
from app.auth.tokens import ADMIN_TOKEN_ID
from app.dependencies import Called, Creating, Running, needs
from tiny_ca.db.entries import TokenEntry
from tiny_ca.db.models import TokenRecord
from tiny_ca.utils.duration import format_duration
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"], responses=PROBLEMS)

_EXAMPLE = {
    "name": "ci of the shop",
    "permissions": ["certificates:issue"],
    "profiles": ["ci"],
    "names": ["*.ci.example.org"],
    "max_lifetime": "1h",
}


@router.get(
    "",
    response_model=TokenList,
    summary="The tokens you could have made",
    dependencies=[needs(Permission.TOKENS_MANAGE, "token.list"), *NO_REPEATS, *JSON_ALONE],
)
async def list_tokens(service: Running, caller: Called, query: Annotated[PageQuery, Query()]) -> Response:
    """Newest first; never the tokens themselves. A page is short where some of it are not yours to see."""
    page = await service.tokens.page(caller, limit=query.limit, before=read_moment_key(query.cursor))
    cursor = None if page.last is None else next_cursor(moment_key(*page.last))
    return JSONResponse({"items": [_view(record) for record in page.visible], "next_cursor": cursor})


@router.post(
    "",
    status_code=201,
    response_model=NewTokenAnswer,
    summary="Make a token; it is shown here and never again",
    openapi_extra=body_of(TokenRequest, _EXAMPLE),
    dependencies=[needs(Permission.TOKENS_MANAGE, "token.create"), *NO_QUERY, *JSON_ALONE],
)
async def create(request: Request, service: Running, caller: Creating) -> Response:
    """No token grants more than its maker has, nor outlives them."""
    asked = await json_body(request, TokenRequest)
    new = await service.tokens.create(caller, asked.name, asked.grant(), asked.expires_at)
    headers = {"Location": f"{router.prefix}/{new.entry.id}", "Cache-Control": "no-store"}
    return JSONResponse(_view(new.entry) | {"token": new.token}, 201, headers)


@router.get(
    "/{token_id}",
    response_model=TokenView,
    summary="One token that you could have made",
    dependencies=[needs(Permission.TOKENS_MANAGE, "token.read"), *NO_QUERY, *JSON_ALONE],
)
async def get(token_id: str, service: Running, caller: Called) -> Response:
    """Never the token itself."""
    return JSONResponse(_view(await service.tokens.get(caller, token_id)))


@router.delete(
    "/{token_id}",
    response_model=TokenView,
    summary="Delete a token",
    dependencies=[needs(Permission.TOKENS_MANAGE, "token.delete"), *NO_QUERY, *JSON_ALONE],
)
async def delete(token_id: str, service: Running, caller: Called) -> Response:
    """It opens nothing any more; what it issued stays. The answer is what it was, without the token itself."""
    return JSONResponse(_view(await service.tokens.delete(caller, token_id)))


def _view(token: TokenEntry | TokenRecord) -> dict[str, Any]:
    is_admin = token.id == ADMIN_TOKEN_ID
    grants = Grant(permissions=frozenset(Permission if is_admin else ())).to_json()
    grants |= token.grants or {}
    seconds = grants.pop("max_lifetime")
    last_used = getattr(token, "last_used_at", None)
    return {
        "id": token.id,
        "name": token.name,
        **grants,
        "max_lifetime": None if seconds is None else format_duration(timedelta(seconds=seconds)),
        "created_at": rfc3339(token.created_at),
        "created_by": token.created_by,
        "expires_at": None if token.expires_at is None else rfc3339(token.expires_at),
        "last_used_at": None if last_used is None else rfc3339(last_used),
    }
