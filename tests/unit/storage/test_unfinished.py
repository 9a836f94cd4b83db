"""Folders in the making: marked, locked while somebody works on them, found when nobody does."""

from __future__ import annotations

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.storage.test_local_storage import CERT, KEY
from tiny_ca.exc import FileAlreadyExists, Invalid
from tiny_ca.storage import LocalStorage

_DIES = """
import os, sys
from tiny_ca.storage import LocalStorage
storage = LocalStorage(sys.argv[1])
folder = storage.begin_certificate_folder("dead", "a/b")
if len(sys.argv) > 2:
    print("begun", flush=True)
    sys.stdin.read()
os.kill(os.getpid(), 9)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """Give a storage over a folder that is not there yet."""
    return LocalStorage(tmp_path / "pki")


def test_begun_and_finished(storage: LocalStorage) -> None:
    """A folder is there with its mark, private, until it is finished; then it is like any other."""
    folder = storage.begin_certificate_folder("u", "web")
    path = storage.base_folder / "web" / "u"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert [file.name for file in path.iterdir()] == [".unfinished"]
    storage.save_certificate(CERT, "host", "web", "u")
    storage.finish_certificate_folder(folder)
    folder.release()
    assert [file.name for file in path.iterdir()] == ["host.pem"]
    assert storage.unfinished_certificate_folders() == []


def test_a_name_that_is_taken(storage: LocalStorage) -> None:
    """A folder with something in it, or a file, is not begun again, and stays as it was."""
    storage.save_certificate(CERT, "host", uuid_str="u")
    storage.save_certificate(CERT, "host", is_add_uuid=False)
    for name in ("u", "host.pem"):
        with pytest.raises(FileAlreadyExists, match=name):
            storage.begin_certificate_folder(name)
    assert _names(storage.base_folder) == ["host.pem", "u"]
    assert _names(storage.base_folder / "u") == ["host.pem"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", "a\0"])
def test_only_below_the_root(storage: LocalStorage, name: str) -> None:
    """A name that leads elsewhere is refused."""
    with pytest.raises(Invalid):
        storage.begin_certificate_folder(name)


def test_what_somebody_works_on_is_left_alone(storage: LocalStorage) -> None:
    """A locked folder is not unfinished business; once released it is, with what is in it."""
    folder = storage.begin_certificate_folder("u", "web")
    storage.save_certificate(CERT, "host", "web", "u")
    assert storage.unfinished_certificate_folders() == []
    folder.release()
    folder.release()
    (found,) = storage.unfinished_certificate_folders()
    assert (found.uuid, found.cert_path, found.serial_numbers) == ("u", "web", (CERT.serial_number,))
    assert storage.unfinished_certificate_folders() == []
    found.release()


def test_an_object_that_is_forgotten_releases(storage: LocalStorage) -> None:
    """Whoever forgets to release does so all the same."""
    storage.begin_certificate_folder("u")
    assert [folder.uuid for folder in storage.unfinished_certificate_folders()] == ["u"]


def test_death_releases(storage: LocalStorage) -> None:
    """While the process lives the folder is its own; once it is killed the folder is found, and discarded."""
    command = [sys.executable, "-c", _DIES, str(storage.base_folder), "wait"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        assert storage.unfinished_certificate_folders() == []
        process.stdin.close()
        process.wait(30)
    (found,) = storage.unfinished_certificate_folders()
    assert (found.uuid, found.cert_path) == ("dead", "a/b")
    storage.discard_certificate_folder(found)
    assert not (storage.base_folder / "a" / "b" / "dead").exists()


@pytest.mark.parametrize(
    "content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"\x30\x80"]
)
def test_damaged_files_are_no_certificates(storage: LocalStorage, content: bytes) -> None:
    """A file that was cut short names no certificate, and stops nobody."""
    storage.begin_certificate_folder("u").release()
    (storage.base_folder / "u" / "host.pem").write_bytes(content)
    (found,) = storage.unfinished_certificate_folders()
    assert found.serial_numbers == ()
    found.release()


def test_sweeping(storage: LocalStorage) -> None:
    """Temporary names of the dead go; those of the living, and what only looks similar, stay."""
    storage.save_certificate(KEY, "host", uuid_str="u")
    root = storage.base_folder
    (root / "u" / ".0123456789abcdef.tmp").write_bytes(b"")
    (root / ".0123456789abcdef.new").mkdir()
    (root / ".0123456789abcdef.old").mkdir()
    (root / ".0123456789abcdef.old" / "host.key").write_bytes(b"")
    for kept in (".hidden", ".0123456789abcdef.bak", ".0123.tmp"):
        (root / kept).write_bytes(b"")
    assert storage.sweep() == 3
    assert _names(root) == [".0123.tmp", ".0123456789abcdef.bak", ".hidden", "u"]
    assert _names(root / "u") == ["host.key"]
    assert storage.sweep() == 0
