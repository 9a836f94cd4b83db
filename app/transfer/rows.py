"""A row as one line of JSON, and a digest of many that does not depend on their order."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import DateTime, LargeBinary, Table

from tiny_ca.db.models import UTCDateTime
from tiny_ca.exc import Malformed
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Digest", "json_line", "row_from", "row_line"]

_MODULUS: Final = 1 << 256


class Digest:
    """How many rows, and the sum modulo 2^256 of their lines' SHA-256.

    Databases order text differently, so a digest that goes by order would tell two equal tables apart. It finds
    accidents; what somebody changed on purpose, the seal of a backup finds.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._sum = 0

    def add(self, line: bytes) -> None:
        """Count one row, without its line break."""
        self.rows += 1
        self._sum = (self._sum + int.from_bytes(sha256(line).digest(), "big")) % _MODULUS

    @property
    def hex(self) -> str:
        """64 hex digits."""
        return f"{self._sum:064x}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Digest) and (self.rows, self._sum) == (other.rows, other._sum)

    def __hash__(self) -> int:
        return hash((self.rows, self._sum))


def json_line(value: object) -> bytes:
    """One line, the same for the same value."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"), sort_keys=True, default=_encoded).encode()


def row_line(row: Sequence[Any]) -> bytes:
    """The values in the order of the columns: times as RFC 3339 in UTC, octets as base64, the rest as JSON has it."""
    return json_line(list(row))


def row_from(table: Table, columns: Sequence[str], values: object) -> tuple[Any, ...]:
    """The values of a line that was read, as the database takes them.

    Raises
    ------
    Malformed
        It is no row of these columns.
    """
    if not isinstance(values, list) or len(values) != len(columns):
        raise Malformed(f"a row of {table.name} has {len(columns)} values, in a list")
    try:
        return tuple(_decoded(table.columns[name].type, value) for name, value in zip(columns, values, strict=True))
    except (TypeError, ValueError) as error:
        raise Malformed(f"a row of {table.name} holds a value of the wrong kind") from error


def _encoded(value: object) -> str:
    match value:
        case datetime():
            return rfc3339(value)
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case _:
            raise TypeError(f"{type(value).__name__} is no value of a row")


def _decoded(kind: object, value: Any) -> Any:  # noqa: ANN401  # whatever JSON holds
    match kind:
        case _ if value is None:
            return None
        case UTCDateTime() | DateTime():
            return datetime.fromisoformat(value)
        case LargeBinary():
            return base64.b64decode(value, validate=True)
        case _:
            return value
