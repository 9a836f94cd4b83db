"""Reading serial numbers out of certificates."""

from __future__ import annotations

from cryptography import x509

from tiny_ca.const import CertType
from tiny_ca.utils.serial_generator import SerialWithEncoding

__all__ = ["CertSerialParser", "SerialWithEncoding"]


class CertSerialParser:
    """The serial number of a certificate, as a number or as what it tells."""

    @staticmethod
    def raw(cert: x509.Certificate) -> int:
        """The serial number itself."""
        return cert.serial_number

    @staticmethod
    def typed(cert: x509.Certificate) -> tuple[CertType | None, str]:
        """``(type, name prefix)``; the type is None for a serial number that is not ours."""
        return SerialWithEncoding.parse(cert.serial_number)

    @staticmethod
    async def raw_async(cert: x509.Certificate) -> int:
        """``raw`` as a coroutine."""
        return CertSerialParser.raw(cert)

    @staticmethod
    async def typed_async(cert: x509.Certificate) -> tuple[CertType | None, str]:
        """``typed`` as a coroutine."""
        return CertSerialParser.typed(cert)
