"""Where certificates, keys, CSRs and CRLs are kept as files."""

from __future__ import annotations

from tiny_ca.storage.async_local_storage import AsyncLocalStorage
from tiny_ca.storage.base_storage import BaseStorage
from tiny_ca.storage.const import CryptoObject
from tiny_ca.storage.local_storage import LocalStorage

__all__ = ["AsyncLocalStorage", "BaseStorage", "CryptoObject", "LocalStorage"]
