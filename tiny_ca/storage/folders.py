"""Files under one root: written whole or not at all, durable when the call returns, never through a symbolic link.

Every step is relative to an open folder, so that nobody can put a link in the way between a check and a use.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath

from tiny_ca.exc import FileAlreadyExists, Invalid
from tiny_ca.utils.arguments import check_kind

__all__ = [
    "OPEN_FOLDER",
    "check_replaceable",
    "checked_name",
    "checked_path",
    "delete_folder",
    "entry_mode",
    "opened",
    "replace_folder",
    "write_file",
]

# Most file systems take 255 bytes; an extension is among them.
_MAX_NAME_BYTES = 250
_FOLDER_MODE = 0o700
_SECRET_MODE = 0o600
_PUBLIC_MODE = 0o644
OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_RESERVED = re.compile(r"\.[0-9a-f]{16}\.(tmp|new|old)|\.unfinished")
_OPEN_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def checked_name(value: str, field: str) -> str:
    """Return a name that is one step down from a folder.

    Raises
    ------
    Invalid
        Empty, ``.``, ``..``, with a slash or NUL in it, too long for a file system, or one of the storage's own.
    """
    check_kind(value, str, field)
    if value in {"", ".", ".."} or "/" in value or "\0" in value:
        raise Invalid(
            f"{field} must be a plain name, without '/', '..' or NUL, not {value!r}", field=field, value=value
        )
    try:
        length = len(os.fsencode(value))
    except UnicodeEncodeError:  # a lone surrogate
        raise Invalid(f"{field} holds what no file name can: {value!r}", field=field, value=value) from None
    if _RESERVED.fullmatch(value):  # by such a name, a repair knows what somebody left behind
        raise Invalid(f"{field} {value!r} is a name of the storage's own; take another", field=field, value=value)
    if length > _MAX_NAME_BYTES:
        raise Invalid(f"{field} is longer than {_MAX_NAME_BYTES} bytes", field=field, value=value)
    return value


def checked_path(value: str | PurePath | None, field: str) -> tuple[str, ...]:
    """Return the steps of a path that stays below the root; None and ``""`` are no step at all.

    Raises
    ------
    Invalid
        Absolute, or with ``..`` or NUL in it.
    """
    path = PurePath(value or "")
    if path.is_absolute():
        raise Invalid(f"{field} must be relative to the storage's folder, not {str(path)!r}", field=field, value=value)
    if ".." in path.parts or "\0" in str(path):
        message = f"{field} must stay below the storage's folder, without '..' or NUL, not {str(path)!r}"
        raise Invalid(message, field=field, value=value)
    return tuple(checked_name(part, field) for part in path.parts)


@contextmanager
def opened(root: Path, steps: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
    """Open the folder; ``create`` makes what is missing with mode 0700, and takes it back where the block fails.

    Raises
    ------
    Invalid
        A step is a symbolic link or no folder.
    """
    if create:
        _make_root(root)
    folder = os.open(root, OPEN_FOLDER)
    try:
        with _descended(folder, steps, create=create) as last:
            yield last
    finally:
        os.close(folder)


def write_file(folder: int, name: str, data: bytes, *, secret: bool, overwrite: bool) -> None:
    """Write a file; it appears with all its content or not at all. Secret ones have mode 0600, whatever the umask.

    Raises
    ------
    FileAlreadyExists
        It is there and ``overwrite`` is False; of two that write at once, exactly one succeeds.
    """
    temporary = f".{secrets.token_hex(8)}.tmp"
    file = os.open(temporary, _OPEN_NEW_FILE, _SECRET_MODE if secret else _PUBLIC_MODE, dir_fd=folder)
    try:
        with os.fdopen(file, "wb") as stream:
            fcntl.flock(file, fcntl.LOCK_EX)  # whoever sweeps up sees that we are alive
            if secret:
                os.fchmod(file, _SECRET_MODE)
            stream.write(data)
            stream.flush()
            os.fsync(file)
        if overwrite:
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError as error:
        raise FileAlreadyExists(f"there is a file {name} already; overwriting it must be asked for") from error
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
    try:
        os.fsync(folder)
    except OSError:
        if not overwrite:
            os.unlink(name, dir_fd=folder)
        raise


def entry_mode(folder: int, name: str) -> int | None:
    """Return the mode of what has that name, not following a link; None where there is nothing."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return None


def replace_folder(folder: int, name: str, by: str) -> None:
    """Put the folder ``by`` in the place of the folder ``name``, if there is one; its content is deleted afterwards."""
    if entry_mode(folder, name) is not None:
        check_replaceable(folder, name)
    old = f".{secrets.token_hex(8)}.old"
    with suppress(FileNotFoundError):
        os.rename(name, old, src_dir_fd=folder, dst_dir_fd=folder)
    os.rename(by, name, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
    with suppress(FileNotFoundError):
        delete_folder(folder, old)


def check_replaceable(folder: int, name: str) -> None:
    """Let a folder pass that holds no other folder.

    Raises
    ------
    Invalid
        It is a link or a file, or holds folders: they belong to others, and would go with it.
    """
    below = _open_step(folder, name)
    try:
        with os.scandir(below) as entries:
            inside = next((entry.name for entry in entries if entry.is_dir(follow_symlinks=False)), None)
    finally:
        os.close(below)
    if inside is not None:
        message = f"the folder {name!r} holds the folder {inside!r}, which is not its own: it is not replaced"
        raise Invalid(message, field="uuid_str", value=name)


def delete_folder(folder: int, name: str) -> None:
    """Delete the folder and all in it."""
    shutil.rmtree(name, dir_fd=folder)
    os.fsync(folder)


def _make_root(root: Path) -> None:
    """Make the root and what is missing above it, for their owner alone; a folder that is there keeps its mode."""
    if root.is_dir():
        return
    if not root.parent.is_dir() and root.parent != root:
        _make_root(root.parent)
    try:
        with suppress(FileExistsError):
            root.mkdir(mode=_FOLDER_MODE)
            root.chmod(_FOLDER_MODE)
            _sync(root.parent)
    except NotADirectoryError:
        pass
    if not root.is_dir():
        raise Invalid(f"{root} is no folder, nor can one be made there", field="base_folder", value=str(root))


@contextmanager
def _descended(folder: int, steps: tuple[str, ...], *, create: bool) -> Iterator[int]:
    if not steps:
        yield folder
        return
    step, *rest = steps
    made = create and _made(folder, step)
    try:
        if made:
            os.chmod(step, _FOLDER_MODE, dir_fd=folder)  # the umask may have taken from it
            os.fsync(folder)
        below = _open_step(folder, step)
        try:
            with _descended(below, tuple(rest), create=create) as last:
                yield last
        finally:
            os.close(below)
    except BaseException:
        if made:
            with suppress(OSError):  # not empty: somebody else uses it already
                os.rmdir(step, dir_fd=folder)
        raise


def _made(folder: int, step: str) -> bool:
    try:
        os.mkdir(step, _FOLDER_MODE, dir_fd=folder)
    except FileExistsError:
        return False
    return True


def _open_step(folder: int, step: str) -> int:
    try:
        return os.open(step, OPEN_FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    except OSError as error:
        if error.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        mode = entry_mode(folder, step)
        kind = "a symbolic link" if mode is not None and stat.S_ISLNK(mode) else "no folder"
        raise Invalid(
            f"{step!r} is {kind}; a storage writes only below its own folder", field="path", value=step
        ) from None


def _sync(path: Path) -> None:
    folder = os.open(path, OPEN_FOLDER)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
