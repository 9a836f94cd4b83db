"""Dies before the k-th effect of a manager's operation, by a signal nobody can catch; run by ``test_manager_dies``.

    python -m tests.crash.manager_victim KIND HOME CASE K

HOME holds what ``tests/unit/managers/conftest.py`` calls the template. Exit code 0: the operation has no k-th effect.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.unit.managers.helpers import CASES, Counted, given, make_manager


class _Deadly(Counted):
    def fail(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def main(kind: str, home: str, case: str, k: str) -> None:
    """Run the operation of that case until the k-th effect is due."""
    with asyncio.Runner() as runner:
        manager = make_manager(kind, Path(home), runner)
        manager.load_ca()
        operation, arguments = CASES[case]
        core = manager.manager._core
        core._run = _Deadly(core._run, fail_at=int(k))
        manager.call(operation, **given(arguments, manager.certificate("web")))
        manager.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
