"""Files that others wrote: regular ones only, and no larger than they should be."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO, Final

from tiny_ca.exc import Invalid, TooLarge

__all__ = ["MAX_FILE", "open_regular", "read_file"]

MAX_FILE: Final = 256 * 1024


def open_regular(path: Path) -> BinaryIO:
    """Open a file to read; a FIFO is not waited for.

    Raises
    ------
    FileNotFoundError
        There is none.
    Invalid
        It is no regular file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:  # a loop of links among others
        raise Invalid(f"{path} cannot be read: {error.strerror}", field="file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Invalid(f"{path} is no regular file", field="file")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: int = MAX_FILE) -> bytes:
    """Read a small file.

    Raises
    ------
    FileNotFoundError
        There is none.
    Invalid
        It is no file, is too large, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}", field="file") from error
    if len(content) > limit:
        raise TooLarge(f"{path} is larger than {limit} octets", limit=limit, field="file")
    return content
