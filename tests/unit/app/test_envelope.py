"""The stream of a backup: what was sealed comes back, and nothing else ever does."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.transfer.envelope import Seal, SealedReader, SealedWriter, new_seal, read_seal
from tiny_ca.exc import Invalid, Malformed

_CHUNK = 64 * 1024
_SEALED = _CHUNK + 16
_SEAL = Seal(b"header\n", bytes(32))


def _sealed(content: bytes, seal: Seal = _SEAL) -> bytes:
    file = io.BytesIO()
    writer = SealedWriter(file, seal)
    for start in range(0, len(content), 50_000):
        writer.write(content[start : start + 50_000])
    writer.finish()
    return file.getvalue().removeprefix(seal.header)


def _opened(sealed: bytes, seal: Seal = _SEAL) -> bytes:
    return io.BufferedReader(SealedReader(io.BytesIO(sealed), seal)).read()


@pytest.mark.parametrize("size", [0, 1, _CHUNK - 1, _CHUNK, _CHUNK + 1, 2 * _CHUNK, 3 * _CHUNK + 7])
def test_what_was_sealed_comes_back(size: int) -> None:
    """Also where the content ends with a chunk; each has 16 octets of tag and no more."""
    content = os.urandom(size)
    sealed = _sealed(content)
    assert _opened(sealed) == content
    assert len(sealed) == size + 16 * max(1, -(-size // _CHUNK))


@given(st.data())
def test_no_change_goes_unseen(data: st.DataObject) -> None:
    """Cut off anywhere, changed anywhere, a chunk moved, left out, repeated or added: an error, never other content."""
    content = b"x" * (2 * _CHUNK + 100)
    sealed = _sealed(content)
    chunks = [sealed[start : start + _SEALED] for start in range(0, len(sealed), _SEALED)]
    how = data.draw(st.sampled_from(["cut", "changed", "moved", "left out", "repeated", "added"]))
    place = data.draw(st.integers(0, len(sealed) - 1))
    chunk = place // _SEALED
    match how:
        case "cut":
            damaged = sealed[:place]
        case "changed":
            mask = data.draw(st.integers(1, 255))
            damaged = sealed[:place] + bytes([sealed[place] ^ mask]) + sealed[place + 1 :]
        case "moved":
            damaged = b"".join([chunks[1], chunks[0], chunks[2]])
        case "left out":
            damaged = b"".join(one for at, one in enumerate(chunks) if at != chunk)
        case "repeated":
            damaged = b"".join([*chunks[: chunk + 1], *chunks[chunk:]])
        case _:
            damaged = sealed + data.draw(st.binary(min_size=1, max_size=100))
    with pytest.raises(Malformed, match=r"cut off|changed"):
        _opened(damaged)


def test_a_file_cut_between_chunks_is_said_to_be_cut_off() -> None:
    """The one way of ending early that every chunk survives."""
    with pytest.raises(Malformed, match="what it ends with is not its end"):
        _opened(_sealed(b"x" * (2 * _CHUNK))[:_SEALED])


def test_the_passphrase() -> None:
    """The right one opens, a wrong one is told apart from a changed file, and each file has a key of its own."""
    seal = new_seal("correct horse battery staple")
    again = read_seal(io.BytesIO(seal.header + _sealed(b"", seal)), "correct horse battery staple")
    assert again == seal
    with pytest.raises(Invalid, match="passphrase"):
        read_seal(io.BytesIO(seal.header), "correct horse battery stable")
    assert new_seal("correct horse battery staple").key != seal.key


@pytest.mark.parametrize(
    "first, refusal",
    [
        (b"", "no backup"),
        (b"SQLite format 3\0" * 100, "no backup"),
        (b"tiny-ca-backup/2 what: ever\n", "another format"),
        (b"tiny-ca-backup/1 scrypt:30:8:1 " + b"0" * 64 + b"\n", "no backup"),  # 1 TiB of memory
        (b"tiny-ca-backup/1 scrypt:17:8:99 " + b"0" * 64 + b"\n", "no backup"),
        (b"tiny-ca-backup/1 scrypt:17:8:1 " + b"0" * 63 + b"\n", "no backup"),
    ],
)
def test_what_is_no_backup(first: bytes, refusal: str) -> None:
    """It is refused by its first line, whatever that asks for."""
    with pytest.raises(Malformed, match=refusal):
        read_seal(io.BytesIO(first), "correct horse battery staple")
