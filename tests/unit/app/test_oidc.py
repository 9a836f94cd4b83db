"""Identity tokens: what an attacker would send, against a real provider, a real database and the service's verifier."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from app.auth.oidc import OIDCAuthenticator
from app.auth.principal import NotGranted, Permission, Principal
from app.config_file import load_config_file
from app.metrics import Metrics
from tests.oidc_provider import JOB, RunningProvider
from tests.unit.app.conftest import OpenCA
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES
from tiny_ca.db.queries.identity_tokens import prune_identity_tokens
from tiny_ca.exc import RegistryUnavailable, Unauthenticated, Unavailable

pytestmark = pytest.mark.anyio
AUDIENCE = "https://ca.example.org"
ANY_ALGORITHM = '["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519"]'


@pytest.fixture(scope="module")
def process() -> Iterator[RunningProvider]:
    """A provider for all tests of this file."""
    with RunningProvider() as running:
        yield running


@pytest.fixture
def provider(process: RunningProvider) -> RunningProvider:
    """The provider, behaving well."""
    process.behave()
    return process


class Doors:
    """Makes verifiers of one provider's tokens."""

    def __init__(self, ca: OpenCA, provider: RunningProvider, folder: Path) -> None:
        self.ca = ca
        self.provider = provider
        self._folder = folder

    def door(self, *entries: str, grants: str | None = None) -> OIDCAuthenticator:
        """A verifier; ``entries`` of its section."""
        usual = """
[[oidc.grants]]
claims = { repository_owner = "octo-org", ref = "refs/heads/*" }
names = ["{repository_owner}.ci.example.org", "*.{repository_owner}.ci.example.org"]
max_lifetime = "1h"
"""
        lines = ["[[oidc]]", f'issuer = "{self.provider.issuer}"', f'audience = "{AUDIENCE}"', *entries]
        path = self._folder / "config.toml"
        path.write_text("\n".join(lines) + (grants or usual))
        config = load_config_file(path, profiles=BUILT_IN_PROFILES)
        return OIDCAuthenticator(
            [issuer.trusted() for issuer in config.oidc], db=self.ca.db, metrics=Metrics(), clock=self.ca.clock
        )


@pytest.fixture
def doors(ca: OpenCA, provider: RunningProvider, tmp_path: Path) -> Doors:
    """What makes verifiers."""
    return Doors(ca, provider, tmp_path)


async def _refusal(door: OIDCAuthenticator, token: str) -> str:
    with pytest.raises(Unauthenticated) as refusal:
        await door.authenticate(token)
    return refusal.value.message


async def _let_in(door: OIDCAuthenticator, token: str) -> None:
    assert (await door.authenticate(token)).permissions


def _b64(value: bytes | dict[str, Any]) -> str:
    octets = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def _claims(provider: RunningProvider) -> dict[str, Any]:
    now = int(time.time())
    return {**JOB, "iss": provider.issuer, "aud": AUDIENCE, "iat": now, "exp": now + 300}


async def test_a_job(doors: Doors, provider: RunningProvider) -> None:
    """A sound token is a principal: issuer and subject, what the grant says, and the token's own end."""
    token = provider.token(audience=AUDIENCE)
    principal = await doors.door().authenticate(token)
    assert isinstance(principal, Principal)
    assert principal.id == f"{provider.issuer} repo:octo-org/app:ref:refs/heads/main"
    assert principal.permissions == {Permission.CERTIFICATES_ISSUE}
    assert principal.limits.profiles == ("ci",)
    assert principal.limits.names.dns == ("octo-org.ci.example.org", "*.octo-org.ci.example.org")
    assert principal.limits.max_lifetime == timedelta(hours=1)
    assert principal.expires_at is not None
    assert 295 < principal.expires_at.timestamp() - time.time() < 301


@pytest.mark.parametrize(
    "key, algorithm",
    [
        ("RSA", "RS256"), ("RSA", "RS384"), ("RSA", "RS512"), ("RSA", "PS256"), ("RSA", "PS384"), ("RSA", "PS512"),
        ("P-256", "ES256"), ("P-384", "ES384"), ("P-521", "ES512"), ("Ed25519", "Ed25519"),
    ],
)  # fmt: skip
async def test_every_algorithm(doors: Doors, provider: RunningProvider, key: str, algorithm: str) -> None:
    """Each that may be allowed verifies; where it is not, it is refused before its key is looked for."""
    token = provider.token(audience=AUDIENCE, key=key, header={"alg": algorithm})
    await _let_in(doors.door(f"algorithms = {ANY_ALGORITHM}"), token)
    provider.behave()
    other = "ES256" if algorithm != "ES256" else "RS256"
    assert "algorithm is not taken" in await _refusal(doors.door(f'algorithms = ["{other}"]'), token)
    assert provider.seen() == {}


