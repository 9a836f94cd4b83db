"""The lifecycle of certificates: a factory, a registry and a storage at work together."""

from __future__ import annotations

from tiny_ca.managers.async_lifecycle_manager import AsyncCertLifecycleManager
from tiny_ca.managers.sync_lifecycle_manager import CertLifecycleManager

__all__ = ["AsyncCertLifecycleManager", "CertLifecycleManager"]
