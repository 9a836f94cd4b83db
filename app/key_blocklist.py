"""A file of public keys that nobody gets a certificate for: the operator's own list, beside the database's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from tiny_ca.exc import Invalid

__all__ = ["parse_key_blocklist", "read_key_blocklist"]

_SHA256: Final = re.compile(r"[0-9A-Fa-f]{64}")
_EXAMPLE: Final = "openssl pkey -pubin -outform DER | sha256sum"


def parse_key_blocklist(text: str) -> frozenset[str]:
    """SHA-256 of SubjectPublicKeyInfo in hex, one a line, ``#`` begins a comment; the answer is in lower case.

    Raises
    ------
    Invalid
        A line is something else; ``value`` is that line.
    """
    keys: set[str] = set()
    for number, line in enumerate(text.split("\n"), start=1):
        key = line.partition("#")[0].strip()
        if not key:
            continue
        if not _SHA256.fullmatch(key):
            message = f"line {number}: {key[:80]!r} is no SHA-256 in 64 hex digits, which {_EXAMPLE} makes of a key"
            raise Invalid(message, field="key_blocklist", value=key[:80])
        keys.add(key.lower())
    return frozenset(keys)


def read_key_blocklist(path: Path | None) -> frozenset[str]:
    """The keys in the file; none without a file.

    Raises
    ------
    Invalid
        It cannot be read, or a line of it is wrong.
    """
    if path is None:
        return frozenset()
    try:
        return parse_key_blocklist(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise Invalid(f"{path} cannot be read: {reason}", field="key_blocklist") from error
    except Invalid as error:
        raise Invalid(f"{path}: {error.message}", field="key_blocklist", value=error.value) from None
