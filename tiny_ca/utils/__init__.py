"""Small tools that know nothing of certificates' files or records."""

from __future__ import annotations

from tiny_ca.utils.serial_generator import ISerialGenerator, SerialGenerator, SerialWithEncoding

__all__ = ["ISerialGenerator", "SerialGenerator", "SerialWithEncoding"]