async def test_eddsa(doors: Doors, provider: RunningProvider) -> None:
    """The name that RFC 8037 gave to Ed25519 is taken too, and warns nobody."""
    key = OKPKey.generate_key("Ed25519")
    provider.behave(keys=[{**key.as_dict(private=False), "kid": "ed"}])
    signed = f"{_b64({'alg': 'EdDSA', 'kid': 'ed'})}.{_b64(_claims(provider))}"
    assert key.private_key is not None
    token = f"{signed}.{_b64(key.private_key.sign(signed.encode()))}"  # type: ignore[union-attr]
    await _let_in(doors.door(f"algorithms = {ANY_ALGORITHM}"), token)


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "RS256 ", "rs256", "HS256", "ES256K", "dir"])
async def test_unsigned(doors: Doors, provider: RunningProvider, algorithm: str) -> None:
    """``alg: none`` in any spelling, with and without a signature, is no algorithm here; nor is any other name."""
    for kid in ({}, {"kid": provider.published()[0]["kid"]}):
        signed = f"{_b64({'alg': algorithm, **kid})}.{_b64(_claims(provider))}"
        for signature in ("", "AAAA"):
            message = await _refusal(doors.door(f"algorithms = {ANY_ALGORITHM}"), f"{signed}.{signature}")
            assert "algorithm is not taken" in message


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_the_public_key_as_a_secret(doors: Doors, provider: RunningProvider, algorithm: str) -> None:
    """A MAC under the published key, in each form it has, is refused: no algorithm with a shared secret is taken."""
    member = next(one for one in provider.published() if one["kty"] == "RSA")
    key = RSAKey.import_key(member)
    forms = [key.as_pem(), key.as_pem().rstrip(), key.as_der(), json.dumps(member).encode(), member["n"].encode()]
    signed = f"{_b64({'alg': algorithm, 'kid': member['kid']})}.{_b64(_claims(provider))}"
    for secret in forms:
        mac = hmac.new(secret, signed.encode(), getattr(hashlib, f"sha{algorithm[2:]}")).digest()
        assert "algorithm is not taken" in await _refusal(doors.door(), f"{signed}.{_b64(mac)}")


@pytest.mark.parametrize("how", ["jwk", "jku", "x5u", "x5c"])
async def test_a_key_in_the_header(doors: Doors, provider: RunningProvider, how: str) -> None:
    """A token signed by the attacker's key, which its header brings or points to: neither used nor fetched."""
    key = RSAKey.generate_key(2048)
    brought: dict[str, Any] = {
        "jwk": key.as_dict(private=False),
        "jku": f"{provider.issuer}/elsewhere",
        "x5u": f"{provider.issuer}/elsewhere",
        "x5c": [base64.b64encode(key.as_der(private=False)).decode()],
    }
    kid = next(one["kid"] for one in provider.published() if one["kty"] == "RSA")
    for name, message in ((kid, "signature does not verify"), ("own", "does not publish")):
        provider.behave()
        signed = f"{_b64({'alg': 'RS256', 'kid': name, how: brought[how]})}.{_b64(_claims(provider))}"
        signature = JWSRegistry.algorithms["RS256"].sign(signed.encode(), key)
        assert message in await _refusal(doors.door(), f"{signed}.{_b64(signature)}")
        assert "elsewhere" not in provider.seen()


@pytest.mark.parametrize(
    "key, algorithm",
    [("RSA", "ES256"), ("P-256", "RS256"), ("P-256", "ES384"), ("P-384", "ES256"), ("Ed25519", "ES256")],
)
async def test_a_key_of_another_kind(doors: Doors, provider: RunningProvider, key: str, algorithm: str) -> None:
    """An RSA key for ES256, a P-256 key for ES384 and their like: the algorithm must fit the key."""
    kid = next(one["kid"] for one in provider.published() if one["kid"].startswith(key))
    token = f"{_b64({'alg': algorithm, 'kid': kid})}.{_b64(_claims(provider))}.{_b64(b'x' * 64)}"
    assert "does not fit its key" in await _refusal(doors.door(f"algorithms = {ANY_ALGORITHM}"), token)


