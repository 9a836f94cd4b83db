"""The registry for async callers. What the methods do is in ``operations`` and ``queries``."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from datetime import timedelta
from logging import Logger
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar

from cryptography import x509
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from tiny_ca.const import CertType
from tiny_ca.db import operations
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.const import RevokeStatus, Succession
from tiny_ca.db.engine import WRITE, EngineSettings, create_tables, is_sqlite_file, make_async_engine, make_sync_engine
from tiny_ca.db.entries import RevokedRow
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.policy import ATTEMPTS, Operation, is_passing, pause, settle, translated
from tiny_ca.exc import Conflict, RegistryUnavailable
from tiny_ca.settings import DEFAULT_LOGGER

__all__ = ["AsyncDBHandler", "DatabaseManager"]

_P = ParamSpec("_P")
_T = TypeVar("_T")
_CLOSE_SECONDS: Final = 1.0


class DatabaseManager:
    """An async engine, and how a unit of work is run over it.

    On a SQLite file the whole unit runs in a thread, over connections of its own: the async driver would hop to a
    thread and back for each statement, which costs several times what the statements do.
    """

    def __init__(
        self,
        db_url: str = "sqlite:///ca_repository.db",
        create_all: bool = True,  # noqa: FBT001, FBT002 - documented so
        *,
        settings: EngineSettings | None = None,
    ) -> None:
        settings = settings or EngineSettings()
        self.engine = make_async_engine(db_url, settings)
        self._writing = self.engine.execution_options(**WRITE)
        self._tables_missing = create_all
        self._in_threads = _InThreads(db_url, settings) if is_sqlite_file(self.engine.url) else None

    async def prepare(self) -> None:
        """Make the tables on first use. Two tasks may both do so: the database lets them take turns."""
        if self._tables_missing:
            async with self._writing.begin() as connection:
                await connection.run_sync(create_tables)
            self._tables_missing = False

    def session(self, *, write: bool = False) -> AsyncSession:
        """Open a session, also an async context manager. What it loaded stays usable after it is closed."""
        return AsyncSession(self._writing if write else self.engine, expire_on_commit=False)

    @property
    def sync_engine(self) -> Engine:
        """The engine that units of work run over."""
        return self.engine.sync_engine if self._in_threads is None else self._in_threads.engine

    @property
    def runs_in_threads(self) -> bool:
        """Whether units of work run in threads, not in the event loop."""
        return self._in_threads is not None

    async def run(self, unit: Callable[[Session], _T], *, write: bool) -> _T:
        """Run a unit of work in a session of its own; one that writes is committed when this returns."""
        if self._in_threads is not None:
            return await self._in_threads.run(unit, write=write)
        async with self.session(write=write) as session:
            if not write:
                return await session.run_sync(unit)
            async with session.begin():
                return await session.run_sync(unit)

    async def aclose(self) -> None:
        """Close the pool's connections."""
        if self._in_threads is not None:
            await self._in_threads.aclose()
        await self.engine.dispose()


class _InThreads:
    """Units of work over a SQLite file, each in one of as many threads as there may be connections."""

    def __init__(self, db_url: str, settings: EngineSettings) -> None:
        self.engine = make_sync_engine(db_url, settings)
        self._writing = self.engine.execution_options(**WRITE)
        self._threads = ThreadPoolExecutor(settings.pool_size + settings.max_overflow, thread_name_prefix="registry")

    async def run(self, unit: Callable[[Session], _T], *, write: bool) -> _T:
        context = copy_context()  # log lines and spans of the unit are its caller's
        return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, self._run, unit, write)

    def _run(self, unit: Callable[[Session], _T], write: bool) -> _T:  # noqa: FBT001  # executors pass no keywords
        with Session(self._writing if write else self.engine, expire_on_commit=False) as session:
            if not write:
                return unit(session)
            with session.begin():
                return unit(session)

    async def aclose(self) -> None:
        with suppress(TimeoutError):  # where every thread hangs, this would too
            async with asyncio.timeout(_CLOSE_SECONDS):
                await asyncio.get_running_loop().run_in_executor(self._threads, self.engine.dispose)
        self._threads.shutdown(wait=False, cancel_futures=True)


