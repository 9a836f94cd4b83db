"""Profiles as an operator writes them: every field counts, every mistake is named."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.profile_file import parse_key_constraint, parse_key_spec, parse_profiles
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, KeyConstraint
from tiny_ca.const import CertType
from tiny_ca.exc import Invalid
from tiny_ca.models.key_spec import KeySpec


def test_nothing() -> None:
    """An empty file leaves the built-in profiles."""
    assert parse_profiles("") == BUILT_IN_PROFILES


def test_the_rest_stays() -> None:
    """What a table does not name is as it was; other profiles are untouched."""
    found = parse_profiles('[profiles.server]\nmax_lifetime = "90d"')
    assert found["server"].max_lifetime == timedelta(days=90)
    assert found["server"].require_san
    assert {**found, "server": None} == {**BUILT_IN_PROFILES, "server": None}


def test_a_new_profile_extends_another() -> None:
    """A new profile starts from one that is known by then, its names included."""
    text = (
        '[profiles.a]\nextends = "ci"\ndns = ["*.Example.org"]\n[profiles.b]\nextends = "a"\nip_ranges = ["10.0.0.0/8"]'
    )
    found = parse_profiles(text)
    assert (found["b"].name, found["b"].no_rev_avail) == ("b", True)
    assert found["b"].names == NamePatterns(dns=("*.example.org",), ip_ranges=(ip_network("10.0.0.0/8"),))


@pytest.mark.parametrize(
    "line,field,expected",
    [
        ('default_lifetime = "1h"', "default_lifetime", timedelta(hours=1)),
        ('max_lifetime = "100d"', "max_lifetime", timedelta(days=100)),
        ('min_lifetime = "2m"', "min_lifetime", timedelta(minutes=2)),
        ('backdate = "1h"', "backdate", timedelta(hours=1)),
        ('backdate = "0s"', "backdate", timedelta(0)),
        ('certificate_type = "device"', "certificate_type", CertType.DEVICE),
        ('certificate_type = "USR"', "certificate_type", CertType.USER),
        ('keys = ["ec:P-256"]', "keys", (KeyConstraint("ec", variants=("P-256",)),)),
        ('key_usage = ["content_commitment"]', "key_usage", ("content_commitment",)),
        ('extended_key_usage = ["client_auth"]', "extended_key_usage", (ExtendedKeyUsageOID.CLIENT_AUTH,)),
        ('extended_key_usage = ["1.2.3.4"]', "extended_key_usage", (ObjectIdentifier("1.2.3.4"),)),
        ("extended_key_usage = []", "extended_key_usage", ()),
        ('subject = ["common_name", "email"]', "subject", ("common_name", "email")),
        ("dns = []", "names", NamePatterns(dns=())),
        ('uris = ["spiffe://a.example/*"]', "names", NamePatterns(uris=("spiffe://a.example/*",))),
        ('emails = ["@example.org"]', "names", NamePatterns(emails=("@example.org",))),
        ("wildcards = false", "wildcards", False),
        ("require_san = false", "require_san", False),
        ("host_common_name = false", "host_common_name", False),
        ("unique_common_name = true", "unique_common_name", True),
        ('unknown_extensions = "refuse"', "unknown_extensions", "refuse"),
        ("crl_distribution_points = false", "crl_distribution_points", False),
        ("authority_information_access = false", "authority_information_access", False),
    ],
)
def test_fields(line: str, field: str, expected: Any) -> None:  # noqa: ANN401  # of any type
    """Every field of a leaf's profile can be said."""
    assert getattr(parse_profiles(f"[profiles.server]\n{line}")["server"], field) == expected


def test_fields_that_need_others() -> None:
    """NoRevAvail goes without CRL distribution points; a path length is a CA's."""
    server = "[profiles.server]\nno_rev_avail = true\ncrl_distribution_points = false\n"
    found = parse_profiles(server + "[profiles.intermediate]\npath_length = 2")
    assert found["server"].no_rev_avail
    assert found["intermediate"].path_length == 2


