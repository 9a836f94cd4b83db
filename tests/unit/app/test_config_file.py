"""The settings file: what stops the start, and that it says which entry and what would be right."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey

from app.auth.oidc_sources import DiscoveredKeys, KeysAt, KeysInFile
from app.auth.principal import Permission
from app.config_file import ConfigFile, load_config_file
from app.settings import SettingsError
from tests.running import openssl
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES

ISSUER = """
[[oidc]]
issuer = "https://issuer.example.org"
audience = "https://ca.example.org"
"""
GRANT = """
[[oidc.grants]]
claims = { team = "red" }
names = ["{team}.ci.example.org"]
"""


def _load(folder: Path, text: str) -> ConfigFile:
    (folder / "config.toml").write_text(text)
    return load_config_file(folder / "config.toml", profiles=BUILT_IN_PROFILES)


def _refusal(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as refusal:
        _load(folder, text)
    assert str(folder / "config.toml") in str(refusal.value)
    return str(refusal.value)


def test_without_a_file() -> None:
    """Every section is as it is by default."""
    assert load_config_file(None, profiles=()) == ConfigFile()


def test_the_least(tmp_path: Path) -> None:
    """Issuer, audience and a grant are enough; what is not said is narrow."""
    (issuer,) = _load(tmp_path, ISSUER + GRANT).oidc
    trusted = issuer.trusted()
    assert trusted.algorithms == ("RS256", "ES256")
    assert (trusted.max_age, trusted.one_use) == (timedelta(hours=1), False)
    assert isinstance(trusted.keys, DiscoveredKeys)
    (grant,) = trusted.grants
    granted = grant.grant({"team": "red"}, actor="x")
    assert granted.permissions == {Permission.CERTIFICATES_ISSUE}
    assert granted.limits.profiles == ("ci",)
    assert granted.limits.names.dns == ("red.ci.example.org",)
    assert granted.limits.effective_names.uris == ()
    assert granted.limits.effective_subject == ()


def test_a_grant_with_everything(tmp_path: Path) -> None:
    """Each right of a token can be granted."""
    text = """
