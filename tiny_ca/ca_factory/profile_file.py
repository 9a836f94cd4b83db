"""Profiles as an operator writes them: TOML that changes the built-in ones or adds others.

[profiles.server]                    # a built-in one: what is not named stays as it is
max_lifetime = "90d"
dns = ["*.example.org"]

[profiles.web]                       # a new one: says what it starts from
extends = "server"
keys = ["ec:P-256", "rsa:3072-4096"]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any, Final, Literal

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tiny_ca.ca_factory.keys import EC_CURVES, MLDSA_PARAMETER_SETS, RSA_MAX_SIZE, RSA_MIN_SIZE
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, MIN_LIFETIME, KeyConstraint, Profile
from tiny_ca.ca_factory.subject import SUBJECT_ATTRIBUTES
from tiny_ca.const import CertType
from tiny_ca.exc import Invalid
from tiny_ca.models.fields import CertificateTypeName, Lifetime, or_value_error
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.utils.duration import format_duration

__all__ = ["parse_key_constraint", "parse_key_spec", "parse_profiles"]

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_EKUS: Final = {
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "code_signing": ExtendedKeyUsageOID.CODE_SIGNING,
    "email_protection": ExtendedKeyUsageOID.EMAIL_PROTECTION,
    "time_stamping": ExtendedKeyUsageOID.TIME_STAMPING,
    "ocsp_signing": ExtendedKeyUsageOID.OCSP_SIGNING,
}
_KeyUsage = Literal[
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign",
]  # fmt: skip


def _backdate(value: object) -> object:
    return timedelta(0) if value == "0s" else value  # the one duration that may be none


def _key(value: object) -> KeyConstraint:
    return or_value_error(parse_key_constraint, str(value))


def _eku(value: object) -> ObjectIdentifier:
    text = str(value)
    if text in _EKUS:
        return _EKUS[text]
    try:
        oid = ObjectIdentifier(text)
    except ValueError:
        raise ValueError(f"{text!r} is none of {', '.join(_EKUS)}, nor a dotted OID") from None
    if oid == ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE:
        raise ValueError("anyExtendedKeyUsage would allow everything")
    return oid


Backdate = Annotated[Lifetime, BeforeValidator(_backdate)]
Usage = Annotated[ObjectIdentifier, BeforeValidator(_eku)]
Key = Annotated[KeyConstraint, BeforeValidator(_key)]


class _ProfileTable(BaseModel):
    """One ``[profiles.NAME]`` table; every field is optional."""

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, strict=True)

    extends: str | None = None
    default_lifetime: Lifetime | None = None
    max_lifetime: Lifetime | None = None
    min_lifetime: Lifetime | None = None
    backdate: Backdate | None = None
    certificate_type: CertificateTypeName | None = None
    keys: list[Key] | None = Field(default=None, min_length=1)
    key_usage: list[_KeyUsage] | None = Field(default=None, min_length=1)
    extended_key_usage: list[Usage] | None = None
    subject: list[str] | None = None
    dns: list[str] | None = None
    ip_ranges: list[str] | None = None
    uris: list[str] | None = None
    emails: list[str] | None = None
    wildcards: bool | None = None
    require_san: bool | None = None
    host_common_name: bool | None = None
    unique_common_name: bool | None = None
    unknown_extensions: Literal["drop", "refuse"] | None = None
    crl_distribution_points: bool | None = None
    authority_information_access: bool | None = None
    no_rev_avail: bool | None = None
    path_length: int | None = Field(default=None, ge=0, le=10)


class _ProfilesFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    profiles: dict[str, _ProfileTable] = {}


def parse_profiles(text: str) -> dict[str, Profile]:
    """Read a profiles file: the built-in profiles, changed and added to.

    Raises
    ------
    Invalid
        The text is no TOML, or a value makes no sense; the message names the line or the entry and what would be right.
    """
    try:
        tables = _ProfilesFile.model_validate(tomllib.loads(text)).profiles
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"not TOML: {error}", field="profiles") from error
    except ValidationError as error:
        problems = "; ".join(_readable(problem) for problem in error.errors(include_url=False))
        raise Invalid(problems, field="profiles") from None
    profiles = dict(BUILT_IN_PROFILES)
    for name, table in tables.items():
        profiles[name] = _profile(name, table, profiles)
    return profiles


def parse_key_constraint(text: str) -> KeyConstraint:
    """Read which keys are allowed: ``rsa``, ``rsa:3072-8192``, ``ec``, ``ec:P-256``, ``ed25519``, ``mldsa:ML-DSA-65``.

    Raises
    ------
    Invalid
        Another algorithm, size, curve or parameter set.
    """
    algorithm, _, detail = text.partition(":")
    match algorithm:
        case "rsa":
            found = re.fullmatch(r"([0-9]{4})(?:-([0-9]{4}))?", detail or f"{RSA_MIN_SIZE}-{RSA_MAX_SIZE}")
            low, high = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
            if not RSA_MIN_SIZE <= low <= high <= RSA_MAX_SIZE:
                raise _no_key(text, f"RSA keys are rsa:{RSA_MIN_SIZE}-{RSA_MAX_SIZE}, or a part of that")
            return KeyConstraint("rsa", min_size=low, max_size=high)
        case "ec" | "mldsa":
            known = tuple(EC_CURVES if algorithm == "ec" else MLDSA_PARAMETER_SETS)
            if detail and detail not in known:
                raise _no_key(text, f"{algorithm} has {', '.join(known)}")
            return KeyConstraint(algorithm, variants=(detail,) if detail else known)
        case "ed25519" if not detail:
            return KeyConstraint("ed25519")
        case _:
            raise _no_key(text, "keys are rsa, ec, ed25519 and mldsa, as in ec:P-256")


def parse_key_spec(text: str) -> KeySpec:
    """Read one kind of key to make: ``rsa:4096``, ``ec:P-256``, ``ed25519``, ``mldsa:ML-DSA-65``.

    Raises
    ------
    Invalid
        Not one kind, or one that is not made here.
    """
    constraint = parse_key_constraint(text)
    if constraint.algorithm == "rsa" and constraint.min_size == constraint.max_size:
        return KeySpec.rsa(constraint.min_size)
    if constraint.algorithm == "ed25519":
        return KeySpec.ed25519()
    if len(constraint.variants) == 1:
        variant = constraint.variants[0]
        return KeySpec.ec(variant) if constraint.algorithm == "ec" else KeySpec.mldsa(variant)
    raise _no_key(text, "say exactly which, as in rsa:4096 or ec:P-256")


def _profile(name: str, table: _ProfileTable, known: Mapping[str, Profile]) -> Profile:
    if not _NAME.fullmatch(name):
        raise _wrong(name, "a profile's name is 1 to 64 lower-case letters, digits, '-' and '_'")
    parent = table.extends or name
    if parent not in known:
        cure = f"say extends = one of {', '.join(known)}"
        raise _wrong(name, f"extends {parent!r}, which is not known: {cure}" if table.extends else f"is new: {cure}")
    base = known[parent]
    changes: dict[str, Any] = table.model_dump(
        exclude_none=True, exclude={"extends", "dns", "ip_ranges", "uris", "emails", "keys"}
    )
    changes = {key: tuple(value) if isinstance(value, list) else value for key, value in changes.items()}
    if table.keys is not None:
        changes["keys"] = tuple(table.keys)
    try:
        changes["names"] = _names(table, base.names)
    except Invalid as error:
        raise _wrong(f"{name}.{error.field}", error.message) from error
    profile = replace(base, name=name, **changes)
    _check(profile)
    return profile


def _names(table: _ProfileTable, base: NamePatterns) -> NamePatterns:
    given = NamePatterns.parse(dns=table.dns, ip_ranges=table.ip_ranges, uris=table.uris, emails=table.emails)
    return NamePatterns(
        dns=base.dns if given.dns is None else given.dns,
        ip_ranges=base.ip_ranges if given.ip_ranges is None else given.ip_ranges,
        uris=base.uris if given.uris is None else given.uris,
        emails=base.emails if given.emails is None else given.emails,
    )


def _check(profile: Profile) -> None:
    """Refuse a profile that could issue nothing, or nothing fit."""
    for entry, fault in _faults(profile):
        raise _wrong(f"{profile.name}.{entry}" if entry else profile.name, fault)


def _faults(profile: Profile) -> Iterator[tuple[str, str]]:
    """``(entry, what is wrong)``; the entry is empty where several do not fit together."""
    if not MIN_LIFETIME <= profile.min_lifetime <= profile.default_lifetime <= profile.max_lifetime:
        shown = [format_duration(d) for d in (profile.min_lifetime, profile.default_lifetime, profile.max_lifetime)]
        yield "", f"lifetimes must rise from 1m: min {shown[0]}, default {shown[1]}, max {shown[2]}"
    if profile.backdate > profile.max_lifetime:
        yield "backdate", f"at most max_lifetime, {format_duration(profile.max_lifetime)}"
    if unknown := set(profile.subject) - set(SUBJECT_ATTRIBUTES):
        yield "subject", f"{', '.join(sorted(unknown))}: known are {', '.join(SUBJECT_ATTRIBUTES)}"
    if profile.path_length is not None and not profile.ca:
        yield "path_length", "only a CA profile has one"
    if (profile.certificate_type is CertType.CA) is not profile.ca:
        yield "certificate_type", "ca belongs to CA profiles, and to every one"
    yield from _revocation_faults(profile)
    yield from _usage_faults(profile)


def _revocation_faults(profile: Profile) -> Iterator[tuple[str, str]]:
    if profile.no_rev_avail and profile.ca:
        yield "no_rev_avail", "a CA certificate must be revocable (RFC 9608 §3)"
    if profile.no_rev_avail and profile.crl_distribution_points:
        yield "no_rev_avail", "set crl_distribution_points = false with it (RFC 9608 §4)"


def _usage_faults(profile: Profile) -> Iterator[tuple[str, str]]:
    if ("key_cert_sign" in profile.key_usage) is not profile.ca:
        yield "key_usage", "key_cert_sign belongs to CA profiles, and to every one (RFC 5280 §4.2.1.3)"
    if ("crl_sign" in profile.key_usage) is not profile.ca:
        yield "key_usage", "crl_sign belongs to CA profiles, and to every one: a CA signs its CRLs"
    if ExtendedKeyUsageOID.TIME_STAMPING in profile.extended_key_usage and len(set(profile.extended_key_usage)) > 1:
        yield "extended_key_usage", "time_stamping stands alone (RFC 3161 §2.3)"


def _no_key(text: str, cure: str) -> Invalid:
    return Invalid(f"{text[:40]!r} names no keys: {cure}", field="keys", value=text[:40])


def _wrong(entry: str, message: str) -> Invalid:
    return Invalid(f"profiles.{entry}: {message}", field=f"profiles.{entry}")


def _readable(problem: Any) -> str:  # noqa: ANN401  # pydantic's ErrorDetails
    place = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        known = _ProfileTable if len(problem["loc"]) > 1 else _ProfilesFile
        return f"{place}: not known here; known are {', '.join(known.model_fields)}"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}"
