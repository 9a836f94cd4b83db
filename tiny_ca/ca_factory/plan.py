"""May this be signed, and what exactly? ``plan`` asks every rule and returns all that the certificate will hold.

    CertificateRequest + Profile + Limits + Issuer + now  ->  Plan, or the first rule that refuses

Nothing here touches a private key. A Plan is complete: ``factory`` only encodes, lints and signs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tiny_ca.ca_factory.extensions import extensions_of, key_usages, path_length_bound
from tiny_ca.ca_factory.issuer import Issuer, check_no_ca_name
from tiny_ca.ca_factory.keys import KeySpec, PublicKey, public_key_der
from tiny_ca.ca_factory.name_constraints import NameConstraints, outside, violations
from tiny_ca.ca_factory.names import MAX_NAMES, AlternativeNames, IPAddress, dns_name, email_address, host_name
from tiny_ca.ca_factory.profiles import MIN_LIFETIME, Limits, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.subject import SUBJECT_ATTRIBUTES
from tiny_ca.ca_factory.subject_patterns import NAME_ATTRIBUTES
from tiny_ca.const import CertType
from tiny_ca.exc import Forbidden, Invalid, InvalidRangeTimeCertificate, TooLarge
from tiny_ca.utils.duration import format_duration
from tiny_ca.utils.remembered import lazy
from tiny_ca.utils.rfc3339 import rfc3339
from tiny_ca.utils.serial_generator import SerialWithEncoding

__all__ = ["Plan", "Verdict", "check", "plan", "planned_window", "verdicts"]

# RFC 5280 §4.1.2.5: UTCTime begins here, and GeneralizedTime is for the years after it.
_MAX_PATH_LENGTH: Final = 255
_FIRST: Final = datetime(1950, 1, 1, tzinfo=UTC)


_BLANK = re.compile(r"\s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every field of a certificate that may be signed (RFC 5280 §4.1.2); ``issuer`` None makes it self-signed.

    ``public_key_info``: DER of the key's SubjectPublicKeyInfo.
    """

    profile: Profile
    serial_number: int
    subject: x509.Name
    names: AlternativeNames
    public_key: PublicKey
    public_key_info: bytes
    key_spec: KeySpec
    not_valid_before: datetime
    not_valid_after: datetime
    extensions: tuple[x509.Extension[x509.ExtensionType], ...]
    certificate_type: CertType
    issuer: Issuer | None
    name_constraints: NameConstraints | None = None

    @property
    def common_name(self) -> str | None:
        """The first common name of the subject."""
        found = self.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(found[0].value) if found else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one rule says; ``detail`` is why it refuses."""

    rule: str
    passed: bool
    detail: str | None = None


def plan(
    request: CertificateRequest,
    *,
    profile: Profile,
    limits: Limits,
    issuer: Issuer | None,
    now: datetime,
    serial_number: int | None = None,
) -> Plan:
    """Hold the request against the profile, the caller's limits and the issuer.

    Raises
    ------
    Forbidden
        A rule refuses; ``rule`` names it.
    Invalid
        The request can be signed by nobody: no name at all, a validity that is none.
    """
    case, (not_valid_before, not_valid_after) = _judge(request, profile, limits, issuer, now)
    if request.public_key is None:
        raise Invalid("there is no key to certify yet", field="key")
    kind = profile.certificate_type if profile.ca or request.certificate_type is None else request.certificate_type
    name = next(iter(case.common_names), "")
    info = public_key_der(request.public_key)
    return Plan(
        profile=profile,
        serial_number=SerialWithEncoding.generate(name, kind) if serial_number is None else serial_number,
        subject=case.subject_name,
        names=case.names,
        public_key=request.public_key,
        public_key_info=info,
        key_spec=request.key_spec,
        not_valid_before=not_valid_before,
        not_valid_after=not_valid_after,
        extensions=extensions_of(
            request, info, profile=profile, issuer=issuer, names=case.names, anonymous=not case.subject
        ),
        certificate_type=kind,
        issuer=issuer,
        name_constraints=request.name_constraints,
    )


def check(
    request: CertificateRequest, *, profile: Profile, limits: Limits, issuer: Issuer | None, now: datetime
) -> None:
    """Ask every rule, as ``plan`` does, before a key is made for the request.

    Raises
    ------
    Forbidden, Invalid
        As ``plan``.
    """
    _judge(request, profile, limits, issuer, now)


def planned_window(
    request: CertificateRequest, *, profile: Profile, limits: Limits, issuer: Issuer | None, now: datetime
) -> tuple[datetime, datetime]:
    """When a certificate for this request would begin and end; raises as ``plan``."""
    return _judge(request, profile, limits, issuer, now)[1]


def verdicts(
    request: CertificateRequest, *, profile: Profile, limits: Limits, issuer: Issuer | None, now: datetime
) -> tuple[Verdict, ...]:
    """Ask every rule, also after one has refused; the last is the validity, which is no rule by itself."""
    case = _Case(request=request, profile=profile, limits=limits, issuer=issuer, now=now)
    return tuple(_verdict(name, rule, case) for name, rule in (*_RULES, ("validity", _window)))


def _verdict(name: str, rule: Callable[[_Case], object], case: _Case) -> Verdict:
    try:
        rule(case)
    except Forbidden as error:
        return Verdict(rule=error.rule, passed=False, detail=error.message)
    except Invalid as error:
        return Verdict(rule=name, passed=False, detail=error.message)
    return Verdict(rule=name, passed=True)


def _judge(
    request: CertificateRequest, profile: Profile, limits: Limits, issuer: Issuer | None, now: datetime
) -> tuple[_Case, tuple[datetime, datetime]]:
    case = _Case(request=request, profile=profile, limits=limits, issuer=issuer, now=now)
    for _, check_rule in _RULES:
        check_rule(case)
    return case, _window(case)


@dataclass(frozen=True, kw_only=True)
class _Case:
    """One request before its judges, with what follows from it computed once."""

    request: CertificateRequest
    profile: Profile
    limits: Limits
    issuer: Issuer | None
    now: datetime

    @lazy
    def subject(self) -> tuple[tuple[ObjectIdentifier, str], ...]:
        """The attributes that the profile keeps."""
        kept = {SUBJECT_ATTRIBUTES[name] for name in self.profile.subject}
        return tuple((attribute, value) for attribute, value in self.request.subject if attribute in kept)

    @lazy
    def subject_name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(attribute, value) for attribute, value in self.subject])

    @lazy
    def common_names(self) -> tuple[str, ...]:
        return tuple(value for attribute, value in self.subject if attribute == NameOID.COMMON_NAME)

    @lazy
    def hosts(self) -> tuple[str | IPAddress, ...]:
        """The common names that are DNS names or addresses."""
        return tuple(host for name in self.common_names if (host := host_name(name)) is not None)

    @lazy
    def mailboxes(self) -> tuple[str, ...]:
        """The e-mail addresses of the subject."""
        asked = (value for attribute, value in self.subject if attribute == NameOID.EMAIL_ADDRESS)
        return tuple(email_address(mailbox, field="email") for mailbox in asked)

    @lazy
    def names(self) -> AlternativeNames:
        """The SAN of the certificate: what was asked, the common name where the profile serves TLS, and mailboxes."""
        # RFC 5280 §4.1.2.6: a mailbox in the subject must stand in the SAN too.
        names = self.request.names
        if self.mailboxes:
            names = names.merged(AlternativeNames(email=self.mailboxes))
        if self.profile.serves_tls:
            for host in self.hosts:
                names = names.with_host(host)
        return names

    @lazy
    def claimed_names(self) -> AlternativeNames:
        """Every name that a relying party may read out of the certificate, the subject's own included."""
        names = self.names
        for host in self.hosts:
            names = names.with_host(host)
        return names

    @lazy
    def constrained_names(self) -> AlternativeNames:
        """What name constraints hold for: the SAN, and of a leaf the common names that verifiers take for DNS names."""
        if self.profile.ca:
            return self.names
        names = self.names
        for host in self.hosts:
            names = names.with_host(host)
            # OpenSSL reads a common name with a dot as a DNS name where the SAN has none, be it an address.
            if not self.names.dns and "." in str(host):
                names = names.with_host(str(host))
        return replace(names, dns=tuple(name for name in names.dns if "." in name or name in self.names.dns))

    @lazy
    def lifetime(self) -> timedelta:
        return self.profile.default_lifetime if self.request.lifetime is None else self.request.lifetime

    @lazy
    def max_lifetime(self) -> timedelta:
        limit = self.limits.max_lifetime
        return self.profile.max_lifetime if limit is None else min(self.profile.max_lifetime, limit)