async def test_a_key_for_another_algorithm(doors: Doors, provider: RunningProvider) -> None:
    """Where the provider says what its key is for, it is for that alone."""
    members = [{**one, "alg": "RS512"} for one in provider.published() if one["kty"] == "RSA"]
    token = provider.token(audience=AUDIENCE)
    provider.behave(keys=members)
    assert "does not fit its key" in await _refusal(doors.door(), token)


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 256, b"x" * 63, b"x" * 64, b"\xff" * 64, b"x" * 1000])
@pytest.mark.parametrize("key, algorithm", [("RSA", "RS256"), ("P-256", "ES256"), ("Ed25519", "Ed25519")])
async def test_a_signature_that_is_none(
    doors: Doors, provider: RunningProvider, key: str, algorithm: str, signature: bytes
) -> None:
    """Empty, of zeros (CVE-2022-21449), too short or too long: it does not verify."""
    kid = next(one["kid"] for one in provider.published() if one["kid"].startswith(key))
    token = f"{_b64({'alg': algorithm, 'kid': kid})}.{_b64(_claims(provider))}.{_b64(signature)}"
    assert "does not verify" in await _refusal(doors.door(f"algorithms = {ANY_ALGORITHM}"), token)


async def test_changed_after_it_was_signed(doors: Doors, provider: RunningProvider) -> None:
    """Other claims, or another header, under the signature of a sound token."""
    head, _, signature = provider.token(audience=AUDIENCE).split(".")
    claims = {**_claims(provider), "repository_owner": "octo-org", "sub": "admin"}
    assert "does not verify" in await _refusal(doors.door(), f"{head}.{_b64(claims)}.{signature}")


@pytest.mark.parametrize(
    "audience",
    [
        "https://ca.example.org/", "https://ca.example.org.evil.example", "HTTPS://CA.EXAMPLE.ORG", "", None, 7, [], {},
        [AUDIENCE, "other"], ["other", AUDIENCE], [AUDIENCE, AUDIENCE], [[AUDIENCE]], {AUDIENCE: 1}, f" {AUDIENCE}",
    ],
    ids=str,
)  # fmt: skip
async def test_another_audience(doors: Doors, provider: RunningProvider, audience: object) -> None:
    """A token for somebody else, or for two of whom we are one: the other could send it on."""
    assert "aud is another" in await _refusal(doors.door(), provider.token(audience=audience))


async def test_an_audience_in_a_list(doors: Doors, provider: RunningProvider) -> None:
    """Kubernetes writes the only audience as a list (RFC 7519 §4.1.3)."""
    await _let_in(doors.door(), provider.token(audience=[AUDIENCE]))


@pytest.mark.parametrize(
    "change",
    [
        lambda url: f"{url}/",
        str.upper,
        lambda url: url.replace("127.0.0.1", "localhost"),
        lambda url: f"{url}@x.org",
        lambda url: f"{url}.evil.example",
        lambda url: f" {url}",
        lambda url: url.replace(":", "\uff1a", 1),
    ],
)
async def test_an_issuer_that_looks_alike(doors: Doors, provider: RunningProvider, change: Any) -> None:  # noqa: ANN401
    """A slash more, another case, a longer host, full-width letters: another issuer, whose keys nobody fetches."""
    token = provider.token(audience=AUDIENCE, iss=change(provider.issuer))
    provider.behave()
    assert "issuer is not trusted" in await _refusal(doors.door(), token)
    assert provider.seen() == {}


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat"])
async def test_a_claim_that_is_missing(doors: Doors, provider: RunningProvider, name: str) -> None:
    """Without any of these a token is none, signed or not."""
    claims: dict[str, Any] = {"audience": AUDIENCE, "audience" if name == "aud" else name: None}
    token = provider.token(**claims)
    assert ("aud is another" if name == "aud" else f"lacks the claim {name}") in await _refusal(doors.door(), token)


@pytest.mark.parametrize("name", ["iss", "sub"])
@pytest.mark.parametrize(
    "value", ["", "a\x00b", "a\nb", "\u202egro", "\ud800", "x" * 2000, 7, True, ["a"], {"a": 1}], ids=ascii
)
async def test_a_claim_that_is_no_text(doors: Doors, provider: RunningProvider, name: str, value: Any) -> None:  # noqa: ANN401  # JSON
    """What would break a log line, a terminal or the database, and what is no text, is no issuer or subject."""
    assert f"the claim {name} is not" in await _refusal(
        doors.door(), provider.token(audience=AUDIENCE, **{name: value})
    )


