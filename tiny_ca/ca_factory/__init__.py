"""Certificates and CRLs: objects in, objects out. No database, no event loop, no files but the loaders'."""

from __future__ import annotations

from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.ca_factory.utils.afile_loader import AsyncCAFileLoader
from tiny_ca.ca_factory.utils.file_loader import CAFileLoader, ICALoader
from tiny_ca.ca_factory.utils.life_time import CertLifetime
from tiny_ca.ca_factory.utils.serial import CertSerialParser, SerialWithEncoding

__all__ = [
    "AsyncCAFileLoader",
    "CAFileLoader",
    "CertLifetime",
    "CertSerialParser",
    "CertificateFactory",
    "ICALoader",
    "SerialWithEncoding",
]
