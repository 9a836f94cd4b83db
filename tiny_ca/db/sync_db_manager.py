"""The registry for sync callers. What the methods do is in ``operations`` and ``queries``."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from datetime import timedelta
from logging import Logger
from typing import Concatenate, ParamSpec, TypeVar

from cryptography import x509
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from tiny_ca.const import CertType
from tiny_ca.db import operations
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.const import RevokeStatus, Succession
from tiny_ca.db.engine import WRITE, EngineSettings, create_tables, make_sync_engine
from tiny_ca.db.entries import RevokedRow
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.policy import ATTEMPTS, Operation, is_passing, pause, settle, translated
from tiny_ca.exc import Conflict, RegistryUnavailable
from tiny_ca.settings import DEFAULT_LOGGER

__all__ = ["DatabaseManager", "SyncDBHandler"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DatabaseManager:
    """An engine and the sessions over it."""

    def __init__(
        self,
        db_url: str = "sqlite:///ca_repository.db",
        create_all: bool = True,  # noqa: FBT001, FBT002 - documented so
        *,
        settings: EngineSettings | None = None,
    ) -> None:
        self.engine = make_sync_engine(db_url, settings or EngineSettings())
        self._writing = self.engine.execution_options(**WRITE)
        if create_all:
            with translated(), self._writing.begin() as connection:
                create_tables(connection)

    def session(self, *, write: bool = False) -> Session:
        """Open a session, also a context manager. What it loaded stays usable after it is closed."""
        return Session(self._writing if write else self.engine, expire_on_commit=False)

    def close(self) -> None:
        """Close the pool's connections."""
        self.engine.dispose()


class SyncDBHandler(BaseDB):
    """Registry over SQLite, or PostgreSQL through psycopg.

    An infrastructure failure is logged and answered as documented (None, False, [] or 0), or raised if ``strict``.
    ``crl_window`` leaves revocations older than that out of ``get_revoked_certificates``; None leaves out none, as
    RFC 5280 §3.3 wants it.
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
    ) -> None:
        self._db = DatabaseManager(db_url, create_all, settings=settings)
        self._logger = logger or DEFAULT_LOGGER
        self.strict = strict
        self._crl_window = crl_window

    @property
    def engine(self) -> Engine:
        """The engine, for what is no unit of work: migrations, listening, counting."""
        return self._db.engine

    def read(self, unit: Callable[Concatenate[Session, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a unit of work that only reads, over one snapshot. Failures are always raised."""
        with translated(), self._db.session() as session:
            return unit(session, *args, **kwargs)

    def write(self, unit: Callable[Concatenate[Session, _P], _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a unit of work and commit it; it has been committed when this returns. Failures are always raised.

        It runs again where the database chose it to end a deadlock.
        """
        with translated():
            for attempts_left in reversed(range(ATTEMPTS)):
                try:
                    with self._db.session(write=True) as session, session.begin():
                        return unit(session, *args, **kwargs)
                except DBAPIError as error:
                    if not (attempts_left and is_passing(error)):
                        raise
                time.sleep(pause())
        raise AssertionError("unreachable")

    def ping(self) -> None:
        """Return if the database answers, raise RegistryUnavailable if not."""
        self.read(Session.scalar, text("SELECT 1"))

    def close(self) -> None:
        """Close every connection."""
        self._db.close()

    def get_by_serial(self, serial: int) -> CertificateRecord | None:  # noqa: D102 - the contract is in BaseDB
        return self._run(operations.get_by_serial(serial))

    def get_by_name(self, common_name: str) -> CertificateRecord | None:  # noqa: D102
        return self._run(operations.get_by_name(common_name))

    def register_cert_in_db(  # noqa: D102
        self, cert: x509.Certificate, uuid: str, key_type: CertType = CertType.DEVICE
    ) -> bool:
        return self._run(operations.register(cert, uuid, key_type))

    def record_certificate(
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
        return self.write(operations.record(cert, uuid, key_type, succession, predecessor))

    def revoke_certificate(  # noqa: D102
        self, serial_number: int, reason: x509.ReasonFlags = x509.ReasonFlags.unspecified
    ) -> tuple[bool, RevokeStatus]:
        return self._run(operations.revoke(serial_number, reason))

    def get_revoked_certificates(self) -> Generator[RevokedRow, None, None]:  # noqa: D102
        yield from self._run(operations.get_revoked_certificates(self._crl_window))

    def require_revoked(self, issuer: x509.Certificate | None = None) -> list[RevokedRow]:
        """As ``get_revoked_certificates``, of one CA or of all, but a failure is always raised.

        Answered as documented, a failure would make an empty CRL, which says that all is well.
        """
        return self.read(operations.require_revoked(self._crl_window, issuer).unit)

    def list_all(  # noqa: D102
        self, status: str | None = None, key_type: str | CertType | None = None, limit: int = 100, offset: int = 0
    ) -> list[CertificateRecord]:
        return self._run(operations.list_all(status, key_type, limit, offset))

    def get_expiring(self, within_days: int = 30) -> list[CertificateRecord]:  # noqa: D102
        return self._run(operations.get_expiring(within_days))

    def update_status_expired(self) -> int:  # noqa: D102
        return self._run(operations.update_status_expired())

    def delete_by_serial(self, serial: int) -> bool:
        """Delete the record for good, also one without files; False where there is none."""
        return self._run(operations.delete_by_serial(serial))

    def delete_by_uuid(self, uuid: str) -> bool:  # noqa: D102
        return self._run(operations.delete_by_uuid(uuid))

    def _run(self, operation: Operation[_T]) -> _T:
        try:
            return (self.write if operation.write else self.read)(operation.unit)
        except (Conflict, RegistryUnavailable) as error:
            return settle(operation, error, strict=self.strict, log=self._logger)
