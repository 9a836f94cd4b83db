"""Files that are whole or not there: written beside their place, synced, then moved to it."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from app.client.errors import ClientError, ExitCode

__all__ = ["StagedFile", "staged", "staging", "write_file"]

_PRIVATE: Final = 0o600
_WITH_GROUP: Final = 0o640


@dataclass(frozen=True, slots=True)
class StagedFile:
    """Content that is on disk already, under a name of its own."""

    temporary: Path
    path: Path

    def place(self, *, replace: bool) -> None:
        """Give it its name.

        Raises
        ------
        ClientError
            Something has that name and may not be replaced.
        """
        try:
            if replace:
                self.temporary.replace(self.path)
            else:
                os.link(self.temporary, self.path)  # unlike a rename, it fails where something is
                self.temporary.unlink()
            _sync_folder(self.path.parent)
        except FileExistsError:
            raise ClientError(f"{self.path} is there already; --force replaces it", code=ExitCode.USAGE) from None
        except OSError as error:
            raise ClientError(f"{self.path} cannot be written: {error.strerror}") from error


@contextmanager
def staged(path: Path, content: bytes, *, keep_mode: bool = False) -> Iterator[StagedFile]:
    """Write the content beside ``path``, mode 0600, and sync it; what was not placed in the end is deleted.

    ``keep_mode``: a file that is replaced hands on its owner and its group's right to read.

    Raises
    ------
    ClientError
        It cannot be written.
    """
    with staging(path, keep_mode=keep_mode) as (file, stage):
        try:
            file.write(content)
            finished = stage()
        except OSError as error:
            raise ClientError(f"{path} cannot be written: {error.strerror}") from error
        yield finished


@contextmanager
def staging(path: Path, *, keep_mode: bool = False) -> Iterator[tuple[BinaryIO, Callable[[], StagedFile]]]:
    """As ``staged``, for content that comes in pieces: a file to write, and what syncs it when all of it is there.

    An error of writing or syncing is the caller's to map.

    Raises
    ------
    ClientError
        It cannot be begun.
    """
    path = Path(os.path.realpath(path))  # a link stays one, and its target is replaced
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE)
    except OSError as error:
        raise ClientError(f"{path} cannot be written: {error.strerror}") from error

    file = os.fdopen(descriptor, "wb")

    def finished() -> StagedFile:
        file.flush()
        os.fsync(descriptor)
        return StagedFile(temporary, path)

    try:
        if keep_mode:
            _take_after(descriptor, path)
        yield file, finished
    finally:
        with suppress(OSError):  # what a full disk did not take is in its buffer still, and fails again
            file.close()
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_file(path: Path, content: bytes, *, replace: bool, keep_mode: bool = False) -> None:
    """Write one file; see ``staged`` and ``place``."""
    with staged(path, content, keep_mode=keep_mode) as file:
        file.place(replace=replace)


def _take_after(descriptor: int, like: Path) -> None:
    try:
        old = like.stat()
    except FileNotFoundError:
        return
    with suppress(PermissionError):  # only root may give files away
        os.fchown(descriptor, old.st_uid, old.st_gid)
    os.fchmod(descriptor, _PRIVATE | (stat.S_IMODE(old.st_mode) & _WITH_GROUP))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
