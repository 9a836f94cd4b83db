"""The data folder and what may be done to it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from app.services.secrets import prepare_data_dir
from app.settings import SettingsError


def _mode(folder: Path) -> int:
    return stat.S_IMODE(folder.stat().st_mode)


def test_a_folder_of_ours_is_for_us_alone(tmp_path: Path) -> None:
    """Whatever its mode was."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    prepare_data_dir(folder)
    assert _mode(folder) == 0o700


def test_a_volume_keeps_its_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubernetes mounts it: root's, and writable to a group of ours. It is not ours to change."""
    folder = tmp_path / "data"
    folder.mkdir()
    folder.chmod(0o2777)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    prepare_data_dir(folder)
    assert _mode(folder) == 0o2777


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is made."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(SettingsError, match=r"TINY_CA_DATA_DIR: .* cannot be used: it cannot be written to"):
        prepare_data_dir(tmp_path / "data")
