"""A process that is killed in the middle of a manager's operation, for real, and what ``repair`` makes of it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.managers.conftest import make_template
from tests.unit.managers.helpers import make_manager
from tests.unit.managers.test_seam import assert_usable, assert_whole

_ROOT = Path(__file__).parent.parent.parent
# Those with the most effects; the others die in test_seam, by an exception that nothing catches.
_CASES = ("overwriting in place", "a rotation")


@pytest.mark.parametrize("case, kind", [*zip(_CASES, ("sync", "async"), strict=True)])
def test_killed_before_every_effect(tmp_path: Path, case: str, kind: str) -> None:
    """Wherever it dies: once repaired, every folder has its record and every valid certificate its folder."""
    template = make_template(tmp_path / "template")
    processes: list[tuple[Path, subprocess.Popen[bytes]]] = []
    for k in range(1, 22):
        home = tmp_path / str(k)
        shutil.copytree(template, home)
        command = [sys.executable, "-m", "tests.crash.manager_victim", kind, str(home), case, str(k)]
        processes.append((home, subprocess.Popen(command, cwd=_ROOT)))
        if k % 4 == 0:
            processes[-1][1].wait(60)
    codes = [process.wait(60) for _, process in processes]
    killed = codes.index(0)
    assert set(codes[:killed]) == {-signal.SIGKILL}
    assert set(codes[killed:]) == {0}
    assert killed > 5
    with asyncio.Runner() as runner:
        for home, _ in processes[:killed]:
            manager = make_manager(kind, home, runner)
            old = manager.certificate("web") if (manager.folder / "web").is_dir() else None
            manager.call("repair")
            assert_whole(manager)
            assert manager.statuses().count("valid") == 1
            if manager.statuses() == ["valid"]:
                assert old is not None
                assert_usable(manager, old)
            manager.close()
