"""The registry: tables, units of work, and the two handlers that run them."""

from __future__ import annotations

from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.base_db import BaseDB
from tiny_ca.db.const import CertificateStatus, RevokeStatus
from tiny_ca.db.models import CertificateRecord
from tiny_ca.db.sync_db_manager import DatabaseManager as SyncDatabaseManager
from tiny_ca.db.sync_db_manager import SyncDBHandler

__all__ = [
    "AsyncDBHandler",
    "BaseDB",
    "CertificateRecord",
    "CertificateStatus",
    "RevokeStatus",
    "SyncDBHandler",
    "SyncDatabaseManager",
]
