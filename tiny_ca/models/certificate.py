"""What callers of the library fill in, and what an inspection tells them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, EmailStr, Field, IPvAnyAddress, field_validator

from tiny_ca.const import CertType
from tiny_ca.models.key_spec import KeySpec

__all__ = [
    "BaseCertificateConfig",
    "BaseCertificateDataModel",
    "CAConfig",
    "CertificateDetails",
    "CertificateInfo",
    "ClientConfig",
    "CommonNameCertificate",
]


class CommonNameCertificate(BaseModel):
    """A subject's common name, at most 64 bytes of UTF-8 (RFC 5280 Appendix A: ub-common-name)."""

    common_name: str = Field(default="Internal CA", min_length=1, max_length=64)

    @field_validator("common_name")
    @classmethod
    def _fits(cls, value: str) -> str:
        # The crypto library counts bytes, here and in every relying party written in Python.
        if (length := len(value.encode())) > 64:
            message = f"is {length} bytes of UTF-8 long; at most 64 are allowed"
            raise ValueError(message)
        return value


class BaseCertificateDataModel(CommonNameCertificate):
    """Who a CA is; ``country`` is an ISO 3166-1 alpha-2 code."""

    organization: str = Field(default="My Company", min_length=1, max_length=64)
    country: str = Field(default="UA", pattern="^[A-Za-z]{2}$")


class BaseCertificateConfig(BaseModel):
    """Key and validity. ``key_size`` is of an RSA key in bits; ``key`` asks for any kind and goes before it."""

    key_size: int = 2048
    days_valid: int = 365
    valid_from: datetime | None = None
    key: KeySpec | None = None


class CAConfig(BaseCertificateConfig, BaseCertificateDataModel):
    """A self-signed root."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")  # a mistyped field must not be ignored

    days_valid: int = 3650


class ClientConfig(CommonNameCertificate, BaseCertificateConfig):
    """An end-entity certificate; ``name`` is the base name of its files and goes into no certificate."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    serial_type: CertType = CertType.SERVICE
    is_client_cert: bool = False
    is_server_cert: bool = True
    san_dns: list[str] | None = None
    san_ip: list[IPvAnyAddress] | None = None
    email: EmailStr | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a CA's subject says of its owner."""

    organization: str | None = None
    organizational_unit: str | None = None
    country: str | None = None
    state: str | None = None
    locality: str | None = None


class CertificateDetails(BaseModel):
    """A certificate, read; ``extended_key_usage`` holds dotted OIDs, ``fingerprint_sha256`` is ``AB:CD:…``."""

    model_config = ConfigDict(frozen=True)

    serial_number: int
    common_name: str | None
    organization: str | None
    country: str | None
    issuer_cn: str | None
    not_valid_before: datetime
    not_valid_after: datetime
    is_ca: bool
    san_dns: list[str]
    san_ip: list[str]
    key_usage: list[str]
    extended_key_usage: list[str]
    fingerprint_sha256: str
    subject_key_identifier: str | None
    public_key_size: int | None
