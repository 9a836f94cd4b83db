"""Folders that are being filled: who dies in the middle leaves them marked, and nobody holds their lock any more.

begin   .<hex>.new with a mark in it, locked  ->  renamed to its name, all at once
finish  the mark goes, then the lock
stale   a mark, or a name that only we give, whose lock can be had: the process that made it is gone
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Final

from cryptography import x509

from tiny_ca.exc import FileAlreadyExists
from tiny_ca.storage.folders import OPEN_FOLDER, delete_folder, opened

__all__ = [
    "StorageLock",
    "UnfinishedFolder",
    "begin",
    "delete_certificate",
    "discard",
    "finish",
    "holds",
    "locate",
    "lock",
    "stale",
    "sweep",
]

_MARK: Final = ".unfinished"
_OURS: Final = re.compile(r"\.[0-9a-f]{16}\.(tmp|new|old)")
_MAX_SIZE: Final = 1 << 20
_LOCK_SECONDS: Final = 0.01
_TAKEN: Final = frozenset({errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR})


@dataclass(frozen=True, slots=True, weakref_slot=True)
class UnfinishedFolder:
    """A marked folder, locked until ``release``; ``serial_numbers`` are of the certificates found in it."""

    uuid: str
    cert_path: str
    serial_numbers: tuple[int, ...] = ()
    descriptor: int = field(kw_only=True, repr=False)
    _close: Callable[[], object] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_close", weakref.finalize(self, os.close, self.descriptor))

    def release(self) -> None:
        """Give up the lock; again, it does nothing. Whoever dies gives it up too."""
        self._close()


class StorageLock:
    """One storage, locked for one operation; the kernel gives it up for whoever dies."""

    def __init__(self, descriptor: int) -> None:
        self._close = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Let the next one in."""
        self._close()


def lock(root: Path) -> StorageLock | None:
    """Lock the storage; None, after a moment, where another has it: ask again."""
    with opened(root, (), create=True) as folder:
        descriptor = os.dup(folder)  # not inheritable
    # The lock belongs to the open folder, which the duplicate is: no other in this process shares it.
    held = StorageLock(descriptor)
    if _locked(descriptor):
        return held
    held.release()
    time.sleep(_LOCK_SECONDS)
    return None


def begin(root: Path, steps: tuple[str, ...], uuid: str) -> UnfinishedFolder:
    """Make a folder of that name, marked and locked.

    Raises
    ------
    FileAlreadyExists
        Something has that name; of two that begin at once, exactly one succeeds.
    """
    new = f".{secrets.token_hex(8)}.new"
    with opened(root, steps, create=True) as parent:
        os.mkdir(new, 0o700, dir_fd=parent)
        try:
            os.chmod(new, 0o700, dir_fd=parent)
            descriptor = os.open(new, OPEN_FOLDER, dir_fd=parent)
            folder = UnfinishedFolder(uuid, "/".join(steps), descriptor=descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            os.close(os.open(_MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=descriptor))
            os.fsync(descriptor)
            _rename_to_free(parent, new, uuid)
            os.fsync(parent)
        except BaseException:
            with suppress(FileNotFoundError):
                delete_folder(parent, new)
            raise
    return folder


def finish(folder: UnfinishedFolder) -> None:
    """Take the mark away: what is in the folder stands."""
    with suppress(FileNotFoundError):
        os.unlink(_MARK, dir_fd=folder.descriptor)
    os.fsync(folder.descriptor)


def discard(root: Path, folder: UnfinishedFolder) -> None:
    """Delete the folder and all in it."""
    with suppress(FileNotFoundError), opened(root, _steps(folder.cert_path)) as parent:
        delete_folder(parent, folder.uuid)


def stale(root: Path) -> list[UnfinishedFolder]:
    """Lock and return the marked folders that nobody works on."""
    found = []
    for path in _marked(root):
        with suppress(FileNotFoundError):  # its maker was alive, and faster
            descriptor = os.open(path, OPEN_FOLDER | os.O_NOFOLLOW)
            cert_path = "/".join(path.parent.relative_to(root).parts)
            folder = UnfinishedFolder(path.name, cert_path, _serial_numbers(path), descriptor=descriptor)
            if _locked(descriptor):
                found.append(folder)
            else:
                folder.release()
    return found


def locate(root: Path, uuid: str, serial_number: int) -> str | None:
    """Return the path to the folder of that name that holds a certificate with this serial number."""
    for parent, folders, _ in os.walk(root):
        if uuid in folders and serial_number in _serial_numbers(Path(parent) / uuid):
            return "/".join(Path(parent).relative_to(root).parts)
    return None


def holds(path: Path, serial_number: int) -> bool:
    """Tell whether the folder has a certificate with this serial number in it."""
    return serial_number in _serial_numbers(path)


def delete_certificate(root: Path, steps: tuple[str, ...], uuid: str, serial_number: int) -> None:
    """Delete the files of this certificate, and the folder where nothing of others is in it."""
    path = root.joinpath(*steps, uuid)
    with opened(root, steps) as parent, opened(root, (*steps, uuid)) as folder:
        own = {file.stem for file in path.glob("*.pem") if serial_number in _read_serial_numbers(file)}
        with os.scandir(folder) as found:
            files = {entry.name: not entry.is_dir(follow_symlinks=False) for entry in found if entry.name != _MARK}
        mine = [name for name, is_file in files.items() if is_file and PurePath(name).stem in own]
        if len(mine) == len(files):
            delete_folder(parent, uuid)
            return
        for name in mine:
            os.unlink(name, dir_fd=folder)
        os.fsync(folder)


def sweep(root: Path) -> int:
    """Delete what was given a temporary name by somebody who is gone; return how many."""
    swept = 0
    for parent, folders, files in os.walk(root):
        for name in filter(_OURS.fullmatch, (*folders, *files)):
            with suppress(FileNotFoundError):
                swept += _swept(Path(parent), name)
    return swept


def _swept(parent: Path, name: str) -> bool:
    if (parent / name).is_symlink():  # what it leads to is not ours
        (parent / name).unlink()
        return True
    descriptor = os.open(parent / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not _locked(descriptor):
            return False
        with opened(parent, ()) as folder:
            if name.endswith(".tmp") or not (parent / name).is_dir():
                os.unlink(name, dir_fd=folder)
            else:
                delete_folder(folder, name)
        return True
    finally:
        os.close(descriptor)


def _rename_to_free(parent: int, new: str, uuid: str) -> None:
    try:
        # Fails over everything but an empty folder, in which nobody can have anything.
        os.rename(new, uuid, src_dir_fd=parent, dst_dir_fd=parent)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise FileAlreadyExists(f"the folder {uuid!r} is in use; pass is_overwrite=True to replace it") from error


def _marked(root: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not _OURS.fullmatch(name)]
        if _MARK in files:
            yield Path(parent)


def _serial_numbers(path: Path) -> tuple[int, ...]:
    found: list[int] = []
    for file in sorted(path.glob("*.pem")):
        found.extend(_read_serial_numbers(file))
    return tuple(found)


def _read_serial_numbers(file: Path) -> Iterator[int]:
    data = _read(file)
    for load in (x509.load_pem_x509_certificate, x509.load_der_x509_certificate):
        with suppress(ValueError):
            yield load(data).serial_number


def _read(file: Path) -> bytes:
    """Read a file; what is none, as a link or a folder, or is gone meanwhile, has no certificate in it."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            return b""
        raise
    try:
        return os.read(descriptor, _MAX_SIZE) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
    finally:
        os.close(descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _steps(cert_path: str) -> tuple[str, ...]:
    return tuple(cert_path.split("/")) if cert_path else ()
