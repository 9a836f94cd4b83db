"""What callers send, as it stands in the OpenAPI document. What they get is in ``schemas``."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal, Self

from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator, model_validator

from app.api.schemas import Instant
from app.auth.grants import Grant, parse_subject
from app.auth.principal import ROLES, Permission
from app.services.lifecycle import Wish
from tiny_ca.ca_factory.keys import EC_CURVES, MLDSA_PARAMETER_SETS
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.names import MAX_NAMES, AlternativeNames
from tiny_ca.ca_factory.profiles import Limits
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.subject import checked_subject
from tiny_ca.exc import Invalid
from tiny_ca.models.fields import CertificateTypeName, Lifetime
from tiny_ca.models.key_spec import KeySpec

__all__ = [
    "MAX_REQUESTS",
    "BatchRequest",
    "CRLQuestion",
    "CosignRequest",
    "IssueFromCSR",
    "IssueFromConfig",
    "KeyWish",
    "Name",
    "Names",
    "PKCS12Request",
    "Question",
    "RenewItselfRequest",
    "RenewRequest",
    "RevokeRequest",
    "RotateRequest",
    "StrictRequest",
    "TokenRequest",
]

Name = Annotated[str, Field(max_length=2048)]
# More than openssl asks for nobody could open the file with.
Password = Annotated[SecretStr, Field(min_length=1, max_length=1023)]
# How many there may be is told by ``AlternativeNames.parse``, for all kinds together.
MAX_REQUESTS = 1000
Names = Annotated[list[Name], Field(json_schema_extra={"maxItems": MAX_NAMES})]


class StrictRequest(BaseModel):
    """Whatever a caller sends: a mistyped "lifetme" must not give a long-lived certificate."""

    model_config = ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)


class _CommonWish(StrictRequest):
    profile: str | None = Field(default=None, min_length=1, max_length=64, examples=["server"])
    issuer_id: str | None = Field(default=None, min_length=1, max_length=64)
    lifetime: Lifetime | None = None
    days_valid: int | None = Field(default=None, ge=1, le=3_650_000)
    valid_from: Instant | None = None
    serial_type: CertificateTypeName | None = None
    san_dns: Names | None = Field(default=None, examples=[["app.example.org"]])
    san_ip: Names | None = Field(default=None, examples=[["10.1.2.3"]])
    san_uri: Names | None = None
    san_email: Names | None = None

    @model_validator(mode="after")
    def _one_lifetime(self) -> Self:
        if self.lifetime is not None and self.days_valid is not None:
            raise ValueError("give lifetime or days_valid, not both")
        return self

    def names(self) -> AlternativeNames | None:
        """The names in these fields, None where there are none of the fields."""
        given = (self.san_dns, self.san_ip, self.san_uri, self.san_email)
        if all(names is None for names in given):
            return None
        return AlternativeNames.parse(
            dns=self.san_dns or (), ip=self.san_ip or (), uris=self.san_uri or (), emails=self.san_email or ()
        )

    def wish(self) -> Wish:
        """All that does not concern the subject or the key."""
        return Wish(
            profile=self.profile,
            issuer_id=self.issuer_id,
            lifetime=self.lifetime_asked,
            valid_from=self.valid_from,
            names=self.names(),
            certificate_type=self.serial_type,
        )

    @property
    def lifetime_asked(self) -> timedelta | None:
        """The lifetime, in whichever of the two fields it was given."""
        return timedelta(days=self.days_valid) if self.days_valid is not None else self.lifetime


class IssueFromCSR(_CommonWish):
    """A CSR, and what it cannot say itself. ``san_*`` fields, where given, replace the CSR's names."""

    csr: str = Field(max_length=65536, examples=["-----BEGIN CERTIFICATE REQUEST-----\n…"])


_RSA_SIZES = (2048, 3072, 4096, 8192)


class KeyWish(StrictRequest):
    """The key to be made: RSA with ``size``, EC with ``curve``, ML-DSA with ``parameter_set``, or Ed25519."""

    algorithm: Literal["rsa", "ec", "ed25519", "mldsa"]
    size: int | None = Field(default=None, json_schema_extra={"enum": list(_RSA_SIZES)})
    curve: Literal["P-256", "P-384", "P-521"] | None = None
    parameter_set: Literal["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"] | None = None

    @field_validator("size")
    @classmethod
    def _size_is_made(cls, value: int | None, info: ValidationInfo) -> int | None:
        if info.data.get("algorithm") == "rsa" and value is not None and value not in _RSA_SIZES:
            raise ValueError(f"RSA keys of {value} bits are not made; sizes are {', '.join(map(str, _RSA_SIZES))}")
        return value

    @model_validator(mode="after")
    def _detail_fits(self) -> Self:
        details = {"rsa": "size", "ec": "curve", "mldsa": "parameter_set"}
        for algorithm, detail in details.items():
            if algorithm != self.algorithm and getattr(self, detail) is not None:
                raise ValueError(f"{detail} belongs to {algorithm} keys; {self._wants()}")
        return self

    def _wants(self) -> str:
        details = {"rsa": "size", "ec": "curve", "mldsa": "parameter_set"}
        detail = details.get(self.algorithm)
        return f"{self.algorithm} keys take {detail}" if detail else f"{self.algorithm} keys take nothing else"

    def spec(self) -> KeySpec:
        """The kind of key, with what is usual where no detail was given."""
        match self.algorithm:
            case "rsa":
                return KeySpec.rsa(self.size or 2048)
            case "ec":
                return KeySpec.ec(self.curve or next(iter(EC_CURVES)))
            case "mldsa":
                return KeySpec.mldsa(self.parameter_set or list(MLDSA_PARAMETER_SETS)[1])
            case "ed25519":
                return KeySpec.ed25519()