def _check_profile_and_issuer(case: _Case) -> None:
    limits, name = case.limits, case.profile.name
    if limits.profiles is not None and name not in limits.profiles:
        raise Forbidden(f"this caller may not use profile {name!r}", rule="profile", value=name)
    if case.issuer and limits.issuers is not None and case.issuer.id not in limits.issuers:
        raise Forbidden(f"this caller may not use issuer {case.issuer.id}", rule="issuer", value=case.issuer.id)


def _check_ca(case: _Case) -> None:
    wants_ca = case.request.requests_ca or case.request.certificate_type is CertType.CA
    if wants_ca and not case.profile.ca:
        message = f"the request asks for a CA certificate, which profile {case.profile.name!r} never gives"
        raise Forbidden(message, rule="certificate_authority", value="CA:TRUE")
    # RFC 5280 §4.2.1.9: pathLenConstraint counts the CAs below.
    if not case.profile.ca:
        return
    if case.issuer and case.issuer.path_length == 0:
        message = "the issuer's path length is 0: no CA may stand below it"
        raise Forbidden(message, rule="path_length", value=0)
    asked, bound = case.request.path_length, path_length_bound(case.profile, case.issuer)
    if asked is not None and not 0 <= asked <= _MAX_PATH_LENGTH:
        message = f"a path length is 0 to {_MAX_PATH_LENGTH}, not {asked}"
        raise Invalid(message, field="path_length", value=asked)
    if asked is not None and bound is not None and asked > bound:
        message = f"a path length of {asked} is more than profile and issuer leave ({bound})"
        raise Forbidden(message, rule="path_length", value=asked)


