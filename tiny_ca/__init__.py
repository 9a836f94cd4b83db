"""A certificate authority as a library. A name is loaded when it is first asked for: importing this costs nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tiny_ca.ca_factory.factory import CertificateFactory
    from tiny_ca.ca_factory.utils.file_loader import CAFileLoader, ICALoader
    from tiny_ca.ca_factory.utils.life_time import CertLifetime
    from tiny_ca.const import CertType
    from tiny_ca.db.base_db import BaseDB
    from tiny_ca.db.const import CertificateStatus, RevokeStatus
    from tiny_ca.db.models import CertificateRecord
    from tiny_ca.db.sync_db_manager import DatabaseManager as SyncDatabaseManager
    from tiny_ca.db.sync_db_manager import SyncDBHandler
    from tiny_ca.models.certificate import CAConfig, ClientConfig
    from tiny_ca.storage.base_storage import BaseStorage
    from tiny_ca.storage.local_storage import LocalStorage
    from tiny_ca.utils.serial_generator import SerialWithEncoding

__all__ = [
    "BaseDB",
    "BaseStorage",
    "CAConfig",
    "CAFileLoader",
    "CertLifetime",
    "CertType",
    "CertificateFactory",
    "CertificateRecord",
    "CertificateStatus",
    "ClientConfig",
    "ICALoader",
    "LocalStorage",
    "RevokeStatus",
    "SerialWithEncoding",
    "SyncDBHandler",
    "SyncDatabaseManager",
]

# Name -> (module, its name there).
_HOMES: Final = {
    "BaseDB": ("tiny_ca.db.base_db", "BaseDB"),
    "BaseStorage": ("tiny_ca.storage.base_storage", "BaseStorage"),
    "CAConfig": ("tiny_ca.models.certificate", "CAConfig"),
    "CAFileLoader": ("tiny_ca.ca_factory.utils.file_loader", "CAFileLoader"),
    "CertLifetime": ("tiny_ca.ca_factory.utils.life_time", "CertLifetime"),
    "CertType": ("tiny_ca.const", "CertType"),
    "CertificateFactory": ("tiny_ca.ca_factory.factory", "CertificateFactory"),
    "CertificateRecord": ("tiny_ca.db.models", "CertificateRecord"),
    "CertificateStatus": ("tiny_ca.db.const", "CertificateStatus"),
    "ClientConfig": ("tiny_ca.models.certificate", "ClientConfig"),
    "ICALoader": ("tiny_ca.ca_factory.utils.file_loader", "ICALoader"),
    "LocalStorage": ("tiny_ca.storage.local_storage", "LocalStorage"),
    "RevokeStatus": ("tiny_ca.db.const", "RevokeStatus"),
    "SerialWithEncoding": ("tiny_ca.utils.serial_generator", "SerialWithEncoding"),
    "SyncDBHandler": ("tiny_ca.db.sync_db_manager", "SyncDBHandler"),
    "SyncDatabaseManager": ("tiny_ca.db.sync_db_manager", "DatabaseManager"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOMES[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
