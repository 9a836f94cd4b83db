"""Bodies as they come: told apart by their first bytes, read as JSON under strict models."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from app.problems import InvalidFields
from tiny_ca.exc import Malformed

__all__ = ["field_of_json", "is_raw_csr", "json_body", "parse_json"]

_JSON_TYPES: Final = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
_QUICK: Final = 64 * 1024
_Model = TypeVar("_Model", bound=BaseModel)


def is_raw_csr(body: bytes) -> bool:
    """Whether the body is a CSR itself, PEM (anywhere in it) or DER, whatever its Content-Type says."""
    return body[:1] == b"\x30" or (b"-----BEGIN" in body and not body.lstrip().startswith(b"{"))


async def json_body(request: Request, model: type[_Model]) -> _Model:
    """Read the whole body as this model; an empty one as ``{}``.

    Raises
    ------
    Malformed
        Not JSON.
    InvalidFields
        JSON of another shape, with each field that is wrong.
    """
    body = await request.body() or b"{}"
    # A batch is read for tens of milliseconds, too long for the event loop.
    return parse_json(body, model) if len(body) <= _QUICK else await asyncio.to_thread(parse_json, body, model)


def parse_json(body: bytes, model: type[_Model]) -> _Model:
    """Read JSON as a model; see ``json_body``."""
    try:
        read = model.model_validate_json(body)
        json.loads(body, object_pairs_hook=_without_repeats)
    except ValidationError as error:
        raise _explained(error.errors(include_url=False, include_context=False, include_input=False), model) from None
    return read


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a name that comes twice: parsers disagree which one counts (RFC 8259 §4)."""
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise InvalidFields(((name[:80], "comes twice; send it once"),))
        seen[name] = value
    return seen


def field_of_json(body: bytes, name: str) -> bool:
    """Whether the body is a JSON object with this field.

    Raises
    ------
    Malformed
        Not JSON.
    InvalidFields
        No object.
    """
    try:
        value = from_json(body)
    except ValueError as error:
        raise Malformed(f"the body is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidFields((("body", f"must be a JSON object, not {_JSON_TYPES.get(type(value), 'null')}"),))
    return name in value


def _explained(problems: list[Any], model: type[BaseModel]) -> Malformed | InvalidFields:
    if problems[0]["type"] == "json_invalid":
        return Malformed(f"the body is no JSON: {problems[0]['msg'].removeprefix('Invalid JSON: ')}")
    return InvalidFields(
        tuple((".".join(map(str, problem["loc"])) or "body", _message(problem, model)) for problem in problems)
    )


def _message(problem: Any, model: type[BaseModel]) -> str:  # noqa: ANN401  # pydantic's ErrorDetails
    if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
        return f"is no field of this request; known are {', '.join(model.model_fields)}"
    return str(problem["msg"]).removeprefix("Value error, ")
