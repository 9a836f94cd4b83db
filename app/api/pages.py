"""Lists: ``limit`` and ``cursor``, the page that they ask for, and where the next one begins.

A cursor holds the key of the last item of its page; the next page begins after it, whatever came or went meanwhile.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas import Digits
from tiny_ca.exc import Invalid

__all__ = ["PageQuery", "cut", "moment_key", "next_cursor", "page_of", "read_moment_key", "read_row_id"]

_T = TypeVar("_T")
# What keys are made of: row ids, moments, names of profiles and jobs, ids of tokens and issuers.
_KEY: Final = re.compile(r"[0-9a-z._-]{1,90}")
_ROW_ID: Final = re.compile(r"[0-9]{1,18}")
_MOMENT: Final = re.compile(r"([0-9]{17})\.([0-9a-z]{1,64})")
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


class PageQuery(BaseModel):
    """Which page of a list."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    limit: Annotated[int, Digits, Field(ge=1, le=1000)] = 100
    # The form is for those who make requests from the document; `_read` refuses.
    cursor: Annotated[
        str | None,
        Field(
            description="`next_cursor` of the page before.",
            max_length=128,
            json_schema_extra={"pattern": "^[A-Za-z0-9_-]{2,120}$"},
        ),
    ] = None


def next_cursor(key: str | int) -> str:
    """What asks for the page after the item with this key."""
    return base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def read_row_id(cursor: str | None) -> int | None:
    """The key in a list of rows that are numbered.

    Raises
    ------
    Invalid
        The cursor is not one that this service gave.
    """
    key = _read(cursor, _ROW_ID)
    return None if key is None else int(key)


def moment_key(at: datetime, identifier: str) -> str:
    """The key in a list by time: text that is in the same order."""
    return f"{(at - _EPOCH) // timedelta(microseconds=1):017d}.{identifier}"


def read_moment_key(cursor: str | None) -> tuple[datetime, str] | None:
    """The key in a list by time; raises as ``read_row_id``."""
    key = _read(cursor, _MOMENT)
    if key is None:
        return None
    microseconds, _, identifier = key.partition(".")
    return _EPOCH + timedelta(microseconds=int(microseconds)), identifier


def cut(found: Sequence[_T], query: PageQuery, *, key: Callable[[_T], str | int]) -> tuple[Sequence[_T], str | None]:
    """The page, and the next one's cursor, of items that were read up to one more than the limit, or further."""
    page = found[: query.limit]
    return page, next_cursor(key(page[-1])) if len(found) > query.limit else None


def page_of(items: Iterable[_T], query: PageQuery, *, key: Callable[[_T], str]) -> tuple[Sequence[_T], str | None]:
    """As ``cut``, of a short list that is all in memory, in the order of its keys."""
    after = _read(query.cursor, _KEY)
    return cut([item for item in items if after is None or key(item) > after], query, key=key)


def _read(cursor: str | None, form: re.Pattern[str]) -> str | None:
    """The key that ``next_cursor`` was given."""
    if cursor is None:
        return None
    try:
        key = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        key = ""
    if not form.fullmatch(key):
        raise Invalid("the cursor is none that this service gave", field="cursor", value=cursor)
    return key