@pytest.mark.parametrize(
    "text,message",
    [
        ("[profiles.server\n", r"not TOML: .*line 1"),
        ('[profiles.server]\n\nmax_lifetime = "1d\n', r"not TOML: .*line 3"),
        ("[profile.server]", "profile: not known here; known are profiles"),
        ("profiles = 3", "profiles: "),
        ('[profiles.server]\nmax_liftime = "1d"', "profiles.server.max_liftime: not known here; known are extends,"),
        ("[profiles.web]", "profiles.web: is new: say extends = one of server, client, peer, ci, intermediate"),
        ('[profiles.web]\nextends = "x"', "profiles.web: extends 'x', which is not known: say extends = one of server"),
        ('[profiles.Web]\nextends = "ci"', "profiles.Web: a profile's name is 1 to 64 lower-case"),
        ("[profiles.server]\nmax_lifetime = 90", "max_lifetime: write a lifetime as text"),
        ('[profiles.server]\nmax_lifetime = "15 parsecs"', "max_lifetime: '15 parsecs' is no lifetime such as 15m"),
        ('[profiles.server]\nmin_lifetime = "0s"', "min_lifetime: a lifetime of 0s is none"),
        ('[profiles.server]\ndefault_lifetime = "999999999w"', "default_lifetime: .*calendar"),
        (
            '[profiles.server]\nmin_lifetime = "30s"',
            "profiles.server: lifetimes must rise from 1m: min 30s",
        ),
        ('[profiles.server]\nmax_lifetime = "1d"', "lifetimes must rise from 1m: min 1m, default 90d, max 1d"),
        ('[profiles.server]\nbackdate = "399d"', "profiles.server.backdate: at most max_lifetime, 398d"),
        ('[profiles.server]\nbackdate = "-1s"', "backdate: '-1s' is no lifetime"),
        ('[profiles.server]\ncertificate_type = "x"', "certificate_type: 'x' is none of ca"),
        ('[profiles.server]\ncertificate_type = "ca"', "certificate_type: ca belongs to CA profiles"),
        ("[profiles.server]\nkeys = []", "keys: "),
        ('[profiles.server]\nkeys = ["dsa"]', "keys.0: 'dsa' names no keys: keys are rsa, ec, ed25519 and mldsa"),
        ('[profiles.server]\nkeys = ["rsa:1024"]', "keys.0: 'rsa:1024' names no keys: RSA keys are rsa:2048-8192"),
        ('[profiles.server]\nkey_usage = ["sign"]', "key_usage.0: "),
        ('[profiles.server]\nkey_usage = ["key_cert_sign"]', "key_usage: key_cert_sign belongs to CA profiles"),
        ('[profiles.server]\nkey_usage = ["crl_sign"]', "key_usage: crl_sign belongs to CA profiles"),
        ('[profiles.intermediate]\nkey_usage = ["crl_sign"]', "key_usage: key_cert_sign belongs to CA profiles"),
        ('[profiles.server]\nextended_key_usage = ["web"]', "extended_key_usage.0: 'web' is none of server_auth,"),
        ('[profiles.server]\nextended_key_usage = ["2.5.29.37.0"]', "anyExtendedKeyUsage would allow everything"),
        ('[profiles.server]\nextended_key_usage = ["time_stamping", "client_auth"]', "time_stamping stands alone"),
        ('[profiles.server]\nsubject = ["title"]', "profiles.server.subject: title: known are country, state,"),
        ('[profiles.server]\ndns = ["a.*.b"]', "profiles.server.dns: 'a.\\*.b'"),
        ('[profiles.server]\nip_ranges = ["10.0.0.1/8"]', "profiles.server.ip_ranges: '10.0.0.1/8' is no network"),
        ('[profiles.server]\nuris = ["x"]', "profiles.server.uris: 'x' is no URI pattern"),
        ('[profiles.server]\nemails = ["x"]', "profiles.server.emails: 'x' is no e-mail pattern"),
        ('[profiles.server]\nwildcards = "yes"', "wildcards: "),
        ('[profiles.server]\nunknown_extensions = "copy"', "unknown_extensions: "),
        ("[profiles.server]\nno_rev_avail = true", "no_rev_avail: set crl_distribution_points = false"),
        (
            "[profiles.intermediate]\nno_rev_avail = true\ncrl_distribution_points = false",
            "no_rev_avail: a CA certificate must be revocable",
        ),
        ("[profiles.server]\npath_length = 0", "path_length: only a CA profile has one"),
        ("[profiles.intermediate]\npath_length = -1", "path_length: "),
    ],
)
def test_mistakes(text: str, message: str) -> None:
    """A wrong file is refused, and the message names the line or the entry and what would be right."""
    with pytest.raises(Invalid, match=message):
        parse_profiles(text)


def test_all_mistakes_of_form_at_once() -> None:
    """Mistakes of form are told together."""
    with pytest.raises(Invalid, match=r"(?s)wildcards.*require_san"):
        parse_profiles("[profiles.server]\nwildcards = 1\nrequire_san = 2")


@pytest.mark.parametrize(
    "text,expected",
    [
        ("rsa:4096", KeySpec.rsa(4096)),
        ("ec:P-384", KeySpec.ec("P-384")),
        ("ed25519", KeySpec.ed25519()),
        ("mldsa:ML-DSA-65", KeySpec.mldsa("ML-DSA-65")),
    ],
)
def test_one_key(text: str, expected: KeySpec) -> None:
    """One kind of key can be said, and it is one that the same words allow."""
    assert parse_key_spec(text) == expected
    assert parse_key_constraint(text).allows(expected)
    assert not parse_key_constraint(text).allows(KeySpec.rsa(2048))


@pytest.mark.parametrize("text", ["rsa", "rsa:2048-4096", "ec", "mldsa", "", "ed25519:x", "ec:P-1", "rsa:99999"])
def test_not_one_key(text: str) -> None:
    """Several kinds, or none, are not one."""
    with pytest.raises(Invalid, match="names no keys"):
        parse_key_spec(text)


def test_constraints_in_words() -> None:
    """Which keys are allowed can be told in a refusal."""
    words = [str(parse_key_constraint(text)) for text in ("rsa:3072", "ec", "ed25519", "mldsa:ML-DSA-44")]
    assert words == ["RSA 3072-3072", "P-256/P-384/P-521", "Ed25519", "ML-DSA-44"]
