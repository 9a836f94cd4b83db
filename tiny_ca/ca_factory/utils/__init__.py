"""What the factory needs beside itself: loaded CAs, validity windows, serial numbers read."""

from __future__ import annotations

from tiny_ca.ca_factory.utils.afile_loader import AsyncCAFileLoader
from tiny_ca.ca_factory.utils.file_loader import CAFileLoader, ICALoader
from tiny_ca.ca_factory.utils.life_time import CertLifetime
from tiny_ca.ca_factory.utils.serial import CertSerialParser, SerialWithEncoding

__all__ = [
    "AsyncCAFileLoader",
    "CAFileLoader",
    "CertLifetime",
    "CertSerialParser",
    "ICALoader",
    "SerialWithEncoding",
]