def _check_key(case: _Case) -> None:
    spec = case.request.key_spec
    if not any(constraint.allows(spec) for constraint in case.profile.keys):
        allowed = ", ".join(map(str, case.profile.keys))
        message = f"profile {case.profile.name!r} takes keys of {allowed}, not {spec}"
        raise Forbidden(message, rule="key", value=str(spec))
    # RFC 5280 §4.2.1.3: at least one usage must be given.
    if not key_usages(case.profile, spec):
        usages = ", ".join(case.profile.key_usage)
        message = f"profile {case.profile.name!r} gives the key usage {usages}, for which {spec} is no key"
        raise Forbidden(message, rule="key", value=str(spec))


def _check_extensions(case: _Case) -> None:
    unknown = case.request.unknown_extensions
    if unknown and case.profile.unknown_extensions == "refuse":
        oids = ", ".join(oid.dotted_string for oid in unknown)
        message = f"the request brings extensions that profile {case.profile.name!r} does not know: {oids}"
        raise Forbidden(message, rule="extensions", value=oids)


def _check_extended_key_usage(case: _Case) -> None:
    for usage in case.request.extended_key_usage or ():
        if usage not in case.profile.extended_key_usage or usage == ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE:
            name = _eku_name(usage)
            allowed = ", ".join(map(_eku_name, case.profile.extended_key_usage)) or "none"
            message = f"profile {case.profile.name!r} gives the extended key usage {allowed}, not {name}"
            raise Forbidden(message, rule="extended_key_usage", value=name)


def _check_subject(case: _Case) -> None:
    if case.issuer:
        check_no_ca_name(case.subject, case.issuer)


def _check_common_name(case: _Case) -> None:
    for name in case.common_names:
        if host_name(name) is not None:
            continue
        # What looks like a host and is none passes by every pattern, and some TLS client takes it for one all the same.
        looks_like_a_host = not _BLANK.search(name) and ("." in name or "*" in name)
        if case.profile.host_common_name or (case.profile.serves_tls and looks_like_a_host):
            why = _why_no_host(name)
            message = f"under profile {case.profile.name!r} a common name is a DNS name or an address: {why}"
            raise Forbidden(message, rule="common_name", value=name)
        if "*" in name:
            dns_name(name, field="common_name")


def _why_no_host(name: str) -> str:
    try:
        dns_name(name, field="common_name")
    except Invalid as error:
        return error.message
    return f"{name!r} is neither"


