"""The bodies of requests and answers about issuers, as they stand in the OpenAPI document."""

from __future__ import annotations

import binascii
from typing import Annotated, Final, Literal, Self

from cryptography.x509.oid import NameOID
from pydantic import BaseModel, Field, SecretStr, model_validator

from app.api.requests import KeyWish, StrictRequest
from app.api.schemas import Moment, PublicKeyView
from tiny_ca.ca_factory.name_constraints import NameConstraints, Subtrees
from tiny_ca.ca_factory.names import MAX_NAMES, AlternativeNames
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.subject import checked_subject
from tiny_ca.exc import Invalid
from tiny_ca.models.fields import Lifetime
from tiny_ca.models.key_spec import KeySpec

__all__ = [
    "CRLAnswer",
    "CRLView",
    "ImportIssuer",
    "ImportPKCS12",
    "IssuerList",
    "IssuerView",
    "MakeIssuer",
    "NameConstraintsView",
    "PatchIssuer",
    "RevokeIssuer",
]

_PEM: Final = "-----BEGIN CERTIFICATE-----\n…"
# An RSA key of 8,192 bits has some 6,500 characters, an ML-DSA-87 key 7,000; what is larger takes long to read.
_MAX_KEY: Final = 10_000
_Subtree = Annotated[str, Field(min_length=1, max_length=254)]
# An empty list would mean "nothing", which name constraints cannot say.
_Subtrees = Annotated[list[_Subtree], Field(min_length=1, max_length=MAX_NAMES)]


class MakeIssuer(StrictRequest):
    """A CA to be made below another; its key is made here and never leaves.

    ``permitted_*`` and ``excluded_*`` are its name constraints (RFC 5280 §4.2.1.10): a kind that is not named is not
    limited. ``example.org`` of DNS is that name and all below it; of e-mails and URIs it is that host, ``.example.org``
    all hosts below it.
    """

    parent_id: str | None = Field(
        default=None, min_length=1, max_length=64, description="The root of the default issuer unless said."
    )
    common_name: str = Field(min_length=1, max_length=64, examples=["Example CI CA"])
    organization: str | None = Field(default=None, min_length=1, max_length=64)
    country: str | None = Field(default=None, min_length=2, max_length=2)
    key: KeyWish | None = Field(default=None, description="EC P-256 unless said.")
    lifetime: Lifetime | None = None
    path_length: int | None = Field(
        default=None, ge=0, le=9, description="How many CAs may stand below; 0 unless said."
    )
    permitted_dns: _Subtrees | None = Field(default=None, examples=[["ci.example.org"]])
    permitted_ip_ranges: _Subtrees | None = Field(default=None, examples=[["10.0.0.0/8"]])
    permitted_emails: _Subtrees | None = None
    permitted_uris: _Subtrees | None = None
    excluded_dns: _Subtrees | None = None
    excluded_ip_ranges: _Subtrees | None = None
    excluded_emails: _Subtrees | None = None
    excluded_uris: _Subtrees | None = None

    def request(self) -> CertificateRequest:
        """The request that these fields make, its key still to be made.

        Raises
        ------
        Invalid
            A name or a subtree is none.
        """
        subject = (
            (NameOID.COUNTRY_NAME, self.country),
            (NameOID.ORGANIZATION_NAME, self.organization),
            (NameOID.COMMON_NAME, self.common_name),
        )
        return CertificateRequest(
            subject=checked_subject((oid, value) for oid, value in subject if value is not None),
            names=AlternativeNames(),
            public_key=None,
            key_spec=KeySpec.ec("P-256") if self.key is None else self.key.spec(),
            lifetime=self.lifetime,
            path_length=self.path_length,
            name_constraints=self._constraints(),
        )

    def _constraints(self) -> NameConstraints | None:
        permitted = Subtrees.parse(
            dns=self.permitted_dns or (),
            ip_ranges=self.permitted_ip_ranges or (),
            emails=self.permitted_emails or (),
            uris=self.permitted_uris or (),
        )
        excluded = Subtrees.parse(
            dns=self.excluded_dns or (),
            ip_ranges=self.excluded_ip_ranges or (),
            emails=self.excluded_emails or (),
            uris=self.excluded_uris or (),
            prefix="excluded_",
        )
        return NameConstraints(permitted=permitted, excluded=excluded) if len(permitted) + len(excluded) else None


