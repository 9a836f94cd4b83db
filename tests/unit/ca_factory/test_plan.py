"""Each rule of ``plan`` refuses by its name, and lets through what it should."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.ca_factory.authorities import (
    INTERMEDIATE,
    NOW,
    P256,
    RSA,
    SERVER,
    ask,
    make_intermediate,
    make_plan,
    make_root,
    refusal,
)
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.plan import check, plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, KeyConstraint, Limits, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.ca_factory.subject import SUBJECT_ATTRIBUTES
from tiny_ca.ca_factory.subject_patterns import SubjectPattern
from tiny_ca.const import CertType
from tiny_ca.exc import Forbidden, Invalid, InvalidRangeTimeCertificate, TooLarge
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.utils.rfc3339 import rfc3339

CLIENT = BUILT_IN_PROFILES["client"]
CI = BUILT_IN_PROFILES["ci"]
UNKNOWN = (x509.ObjectIdentifier("1.2.3.4"), x509.ObjectIdentifier("1.2.3.5"))
# Any extended key usage, no rule on names: for what is not about either.
OPEN = replace(CLIENT, wildcards=True, unknown_extensions="refuse")


def _names(**patterns: list[str]) -> NamePatterns:
    return NamePatterns.parse(**patterns)


def _ca(**more: Any) -> CertificateRequest:  # noqa: ANN401  # the request's own fields
    return ask("Sub CA", dns=(), **more)


class TestWhoMayAsk:
    def test_profile_outside_the_limits(self) -> None:
        """A caller limited to some profiles gets no other; an empty list is none at all."""
        assert refusal(limits=Limits(profiles=("client",))) == ("profile", "server")
        assert refusal(limits=Limits(profiles=())) == ("profile", "server")
        make_plan(limits=Limits(profiles=("server",)))

    def test_issuer_outside_the_limits(self) -> None:
        """A caller limited to some issuers gets no other."""
        issuer = make_root()
        assert ("issuer", issuer.id) == refusal(limits=Limits(issuers=("0123456789abcdef",)))
        make_plan(limits=Limits(issuers=(issuer.id,)))


class TestAuthority:
    @pytest.mark.parametrize("asked", [{"requests_ca": True}, {"certificate_type": CertType.CA}], ids=str)
    def test_a_leaf_profile_makes_no_ca(self, asked: dict[str, Any]) -> None:
        """A request for a CA certificate is refused under every profile but a CA's."""
        for profile in BUILT_IN_PROFILES.values():
            if not profile.ca:
                assert refusal(ask(**asked), profile=profile) == ("certificate_authority", "CA:TRUE")
        make_plan(_ca(**asked), profile=INTERMEDIATE)

    def test_nothing_stands_below_path_length_zero(self) -> None:
        """A CA whose path length is 0 makes no CA, but leaves."""
        issuer = make_intermediate(make_root())
        assert refusal(_ca(), profile=INTERMEDIATE, issuer=issuer) == ("path_length", 0)
        make_plan(issuer=issuer)

    @pytest.mark.parametrize("bound,asked", [(2, 2), (1, 1), (1, 5)])
    def test_path_length_falls_with_each_ca(self, bound: int, asked: int) -> None:
        """A CA below another has a smaller path length."""
        issuer, deep = make_root(path_length=bound), replace(INTERMEDIATE, path_length=None)
        assert ("path_length", asked) == refusal(_ca(path_length=asked), profile=deep, issuer=issuer)
        constraints = make_plan(_ca(path_length=bound - 1), profile=deep, issuer=issuer).extensions[0].value
        assert x509.BasicConstraints(ca=True, path_length=bound - 1) == constraints

    def test_path_length_of_the_profile(self) -> None:
        """The profile's path length is the most, and the default."""
        assert refusal(_ca(path_length=1), profile=INTERMEDIATE) == ("path_length", 1)
        assert (
            x509.BasicConstraints(ca=True, path_length=0) == make_plan(_ca(), profile=INTERMEDIATE).extensions[0].value
        )

    def test_path_length_of_everything_above_counts(self) -> None:
        """An issuer that says nothing is still bound by the CAs above it."""
        top, deep = make_root(path_length=1), replace(INTERMEDIATE, path_length=None)
        issuer = make_intermediate(top)
        silent = replace(issuer, chain=(make_root(common_name="Above", path_length=1).certificate,))
        assert issuer.path_length == silent.path_length == 0
        assert refusal(_ca(), profile=deep, issuer=silent) == ("path_length", 0)

    def test_negative_path_length(self) -> None:
        """A path length below zero is no path length."""
        with pytest.raises(Invalid, match="0 to 255, not -1"):
            make_plan(_ca(path_length=-1), profile=INTERMEDIATE)

    def test_a_leaf_has_no_path_length(self) -> None:
        """A path length asked for a leaf is not given."""
        made = make_plan(ask(path_length=3))
        assert x509.BasicConstraints(ca=False, path_length=None) == made.extensions[0].value


