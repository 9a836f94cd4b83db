"""A stream sealed under a passphrase: AES-256-GCM in chunks, as the STREAM construction has it.

    tiny-ca-backup/1 scrypt:LOG2N:R:P SALT
    HMAC-SHA256 of that line
    chunk, chunk, … the last one marked as such in its nonce

Both lines are ASCII and end in a line feed. scrypt (RFC 7914) makes 64 octets of passphrase and salt: the key of the
chunks, then that of the HMAC, by which a wrong passphrase is told from a file that was changed. A chunk is 64 KiB of
content and 16 octets of tag; only the last one may be shorter. Its nonce is its number in 11 octets, then 1 for the
last chunk and 0 for others. The salt is new for each file, and with it the key: no nonce comes twice. Where chunks are
taken out, exchanged or cut off, one fails to open. (Hoang, Reyhanitabar, Rogaway, Vizár: Online
Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance, 2015.)
"""

from __future__ import annotations

import hmac
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from typing import BinaryIO, Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from tiny_ca.exc import Invalid, Malformed

__all__ = ["Seal", "SealedReader", "SealedWriter", "Writable", "new_seal", "read_seal"]

_MAGIC: Final = b"tiny-ca-backup/"
_VERSION: Final = 1
# OWASP's first choice (Password Storage Cheat Sheet): 128 MiB and about half a second.
_LOG2_N: Final = 17
_R: Final = 8
_P: Final = 1
# What a file may ask for, at most: 256 MiB, four times.
_LOG2_NS: Final = range(14, 19)
_RS: Final = range(1, 9)
_PS: Final = range(1, 5)
_HEADER: Final = re.compile(rb"tiny-ca-backup/1 scrypt:(\d{1,2}):(\d{1,2}):(\d{1,2}) ([0-9a-f]{64})\n")
_MAX_LINE: Final = 256
_CHUNK: Final = 64 * 1024
_TAG: Final = 16
_KEY: Final = 32


@dataclass(frozen=True, slots=True)
class Seal:
    """What a file begins with, and the key of what follows."""

    header: bytes
    key: bytes = field(repr=False)


def new_seal(passphrase: str) -> Seal:
    """Begin a file; another salt, and with it another key, each time. Takes about half a second."""
    line = b"%s%d scrypt:%d:%d:%d %s\n" % (_MAGIC, _VERSION, _LOG2_N, _R, _P, os.urandom(32).hex().encode())
    found = _HEADER.fullmatch(line)
    assert found is not None, line  # noqa: S101  # what is written here can be read here
    key, mac_key = _keys(found, passphrase)
    return Seal(line + _mac(mac_key, line), key)


def read_seal(file: BinaryIO, passphrase: str) -> Seal:
    """Read what a file begins with; the file is left where its chunks begin.

    Raises
    ------
    Malformed
        It is no backup, or one of a newer format.
    Invalid
        The passphrase does not open it.
    """
    line, mac = file.readline(_MAX_LINE), file.readline(_MAX_LINE)
    found = _HEADER.fullmatch(line)
    if found is None or not all(int(found[1 + place]) in taken for place, taken in enumerate((_LOG2_NS, _RS, _PS))):
        if line.startswith(_MAGIC) and not line.startswith(_MAGIC + b"%d " % _VERSION):
            raise Malformed("it is of another format than this program reads: a newer tiny-ca wrote it")
        raise Malformed("it is no backup that tiny-ca wrote, or its first line was changed")
    key, mac_key = _keys(found, passphrase)
    if not hmac.compare_digest(mac, _mac(mac_key, line)):
        raise Invalid("the passphrase does not open it, or its first two lines were changed", field="passphrase")
    return Seal(line + mac, key)


class Writable(Protocol):
    """As much of a file as is needed here."""

    def write(self, content: bytes, /) -> object:
        """Write all of it."""
        ...


class SealedWriter:
    """Seals what is written to it; without ``finish`` the file is one that was cut off."""

    def __init__(self, file: Writable, seal: Seal) -> None:
        self._file = file
        self._cipher = AESGCM(seal.key)
        self._number = 0
        self._waiting = bytearray()
        file.write(seal.header)

    def write(self, content: bytes) -> None:
        """Take some more; it is sealed when a chunk is full and another follows."""
        self._waiting += content
        while len(self._waiting) > _CHUNK:
            self._seal(bytes(self._waiting[:_CHUNK]), is_last=False)
            del self._waiting[:_CHUNK]

    def finish(self) -> None:
        """Seal the rest, and say that it is the last."""
        self._seal(bytes(self._waiting), is_last=True)

    def _seal(self, content: bytes, *, is_last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._number, is_last=is_last), content, None))
        self._number += 1


class SealedReader(io.RawIOBase):
    """What was sealed, chunk by chunk; wrap it in an ``io.BufferedReader`` to read lines.

    Raises
    ------
    Malformed
        The file was cut off or changed: nothing of the chunk that does not open is returned.
    """

    def __init__(self, file: BinaryIO, seal: Seal) -> None:
        super().__init__()
        self._chunks = _opened(file, seal)
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the interface
        """Fill the buffer with what is at hand; 0 at the end of the last chunk."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size


def _opened(file: BinaryIO, seal: Seal) -> Iterator[bytes]:
    cipher = AESGCM(seal.key)
    sealed = file.read(_CHUNK + _TAG)
    number = 0
    while True:
        following = file.read(_CHUNK + _TAG)
        if not following:
            yield _last(cipher, sealed, number)
            return
        try:
            yield cipher.decrypt(_nonce(number, is_last=False), sealed, None)
        except InvalidTag:
            raise Malformed(f"it was changed: chunk {number + 1} does not open") from None
        sealed = following
        number += 1


def _last(cipher: AESGCM, sealed: bytes, number: int) -> bytes:
    try:
        return cipher.decrypt(_nonce(number, is_last=True), sealed, None)
    except (InvalidTag, ValueError):  # ValueError: shorter than a tag
        pass
    try:
        cipher.decrypt(_nonce(number, is_last=False), sealed, None)
    except (InvalidTag, ValueError):
        if len(sealed) == _CHUNK + _TAG:
            raise Malformed(f"it was changed: chunk {number + 1} does not open") from None
        raise Malformed("it is cut off, or was changed at its end: its last chunk does not open") from None
    raise Malformed("it is cut off: what it ends with is not its end")


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])


def _keys(header: re.Match[bytes], passphrase: str) -> tuple[bytes, bytes]:
    log2_n, r, p = (int(header[place]) for place in (1, 2, 3))
    made = Scrypt(salt=bytes.fromhex(header[4].decode()), length=2 * _KEY, n=1 << log2_n, r=r, p=p).derive(
        passphrase.encode()
    )
    return made[:_KEY], made[_KEY:]


def _mac(key: bytes, line: bytes) -> bytes:
    return hmac.digest(key, line, sha256).hex().encode() + b"\n"