def _check_has_names(case: _Case) -> None:
    if not case.subject and not case.names:
        message = "a certificate needs a subject or a subject alternative name, and this request has neither"
        raise Invalid(message, field="subject", value="")
    if case.profile.ca and not case.subject:  # RFC 5280 §4.1.2.6: a CA has a name, for it becomes the issuer's
        raise Invalid("a CA certificate needs a subject, and this request has none", field="subject", value="")
    if case.profile.require_san and not case.names:
        message = f"profile {case.profile.name!r} needs at least one subject alternative name"
        raise Forbidden(message, rule="require_san", value="")
    if len(case.names) > MAX_NAMES:
        message = f"{len(case.names)} names, the common name included, are more than {MAX_NAMES}"
        raise TooLarge(message, limit=MAX_NAMES, field="san_dns", value=len(case.names))


def _check_wildcards(case: _Case) -> None:
    if case.profile.wildcards:
        return
    for name in case.claimed_names.dns:
        if name.startswith("*"):
            message = f"profile {case.profile.name!r} gives no wildcards, so not {name!r}"
            raise Forbidden(message, rule="wildcards", value=name)


def _check_names(case: _Case) -> None:
    for kind, name in case.profile.names.uncovered(case.claimed_names):
        message = f"the {kind} name {name!r} is outside what profile {case.profile.name!r} allows"
        raise Forbidden(message, rule="names", value=name)
    for kind, name in case.limits.effective_names.uncovered(case.claimed_names):
        raise Forbidden(
            f"the {kind} name {name!r} is outside what this caller may have", rule="limits.names", value=name
        )
    _check_subject_limits(case)
    if case.profile.ca and case.limits.effective_subject is not None:
        message = "this caller is limited in names, and what a CA signs would not be: ask as somebody who is not"
        raise Forbidden(message, rule="limits.names", value="CA:TRUE")
    if case.limits.names.dns is None:
        return
    for name in case.common_names:  # one that is a host was among the names above
        if host_name(name) is None and name not in case.limits.names.dns:
            message = f"the common name {name!r} is outside what this caller may have"
            raise Forbidden(message, rule="limits.names", value=name)


def _check_subject_limits(case: _Case) -> None:
    allowed = case.limits.effective_subject
    if allowed is None:
        return
    for attribute, value in case.subject:
        if attribute not in NAME_ATTRIBUTES and not any(one.allows(attribute, value) for one in allowed):
            kind = next(name for name, oid in SUBJECT_ATTRIBUTES.items() if oid == attribute)
            message = f"the {kind} {value!r} is outside what this caller may have in a subject; leave it out"
            raise Forbidden(message, rule="limits.subject", value=value)


def _check_name_constraints(case: _Case) -> None:
    # RFC 5280 §4.2.1.10: in CA certificates alone; every CA above counts, §6.1.4 (g).
    wanted = case.request.name_constraints
    if wanted is not None and not case.profile.ca:
        message = f"name constraints are a CA's, and profile {case.profile.name!r} makes none"
        raise Forbidden(message, rule="name_constraints", value=None)
    if case.issuer is None:
        return
    above = case.issuer.constrained
    if not above:
        return
    for kind, name, why in violations(case.constrained_names.general_names(), case.subject_name, above):
        message = f"the {kind} name {name!r} would never be believed: {why}"
        raise Forbidden(message, rule="name_constraints", value=name)
    for kind, subtree, why in outside(wanted, above) if wanted is not None else ():
        message = f"the {kind} names of {subtree!r} cannot be permitted: {why}"
        raise Forbidden(message, rule="name_constraints", value=subtree)


def _check_lifetime(case: _Case) -> None:
    lifetime, name = case.lifetime, case.profile.name
    if lifetime < case.profile.min_lifetime:
        shortest = format_duration(case.profile.min_lifetime)
        message = f"a lifetime of {format_duration(lifetime)} is less than profile {name!r} allows ({shortest})"
        if lifetime < MIN_LIFETIME:  # of no profile
            raise Invalid(message, field="lifetime", value=format_duration(lifetime))
        raise Forbidden(message, rule="min_lifetime", value=format_duration(lifetime))
    if lifetime > case.profile.max_lifetime:
        longest = format_duration(case.profile.max_lifetime)
        message = f"a lifetime of {format_duration(lifetime)} is more than profile {name!r} allows ({longest})"
        raise Forbidden(message, rule="max_lifetime", value=format_duration(lifetime))
    if lifetime > case.max_lifetime:
        longest = format_duration(case.max_lifetime)
        message = f"a lifetime of {format_duration(lifetime)} is more than this caller may have ({longest})"
        raise Forbidden(message, rule="limits.max_lifetime", value=format_duration(lifetime))