class TestKey:
    @pytest.mark.parametrize(
        "constraint,good,bad",
        [
            (KeyConstraint("rsa", min_size=2048, max_size=2048), RSA, P256),
            (KeyConstraint("ec", variants=("P-256",)), P256, KeySpec.ec("P-384")),
            (KeyConstraint("ed25519"), KeySpec.ed25519(), KeySpec.mldsa("ML-DSA-44")),
            (KeyConstraint("mldsa", variants=("ML-DSA-65",)), KeySpec.mldsa("ML-DSA-65"), KeySpec.mldsa("ML-DSA-44")),
            (KeyConstraint("rsa", min_size=3072, max_size=4096), KeySpec.rsa(3072), RSA),
        ],
        ids=str,
    )
    def test_kinds(self, constraint: KeyConstraint, good: KeySpec, bad: KeySpec) -> None:
        """A key of another kind or size than the profile's is refused."""
        profile = replace(SERVER, keys=(constraint,))
        assert ("key", str(bad)) == refusal(ask(spec=bad), profile=profile)
        request = replace(ask(), key_spec=good, public_key=None)
        check(request, profile=profile, limits=NO_LIMITS, issuer=make_root(), now=NOW)

    def test_no_use_for_the_key(self) -> None:
        """A key that can be used for nothing the profile gives is refused: keyUsage would be empty."""
        profile = replace(SERVER, key_usage=("key_encipherment",))
        assert refusal(profile=profile) == ("key", "EC P-256")
        make_plan(ask(spec=RSA), profile=profile)

    @pytest.mark.parametrize(
        "spec,expected",
        [
            (RSA, {"digital_signature", "key_encipherment"}),
            (P256, {"digital_signature", "key_agreement"}),
            (KeySpec.ed25519(), {"digital_signature"}),
            (KeySpec.mldsa("ML-DSA-44"), {"digital_signature"}),
        ],
        ids=["RSA", "EC", "Ed25519", "ML-DSA"],
    )
    def test_usages_fit_the_key(self, spec: KeySpec, expected: set[str]) -> None:
        """A key gets the profile's usages that keys of its kind can have."""
        profile = replace(SERVER, key_usage=("digital_signature", "key_encipherment", "key_agreement"))
        usage = make_plan(ask(spec=spec), profile=profile).extensions[1].value
        names = ("digital_signature", "key_encipherment", "key_agreement", "key_cert_sign", "crl_sign")
        assert expected == {name for name in names if getattr(usage, name)}

    def test_a_key_must_be_there(self) -> None:
        """A request whose key is not made yet can be checked, not planned."""
        request = ask(public_key=None)
        check(request, profile=SERVER, limits=NO_LIMITS, issuer=make_root(), now=NOW)
        with pytest.raises(Invalid, match="no key"):
            make_plan(request)


