"""Paths and queries: serial numbers, and the refusal of what is not known or comes twice. Lists are in ``pages``."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Depends, Path, Request
from starlette.convertors import StringConvertor, register_url_convertor

from app.api.negotiation import choose
from tiny_ca.exc import Invalid

__all__ = ["JSON_ALONE", "NO_BODY", "NO_QUERY", "NO_REPEATS", "PLAIN", "SerialNumber", "read_serial"]

PLAIN: Final = r"^[^\x00-\x1f\x7f]*$"  # a database may hold no NUL, and no name has control characters
_SERIAL: Final = re.compile(r"0*[0-9a-f]{1,40}")  # RFC 5280 §4.1.2.2: at most 20 octets


async def _no_query(request: Request) -> None:
    """Refuse any query parameter, where none is known: ``?reason=keyCompromise`` must not revoke without a reason."""
    if request.query_params:
        name = min(request.query_params)
        raise Invalid(f"{name[:80]!r} is no query parameter of this request; it takes none", field=name[:80])


async def _no_repeats(request: Request) -> None:
    """Refuse a query parameter that comes twice, for it cannot be told which one was meant."""
    names = [name for name, _ in request.query_params.multi_items()]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"the query parameter {repeated[:80]!r} comes twice; send it once", field=repeated[:80])


async def _no_body(request: Request) -> None:
    """Refuse a body where none is read: what it says would be ignored. ``{}`` says nothing."""
    if (await request.body()).strip() not in {b"", b"{}"}:
        raise Invalid("this request takes no body", field="body")


async def _json_answer(request: Request) -> None:
    """Refuse an ``Accept`` that has no place for JSON, where the answer is nothing else."""
    choose(request.headers.get("accept"), ("application/json",))


# Coroutines, for FastAPI gives every plain function a thread hop.
NO_QUERY: Final = [Depends(_no_query)]
NO_REPEATS: Final = [Depends(_no_repeats)]
NO_BODY: Final = [Depends(_no_body)]
JSON_ALONE: Final = [Depends(_json_answer)]


class _SerialNumberInPath(StringConvertor):
    """Whatever stands in a serial number's place, but ``batch`` and ``renew``: their own paths, and GET of them 405."""

    regex = "(?!(?:batch|renew)/?$)[^/]+"


register_url_convertor("serial", _SerialNumberInPath())
# What the document says of forms is for those who make requests from it; `read_serial` refuses.
SerialNumber = Annotated[
    str,
    Path(
        description="Hex; colons and upper case are accepted.",
        max_length=128,
        json_schema_extra={"pattern": "^[0-9A-Fa-f]{1,2}(:?[0-9A-Fa-f]{2}){0,19}$"},
    ),
]


def read_serial(text: str) -> int:
    """Read a serial number as people write it.

    Raises
    ------
    Invalid
        It is none.
    """
    digits = text.lower().replace(":", "")
    if not _SERIAL.fullmatch(digits):
        message = f"{text[:80]!r} is no serial number: up to 40 hex digits, with or without colons"
        raise Invalid(message, field="serial_number", value=text[:80])
    return int(digits, 16)