def _window(case: _Case) -> tuple[datetime, datetime]:
    """The validity: early for clocks that lag, never longer than allowed, never outside the issuer's."""
    now = case.now.astimezone(UTC).replace(microsecond=0)  # RFC 5280 §4.1.2.5 counts whole seconds
    asked = case.request.valid_from
    if asked is None:
        # Never negative: `verdicts` asks also when the lifetime is longer than allowed.
        backdate = max(min(case.profile.backdate, case.max_lifetime - case.lifetime), timedelta(0))
        start, end = _earlier(now, backdate), _later(now, case.lifetime)
    else:
        start = _utc(asked)
        if now - start > case.profile.backdate:
            message = f"valid_from {start:%Y-%m-%dT%H:%M:%SZ} is in the past; the earliest is now"
            raise Invalid(message, field="valid_from", value=rfc3339(start))
        end = _later(start, case.lifetime)
        if end - now > case.max_lifetime:
            message = (
                f"starting {start:%Y-%m-%dT%H:%M:%SZ}, the certificate would last beyond now + "
                f"{format_duration(case.max_lifetime)}, the most that is allowed"
            )
            rule = "max_lifetime" if end - now > case.profile.max_lifetime else "limits.max_lifetime"
            raise Forbidden(message, rule=rule, value=rfc3339(start))
        if end <= now:
            message = f"starting {start:%Y-%m-%dT%H:%M:%SZ}, the certificate would have ended already"
            raise InvalidRangeTimeCertificate(message, field="valid_from", value=rfc3339(start))
    if case.issuer and end > case.issuer.not_valid_after:
        message = (
            f"a certificate until {end:%Y-%m-%dT%H:%M:%SZ} would outlive its issuer, "
            f"which ends {case.issuer.not_valid_after:%Y-%m-%dT%H:%M:%SZ}"
        )
        raise Forbidden(message, rule="issuer_validity", value=format_duration(case.lifetime))
    if case.issuer and end <= case.issuer.not_valid_before:
        message = (
            f"a certificate until {end:%Y-%m-%dT%H:%M:%SZ} would end before its issuer begins, "
            f"{case.issuer.not_valid_before:%Y-%m-%dT%H:%M:%SZ}"
        )
        raise Forbidden(message, rule="issuer_validity", value=format_duration(case.lifetime))
    if case.issuer and case.profile.nested:
        start = max(start, case.issuer.not_valid_before)
    return start, end


def _utc(valid_from: datetime) -> datetime:
    aware = valid_from if valid_from.tzinfo else valid_from.replace(tzinfo=UTC)
    try:
        start = aware.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        start = _FIRST - timedelta(days=1)
    if start < _FIRST:
        message = f"valid_from {rfc3339(valid_from)} is outside 1950 to 9999, the years that certificates can hold"
        raise InvalidRangeTimeCertificate(message, field="valid_from", value=rfc3339(valid_from))
    return start


def _earlier(now: datetime, backdate: timedelta) -> datetime:
    return now - min(timedelta(seconds=backdate // timedelta(seconds=1)), now - _FIRST)


def _later(start: datetime, lifetime: timedelta) -> datetime:
    try:
        return (start + lifetime).replace(microsecond=0)
    except OverflowError as error:
        message = f"a lifetime of {format_duration(lifetime)} from {start:%Y} on ends past the year 9999"
        raise InvalidRangeTimeCertificate(message, field="lifetime", value=format_duration(lifetime)) from error


def _eku_name(oid: ObjectIdentifier) -> str:
    return oid._name if oid._name != "Unknown OID" else oid.dotted_string  # noqa: SLF001  # the only name there is


_RULES: Final[tuple[tuple[str, Callable[[_Case], None]], ...]] = (
    # Who may ask for what kind of thing.
    ("profile", _check_profile_and_issuer),
    ("certificate_authority", _check_ca),
    # The key, and what it may be used for.
    ("key", _check_key),
    ("extensions", _check_extensions),
    ("extended_key_usage", _check_extended_key_usage),
    # The names.
    ("subject", _check_subject),
    ("common_name", _check_common_name),
    ("require_san", _check_has_names),
    ("wildcards", _check_wildcards),
    ("names", _check_names),
    ("name_constraints", _check_name_constraints),
    # The time.
    ("max_lifetime", _check_lifetime),
)
