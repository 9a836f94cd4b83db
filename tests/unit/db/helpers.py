"""Certificates to keep, and one way to call sync and async registries."""

# ruff: noqa: D102, D103 - the names say it

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID
from sqlalchemy import event
from sqlalchemy.orm import Session

from tiny_ca.const import CertType
from tiny_ca.db import queries
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, CertificateEntry, CertificateFilter, CRLEntry, IssuerEntry
from tiny_ca.db.sync_db_manager import SyncDBHandler

_P = ParamSpec("_P")
_T = TypeVar("_T")

NOW: Final = datetime(2030, 6, 15, 12, 0, 0, tzinfo=UTC)
DAY: Final = timedelta(days=1)
ISSUER: Final = "00112233445566aa"
_KEY: Final = ec.generate_private_key(ec.SECP256R1())


class Registry:
    """A handler of either kind, called the same way: what is awaitable is awaited, what is generated is a list."""

    def __init__(self, handler: SyncDBHandler | AsyncDBHandler, runner: asyncio.Runner) -> None:
        self.handler = handler
        self._runner = runner

    def read(self, unit: Callable[Concatenate[Session, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        result: _T = self.call("read", unit, *args, **kwargs)
        return result

    def write(self, unit: Callable[Concatenate[Session, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        result: _T = self.call("write", unit, *args, **kwargs)
        return result

    def call(self, method: str, *args: object, **kwargs: object) -> Any:  # noqa: ANN401 - whatever the method returns
        result = getattr(self.handler, method)(*args, **kwargs)
        if inspect.isgenerator(result):
            return list(result)
        if inspect.isasyncgen(result):
            return self._runner.run(_collect(result))
        return self._runner.run(result) if inspect.iscoroutine(result) else result

    def close(self) -> None:
        if isinstance(self.handler, SyncDBHandler):
            self.handler.close()
        else:
            self._runner.run(self.handler.aclose())

    def keep(self, *entries: CertificateEntry) -> None:
        self.write(queries.insert_certificates, entries, now=NOW)

    def serials(self, wanted: CertificateFilter) -> list[str]:
        page = self.read(queries.page_certificates, wanted, now=NOW, limit=100)
        return [record.serial_number for record in page]


def certificate(
    common_name: str | None = "host.example.org",
    *,
    serial: int | None = None,
    expires: datetime = NOW + 90 * DAY,
    names: tuple[x509.GeneralName, ...] = (),
) -> x509.Certificate:
    attributes = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(attributes))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")]))
        .public_key(_KEY.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(expires - 365 * DAY)
        .not_valid_after(expires)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(_KEY, SHA256())


def entry(
    common_name: str | None = "host.example.org",
    *,
    serial: int | None = None,
    expires: datetime = NOW + 90 * DAY,
    names: tuple[x509.GeneralName, ...] = (),
    key_type: CertType = CertType.SERVICE,
    **fields: str | None,
) -> CertificateEntry:
    cert = certificate(common_name, serial=serial, expires=expires, names=names)
    return CertificateEntry.of(cert, key_type=key_type, created_at=NOW, **fields)


def issuer(issuer_id: str = ISSUER, *, is_default: bool = False) -> IssuerEntry:
    return IssuerEntry(
        id=issuer_id,
        common_name="Test CA",
        certificate_pem="PEM",
        private_key_pem="ENCRYPTED-SECRET",
        created_at=NOW,
        is_default=is_default,
    )


def audit(action: str = "issue") -> AuditEntry:
    return AuditEntry(at=NOW, actor="admin", action=action, outcome="ok", detail={"names": 2})


def crl(number: int, *, this_update: datetime = NOW) -> CRLEntry:
    return CRLEntry(
        issuer_id=ISSUER,
        number=number,
        this_update=this_update,
        next_update=this_update + DAY,
        der=b"\x30\x00",
        created_at=this_update,
    )


def names_of_every_kind() -> tuple[x509.GeneralName, ...]:
    return (
        x509.DNSName("WWW.Example.org"),
        x509.IPAddress(ip_address("2001:db8::1")),
        x509.UniformResourceIdentifier("spiffe://example.org/a"),
        x509.RFC822Name("a@example.org"),
    )


async def _collect(rows: Any) -> list[Any]:  # noqa: ANN401 - of any rows
    return [row async for row in rows]


def query_plan(folder: Path, unit: Callable[[Session], object]) -> list[str]:
    """What SQLite does for the last statement of a unit of work, step by step."""
    folder.mkdir(exist_ok=True)
    handler = SyncDBHandler(f"sqlite:///{folder / 'plan.db'}")
    asked: list[tuple[str, Any]] = []
    event.listen(handler.engine, "before_cursor_execute", lambda *args: asked.append((args[2], args[3])))
    handler.write(queries.insert_issuers, [issuer()])
    handler.write(unit)
    statement, values = asked[-1]
    plan = handler.read(
        lambda session: [
            str(row[-1]) for row in session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)
        ]
    )
    handler.close()
    return plan