NOW = int(time.time())


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize(
    "value", ["soon", str(NOW), True, [], {}, -1, 2**40, 10**400, 1e300], ids=lambda value: type(value).__name__
)
async def test_a_time_that_is_none(doors: Doors, provider: RunningProvider, name: str, value: Any) -> None:  # noqa: ANN401  # JSON
    """Text, a truth value, before 1970 or past the calendar."""
    assert f"the claim {name} is no time" in await _refusal(
        doors.door(), provider.token(audience=AUDIENCE, **{name: value})
    )


@pytest.mark.parametrize(
    "claims, says",
    [
        ({"exp": -31}, "has expired"),
        ({"exp": -29}, None),
        ({"nbf": 35}, "not valid yet"),
        ({"nbf": 25}, None),
        ({"nbf": None}, None),
        ({"iat": 35}, "not valid yet"),
        ({"iat": 25}, None),
        ({"iat": -3700, "exp": 86400}, "older than is taken"),
        ({"iat": -3600, "exp": 86400}, None),
    ],
    ids=str,
)  # fmt: skip
async def test_times(doors: Doors, provider: RunningProvider, claims: dict[str, Any], says: str | None) -> None:
    """Expired, not yet valid, too old: refused, half a minute aside for clocks that differ."""
    at = int(doors.ca.clock.now.timestamp())
    moved: dict[str, Any] = {name: None if value is None else at + value for name, value in claims.items()}
    token = provider.token(audience=AUDIENCE, **moved)
    if says is None:
        await _let_in(doors.door(), token)
    else:
        assert says in await _refusal(doors.door(), token)


async def test_required_claims(doors: Doors, provider: RunningProvider) -> None:
    """A token without a claim that the section asks for is of another kind."""
    door = doors.door('required_claims = ["workflow"]')
    await _let_in(door, provider.token(audience=AUDIENCE))
    assert "lacks the claim workflow" in await _refusal(door, provider.token(audience=AUDIENCE, workflow=None))


def _signed(provider: RunningProvider, header: bytes, payload: bytes) -> str:
    """Octets that no library would write, which the provider's own key would have to sign: nobody gets that far."""
    return f"{_b64(header)}.{_b64(payload)}.{_b64(b'x' * 256)}"


@pytest.mark.parametrize(
    "header, payload",
    [
        (b'{"alg": "RS256", "alg": "none"}', b"{}"),
        (b'{"alg": "RS256"}', b'{"iss": "a", "iss": "b"}'),
        (b'{"alg": "RS256"}', b'{"iss": "a", "x": {"y": 1, "y": 2}}'),
        (b'{"alg": "RS256"}', b'{"iss": "a", "exp": NaN}'),
        (b'{"alg": "RS256"}', b'{"iss": "a", "exp": Infinity}'),
        (b'{"alg": "RS256"}', b'{"iss": "a", "x": ' + b"[" * 8000),
        (b'{"alg": "RS256"}', b'{"iss": "a", "x": ' + b"9" * 5000 + b"}"),
        (b'{"alg": "RS256"}', b'["iss"]'),
        (b'{"alg": "RS256"}', b"null"),
        (b'{"alg": "RS256"}', b""),
        (b'{"alg": "RS256"}', b'{"iss": "\xff"}'),
        (b'{"alg": "RS256"}', '{"iss": "a"}'.encode("utf-16")),
        (b"[]", b"{}"),
        (b"", b"{}"),
    ],
    ids=lambda octets: ascii(octets)[:40],
)
async def test_json_that_is_none(doors: Doors, provider: RunningProvider, header: bytes, payload: bytes) -> None:
    """Members that come twice, at any depth, numbers that are none, nesting without end, another encoding."""
    assert "cannot be read" in await _refusal(doors.door(), _signed(provider, header, payload))


