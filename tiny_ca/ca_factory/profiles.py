"""What a kind of certificate may hold (Profile) and what a caller may ask for (Limits): constraints, not defaults.

``plan`` enforces both; ``profile_file`` reads profiles that an operator wrote.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final, Literal

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from tiny_ca.ca_factory.keys import EC_CURVES, MLDSA_PARAMETER_SETS, RSA_MAX_SIZE, RSA_MIN_SIZE, KeySpec
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.subject import SUBJECT_ATTRIBUTES
from tiny_ca.ca_factory.subject_patterns import SubjectPattern
from tiny_ca.const import CertType

__all__ = [
    "ANY_KEY",
    "BUILT_IN_PROFILES",
    "MIN_LIFETIME",
    "NO_LIMITS",
    "ROOT_PROFILE",
    "KeyConstraint",
    "Limits",
    "Profile",
]

MIN_LIFETIME: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class KeyConstraint:
    """The keys of one algorithm that are allowed: a range of sizes in bits, or names of curves or parameter sets."""

    algorithm: str
    min_size: int = 0
    max_size: int = 0
    variants: tuple[str, ...] = ()

    def allows(self, spec: KeySpec) -> bool:
        """Whether a key of this kind is allowed."""
        if spec.algorithm != self.algorithm:
            return False
        if spec.size is not None:
            return self.min_size <= spec.size <= self.max_size
        return not self.variants or (spec.curve or spec.parameter_set) in self.variants

    def __str__(self) -> str:
        if self.algorithm == "rsa":
            return f"RSA {self.min_size}-{self.max_size}"
        return "Ed25519" if self.algorithm == "ed25519" else "/".join(self.variants)


ANY_KEY: Final = (
    KeyConstraint("rsa", min_size=RSA_MIN_SIZE, max_size=RSA_MAX_SIZE),
    KeyConstraint("ec", variants=tuple(EC_CURVES)),
    KeyConstraint("ed25519"),
    KeyConstraint("mldsa", variants=tuple(MLDSA_PARAMETER_SETS)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of certificate, entirely: whatever is not named here is in no certificate of this kind.

    ``key_usage`` holds the attribute names of ``x509.KeyUsage``; ``key_encipherment`` goes to RSA keys only,
    ``key_agreement`` to EC keys only (``extensions.key_usages``). ``host_common_name``: a common name must be a DNS
    name or an address.
    The window is never longer than ``max_lifetime``, the backdate included. ``nested``: it begins no earlier than the
    issuer's.
    """

    name: str
    default_lifetime: timedelta
    max_lifetime: timedelta
    min_lifetime: timedelta = MIN_LIFETIME
    backdate: timedelta = timedelta(minutes=1)
    certificate_type: CertType = CertType.SERVICE
    keys: tuple[KeyConstraint, ...] = ANY_KEY
    key_usage: tuple[str, ...] = ("digital_signature", "key_encipherment")
    extended_key_usage: tuple[ObjectIdentifier, ...] = ()
    subject: tuple[str, ...] = tuple(attribute for attribute in SUBJECT_ATTRIBUTES if attribute != "email")
    names: NamePatterns = field(default_factory=NamePatterns)
    wildcards: bool = False
    require_san: bool = False
    host_common_name: bool = False
    unique_common_name: bool = False
    unknown_extensions: Literal["drop", "refuse"] = "drop"
    crl_distribution_points: bool = True
    authority_information_access: bool = True
    no_rev_avail: bool = False
    ca: bool = False
    path_length: int | None = None
    nested: bool = True

    @property
    def serves_tls(self) -> bool:
        """Whether a common name that is a host joins the SAN: TLS clients read names nowhere else (RFC 9525 §2)."""
        return self.host_common_name or ExtendedKeyUsageOID.SERVER_AUTH in self.extended_key_usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one caller may ask for; None is no limit, an empty tuple is nothing.

    Once ``names.dns`` is set, every name of a certificate must be covered: a kind whose patterns are None is then
    allowed no names at all. Once names of any kind are limited, so are the other attributes of a subject: relying
    parties read rights out of them too, as Kubernetes reads groups out of an organization.
    """

    profiles: tuple[str, ...] | None = None
    issuers: tuple[str, ...] | None = None
    names: NamePatterns = field(default_factory=NamePatterns)
    subject: tuple[SubjectPattern, ...] | None = None
    max_lifetime: timedelta | None = None

    @property
    def effective_names(self) -> NamePatterns:
        """The patterns with "DNS names are limited, so are the other kinds" made explicit."""
        if self.names.dns is None:
            return self.names
        return NamePatterns(
            dns=self.names.dns,
            ip_ranges=self.names.ip_ranges or (),
            uris=self.names.uris or (),
            emails=self.names.emails or (),
        )

    @property
    def effective_subject(self) -> tuple[SubjectPattern, ...] | None:
        """The patterns with "names are limited, so are the other attributes" made explicit."""
        return () if self.subject is None and self.names != NamePatterns() else self.subject


NO_LIMITS: Final = Limits()

_SERVER = Profile(
    name="server",
    default_lifetime=timedelta(days=90),
    max_lifetime=timedelta(days=398),
    extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH,),
    wildcards=True,
    require_san=True,
    host_common_name=True,
)
_CLIENT = Profile(
    name="client",
    default_lifetime=timedelta(days=90),
    max_lifetime=timedelta(days=398),
    certificate_type=CertType.USER,
    key_usage=("digital_signature",),
    extended_key_usage=(ExtendedKeyUsageOID.CLIENT_AUTH,),
    subject=tuple(SUBJECT_ATTRIBUTES),
)
_PEER = Profile(
    name="peer",
    default_lifetime=timedelta(days=90),
    max_lifetime=timedelta(days=398),
    extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
    require_san=True,
    host_common_name=True,
)
_CI = Profile(
    name="ci",
    default_lifetime=timedelta(minutes=15),
    max_lifetime=timedelta(hours=24),
    certificate_type=CertType.INTERNAL,
    key_usage=("digital_signature",),
    extended_key_usage=(ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    # RFC 9608 §4: with noRevAvail, a certificate has no CRL distribution points.
    crl_distribution_points=False,
    no_rev_avail=True,
)
_INTERMEDIATE = Profile(
    name="intermediate",
    default_lifetime=timedelta(days=1825),
    max_lifetime=timedelta(days=3650),
    certificate_type=CertType.CA,
    key_usage=("digital_signature", "key_cert_sign", "crl_sign"),
    ca=True,
    path_length=0,
)

# Roots are made on a first run or by an operator, never asked for: not among the profiles that a request may name.
ROOT_PROFILE: Final = replace(
    _INTERMEDIATE,
    name="root",
    default_lifetime=timedelta(days=3650),
    max_lifetime=timedelta(days=9131),
    path_length=None,
)

BUILT_IN_PROFILES: Final = {profile.name: profile for profile in (_SERVER, _CLIENT, _PEER, _CI, _INTERMEDIATE)}