_FilePassword = Annotated[
    Password | None,
    Field(description="Encrypts the file that `Accept: application/x-pkcs12` asks for, and is for nothing else."),
]


class IssueFromConfig(_CommonWish):
    """What a certificate shall say; the service makes the key and returns it once."""

    common_name: str | None = Field(default=None, min_length=1, max_length=64, examples=["app.example.org"])
    organization: str | None = Field(default=None, min_length=1, max_length=64)
    organizational_unit: str | None = Field(default=None, min_length=1, max_length=64)
    country: str | None = Field(default=None, min_length=2, max_length=2)
    state: str | None = Field(default=None, min_length=1, max_length=128)
    locality: str | None = Field(default=None, min_length=1, max_length=128)
    email: str | None = Field(default=None, min_length=3, max_length=254)
    is_server_cert: bool | None = None
    is_client_cert: bool | None = None
    key: KeyWish | None = None
    key_size: Literal[2048, 3072, 4096, 8192] | None = Field(default=None, description="Of an RSA key, in bits.")
    pkcs12_password: _FilePassword = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.key is not None and self.key_size is not None:
            raise ValueError("give key or key_size, not both")
        if self.is_server_cert is False and self.is_client_cert is False:
            raise ValueError("is_server_cert and is_client_cert are both false: such a certificate is for nothing")
        return self

    def request(self) -> CertificateRequest:
        """The request that these fields make, its key still to be made."""
        subject = (
            (NameOID.COUNTRY_NAME, self.country),
            (NameOID.STATE_OR_PROVINCE_NAME, self.state),
            (NameOID.LOCALITY_NAME, self.locality),
            (NameOID.ORGANIZATION_NAME, self.organization),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, self.organizational_unit),
            (NameOID.COMMON_NAME, self.common_name),
        )
        names = self.names() or AlternativeNames()
        if self.email is not None:  # RFC 5280 §4.1.2.6: new certificates have it in the SAN, not in the subject
            names = names.merged(AlternativeNames.parse(emails=[self.email], prefix=""))
        return CertificateRequest(
            subject=checked_subject((oid, value) for oid, value in subject if value is not None),
            names=names,
            public_key=None,
            key_spec=self._key_spec(),
            lifetime=self.lifetime_asked,
            valid_from=self.valid_from,
            certificate_type=self.serial_type,
            extended_key_usage=self._usages(),
        )

    @property
    def default_profile(self) -> str:
        """The profile that the two flags ask for where none is named; a server's, unless it says otherwise."""
        server = self.is_server_cert if self.is_server_cert is not None else not self.is_client_cert
        if server:
            return "peer" if self.is_client_cert else "server"
        return "client"

    def _usages(self) -> tuple[ObjectIdentifier, ...] | None:
        server, client = self.is_server_cert, self.is_client_cert
        if server is None and client is None:
            return None
        # One of them said no, and the other said nothing: then it is the other one.
        asked = (
            (server or (server is None and client is False), ExtendedKeyUsageOID.SERVER_AUTH),
            (client or (client is None and server is False), ExtendedKeyUsageOID.CLIENT_AUTH),
        )
        return tuple(usage for wanted, usage in asked if wanted)

    def _key_spec(self) -> KeySpec:
        if self.key is not None:
            return self.key.spec()
        return KeySpec.rsa(self.key_size) if self.key_size is not None else KeySpec.ec("P-256")


class RevokeRequest(StrictRequest):
    """Why; the names are those of RFC 5280 §5.3.1."""

    reason: str = Field(default="unspecified", max_length=64, examples=["keyCompromise"])
    all_with_key: bool = Field(default=False, description="Every valid certificate with the same key too.")


class RenewRequest(StrictRequest):
    """For how long; the profile's default unless said."""

    lifetime: Lifetime | None = None


