"""An ``[[oidc]]`` section of the settings file, as an operator writes it, and the presets that it may start from."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from app.auth.oidc import TrustedIssuer
from app.auth.oidc_claims import ClaimRule, NameTemplate, check_path, flat_claims
from app.auth.oidc_grants import GrantRule
from app.auth.oidc_keys import FLOOR, Algorithm, parse_key_set
from app.auth.oidc_sources import DiscoveredKeys, KeysAt, KeysInFile, KeySource, SourceError, checked_url, tls_context
from app.auth.principal import Permission
from app.paths import BesideSettingsFile
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.profiles import MIN_LIFETIME
from tiny_ca.ca_factory.subject_patterns import SubjectPattern
from tiny_ca.exc import Invalid
from tiny_ca.models.fields import Lifetime

__all__ = ["PRESETS", "OIDCGrant", "OIDCIssuer"]

_GITHUB: Final = "https://token.actions.githubusercontent.com"
_GITLAB: Final = "https://gitlab.com"

# What an entry of this name starts from; whatever the section says itself goes before it.
PRESETS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "github": {
            "issuer": _GITHUB,
            "algorithms": ["RS256"],
            "required_claims": ["repository", "repository_owner", "ref", "workflow"],
        },
        "gitlab": {
            "issuer": _GITLAB,
            "algorithms": ["RS256"],
            "required_claims": ["project_path", "namespace_path", "ref"],
        },
        "kubernetes": {
            "issuer": "https://kubernetes.default.svc.cluster.local",
            "algorithms": ["RS256", "ES256"],
            "required_claims": ["kubernetes.io.namespace", "kubernetes.io.serviceaccount.name"],
        },
    }
)
# Anybody in the world gets tokens from these: a grant must say by one of the claims whose they are.
_OPEN_TO_ALL: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        _GITHUB: (
            "repository", "repository_id", "repository_owner", "repository_owner_id", "enterprise", "enterprise_id",
            "job_workflow_ref", "sub",
        ),
        _GITLAB: ("project_path", "project_id", "namespace_path", "namespace_id", "user_id", "sub"),
    }
)  # fmt: skip
_MIN_FLOOR: Final = timedelta(seconds=1)


def _permission(value: object) -> Permission:
    if not isinstance(value, str) or value not in set(Permission):
        raise ValueError(f"{str(value)[:80]!r} is no permission; there are {', '.join(sorted(Permission))}")
    return Permission(value)


def _templates(value: object) -> tuple[NameTemplate, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError('a list of patterns, such as ["{repository_owner}.ci.example.org"]')
    return tuple(map(NameTemplate.parse, value))


def _rules(value: object) -> tuple[ClaimRule, ...]:
    if not isinstance(value, dict) or not value:
        raise ValueError(
            'at least one rule, such as { repository = "octo-org/app" }: without one, every token would do'
        )
    return tuple(ClaimRule.parse(path, wanted) for path, wanted in flat_claims(value).items())


def _subject(value: object) -> tuple[SubjectPattern, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError('a list of patterns, such as ["organization=Example"]')
    try:
        return tuple(map(SubjectPattern.parse, value))
    except Invalid as error:
        raise ValueError(error.message) from None


_Permission = Annotated[Permission, BeforeValidator(_permission)]
_Names = Annotated[tuple[NameTemplate, ...], BeforeValidator(_templates)]
_Subject = Annotated[tuple[SubjectPattern, ...], BeforeValidator(_subject)]
_Rules = Annotated[tuple[ClaimRule, ...], BeforeValidator(_rules)]
_NonEmpty = Annotated[str, Field(min_length=1)]


class OIDCGrant(BaseModel):
    """``[[oidc.grants]]``: which claims get what."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)

    claims: _Rules
    names: _Names
    ip_ranges: list[str] | None = None
    uris: _Names | None = None
    emails: _Names | None = None
    subject: _Subject = ()
    permissions: list[_Permission] = Field(default=[Permission.CERTIFICATES_ISSUE], min_length=1)
    profiles: list[_NonEmpty] = Field(default=["ci"], min_length=1)
    issuers: list[_NonEmpty] | None = None
    max_lifetime: Lifetime | None = None
    own_only: bool = False

    @field_validator("max_lifetime")
    @classmethod
    def _lifetime_can_be(cls, value: timedelta | None) -> timedelta | None:
        if value is not None and value < MIN_LIFETIME:
            raise ValueError("the shortest lifetime is 1m")
        return value

    @model_validator(mode="after")
    def _patterns_are_sound(self) -> Self:
        for template in self.names:
            if template.ends_in_claim:
                raise ValueError(f"names: {template.text!r}: its last label must not come from a claim")
        for field, kind in (("names", "dns"), ("ip_ranges", "ip_ranges"), ("uris", "uris"), ("emails", "emails")):
            given = getattr(self, field)
            patterns = given and [one.example if isinstance(one, NameTemplate) else one for one in given]
            try:
                NamePatterns.parse(**{kind: patterns})
            except Invalid as error:
                raise ValueError(f"{field}: {error.message}") from None
        return self

    def rule(self) -> GrantRule:
        """What the service works with."""
        return GrantRule(
            rules=self.claims,
            permissions=frozenset(self.permissions),
            profiles=tuple(self.profiles),
            issuers=None if self.issuers is None else tuple(self.issuers),
            names=self.names,
            ip_ranges=None if self.ip_ranges is None else tuple(self.ip_ranges),
            uris=self.uris,
            emails=self.emails,
            subject=self.subject,
            max_lifetime=self.max_lifetime,
            own_only=self.own_only,
        )


