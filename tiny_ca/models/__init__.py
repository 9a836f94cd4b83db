"""Values that callers fill in and get back."""

from __future__ import annotations

from tiny_ca.models.certificate import CAConfig, CertificateDetails, CertificateInfo, ClientConfig
from tiny_ca.models.key_spec import KeySpec

__all__ = ["CAConfig", "CertificateDetails", "CertificateInfo", "ClientConfig", "KeySpec"]