class TestExtensions:
    def test_unknown_ones(self) -> None:
        """Extensions that the profile does not know are dropped or refused, as it says; never copied."""
        request = ask(unknown_extensions=UNKNOWN)
        assert refusal(request, profile=OPEN) == ("extensions", "1.2.3.4, 1.2.3.5")
        assert not set(UNKNOWN) & {extension.oid for extension in make_plan(request).extensions}

    @pytest.mark.parametrize(
        "usage", [ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE, UNKNOWN[0]], ids=str
    )
    def test_extended_key_usage_outside_the_profile(self, usage: x509.ObjectIdentifier) -> None:
        """An extended key usage that the profile does not give is refused, known or not."""
        rule, _ = refusal(ask(extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH, usage)))
        assert rule == "extended_key_usage"

    def test_any_extended_key_usage(self) -> None:
        """The usage that stands for all is refused whatever the profile says."""
        usages = (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)
        profile = replace(SERVER, extended_key_usage=usages)
        assert refusal(ask(extended_key_usage=usages), profile=profile)[0] == "extended_key_usage"

    @pytest.mark.parametrize("asked", [None, (), (ExtendedKeyUsageOID.CLIENT_AUTH,) * 2], ids=str)
    def test_extended_key_usage_inside_the_profile(self, asked: tuple[x509.ObjectIdentifier, ...] | None) -> None:
        """What is asked is given, each once; who asks for nothing gets all of the profile's."""
        usage = make_plan(ask(extended_key_usage=asked), profile=CI).extensions[2].value
        expected = [ExtendedKeyUsageOID.CLIENT_AUTH] if asked else list(CI.extended_key_usage)
        assert x509.ExtendedKeyUsage(expected) == usage


