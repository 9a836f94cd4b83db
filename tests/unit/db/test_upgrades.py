"""A database of every revision there ever was comes to the newest one with all that is in it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Connection, MetaData, Table, select

from tests.unit.db.helpers import Registry, certificate
from tests.unit.db.test_migrations import ROOT, in_transaction, migrated
from tiny_ca.db import queries
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.queries.issuers import list_issuers
from tiny_ca.db.queries.tokens import token_by_hash
from tiny_ca.db.sync_db_manager import SyncDBHandler

_AT: Final = datetime(2030, 1, 2, 3, 4, 5)  # noqa: DTZ001  # as it is stored
_ISSUER: Final = "00112233445566aa"
_CERTIFICATE: Final = certificate("old.example.org", serial=4711)

# What the program of each revision wrote, in the columns that the revision brought; by hand, for the models change.
_ROWS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "0001": {
        "issuers": {
            "id": _ISSUER,
            "common_name": "Old CA",
            "certificate_pem": "PEM",
            "private_key_pem": "ENCRYPTED",
            "parent_id": None,
            "is_root": True,
            "enabled": True,
            "is_default": True,
            "created_at": _AT,
            "crl_number": 7,
            "crl_this_update": _AT,
            "revocation_count": 1,
        },
        "certificates": {
            "id": 1,
            "serial_number": str(_CERTIFICATE.serial_number),
            "common_name": "old.example.org",
            "common_name_reversed": "gro.elpmaxe.dlo",
            "status": "revoked",
            "not_valid_before": _AT,
            "not_valid_after": datetime(2031, 1, 1),  # noqa: DTZ001
            "key_type": "SERVICE",
            "certificate_pem": _CERTIFICATE.public_bytes(Encoding.PEM).decode(),
            "revocation_date": _AT,
            "revocation_reason": 1,
            "uuid": "web",
            "issuer_id": _ISSUER,
            "fingerprint_sha256": "f" * 64,
            "spki_sha256": "a" * 64,
            "profile": "server",
            "requester": "admin",
            "created_at": _AT,
            "unique_name": None,
        },
        "certificate_names": {
            "certificate_id": 1,
            "kind": "dns",
            "value": "old.example.org",
            "reversed": "gro.elpmaxe.dlo",
        },
        "crls": {
            "issuer_id": _ISSUER,
            "number": 7,
            "this_update": _AT,
            "next_update": datetime(2031, 1, 1),  # noqa: DTZ001
            "revocation_count": 1,
            "der": b"\x30\x00",
            "created_at": _AT,
        },
        "tokens": {
            "id": "admin",
            "name": "admin",
            "token_sha256": "b" * 64,
            "created_at": _AT,
            "expires_at": None,
        },
        "audit": {
            "id": 1,
            "at": _AT,
            "actor": "admin",
            "action": "certificate.revoke",
            "outcome": "success",
            "serial_number": str(_CERTIFICATE.serial_number),
            "issuer_id": _ISSUER,
            "profile": "server",
            "request_id": "r-1",
            "rule": None,
            "detail": {"reason": "keyCompromise"},
        },
    },
    "0002": {
        "tokens": {
            "id": "ci",
            "name": "ci",
            "token_sha256": "c" * 64,
            "created_at": _AT,
            "expires_at": None,
            "grants": {"permissions": ["certificates:read"]},
            "created_by": "admin",
            "last_used_at": _AT,
        },
        "idempotency_keys": {
            "actor": "admin",
            "key": "k-1",
            "request_sha256": "d" * 64,
            "outcome": {"kind": "certificate"},
            "created_at": _AT,
        },
        "blocked_keys": {"spki_sha256": "a" * 64, "serial_number": "4711", "blocked_at": _AT},
        "used_identity_tokens": {"issuer": "https://ci.example.org", "jti": "j-1", "expires_at": _AT},
    },
    "0003": {
        "notices": {
            "serial_number": "4711",
            "threshold_days": 7,
            "not_valid_after": _AT,
            "body": "{}",
            "created_at": _AT,
            "attempts": 1,
            "next_attempt_at": None,
            "last_error": "no route",
            "delivered_at": _AT,
        },
        "notice_scans": {"id": 1, "at": _AT},
    },
    "0004": {
        "jobs": {
            "name": "mark_expired",
            "due_at": _AT,
            "fence": 3,
            "holder": None,
            "started_at": None,
            "lease_until": None,
            "last_run": _AT,
            "last_success": _AT,
            "last_replica": "host:1",
            "last_error": None,
            "last_done": 2,
            "last_milliseconds": 5,
            "failures": 0,
        }
    },
    "0005": {},  # indexes alone
    "0006": {},
    "0007": {},
    "0008": {
        "certificates": {
            "id": 2,
            "serial_number": "4712",
            "common_name": None,
            "common_name_reversed": None,
            "status": "revoked",
            "not_valid_before": _AT,
            "not_valid_after": _AT,
            "key_type": "SERVICE",
            "certificate_pem": "PEM",
            "revocation_date": _AT,
            "revocation_reason": 1,
            "revocation_number": 1,
            "uuid": None,
            "issuer_id": _ISSUER,
            "fingerprint_sha256": "e" * 64,
            "spki_sha256": "d" * 64,
            "profile": None,
            "requester": None,
            "created_at": _AT,
            "unique_name": None,
        }
    },
}


def _table(connection: Connection, name: str) -> Table:
    return Table(name, MetaData(), autoload_with=connection)


def _insert(connection: Connection, revision: str) -> None:
    """The rows of this revision and of those before it."""
    for known, tables in _ROWS.items():
        if known <= revision:
            for name, row in tables.items():
                connection.execute(_table(connection, name).insert(), row)


def _stored(connection: Connection, revision: str) -> list[tuple[str, dict[str, Any]]]:
    """Of the rows that were inserted, what is in the columns that they had."""
    found = []
    for known, tables in _ROWS.items():
        for name, row in tables.items() if known <= revision else ():
            table = _table(connection, name)
            keys = [column == row[column.name] for column in table.primary_key]
            columns = [table.c[column] for column in row]
            found.append((name, dict(connection.execute(select(*columns).where(*keys)).mappings().one())))
    return found


def test_there_are_rows_for_every_revision() -> None:
    """Whoever adds a migration says here what its program writes."""
    assert sorted(_ROWS) == sorted(file.name[:4] for file in (ROOT / "migrations" / "versions").glob("0*.py"))


@pytest.mark.parametrize("revision", _ROWS)
def test_every_row_is_kept(db_url: str, revision: str) -> None:
    """Whatever a revision's program wrote is there at the newest one, value for value."""
    answers = in_transaction(
        db_url,
        lambda connection: migrated(connection, revision),
        lambda connection: _insert(connection, revision),
        migrated,
        lambda connection: _stored(connection, revision),
    )
    assert answers[3] == [
        (name, row) for known, tables in _ROWS.items() if known <= revision for name, row in tables.items()
    ]


@pytest.mark.parametrize("revision", _ROWS)
def test_the_program_reads_them(
    db_url: str, handler_class: type[SyncDBHandler | AsyncDBHandler], runner: asyncio.Runner, revision: str
) -> None:
    """Certificate, issuer, CRL and token of an old database are what the new program finds."""
    in_transaction(
        db_url,
        lambda connection: migrated(connection, revision),
        lambda connection: _insert(connection, revision),
        migrated,
    )
    registry = Registry(handler_class(db_url, strict=True, create_all=False), runner)
    record = registry.call("get_by_serial", _CERTIFICATE.serial_number)
    assert x509.load_pem_x509_certificate(record.certificate_pem.encode()) == _CERTIFICATE
    assert (record.status, record.revocation_date) == ("revoked", _AT.replace(tzinfo=UTC))
    assert [(issuer.id, issuer.crl_number) for issuer in registry.read(list_issuers)] == [(_ISSUER, 7)]
    crl = registry.read(queries.latest_crl, _ISSUER)
    assert crl is not None
    assert crl.number == 7
    token = registry.read(token_by_hash, "b" * 64)
    assert token is not None
    assert (token.id, token.grants) == ("admin", None)
    registry.close()