class ImportIssuer(StrictRequest):
    """A CA that was made elsewhere, in PEM; ``chain`` are the CAs above it that are not known here, in any order."""

    certificate: str = Field(max_length=65536, examples=[_PEM])
    chain: str | list[Annotated[str, Field(max_length=65536)]] | None = Field(default=None, examples=[[_PEM]])
    private_key: SecretStr = Field(max_length=_MAX_KEY)
    private_key_password: SecretStr | None = Field(default=None, min_length=1, max_length=1023)

    @property
    def chain_texts(self) -> list[str]:
        """The chain, in whichever of the two forms it was given."""
        if self.chain is None:
            return []
        return [self.chain] if isinstance(self.chain, str) else self.chain


class ImportPKCS12(StrictRequest):
    """A CA that was made elsewhere, as a PKCS #12 file with its chain; ML-DSA keys come as PEM."""

    pkcs12: str = Field(max_length=65536, description="Base64.", repr=False)
    pkcs12_password: SecretStr = Field(max_length=1023)

    def content(self) -> bytes:
        """The file.

        Raises
        ------
        Invalid
            It is no base64.
        """
        try:
            return binascii.a2b_base64("".join(self.pkcs12.split()), strict_mode=True)
        except ValueError as error:  # binascii.Error is one, and so is what is not ASCII
            raise Invalid(f"pkcs12 is no base64: {error}", field="pkcs12") from error


class PatchIssuer(StrictRequest):
    """What shall change; the default passes from the issuer that has it."""

    enabled: bool | None = None
    default: Literal[True] | None = Field(default=None, description="To take it away, make another one the default.")

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.enabled is None and self.default is None:
            raise ValueError('give enabled, as in {"enabled": false}, or {"default": true}')
        return self


class RevokeIssuer(StrictRequest):
    """Why; the names are those of RFC 5280 §5.3.1."""

    reason: str = Field(default="unspecified", max_length=64, examples=["cACompromise"])


class CRLView(BaseModel):
    """The newest CRL of a CA."""

    number: int
    this_update: Moment
    next_update: Moment


class CRLAnswer(CRLView):
    """A CRL that was just made."""

    issuer_id: str
    crl: str = Field(description="PEM.")


class NameConstraintsView(BaseModel):
    """What a CA may sign names in, and what it may not, as ``kind:base``."""

    permitted: list[str] = Field(examples=[["dns:ci.example.org"]])
    excluded: list[str]


class IssuerView(BaseModel):
    """One CA; never its key."""

    id: str = Field(examples=["0123456789abcdef"])
    common_name: str
    subject: str
    serial_number: str = Field(description="Lower-case hex.")
    is_root: bool
    enabled: bool
    default: bool
    parent_id: str | None
    has_key: bool = Field(description="Whether its key is here, so that it can sign.")
    revoked: bool
    revocation_date: Moment | None
    revocation_reason: str | None
    not_valid_before: Moment
    not_valid_after: Moment
    path_length: int | None
    name_constraints: NameConstraintsView | None
    public_key: PublicKeyView
    fingerprint_sha256: str
    created_at: Moment
    crl: CRLView | None
    certificate: str = Field(description="PEM.")
    chain: list[str] = Field(description="PEM of the CAs above it, root last.")


class IssuerList(BaseModel):
    """Every issuer that the caller may see, oldest first."""

    items: list[IssuerView]
    next_cursor: str | None = Field(default=None, description="There is one page.")