[[oidc.grants]]
claims = { "kubernetes.io.namespace" = ["ci", "cd"], protected = true, ref = "refs/heads/*" }
names = ["*.example.org"]
ip_ranges = ["10.0.0.0/8"]
uris = ["spiffe://example.org/ns/{kubernetes.io.namespace}"]
emails = ["@example.org"]
subject = ["organization=Example", "country=*"]
permissions = ["certificates:issue", "certificates:read"]
profiles = ["ci", "server"]
issuers = ["default"]
max_lifetime = "30m"
own_only = true
"""
    (grant,) = _load(tmp_path, ISSUER + text).oidc[0].trusted().grants
    claims = {"kubernetes.io": {"namespace": "cd"}, "protected": True, "ref": "refs/heads/x"}
    assert grant.matches(claims)
    granted = grant.grant(claims, actor="x")
    assert granted.to_json() == {
        "permissions": ["certificates:issue", "certificates:read"],
        "profiles": ["ci", "server"],
        "issuers": ["default"],
        "names": ["*.example.org"],
        "ip_ranges": ["10.0.0.0/8"],
        "uris": ["spiffe://example.org/ns/cd"],
        "emails": ["@example.org"],
        "subject": ["organization=Example", "country=*"],
        "max_lifetime": 1800,
        "own_only": True,
    }


@pytest.mark.parametrize("preset", ["github", "gitlab", "kubernetes"])
def test_a_preset(tmp_path: Path, preset: str) -> None:
    """It fills in issuer, algorithms and the claims that its tokens have."""
    text = f'[[oidc]]\npreset = "{preset}"\naudience = "a"\n' + GRANT.replace("team", "sub")
    (issuer,) = _load(tmp_path, text).oidc
    assert issuer.issuer.startswith("https://")
    assert issuer.algorithms[0] == "RS256"
    assert issuer.required_claims


def test_an_entry_goes_before_the_preset(tmp_path: Path) -> None:
    """Whatever the section says itself counts."""
    text = ISSUER.replace("[[oidc]]", '[[oidc]]\npreset = "github"\nalgorithms = ["ES384"]\nrequired_claims = []')
    (issuer,) = _load(tmp_path, text + GRANT).oidc
    assert (issuer.issuer, issuer.algorithms, issuer.required_claims) == ("https://issuer.example.org", ["ES384"], [])


def test_where_keys_come_from(tmp_path: Path) -> None:
    """A URL, or a file beside the settings file wherever the service runs."""
    key = {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "1"}
    (tmp_path / "keys.json").write_text(json.dumps({"keys": [key]}))
    by_file = ISSUER + 'jwks_file = "keys.json"\n' + GRANT
    by_url = ISSUER.replace("issuer.", "other.") + 'jwks_url = "https://keys.example.org/"\n' + GRANT
    first, second = (issuer.trusted().keys for issuer in _load(tmp_path, by_file + by_url).oidc)
    assert first == KeysInFile(tmp_path / "keys.json")
    assert isinstance(second, KeysAt)


@pytest.mark.parametrize(
    "text, says",
    [
        ("oidc = 1", "oidc: Input should be a valid list"),
        ("[[oidc]", "is no TOML"),
        ("[rate_limit]\nx = 1", "rate_limit: not known here; known are oidc"),
        (ISSUER + 'isuer = "x"' + GRANT, "oidc[0].isuer: not known here; known are preset, issuer, audience"),
        (ISSUER + GRANT + 'lifetime = "1h"', "oidc[0].grants[0].lifetime: not known here; known are claims, names"),
        (ISSUER, "oidc[0].grants: Field required"),
        (ISSUER + "grants = []", "oidc[0].grants: List should have at least 1 item"),
        ('[[oidc]]\naudience = "a"' + GRANT, "oidc[0].issuer: Field required"),
        ('[[oidc]]\npreset = "github"' + GRANT, "oidc[0].audience: Field required"),
        ('[[oidc]]\npreset = "jenkins"\naudience = "a"' + GRANT, "oidc[0].preset: Input should be 'github', 'gitlab'"),
        (ISSUER.replace("https://i", "http://i") + GRANT, "oidc[0].issuer: 'http://issuer.example.org' is not https"),
        (ISSUER.replace("issuer.example.org", "u:p@x.org") + GRANT, "oidc[0].issuer: 'https://u:p@x.org' is no URL"),
        (ISSUER.replace("issuer.example.org", "x.org?a=b") + GRANT, "oidc[0].issuer: 'https://x.org?a=b' has a query"),
        (ISSUER.replace("issuer.example", "bücher.example") + GRANT, "is no URL such as https://issuer.example.org"),
        (ISSUER + 'jwks_url = "file:///etc/passwd"' + GRANT, "oidc[0].jwks_url: 'file:///etc/passwd' is no URL"),
        (ISSUER + 'jwks_url = "http://keys.example.org"' + GRANT, "is not https"),
        (ISSUER + 'jwks_file = "nowhere.json"' + GRANT, "nowhere.json cannot be read: No such file"),
        (ISSUER + 'jwks_file = "config.toml"' + GRANT, "oidc[0].jwks_file: no JWK Set"),
        (ISSUER + 'ca_file = "config.toml"' + GRANT, "config.toml is no file of certificates in PEM"),
        (ISSUER + 'algorithms = ["none"]' + GRANT, "oidc[0].algorithms[0]: Input should be 'RS256'"),
        (ISSUER + 'algorithms = ["HS256"]' + GRANT, "oidc[0].algorithms[0]: Input should be 'RS256'"),
        (ISSUER + "algorithms = []" + GRANT, "oidc[0].algorithms: List should have at least 1 item"),
        (ISSUER + 'max_age = "soon"' + GRANT, "oidc[0].max_age: 'soon' is no lifetime such as 15m"),
        (ISSUER + 'refresh_floor = "2h"' + GRANT, "oidc[0].refresh_floor: keys are fetched at most once in 1s to 1h"),
        (ISSUER + "one_use = 1" + GRANT, "oidc[0].one_use: Input should be a valid boolean"),
        (ISSUER + 'required_claims = [""]' + GRANT, "oidc[0].required_claims: '' is no path to a claim"),
        (ISSUER + GRANT.replace('team = "red"', ""), "oidc[0].grants[0].claims: at least one rule"),
        (ISSUER + GRANT.replace('"red"', "[]"), "claim 'team' must be a text"),
        (ISSUER + GRANT.replace('names = ["{team}.ci.example.org"]', ""), "oidc[0].grants[0].names: Field required"),
        (ISSUER + GRANT.replace("{team}", "x-{team}"), "names: 'x-{team}.ci.example.org': {team} must be"),
        (ISSUER + GRANT.replace('["{team}.ci.example.org"]', '"x"'), "grants[0].names: a list of patterns, such as"),
        (ISSUER + GRANT.replace("{team}", "{team"), "a claim in a name is written {claim}"),
        (ISSUER + GRANT.replace("{team}", "a_b"), "names: 'a_b.ci.example.org' is no DNS name"),
        (ISSUER + GRANT.replace("{team}.ci.example.org", "*.{team}"), "its last label must not come from a claim"),
        (ISSUER + GRANT + 'ip_ranges = ["10.0.0.1/8"]', "ip_ranges: '10.0.0.1/8' is no network"),
        (ISSUER + GRANT + 'subject = "organization=a"', "grants[0].subject: a list of patterns, such as"),
        (ISSUER + GRANT + 'subject = ["common_name=a"]', "grants[0].subject: 'common_name=a' is not ATTRIBUTE=VALUE"),
        (ISSUER + GRANT + 'permissions = ["certificates:sign"]', "'certificates:sign' is no permission; there"),
        (ISSUER + GRANT + "permissions = []", "oidc[0].grants[0].permissions: List should have at least 1"),
        (ISSUER + GRANT + 'profiles = ["cli"]', "grants[0].profiles: there is no profile 'cli'; there are server"),
        (ISSUER + GRANT + 'max_lifetime = "10s"', "oidc[0].grants[0].max_lifetime: the shortest lifetime is 1m"),
        (ISSUER + GRANT + ISSUER + GRANT, "oidc: 'https://issuer.example.org' has two sections"),
    ],
)  # fmt: skip
def test_what_stops_the_start(tmp_path: Path, text: str, says: str) -> None:
    """An unknown entry, a value that cannot be, or that would let in more than was meant: named, with a cure."""
    assert says in _refusal(tmp_path, text)


@pytest.mark.parametrize(
    "preset, claims",
    [
        ("github", 'ref = "refs/heads/main"'),
        ("github", 'repository = "*"'),
        ("github", 'repository = ["octo-org/app", "*/app"]'),
        ("github", 'sub = "*:environment:production"'),
        ("gitlab", 'ref_protected = "true"'),
    ],
)
def test_a_grant_for_everybody(tmp_path: Path, preset: str, claims: str) -> None:
    """Anybody can run a job on a public platform: a grant that does not say whose is refused."""
    text = f'[[oidc]]\npreset = "{preset}"\naudience = "a"\n[[oidc.grants]]\nclaims = {{ {claims} }}\nnames = []'
    assert "oidc[0]: grants[0].claims: anybody can get a token from" in _refusal(tmp_path, text)


def test_a_file_of_authorities(tmp_path: Path) -> None:
    """It is found beside the settings file, and read at the start."""
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x"),
        *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "ca.pem"),
    )
    (issuer,) = _load(tmp_path, ISSUER + 'ca_file = "ca.pem"' + GRANT).oidc
    assert issuer.ca_file == tmp_path / "ca.pem"


def test_both_a_url_and_a_file(tmp_path: Path) -> None:
    """Keys come from one place."""
    (tmp_path / "k.json").write_text(json.dumps({"keys": [RSAKey.generate_key(2048).as_dict(private=False)]}))
    text = ISSUER + 'jwks_file = "k.json"\njwks_url = "https://x.example.org"' + GRANT
    assert "oidc[0]: give jwks_url or jwks_file, not both" in _refusal(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Its name is told."""
    with pytest.raises(SettingsError, match=r"TINY_CA_CONFIG_FILE: .*none\.toml cannot be read"):
        load_config_file(tmp_path / "none.toml", profiles=())


def test_every_fault_is_told(tmp_path: Path) -> None:
    """Two wrong entries are two lines."""
    assert len(_refusal(tmp_path, ISSUER + "a = 1\nb = 2" + GRANT).splitlines()) == 2