class RenewItselfRequest(StrictRequest):
    """``POST …/certificates/renew``; without a CSR it is for the same key."""

    csr: str | None = Field(default=None, max_length=65536)


class RotateRequest(StrictRequest):
    """The new key: a CSR's, or one that is made here, of the old one's kind unless said."""

    csr: str | None = Field(default=None, max_length=65536)
    key: KeyWish | None = None
    pkcs12_password: _FilePassword = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.csr is not None and self.key is not None:
            raise ValueError("give csr or key, not both")
        if self.csr is not None and self.pkcs12_password is not None:
            raise ValueError("give csr or pkcs12_password, not both: with a CSR the key is not here")
        return self


class PKCS12Request(StrictRequest):
    """The key of the certificate, in PEM and not encrypted, and what shall encrypt the file."""

    private_key: SecretStr = Field(max_length=32768)
    password: Password
    compatibility: bool = Field(default=False, description="3DES and SHA-1, for old stores.")


class Question(StrictRequest):
    """A certificate of whatever origin."""

    certificate: str = Field(max_length=65536)


class CRLQuestion(StrictRequest):
    """A CRL of whatever origin."""

    crl: str


class CosignRequest(StrictRequest):
    """Another CA's certificate, and what ours shall have besides its subject, names and key."""

    certificate: str = Field(max_length=65536)
    profile: str | None = Field(default=None, min_length=1, max_length=64, examples=["server"])
    issuer_id: str | None = Field(default=None, min_length=1, max_length=64)
    lifetime: Lifetime | None = None
    days_valid: int | None = Field(default=None, ge=1, le=3_650_000)

    @model_validator(mode="after")
    def _one_lifetime(self) -> Self:
        if self.lifetime is not None and self.days_valid is not None:
            raise ValueError("give lifetime or days_valid, not both")
        return self

    def wish(self) -> Wish:
        """What it asks for."""
        lifetime = timedelta(days=self.days_valid) if self.days_valid is not None else self.lifetime
        return Wish(profile=self.profile, issuer_id=self.issuer_id, lifetime=lifetime)


class BatchRequest(StrictRequest):
    """Requests as ``POST /certificates`` takes them in JSON; each is judged alone."""

    # How many there may be is told by the route, with the limit; what is no object is refused alone.
    requests: list[Any] = Field(min_length=1, json_schema_extra={"maxItems": MAX_REQUESTS})


class TokenRequest(StrictRequest):
    """What a token shall grant: ``permissions``, or those of a ``role``; null is no limit, an empty list is nothing."""

    name: str = Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]*$")
    permissions: list[Permission] | None = None
    role: Literal["admin", "operator", "auditor", "issuer"] | None = None
    profiles: list[Annotated[str, Field(max_length=64)]] | None = Field(default=None, max_length=100)
    issuers: list[Annotated[str, Field(max_length=64)]] | None = Field(default=None, max_length=100)
    names: Names | None = Field(default=None, description="DNS patterns.", examples=[["*.ci.example.org"]])
    ip_ranges: Names | None = Field(default=None, examples=[["10.0.0.0/8"]])
    uris: Names | None = None
    emails: Names | None = None
    subject: Names | None = Field(
        default=None,
        description="Attributes of a subject beside common name and e-mail, `*` for any value. Once names are limited, "
        "null is nothing.",
        examples=[["organization=Example", "country=*"]],
    )
    max_lifetime: Lifetime | None = None
    own_only: bool = False
    expires_at: Instant | None = None

    @field_validator("permissions", mode="before")
    @classmethod
    def _known_permissions(cls, value: object) -> object:
        known = {permission.value: permission for permission in Permission}
        if not isinstance(value, list):
            return value
        unknown = [one for one in value if not isinstance(one, str) or one not in known]
        if unknown:
            raise ValueError(f"{str(unknown[0])[:80]!r} is no permission; there are {', '.join(known)}")
        return [known[one] for one in value]

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if (self.permissions is None) == (self.role is None):
            raise ValueError("give permissions or role")
        return self

    def grant(self) -> Grant:
        """What it shall grant.

        Raises
        ------
        Invalid
            A pattern is none.
        """
        return Grant(
            permissions=ROLES[self.role] if self.role is not None else frozenset(self.permissions or ()),
            limits=Limits(
                profiles=None if self.profiles is None else tuple(self.profiles),
                issuers=None if self.issuers is None else tuple(self.issuers),
                names=self._patterns(),
                subject=parse_subject(self.subject),
                max_lifetime=self.max_lifetime,
            ),
            own_only=self.own_only,
        )

    def _patterns(self) -> NamePatterns:
        try:
            return NamePatterns.parse(dns=self.names, ip_ranges=self.ip_ranges, uris=self.uris, emails=self.emails)
        except Invalid as error:
            field = "names" if error.field == "dns" else error.field
            raise Invalid(error.message, field=field, value=error.value) from error