class TestNames:
    @pytest.mark.parametrize("name", ["a b", "*.com", "a.*.b.example", "*", "under_score.example", "alice@example.org"])
    def test_host_common_name(self, name: str) -> None:
        """Where a profile wants hosts, a common name that is none is refused; a broken wildcard is everywhere."""
        assert ("common_name", name) == refusal(ask(name))
        if "*" in name:
            with pytest.raises(Invalid, match="no valid wildcard"):
                make_plan(ask(name, dns=()), profile=CLIENT)
        else:
            make_plan(ask(name, dns=()), profile=CLIENT)

    @pytest.mark.parametrize("name", ["App.Example.org", "192.0.2.7", "2001:db8::7", "*.example.org"])
    def test_host_common_name_joins_the_san(self, name: str) -> None:
        """A common name that is a host stands in the SAN as well, in normal form; the subject keeps its spelling."""
        made = make_plan(ask(name, dns=()))
        assert [name.lower()] == [value for _, value in made.names.items()]
        assert name == made.common_name

    def test_only_tls_servers_join(self) -> None:
        """Under a profile that serves no TLS the SAN is what was asked."""
        assert not make_plan(ask(dns=()), profile=CLIENT).names
        assert make_plan(ask(dns=()), profile=CI).names.dns == ("app.example.org",)

    def test_dropped_attributes(self) -> None:
        """Attributes that the profile does not keep are in no subject, and their names count for nothing."""
        subject = ((NameOID.EMAIL_ADDRESS, "a@example.org"), (NameOID.COMMON_NAME, "app.example.org"))
        made = make_plan(ask(subject=subject), profile=replace(SERVER, names=_names(emails=[])))
        assert [attribute.oid for attribute in made.subject] == [NameOID.COMMON_NAME]

    def test_require_san(self) -> None:
        """A profile that wants a SAN refuses a request without one, and one with neither subject nor SAN is invalid."""
        profile = replace(CLIENT, require_san=True)
        assert refusal(ask("Alice", dns=()), profile=profile) == ("require_san", "")
        make_plan(ask("Alice", dns=(), emails=["a@example.org"]), profile=profile)

    def test_nothing_to_name(self) -> None:
        """Neither subject nor SAN: nobody can be named so."""
        with pytest.raises(Invalid, match="neither"):
            make_plan(ask(None, dns=()), profile=CLIENT)
        only_dropped = ask(subject=((NameOID.COMMON_NAME, "a"),), dns=())
        with pytest.raises(Invalid, match="neither"):
            make_plan(only_dropped, profile=replace(CLIENT, subject=("country",)))

    def test_a_ca_has_a_name(self) -> None:
        """A CA without a subject could issue nothing, be its SAN what it may."""
        with pytest.raises(Invalid, match="a CA certificate needs a subject"):
            make_plan(ask(None), profile=INTERMEDIATE)

    def test_an_empty_subject_makes_the_san_critical(self) -> None:
        """With a SAN alone, the SAN is critical; beside a subject it is not (RFC 5280 §4.2.1.6)."""
        for common_name, critical in ((None, True), ("app.example.org", False)):
            found = [each for each in make_plan(ask(common_name)).extensions if each.oid.dotted_string == "2.5.29.17"]
            assert [critical] == [each.critical for each in found]

    def test_one_name_too_many(self) -> None:
        """The common name counts among the 100 names."""
        hundred = [f"a{number}.example.org" for number in range(100)]
        assert len(make_plan(ask("a7.example.org", dns=hundred)).names) == 100
        with pytest.raises(TooLarge, match="101 names, the common name included"):
            make_plan(ask("more.example.org", dns=hundred))

    def test_wildcards(self) -> None:
        """A wildcard is for profiles that give one, be it in the SAN or as common name."""
        profile = BUILT_IN_PROFILES["peer"]
        assert refusal(ask(dns=["*.example.org"]), profile=profile) == ("wildcards", "*.example.org")
        assert refusal(ask("*.example.org"), profile=profile) == ("wildcards", "*.example.org")
        assert refusal(ask("*.example.org", dns=()), profile=CLIENT) == ("wildcards", "*.example.org")
        make_plan(ask(dns=["*.example.org"]))

    @pytest.mark.parametrize(
        "patterns,names,offender",
        [
            ({"dns": ["*.example.org"]}, {"dns": ["a.example.com"]}, "a.example.com"),
            ({"dns": ["*.example.org"]}, {"common_name": "example.org"}, "example.org"),
            ({"dns": []}, {}, "app.example.org"),
            ({"ip_ranges": ["10.0.0.0/8"]}, {"ip": ["192.0.2.1"]}, "192.0.2.1"),
            ({"uris": ["spiffe://a.example/*"]}, {"uris": ["spiffe://b.example/x"]}, "spiffe://b.example/x"),
            ({"emails": ["@example.org"]}, {"emails": ["a@example.com"]}, "a@example.com"),
            ({"ip_ranges": []}, {"common_name": "192.0.2.1"}, "192.0.2.1"),
        ],
        ids=str,
    )
    def test_patterns(self, patterns: dict[str, list[str]], names: dict[str, Any], offender: str) -> None:
        """A name outside the patterns is refused, be they the profile's or the caller's, the common name included."""
        request = ask(**names)
        assert ("names", offender) == refusal(request, profile=replace(SERVER, names=_names(**patterns)))
        assert ("limits.names", offender) == refusal(request, limits=Limits(names=_names(**patterns)))

    def test_patterns_that_cover(self) -> None:
        """Covered names pass."""
        patterns = _names(dns=["*.example.org"], ip_ranges=["192.0.2.0/24"], emails=["@example.org"], uris=["*"])
        request = ask(ip=["192.0.2.1"], emails=["a@example.org"], uris=["spiffe://a.example/x"])
        make_plan(request, profile=replace(SERVER, names=patterns), limits=Limits(names=patterns))

    @pytest.mark.parametrize("profile", [SERVER, CLIENT], ids=lambda profile: profile.name)
    def test_the_common_name_counts_where_it_joins_no_san(self, profile: Profile) -> None:
        """A host in the common name is a name that is claimed, whether or not the SAN repeats it."""
        request = ask("evil.example.com")
        limits = Limits(names=_names(dns=["*.example.org"]))
        assert refusal(request, profile=profile, limits=limits) == ("limits.names", "evil.example.com")

    def test_a_common_name_that_is_no_host(self) -> None:
        """Once names are limited, a common name that is no host is nobody's."""
        limits = Limits(names=_names(dns=["*.example.org"]))
        assert refusal(ask("Alice A", dns=()), profile=CLIENT, limits=limits) == ("limits.names", "Alice A")
        make_plan(ask("Alice A", dns=()), profile=CLIENT)

    @pytest.mark.parametrize(
        "names,offender",
        [
            ({"ip": ["192.0.2.1"]}, "192.0.2.1"),
            ({"uris": ["spiffe://app.example.org/x"]}, "spiffe://app.example.org/x"),
            ({"emails": ["a@app.example.org"]}, "a@app.example.org"),
        ],
        ids=str,
    )
    def test_limited_dns_names_limit_the_other_kinds(self, names: dict[str, Any], offender: str) -> None:
        """Once DNS names are limited, names of another kind need patterns of their own."""
        limits = Limits(names=_names(dns=["*.example.org"]))
        assert ("limits.names", offender) == refusal(ask(**names), limits=limits)

    @pytest.mark.parametrize(
        "attribute, value",
        [
            (NameOID.ORGANIZATION_NAME, "system:masters"),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "Ops"),
            (NameOID.COUNTRY_NAME, "DE"),
            (NameOID.STATE_OR_PROVINCE_NAME, "Hessen"),
            (NameOID.LOCALITY_NAME, "Fulda"),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("kind", ["dns", "ip_ranges", "uris", "emails"])
    def test_limited_names_limit_the_subject(self, kind: str, attribute: ObjectIdentifier, value: str) -> None:
        """Once names are limited, an attribute of the subject needs a pattern, or a profile that drops it."""
        request = ask(subject=((NameOID.COMMON_NAME, "app.example.org"), (attribute, value)))
        covering = {"dns": "*.example.org", "ip_ranges": "10.0.0.0/8", "uris": "*", "emails": "*"}
        names = _names(**{kind: [covering[kind]]})
        assert refusal(request, limits=Limits(names=names)) == ("limits.subject", value)
        name = next(name for name, oid in SUBJECT_ATTRIBUTES.items() if oid == attribute)
        for pattern in (f"{name}={value}", f"{name}=*"):
            make_plan(request, limits=Limits(names=names, subject=(SubjectPattern.parse(pattern),)))
        other = SubjectPattern.parse("organization=system:nodes")
        assert refusal(request, limits=Limits(names=names, subject=(other,))) == ("limits.subject", value)
        make_plan(request, profile=replace(SERVER, subject=("common_name",)), limits=Limits(names=names))

    def test_a_limited_subject(self) -> None:
        """Patterns of the subject limit it where names are not limited; case and blanks count."""
        limits = Limits(subject=(SubjectPattern.parse("organization=Example"),))
        for value, passes in (("Example", True), ("example", False), ("Example ", False)):
            request = ask(subject=((NameOID.COMMON_NAME, "app.example.org"), (NameOID.ORGANIZATION_NAME, value)))
            if passes:
                make_plan(request, limits=limits)
            else:
                assert refusal(request, limits=limits) == ("limits.subject", value)

    def test_an_email_in_the_subject(self) -> None:
        """A mailbox in the subject is a name like one in the SAN."""
        subject = ((NameOID.COMMON_NAME, "app.example.org"), (NameOID.EMAIL_ADDRESS, "a@evil.example"))
        request, patterns = ask(subject=subject), _names(dns=["*.example.org"], emails=["@example.org"])
        assert refusal(request, profile=CLIENT, limits=Limits(names=patterns)) == ("limits.names", "a@evil.example")
        assert refusal(request, profile=replace(CLIENT, names=patterns)) == ("names", "a@evil.example")
        make_plan(request, profile=CLIENT)

    @pytest.mark.parametrize("name", ["Issuing", "ISSUING", " issuing ", "Root"])
    def test_the_name_of_a_ca(self, name: str) -> None:
        """No other certificate bears the name of its CA or of one above, however it is spelled."""
        issuer = make_intermediate(make_root())
        assert refusal(ask(name, dns=()), profile=CLIENT, issuer=issuer)[0] == "subject"
        make_plan(ask("Issuing 2", dns=()), profile=CLIENT, issuer=issuer)


class TestTime:
    @pytest.mark.parametrize("seconds", [0, -1, 59])
    def test_too_short(self, seconds: int) -> None:
        """A lifetime below one minute is invalid; zero is not the default."""
        with pytest.raises(Invalid, match=f"{seconds}s is less than profile 'server' allows") as caught:
            make_plan(ask(lifetime=timedelta(seconds=seconds)))
        assert caught.value.field == "lifetime"

    def test_too_long(self) -> None:
        """A lifetime above the profile's or the caller's is refused, never cut."""
        assert refusal(ask(lifetime=timedelta(days=399))) == ("max_lifetime", "399d")
        limits = Limits(max_lifetime=timedelta(days=1))
        assert refusal(ask(lifetime=timedelta(hours=25)), limits=limits) == ("limits.max_lifetime", "25h")
        assert refusal(limits=limits) == ("limits.max_lifetime", "90d")
        assert refusal(limits=Limits(max_lifetime=timedelta(0))) == ("limits.max_lifetime", "90d")
        make_plan(ask(lifetime=timedelta(hours=24)), limits=limits)

    def test_the_default(self) -> None:
        """Without a lifetime the profile's counts from now; the window begins a minute earlier for clocks that lag."""
        made = make_plan(now=NOW + timedelta(microseconds=7))
        assert (NOW - timedelta(minutes=1), NOW + timedelta(days=90)) == (made.not_valid_before, made.not_valid_after)

    @given(
        lifetime=st.timedeltas(timedelta(minutes=1), timedelta(days=398)),
        backdate=st.timedeltas(timedelta(0), timedelta(days=500)),
        limit=st.none() | st.timedeltas(timedelta(minutes=1), timedelta(days=500)),
        offset=st.none() | st.timedeltas(timedelta(days=-400), timedelta(days=400)),
    )
    def test_the_window_is_what_was_allowed(
        self, lifetime: timedelta, backdate: timedelta, limit: timedelta | None, offset: timedelta | None
    ) -> None:
        """The window is never longer than allowed, backdate included, is not over, and inside the issuer's."""
        profile, limits = replace(SERVER, backdate=backdate), Limits(max_lifetime=limit)
        issuer = make_root(now=NOW - timedelta(days=30))
        valid_from = None if offset is None else NOW + offset
        try:
            made = make_plan(
                ask(lifetime=lifetime, valid_from=valid_from), profile=profile, limits=limits, issuer=issuer
            )
        except (Forbidden, Invalid):
            return

        longest = profile.max_lifetime if limit is None else min(limit, profile.max_lifetime)
        assert timedelta(0) < made.not_valid_after - made.not_valid_before <= longest
        assert NOW < made.not_valid_after <= NOW + longest
        assert issuer.not_valid_before <= made.not_valid_before
        assert issuer.not_valid_after >= made.not_valid_after
        sign_certificate(made)

    @pytest.mark.parametrize("valid_from", [NOW - timedelta(minutes=2), NOW - timedelta(days=700)])
    def test_a_start_in_the_past(self, valid_from: datetime) -> None:
        """A start earlier than the backdate is invalid."""
        with pytest.raises(Invalid, match="is in the past"):
            make_plan(ask(valid_from=valid_from))
        make_plan(ask(valid_from=NOW - timedelta(seconds=60)), issuer=make_root(now=NOW - timedelta(days=1)))

    def test_an_end_in_the_past(self) -> None:
        """A window that is over before it is signed is invalid, though the backdate would take its start."""
        profile = replace(SERVER, backdate=timedelta(hours=2))
        asked = ask(valid_from=NOW - timedelta(hours=1), lifetime=timedelta(hours=1))
        with pytest.raises(InvalidRangeTimeCertificate, match="would have ended already"):
            make_plan(asked, profile=profile)

    def test_a_start_in_the_future(self) -> None:
        """A later start is given as far as the end is no later than the longest lifetime from now on."""
        start = NOW + timedelta(days=300)
        made = make_plan(ask(valid_from=start, lifetime=timedelta(days=98)))
        assert (start, NOW + timedelta(days=398)) == (made.not_valid_before, made.not_valid_after)
        rule, value = refusal(ask(valid_from=start, lifetime=timedelta(days=99)))
        assert (rule, value) == ("max_lifetime", rfc3339(start))

    @pytest.mark.parametrize(
        "start",
        [
            datetime(2026, 6, 1, 12, 30),  # noqa: DTZ001  # naive on purpose
            datetime(2026, 6, 1, 14, 30, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 6, 1, 12, 30, 0, 999, tzinfo=UTC),
        ],
        ids=str,
    )
    def test_zones(self, start: datetime) -> None:
        """A start is UTC in whole seconds, whatever it was given in."""
        made = make_plan(ask(valid_from=start))
        assert NOW + timedelta(minutes=30) == made.not_valid_before
        assert made.not_valid_before.tzinfo == UTC

    @pytest.mark.parametrize(
        "start",
        [
            datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
            datetime.max.replace(tzinfo=timezone(timedelta(hours=-12))),
            datetime(1949, 12, 31, tzinfo=UTC),
        ],
        ids=str,
    )
    def test_starts_off_the_calendar(self, start: datetime) -> None:
        """A start that no certificate can hold is a wrong range, not a crash."""
        with pytest.raises(InvalidRangeTimeCertificate, match="1950 to 9999"):
            make_plan(ask(valid_from=start))

    def test_ends_off_the_calendar(self) -> None:
        """An end past the year 9999 is a wrong range, with a start or without."""
        ages = timedelta(days=365 * 9000)
        profile = replace(SERVER, max_lifetime=ages, backdate=ages)
        for valid_from in (None, NOW):
            with pytest.raises(InvalidRangeTimeCertificate, match="past the year 9999"):
                make_plan(ask(lifetime=ages, valid_from=valid_from), profile=profile)

    def test_a_backdate_stops_where_the_issuer_began(self) -> None:
        """A long backdate does not begin before the issuer, nor before 1950."""
        ages = timedelta(days=365 * 900)
        profile = replace(SERVER, max_lifetime=ages, backdate=ages)
        assert NOW - timedelta(minutes=1) == make_plan(profile=profile).not_valid_before

    def test_nothing_outlives_its_issuer(self) -> None:
        """A certificate that would outlive its CA, or one above, is refused."""
        issuer = make_intermediate(make_root(), lifetime=timedelta(days=80))
        assert refusal(issuer=issuer) == ("issuer_validity", "90d")
        make_plan(ask(lifetime=timedelta(days=80)), issuer=issuer)
        above = replace(make_root(), chain=(issuer.certificate,))
        assert refusal(issuer=above) == ("issuer_validity", "90d")

    def test_nothing_ends_before_its_issuer_begins(self) -> None:
        """A CA whose time has not come signs nothing that ends before."""
        issuer = make_root(now=NOW + timedelta(days=90, minutes=1))
        assert refusal(issuer=issuer) == ("issuer_validity", "90d")


@pytest.mark.parametrize("profile", BUILT_IN_PROFILES.values(), ids=lambda profile: profile.name)
def test_serial_numbers(profile: Profile) -> None:
    """A serial number is made, or taken as given, zero included: lint sees it."""
    made = [
        plan(ask(), profile=profile, limits=NO_LIMITS, issuer=make_root(), now=NOW, serial_number=number)
        for number in (None, 0, 7)
    ]
    assert made[0].serial_number.bit_length() == 159
    assert [each.serial_number for each in made[1:]] == [0, 7]
