"""One way to call a manager of either kind, and what it leaves on disk and in the registry."""

# ruff: noqa: D102, D103 - the names say it

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any, Final, ParamSpec, TypeAlias, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

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

    def load_ca(self) -> None:
        (cert_path,) = self.folder.rglob("ca.pem")
        self.manager.factory = CertificateFactory(CAFileLoader(cert_path, cert_path.with_suffix(".key")))

    def certificate(self, folder: str) -> x509.Certificate:
        (path,) = (self.folder / folder).glob("*.pem")
        return x509.load_pem_x509_certificate(path.read_bytes())

    def cut_short(self, at: int, *, dead: bool, operation: str, **kwargs: object) -> bool:
        """Call with the ``at``-th effect failing; return whether the operation came so far."""
        core = self.manager._core
        run, core._run = core._run, Counted(core._run, fail_at=at, dead=dead)
        try:
            self.call(operation, **kwargs)
        except Interrupted:
            return True
        finally:
            core._run = run
        return False

    def meanwhile(self, effect: str, act: Callable[[CertLifecycleManager], object], *, waits: bool) -> Thread:
        """Before the first effect of that name, let another manager act in a thread; ``waits``: until we are done."""
        core = self.manager._core
        run = core._run
        factory, url = self.manager.factory, self.eyes.engine.url.render_as_string(hide_password=False)

        def other() -> None:
            database = SyncDBHandler(url)
            act(CertLifecycleManager(LocalStorage(self.folder), factory, database))
            database.close()

        thread = Thread(target=other)

        async def with_another(wanted: Any, /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as ``Run``
            if thread.ident is None and getattr(wanted, "__name__", None) == effect:
                thread.start()
                thread.join(0.2 if waits else 30)
                assert thread.is_alive() is waits
            return await run(wanted, *args, **kwargs)

        core._run = with_another
        return thread

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


def make_manager(kind: str, home: Path, runner: asyncio.Runner, db_url: str | None = None) -> Manager:
    """Without a URL, over a SQLite file in its home."""
    home.mkdir(exist_ok=True)
    folder, db_url = home / "pki", db_url or f"sqlite:///{home / 'ca.db'}"
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

    def fail(self) -> None:
        raise Interrupted(self.names[-1])

    async def __call__(self, effect: Callable[_P, _T | Awaitable[_T]], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        self.count += 1
        self.names.append(getattr(effect, "__name__", repr(effect)))
        if self._fail_at is not None and (self.count == self._fail_at or (self._dead and self.count > self._fail_at)):
            self.fail()
        return await self._run(effect, *args, **kwargs)


# Operation and arguments; OLD and STRANGER stand for a serial number and a certificate that there are before.
OLD: Final = object()
STRANGER: Final = object()
CASES: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "a root": ("create_self_signed_ca", {"config": CA.model_copy(update={"common_name": "Other"})}),
    "another root": ("create_self_signed_ca", {"config": CA, "is_overwrite": True}),
    "a certificate": ("issue_certificate", {"config": ClientConfig(common_name="new.example.org", key=EC)}),
    "a certificate in its own folder": (
        "issue_certificate",
        {"config": ClientConfig(common_name="new.example.org", key=EC), "uuid_str": "new", "cert_path": "a/b"},
    ),
    "overwriting": ("issue_certificate", {"config": ClientConfig(common_name=NAME, key=EC), "is_overwrite": True}),
    "overwriting in place": (
        "issue_certificate",
        {"config": ClientConfig(common_name=NAME, key=EC), "is_overwrite": True, "uuid_str": "web"},
    ),
    "an intermediate": ("issue_intermediate_ca", {"common_name": "Issuing", "key_size": 2048}),
    "a renewal": ("renew_certificate", {"serial": OLD}),
    "a rotation": ("rotate_certificate", {"serial": OLD, "config": ClientConfig(common_name=NAME, key=EC)}),
    "a rotation to another name": (
        "rotate_certificate",
        {"serial": OLD, "config": ClientConfig(common_name="new.example.org", key=EC)},
    ),
    "a co-signed certificate": ("cosign_certificate", {"cert": STRANGER}),
    "a revocation": ("revoke_certificate", {"serial": OLD}),
    "a CRL": ("generate_crl", {}),
    "a clean-up": ("refresh_expired_statuses", {}),
}


def stranger() -> x509.Certificate:
    """Another CA's certificate."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stranger.example.org")])
    key = ec.generate_private_key(ec.SECP256R1())
    end = now + timedelta(days=30)
    return x509.CertificateBuilder(name, name, key.public_key(), 7, now, end).sign(key, SHA256())


def given(arguments: dict[str, Any], old: x509.Certificate) -> dict[str, Any]:
    """Put real values where a case has a stand-in."""
    real = {id(OLD): old.serial_number, id(STRANGER): stranger()}
    return {name: real.get(id(value), value) for name, value in arguments.items()}


class Interrupted(BaseException):
    """What no ``except Exception`` may swallow."""


def client(common_name: str = NAME, **fields: Any) -> ClientConfig:  # noqa: ANN401 - any field of it
    return ClientConfig(common_name=common_name, key=EC, **fields)