@pytest.mark.parametrize(
    "header, says",
    [
        ({}, "names no algorithm"),
        ({"alg": ["RS256"]}, "names no algorithm"),
        ({"alg": "RS256", "kid": 7}, "kid is no text"),
        ({"alg": "RS256", "kid": ["a"]}, "kid is no text"),
        ({"alg": "RS256", "crit": ["exp"], "exp": 1}, "extension"),
        ({"alg": "RS256", "b64": False, "crit": ["b64"]}, "extension"),
        ({"alg": "RS256", "b64": False}, "extension"),
        ({"alg": "RS256", "typ": "logout+jwt"}, "typ is not JWT"),
        ({"alg": "RS256", "typ": "at+jwt"}, "typ is not JWT"),
        ({"alg": "RS256", "typ": None}, "typ is not JWT"),
    ],
    ids=str,
)
async def test_a_header_that_wants_more(
    doors: Doors, provider: RunningProvider, header: dict[str, Any], says: str
) -> None:
    """Another kind of token, an extension, a member of another type."""
    token = _signed(provider, json.dumps(header).encode(), json.dumps(_claims(provider)).encode())
    assert says in await _refusal(doors.door(), token)


@pytest.mark.parametrize("change", ["{}=", "{}+", "{}.", "é{}", "{}\n", " {}", "{}.x", "."], ids=ascii)
async def test_base64_that_is_none(doors: Doors, provider: RunningProvider, change: str) -> None:
    """Padding, the other alphabet, blanks, parts too many: unreadable (RFC 7515 §2)."""
    message = await _refusal(doors.door(), change.format(provider.token(audience=AUDIENCE)))
    assert "cannot be read" in message or "three parts" in message


async def test_twenty_kilobytes(doors: Doors, provider: RunningProvider) -> None:
    """A token has 16 KiB at most; one that is signed is no exception, and nobody reads it."""
    fits = provider.token(audience=AUDIENCE, groups=["x" * 11_000])
    await _let_in(doors.door(), fits)
    assert "at most 16384" in await _refusal(doors.door(), provider.token(audience=AUDIENCE, groups=["x" * 15_000]))


async def test_no_grant(doors: Doors, provider: RunningProvider) -> None:
    """A sound token whose claims match no rule is somebody who may do nothing: forbidden by the rule ``oidc``."""
    with pytest.raises(NotGranted) as refusal:
        await doors.door().authenticate(provider.token(audience=AUDIENCE, repository_owner="evil"))
    assert refusal.value.rule == "oidc"
    assert refusal.value.actor == f"{provider.issuer} {JOB['sub']}"


async def test_the_first_grant_that_matches(doors: Doors, provider: RunningProvider) -> None:
    """Grants are asked in their order, and only one counts."""
    grants = "".join(
        f'\n[[oidc.grants]]\nclaims = {{ {claim} = "{value}" }}\nnames = ["{name}.example.org"]\n'
        for claim, value, name in (
            ("event_name", "release", "one"),
            ("ref", "refs/heads/*", "two"),
            ("repository_owner", "octo-org", "three"),
        )
    )
    door = doors.door(grants=grants)
    for event, ref, name in (("release", "x", "one"), ("push", "refs/heads/main", "two"), ("push", "x", "three")):
        principal = await door.authenticate(provider.token(audience=AUDIENCE, event_name=event, ref=ref))
        assert principal.limits.names.dns == (f"{name}.example.org",)


@pytest.mark.parametrize(
    "value", ["a.b", "*", "", "x" * 64, "Octo-Org", "bücher", "a/b", "xn--bcher-kva", None, 7, ["a"]]
)
async def test_a_claim_that_would_be_another_name(doors: Doors, provider: RunningProvider, value: object) -> None:
    """A dot, a star, nothing, 64 letters, capitals, Unicode: no name is made of it, and the refusal names the claim."""
    grants = '\n[[oidc.grants]]\nclaims = { ref = "*" }\nnames = ["{team}.ci.example.org"]\n'
    with pytest.raises(NotGranted, match="claim 'team' is") as refusal:
        await doors.door(grants=grants).authenticate(provider.token(audience=AUDIENCE, team=value))
    json.dumps(refusal.value.value).encode()  # it is shown in the answer


async def test_a_name_that_becomes_too_long(doors: Doors, provider: RunningProvider) -> None:
    """Labels that are sound each, and together more than a name may have."""
    name = ".".join(["{team}"] * 4) + ".ci.example.org"
    grants = f'\n[[oidc.grants]]\nclaims = {{ ref = "*" }}\nnames = ["{name}"]\n'
    with pytest.raises(NotGranted, match="1 to 253 characters"):
        await doors.door(grants=grants).authenticate(provider.token(audience=AUDIENCE, team="x" * 63))