class AsyncDBHandler(BaseDB):
    """Registry over SQLite in threads, or PostgreSQL through asyncpg; failures as in SyncDBHandler.

    A unit of work that has begun comes to its end, also when its caller is cancelled: cut in the middle, it would leave
    unknown whether it was committed, and its connection in a state that no pool can mend. ``patience``: so many seconds
    its caller waits for it, then gets RegistryUnavailable, and does not know whether it will have been kept.
    """

    def __init__(
        self,
        db_url: str,
        logger: Logger | None = None,
        *,
        strict: bool = False,
        crl_window: timedelta | None = timedelta(days=365),
        create_all: bool = True,
        settings: EngineSettings | None = None,
        patience: float | None = None,
    ) -> None:
        self._db = DatabaseManager(db_url, create_all, settings=settings)
        self._logger = logger or DEFAULT_LOGGER
        self.strict = strict
        self._crl_window = crl_window
        self._patience = patience
        self._begun: set[asyncio.Task[Any]] = set()

    @property
    def engine(self) -> AsyncEngine:
        """The engine, for what is no unit of work: migrations, listening, counting."""
        return self._db.engine

    @property
    def sync_engine(self) -> Engine:
        """The engine that units of work run over, for who listens to its events."""
        return self._db.sync_engine

    @property
    def runs_in_threads(self) -> bool:
        """Whether a unit of work runs in a thread, where it may also compute for as long as it likes."""
        return self._db.runs_in_threads

    def patient(self) -> Self:
        """Return the same registry, over the same pool, for work that may take as long as it takes."""
        patient = copy.copy(self)
        patient._patience = None  # noqa: SLF001  # our own
        return patient

    async def read(self, unit: Callable[Concatenate[Session, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a unit of work that only reads. Failures are always raised."""
        return await self._to_its_end(self._read(lambda session: unit(session, *args, **kwargs)))

    async def write(self, unit: Callable[Concatenate[Session, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a unit of work and commit it; it has been committed when this returns. Failures are always raised.

        It runs again where the database chose it to end a deadlock.
        """
        return await self._to_its_end(self._write(lambda session: unit(session, *args, **kwargs)))

    async def ping(self) -> None:
        """Return if the database answers, raise RegistryUnavailable if not."""
        await self.read(Session.scalar, text("SELECT 1"))

    async def aclose(self) -> None:
        """Close every connection, once what has begun has come to its end; what hangs is not waited for."""
        if self._begun:
            await asyncio.wait(self._begun, timeout=_CLOSE_SECONDS)
        await self._db.aclose()

    async def get_by_serial(self, serial: int) -> CertificateRecord | None:  # noqa: D102 - the contract is in BaseDB
        return await self._run(operations.get_by_serial(serial))

    async def get_by_name(self, common_name: str) -> CertificateRecord | None:  # noqa: D102
        return await self._run(operations.get_by_name(common_name))

    async def register_cert_in_db(  # noqa: D102
        self, cert: x509.Certificate, uuid: str, key_type: CertType = CertType.DEVICE
    ) -> bool:
        return await self._run(operations.register(cert, uuid, key_type))

    async def record_certificate(
        self,
        cert: x509.Certificate,
        uuid: str,
        key_type: CertType = CertType.DEVICE,
        *,
        succession: Succession = Succession.UNIQUE,
        predecessor: int | None = None,
    ) -> list[CertificateRecord]:
        """Record a certificate, also one without CN, and do to those before it what ``succession`` says.

        Return the certificates that it superseded. ``predecessor`` is the serial number of the one that is renewed or
        rotated. Failures are always raised.

        Raises
        ------
        NotUniqueCertOwner
            A valid certificate has the name; of two that claim it at once, exactly one succeeds.
        CertNotFound, Conflict
            There is no such predecessor, or it is revoked.
        """
        return await self.write(operations.record(cert, uuid, key_type, succession, predecessor))

    async def revoke_certificate(  # noqa: D102
        self, serial_number: int, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified
    ) -> tuple[bool, RevokeStatus]:
        return await self._run(operations.revoke(serial_number, reason))

    async def get_revoked_certificates(self) -> AsyncGenerator[RevokedRow, None]:  # noqa: D102
        for row in await self._run(operations.get_revoked_certificates(self._crl_window)):
            yield row

    async def require_revoked(self, issuer: x509.Certificate | None = None) -> list[RevokedRow]:
        """As ``get_revoked_certificates``, of one CA or of all, but a failure is always raised.

        Answered as documented, a failure would make an empty CRL, which says that all is well.
        """
        return await self.read(operations.require_revoked(self._crl_window, issuer).unit)

    async def list_all(  # noqa: D102
        self, status: str | None = None, key_type: str | CertType | None = None, limit: int = 100, offset: int = 0
    ) -> list[CertificateRecord]:
        return await self._run(operations.list_all(status, key_type, limit, offset))

    async def get_expiring(self, within_days: int = 30) -> list[CertificateRecord]:  # noqa: D102
        return await self._run(operations.get_expiring(within_days))

    async def update_status_expired(self) -> int:  # noqa: D102
        return await self._run(operations.update_status_expired())

    async def delete_by_serial(self, serial: int) -> bool:
        """Delete the record for good, also one without files; False where there is none."""
        return await self._run(operations.delete_by_serial(serial))

    async def delete_by_uuid(self, uuid: str) -> bool:  # noqa: D102
        return await self._run(operations.delete_by_uuid(uuid))

    async def _run(self, operation: Operation[_T]) -> _T:
        try:
            return await (self.write if operation.write else self.read)(operation.unit)
        except (Conflict, RegistryUnavailable) as error:
            return settle(operation, error, strict=self.strict, log=self._logger)

    async def _read(self, unit: Callable[[Session], _T]) -> _T:
        with translated():
            await self._db.prepare()
            return await self._db.run(unit, write=False)

    async def _write(self, unit: Callable[[Session], _T]) -> _T:
        with translated():
            await self._db.prepare()
            for attempts_left in reversed(range(ATTEMPTS)):
                try:
                    return await self._db.run(unit, write=True)
                except DBAPIError as error:
                    if not (attempts_left and is_passing(error)):
                        raise
                await asyncio.sleep(pause())
        raise AssertionError("unreachable")

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._begun.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: whoever waited may be gone, and was told that it is not known

    async def _to_its_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(self._patience):
                return await asyncio.shield(task)
        except TimeoutError:
            message = f"the registry is unavailable: no answer within {self._patience:g} seconds"
            raise RegistryUnavailable(message) from None