class OIDCIssuer(BaseModel):
    """``[[oidc]]``: an issuer whose tokens are taken. Its keys are discovered unless a URL or a file is given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    preset: Literal["github", "gitlab", "kubernetes"] | None = None
    issuer: str
    audience: Annotated[str, Field(min_length=1, max_length=1024)]
    jwks_url: str | None = None
    jwks_file: BesideSettingsFile | None = None
    ca_file: BesideSettingsFile | None = None
    algorithms: list[Algorithm] = Field(default=["RS256", "ES256"], min_length=1)
    required_claims: list[str] = []
    max_age: Lifetime = timedelta(hours=1)
    one_use: bool = False
    refresh_floor: Lifetime = FLOOR
    grants: list[OIDCGrant] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, given: Any) -> Any:  # noqa: ANN401  # whatever TOML holds
        preset = given.get("preset") if isinstance(given, dict) else None
        return {**PRESETS[preset], **given} if isinstance(preset, str) and preset in PRESETS else given

    @field_validator("issuer", "jwks_url")
    @classmethod
    def _url_is_safe(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None:
            return None
        url = checked_url(value)
        # OpenID Connect Core 1.0 §2, iss: "no query or fragment components".
        if info.field_name == "issuer" and urlsplit(url).query:
            raise ValueError(f"{url!r} has a query, which no issuer's URL has")
        return url

    @field_validator("required_claims")
    @classmethod
    def _paths_are_paths(cls, value: list[str]) -> list[str]:
        return [check_path(path) for path in value]

    @field_validator("jwks_file")
    @classmethod
    def _file_holds_keys(cls, value: Path | None) -> Path | None:
        if value is not None:
            try:
                parse_key_set(KeysInFile(value).read())
            except SourceError as error:
                raise ValueError(str(error)) from None
        return value

    @field_validator("ca_file")
    @classmethod
    def _file_holds_certificates(cls, value: Path | None) -> Path | None:
        try:
            if value is not None:
                tls_context(value)
        except OSError as error:  # ssl.SSLError is one
            raise ValueError(f"{value} is no file of certificates in PEM: {error.strerror or error}") from None
        return value

    @field_validator("refresh_floor")
    @classmethod
    def _floor_is_one(cls, value: timedelta) -> timedelta:
        if not _MIN_FLOOR <= value <= timedelta(hours=1):
            raise ValueError("keys are fetched at most once in 1s to 1h")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.jwks_url is not None and self.jwks_file is not None:
            raise ValueError("give jwks_url or jwks_file, not both")
        telling = _OPEN_TO_ALL.get(self.issuer, ())
        for index, grant in enumerate(self.grants):
            if telling and not any(rule.path in telling and rule.is_anchored for rule in grant.claims):
                raise ValueError(
                    f"grants[{index}].claims: anybody can get a token from {self.issuer}: say whose are taken, with "
                    f"one of {', '.join(telling)} that does not begin with '*'"
                )
        return self

    def trusted(self) -> TrustedIssuer:
        """What the service works with."""
        return TrustedIssuer(
            url=self.issuer,
            audience=self.audience,
            keys=self._source(),
            algorithms=tuple(self.algorithms),
            required_claims=tuple(self.required_claims),
            max_age=self.max_age,
            one_use=self.one_use,
            refresh_floor=self.refresh_floor,
            grants=tuple(grant.rule() for grant in self.grants),
        )

    def _source(self) -> KeySource:
        if self.jwks_file is not None:
            return KeysInFile(self.jwks_file)
        url = self.jwks_url or self.issuer
        tls = tls_context(self.ca_file) if urlsplit(url).scheme == "https" else None
        return DiscoveredKeys(self.issuer, tls) if self.jwks_url is None else KeysAt(self.jwks_url, tls)
