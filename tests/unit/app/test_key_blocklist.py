"""The operator's own list of keys."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.key_blocklist import parse_key_blocklist, read_key_blocklist
from tiny_ca.exc import Invalid

_KEYS = st.binary(max_size=8).map(lambda octets: hashlib.sha256(octets).hexdigest())


@given(st.lists(st.tuples(_KEYS, st.booleans(), st.text("# abc", max_size=9))))
def test_what_is_written_is_read(lines: list[tuple[str, bool, str]]) -> None:
    """In any case, with blanks around, and comments after or between."""
    text = "".join(f"  {key.upper() if upper else key}\t#{comment}\r\n\n# {comment}\n" for key, upper, comment in lines)
    assert parse_key_blocklist(text) == {key for key, _, _ in lines}


@pytest.mark.parametrize(
    "wrong", ["ab", "0" * 63, "0" * 65, "g" * 64, "0" * 32 + " " + "0" * 31, "\uff10" * 64, "0x" + "0" * 62]
)
def test_a_wrong_line_is_named(wrong: str) -> None:
    """The error says which line, what it holds and what would be right."""
    with pytest.raises(Invalid, match=r"^line 3: .* is no SHA-256 in 64 hex digits, which openssl ") as refused:
        parse_key_blocklist(f"# comment\n{'0' * 64}\n{wrong}\n")
    assert refused.value.value == wrong[:80]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A missing one, and one that is no text."""
    with pytest.raises(Invalid, match=r"missing cannot be read: No such file"):
        read_key_blocklist(tmp_path / "missing")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(Invalid, match=r"binary cannot be read: not text"):
        read_key_blocklist(tmp_path / "binary")
    assert read_key_blocklist(None) == frozenset()
