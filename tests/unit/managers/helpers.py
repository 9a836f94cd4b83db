"""One way to call a manager of either kind, and what it leaves on disk and in the registry."""

# ruff: noqa: D102, D103 - the names say it

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from tiny_ca.ca_factory import CAFileLoader, CertificateFactory
from tiny_ca.db import AsyncDBHandler, CertificateRecord, SyncDBHandler
from tiny_ca.managers import AsyncCertLifecycleManager, CertLifecycleManager
from tiny_ca.managers.effects import Run
from tiny_ca.models import CAConfig, ClientConfig, KeySpec
from tiny_ca.storage import AsyncLocalStorage, LocalStorage

_P = ParamSpec("_P")
_T = TypeVar("_T")

EC: Final = KeySpec.ec()
CA: Final = CAConfig(common_name="Root", organization="Example", country="DE", key=EC)
NAME: Final = "nginx.example.org"


class Manager:
    """A manager, its storage's folder and a second, strict pair of eyes on its database."""

    def __init__(
        self,
        manager: CertLifecycleManager | AsyncCertLifecycleManager,
        folder: Path,
        db_url: str,
        runner: asyncio.Runner,
    ) -> None:
        self.manager = manager
        self.folder = folder
        self.eyes = SyncDBHandler(db_url, strict=True)
        self._runner = runner

    def call(self, operation: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever it returns
        result = getattr(self.manager, operation)(*args, **kwargs)
        return self._runner.run(result) if inspect.iscoroutine(result) else result

    def set_up(self) -> None:
        self.manager.factory = CertificateFactory(CAFileLoader(*self.call("create_self_signed_ca", CA)))

    def cut_short(self, at: int, *, dead: bool, operation: str, **kwargs: object) -> bool:
        """Call with the ``at``-th effect failing; return whether the operation came so far."""
        self.manager._core._run = Counted(self.manager._core._run, fail_at=at, dead=dead)
        try:
            self.call(operation, **kwargs)
        except Interrupted:
            return True
        return False

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file()}

    def folders(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if path.is_dir()} if self.folder.exists() else set()

    def records(self) -> list[CertificateRecord]:
        return self.eyes.list_all()

    def statuses(self, common_name: str = NAME) -> list[str]:
        """Return the stored statuses of that name's certificates, newest first."""
        return [record.status for record in self.records() if record.common_name == common_name]

    def close(self) -> None:
        self.eyes.close()
        database = self.manager._core._db
        if isinstance(database, SyncDBHandler):
            database.close()
        elif isinstance(database, AsyncDBHandler):
            self._runner.run(database.aclose())


NewManager: TypeAlias = Callable[[str], Manager]
KINDS: Final = ("sync", "async", "async over sync")


def make_manager(kind: str, home: Path, runner: asyncio.Runner) -> Manager:
    home.mkdir()
    folder, db_url = home / "pki", f"sqlite:///{home / 'ca.db'}"
    manager: CertLifecycleManager | AsyncCertLifecycleManager
    if kind == "sync":
        manager = CertLifecycleManager(LocalStorage(folder), db_handler=SyncDBHandler(db_url))
    elif kind == "async":
        manager = AsyncCertLifecycleManager(AsyncLocalStorage(folder), db_handler=AsyncDBHandler(db_url))
    else:
        manager = AsyncCertLifecycleManager(LocalStorage(folder), db_handler=SyncDBHandler(db_url))
    return Manager(manager, folder, db_url, runner)


class Counted:
    """A ``Run`` that counts effects, and raises before the k-th, or before the k-th and all that follow."""

    def __init__(self, run: Run, *, fail_at: int | None = None, dead: bool = False) -> None:
        self._run = run
        self._fail_at = fail_at
        self._dead = dead
        self.count = 0
        self.names: list[str] = []

    async def __call__(self, effect: Callable[_P, _T | Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        self.count += 1
        self.names.append(getattr(effect, "__name__", repr(effect)))
        if self._fail_at is not None and (self.count == self._fail_at or (self._dead and self.count > self._fail_at)):
            raise Interrupted(self.names[-1])
        return await self._run(effect, *args, **kwargs)


class Interrupted(BaseException):
    """What no ``except Exception`` may swallow."""


def client(common_name: str = NAME, **fields: Any) -> ClientConfig:  # noqa: ANN401 - any field of it
    return ClientConfig(common_name=common_name, key=EC, **fields)
