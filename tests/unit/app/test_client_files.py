"""Files of the client: whole or not there, and for their owner alone."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from app.client.errors import ClientError
from app.client.files import staged, write_file

_ROOT = Path(__file__).parents[3]
_DYING = """
import os, signal
from pathlib import Path
from app.client.files import staged
with staged(Path("file"), b"new"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir()}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_private_whatever_the_umask(tmp_path: Path) -> None:
    """Mode 0600, and nothing beside it."""
    umask = os.umask(0)
    try:
        write_file(tmp_path / "file", b"content", replace=False)
    finally:
        os.umask(umask)
    assert (_mode(tmp_path / "file"), _names(tmp_path)) == (0o600, {"file"})


@pytest.mark.parametrize("old,new", [(0o644, 0o640), (0o640, 0o640), (0o600, 0o600), (0o666, 0o640), (0o400, 0o600)])
def test_a_replaced_file_hands_on_its_groups_right_to_read(tmp_path: Path, old: int, new: int) -> None:
    """And never more: others read neither keys nor what is beside them."""
    file = tmp_path / "file"
    file.write_bytes(b"old")
    file.chmod(old)
    write_file(file, b"new", replace=True, keep_mode=True)
    assert (file.read_bytes(), _mode(file)) == (b"new", new)


def test_what_is_there_is_not_replaced_unasked(tmp_path: Path) -> None:
    """Also where it came between: the file stays, and nothing is left beside it."""
    with staged(tmp_path / "file", b"new") as file:
        (tmp_path / "file").write_bytes(b"somebody else's")
        with pytest.raises(ClientError, match="--force"):
            file.place(replace=False)
    assert (tmp_path / "file").read_bytes() == b"somebody else's"
    assert _names(tmp_path) == {"file"}


def test_a_reader_sees_the_old_or_the_new(tmp_path: Path) -> None:
    """Never a part of either, and never nothing."""
    file, contents, over = tmp_path / "file", {b"a" * 100_000, b"b" * 100_000}, threading.Event()
    write_file(file, b"a" * 100_000, replace=False)
    seen: set[bytes] = set()

    def read() -> None:
        while not over.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        for content in contents:
            write_file(file, content, replace=True)
    over.set()
    reader.join()
    assert seen <= contents


def test_a_death_in_the_middle(tmp_path: Path) -> None:
    """Killed while the new file is being made, the old one is as it was."""
    (tmp_path / "file").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", _DYING], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(_ROOT)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "file").read_bytes() == b"old"
    (left,) = _names(tmp_path) - {"file"}
    assert _mode(tmp_path / left) == 0o600


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """It is said which file cannot be written, and why."""
    with pytest.raises(ClientError, match="nowhere/file cannot be written: No such file"):
        write_file(tmp_path / "nowhere" / "file", b"x", replace=True)
