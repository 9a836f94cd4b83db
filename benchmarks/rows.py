"""A registry of any size: one certificate is issued, and its rows are copied, without a signature for each.

In each copy the serial number and the host are others, in the columns and in the DER alike, so that rows are as long
and indexes as scattered as those of certificates that were issued. The signature and the dates in the DER stay the
first one's.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.orm import Session

from benchmarks.harness import Service
from tiny_ca.db.const import CertificateStatus
from tiny_ca.db.engine import WRITE, EngineSettings, make_sync_engine
from tiny_ca.db.models import AuditRecord, CertificateName, CertificateRecord
from tiny_ca.db.queries.filters import reversed_name

__all__ = ["DOMAIN", "Copies", "Original", "api_client", "host", "insert_copies", "issue_first", "open_database"]

DOMAIN: Final = "bench.example.org"
_BATCH: Final = 5_000
_LIFETIME: Final = timedelta(days=90)
_DAY: Final = timedelta(days=1)
_SUPERSEDED: Final = 4  # RFC 5280 §5.3.1


def host(number: int) -> str:
    """A host's name; all are of one length."""
    return f"h{number:08}.{DOMAIN}"


def api_client(service: Service) -> httpx.Client:
    """A client with the admin's token."""
    return httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {service.token}"}, timeout=120)


def issue_first(service: Service) -> None:
    """Issue what the copies are made from."""
    body = {"common_name": host(0), "profile": "server", "lifetime": f"{_LIFETIME.days}d"}
    with api_client(service) as client:
        client.post("/api/v1/certificates", json=body).raise_for_status()


def open_database(url: str) -> Engine:
    """An engine whose statements may take long."""
    return make_sync_engine(url, EngineSettings(statement_timeout=3600, idle_timeout=3600)).execution_options(**WRITE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """How many certificates to make, numbered from 1, for how many hosts, and which of them are over.

    The first ``expired`` have expired at some time within the last 90 days; the others end within the next 90, but not
    today, and of those each ``revoked_every``-th is revoked; 0 is none.
    """

    count: int
    hosts: int
    expired: int = 0
    revoked_every: int = 0

    def host(self, number: int) -> str:
        """The host of a copy."""
        return host(number % self.hosts)

    def not_valid_after(self, number: int, now: datetime) -> datetime:
        """The end of a copy."""
        if number <= self.expired:
            return now - _LIFETIME * ((self.expired - number + 1) / self.expired)
        share = (number - self.expired) / (self.count - self.expired)
        return now + _DAY + (_LIFETIME - _DAY) * share

    def is_revoked(self, number: int) -> bool:
        """Whether a copy is revoked."""
        return number > self.expired and self.revoked_every > 0 and number % self.revoked_every == 0


class Original:
    """The rows that copies are made from."""

    def __init__(self, session: Session) -> None:
        newest = session.scalars(select(CertificateRecord).order_by(CertificateRecord.id.desc()).limit(1)).one()
        act = session.scalars(select(AuditRecord).where(AuditRecord.serial_number == newest.serial_number)).one()
        self.id = newest.id
        self.issuer_id = newest.issuer_id
        self._row = _columns(newest)
        self._act = {name: value for name, value in _columns(act).items() if name != "id"}
        self._der = ssl.PEM_cert_to_DER_cert(newest.certificate_pem)
        self._serial = int(newest.serial_number).to_bytes(20, "big")
        assert self._der.count(self._serial) == 1, "the serial number has not its usual 20 octets"

    def serial_number(self, number: int) -> int:
        """The serial number of a copy: at random to an index, and still told by its number."""
        return int.from_bytes(self._octets(number), "big")

    def certificate(self, number: int, copies: Copies, now: datetime) -> dict[str, Any]:
        """Make a row of ``certificates``."""
        name, ends = copies.host(number), copies.not_valid_after(number, now)
        der = self._der.replace(self._serial, self._octets(number)).replace(host(0).encode(), name.encode())
        row = {
            **self._row,
            "id": self.id + number,
            "serial_number": str(self.serial_number(number)),
            "common_name": name,
            "common_name_reversed": reversed_name(name),
            "not_valid_before": ends - _LIFETIME,
            "not_valid_after": ends,
            "certificate_pem": ssl.DER_cert_to_PEM_cert(der),
            "fingerprint_sha256": hashlib.sha256(der).hexdigest(),
            "spki_sha256": hashlib.sha256(
                str(number).encode()
            ).hexdigest(),  # of no key: each would cost as much as this
            "created_at": ends - _LIFETIME,
        }
        if number <= copies.expired:
            row["status"] = CertificateStatus.EXPIRED.value
        if copies.is_revoked(number):
            row |= {
                "status": CertificateStatus.REVOKED.value,
                "revocation_date": now - timedelta(hours=1),
                "revocation_reason": _SUPERSEDED,
            }
        return row

    def audit(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Make the audit's row of it."""
        request_id = hashlib.sha256(row["serial_number"].encode()).hexdigest()[: len(self._act["request_id"])]
        return {
            **self._act,
            "at": row["created_at"],
            "serial_number": row["serial_number"],
            "request_id": request_id,
        }

    def _octets(self, number: int) -> bytes:
        # The first two stay, so that the encoding is as long.
        return self._serial[:2] + hashlib.blake2b(number.to_bytes(8, "big"), digest_size=18).digest()


def insert_copies(engine: Engine, copies: Copies, *, now: datetime) -> Original:
    """Copy the newest certificate with its name and its audit row, and let the database count what it has."""
    with Session(engine) as session:
        original = Original(session)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA cache_size = -2000000")  # KiB: the indexes are written to at random
        for start in range(1, copies.count + 1, _BATCH):
            numbers = range(start, min(start + _BATCH, copies.count + 1))
            rows = [original.certificate(number, copies, now) for number in numbers]
            connection.execute(insert(CertificateRecord), rows)
            connection.execute(insert(CertificateName), [_name(row) for row in rows])
            connection.execute(insert(AuditRecord), [original.audit(row) for row in rows])
        if engine.dialect.name == "postgresql":
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence('certificates', 'id'), max(id)) FROM certificates")
            )
        connection.execute(text("ANALYZE"))
    return original


def _columns(record: CertificateRecord | AuditRecord) -> dict[str, Any]:
    return {column.key: getattr(record, column.key) for column in record.__table__.columns}


def _name(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "certificate_id": row["id"],
        "kind": "dns",
        "value": row["common_name"],
        "reversed": row["common_name_reversed"],
    }