async def test_one_use(doors: Doors, provider: RunningProvider) -> None:
    """A token that may be used once is refused the second time, by another replica too."""
    token = provider.token(audience=AUDIENCE)
    await _let_in(doors.door("one_use = true"), token)
    for _ in range(2):
        assert "was used already" in await _refusal(doors.door("one_use = true"), token)
    await _let_in(doors.door("one_use = true"), provider.token(audience=AUDIENCE))


async def test_one_use_at_once(doors: Doors, provider: RunningProvider) -> None:
    """Of twenty requests with one token at the same time, one is let in."""
    token = provider.token(audience=AUDIENCE)
    door = doors.door("one_use = true")
    answers = await asyncio.gather(*(door.authenticate(token) for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(answer, Principal) for answer in answers) == 1
    assert sum(isinstance(answer, Unauthenticated) for answer in answers) == 19


async def test_one_use_as_long_as_it_is_taken(doors: Doors, provider: RunningProvider) -> None:
    """What is spent is forgotten no earlier than the token ends, the leeway included."""
    at = int(doors.ca.clock.now.timestamp())
    token = provider.token(audience=AUDIENCE, exp=at + 60)
    door = doors.door("one_use = true")
    await door.authenticate(token)
    for seconds in (59, 30):
        doors.ca.clock.forward(timedelta(seconds=seconds))
        assert await doors.ca.db.write(prune_identity_tokens, now=doors.ca.clock()) == 0
        assert "was used already" in await _refusal(door, token)
    doors.ca.clock.forward(timedelta(hours=1))
    assert await doors.ca.db.write(prune_identity_tokens, now=doors.ca.clock()) == 1


@pytest.mark.parametrize("jti", [None, "", 7, "x" * 256, "a\x00", ["a"]], ids=ascii)
async def test_one_use_needs_an_id(doors: Doors, provider: RunningProvider, jti: object) -> None:
    """Without a jti that can be kept, it cannot be told whether the token was used."""
    token = provider.token(audience=AUDIENCE, jti=jti)
    assert "jti" in await _refusal(doors.door("one_use = true"), token)
    await _let_in(doors.door(), token)


async def test_what_is_refused_is_not_spent(doors: Doors, provider: RunningProvider) -> None:
    """Nobody uses up a token of others by sending its id under other claims."""
    door = doors.door("one_use = true")
    with pytest.raises(NotGranted):
        await door.authenticate(provider.token(audience=AUDIENCE, jti="one", repository_owner="evil"))
    await _refusal(door, provider.token(audience="other", jti="one"))
    await _let_in(door, provider.token(audience=AUDIENCE, jti="one"))


async def test_one_use_without_the_database(doors: Doors, provider: RunningProvider) -> None:
    """Where it cannot be told whether a token was used, nobody is let in."""
    door = doors.door("one_use = true")
    async with doors.ca.db.engine.begin() as connection:
        await connection.exec_driver_sql("DROP TABLE used_identity_tokens")
    with pytest.raises(RegistryUnavailable):
        await door.authenticate(provider.token(audience=AUDIENCE))


async def test_a_provider_that_is_down(doors: Doors) -> None:
    """Its tokens cannot be judged: 503, and not 401."""
    with RunningProvider() as provider:
        token = provider.token(audience=AUDIENCE)
        doors.provider = provider
    with pytest.raises(Unavailable) as refusal:
        await doors.door().authenticate(token)
    assert refusal.value.retry_after > 0


async def test_what_is_logged(doors: Doors, provider: RunningProvider, caplog: pytest.LogCaptureFixture) -> None:
    """Why a token was refused stands in the log; the token does not."""
    token = provider.token(audience="other")
    caplog.set_level("DEBUG")
    await _refusal(doors.door(), token)
    said = [vars(record) for record in caplog.records]
    assert any("aud is another" in str(one.get("reason")) for one in said)
    assert not any(part in str(said) for part in token.split("."))


@pytest.mark.parametrize("key", [RSAKey.generate_key(2048), ECKey.generate_key("P-256")], ids=["RSA", "EC"])
async def test_a_key_of_the_attackers(doors: Doors, provider: RunningProvider, key: RSAKey | ECKey) -> None:
    """A token signed by any other key, under a kid that is known, does not verify."""
    kind = "RSA" if isinstance(key, RSAKey) else "P-256"
    kid = next(one["kid"] for one in provider.published() if one["kid"].startswith(kind))
    algorithm = "RS256" if kind == "RSA" else "ES256"
    token = jwt.encode({"alg": algorithm, "kid": kid}, _claims(provider), key)
    assert "does not verify" in await _refusal(doors.door(), token)
