"""Name constraints (RFC 5280 §4.2.1.10): what plan refuses by them, what lint finds, and that openssl agrees."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_elsewhere import foreign_ca
from tests.pkilint_check import certificate_findings
from tests.running import openssl
from tests.strategies import dns_names, email_addresses, labels
from tests.unit.ca_factory.authorities import (
    INTERMEDIATE,
    NOW,
    ask,
    make_intermediate,
    make_plan,
    make_root,
    refusal,
)
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.lint import lint
from tiny_ca.ca_factory.name_constraints import NameConstraints, Subtrees, described, violations
from tiny_ca.ca_factory.name_patterns import NamePatterns
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, Limits
from tiny_ca.ca_factory.reissue import cosign
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.ca_factory.tbs import encode_tbs, signed
from tiny_ca.exc import Forbidden, Invalid, LintError, TooLarge

CLIENT = BUILT_IN_PROFILES["client"]
NOBODY = x509.Name([])


def _subtrees(given: Mapping[str, Sequence[str]], prefix: str = "permitted_") -> Subtrees:
    dns, ip_ranges, emails, uris = (given.get(kind, ()) for kind in ("dns", "ip_ranges", "emails", "uris"))
    return Subtrees.parse(dns=dns, ip_ranges=ip_ranges, emails=emails, uris=uris, prefix=prefix)


def _constraints(
    permitted: Mapping[str, Sequence[str]] | None = None, excluded: Mapping[str, Sequence[str]] | None = None
) -> NameConstraints:
    return NameConstraints(permitted=_subtrees(permitted or {}), excluded=_subtrees(excluded or {}, "excluded_"))


def _issuer(
    permitted: Mapping[str, Sequence[str]] | None = None, excluded: Mapping[str, Sequence[str]] | None = None
) -> Issuer:
    return make_intermediate(make_root(), name_constraints=_constraints(permitted, excluded))


def _broken(names: AlternativeNames, issuer: Issuer, subject: x509.Name = NOBODY) -> list[tuple[str, str]]:
    above = (issuer.certificate, *issuer.chain)
    return [(kind, name) for kind, name, _ in violations(names.general_names(), subject, above)]


class TestMaking:
    def test_every_kind(self) -> None:
        """Each kind of subtree is encoded as the standard has it, critical, and pkilint finds nothing."""
        permitted = {
            "dns": ["Example.org"],
            "ip_ranges": ["10.0.0.0/8", "2001:db8::/32"],
            "emails": ["example.org", ".example.org", "a@example.com"],
            "uris": [".example.org"],
        }
        certificate = _issuer(permitted, {"dns": ["no.example.org"]}).certificate
        extension = certificate.extensions.get_extension_for_class(x509.NameConstraints)
        assert extension.critical
        assert described(extension.value.permitted_subtrees) == [
            *("dns:example.org", "ip:10.0.0.0/8", "ip:2001:db8::/32"),
            *("email:example.org", "email:.example.org", "email:a@example.com", "uri:.example.org"),
        ]
        assert described(extension.value.excluded_subtrees) == ["dns:no.example.org"]
        assert certificate_findings(certificate) == []

    def test_a_leaf_has_none(self) -> None:
        """Asked for in a leaf they are refused."""
        assert refusal(ask(name_constraints=_constraints({"dns": ["example.org"]}))) == ("name_constraints", None)

    @pytest.mark.parametrize(
        "kind,value",
        [
            ("dns", ".example.org"),
            ("dns", "*.example.org"),
            ("dns", ""),
            ("dns", "10.1.2.3"),
            ("dns", "ex ample.org"),
            ("ip_ranges", "10.0.0.1/8"),
            ("ip_ranges", "10.0.0.0/33"),
            ("ip_ranges", "fe80::%1/64"),
            ("ip_ranges", "example.org"),
            ("emails", "@example.org"),
            ("emails", "*.example.org"),
            ("emails", "a b@example.org"),
            ("uris", "https://example.org"),
            ("uris", "example.org/a"),
            ("uris", "example.org:443"),
            ("uris", "*.example.org"),
        ],
    )
    def test_no_subtree(self, kind: str, value: str) -> None:
        """What is no subtree is refused, by the name of its field."""
        with pytest.raises(Invalid) as caught:
            _subtrees({kind: [value]})
        assert caught.value.field == f"permitted_{kind}"

    def test_none_and_too_many(self) -> None:
        """Constraints say something, and not too much."""
        with pytest.raises(Invalid, match="at least one"):
            NameConstraints()
        with pytest.raises(TooLarge, match="101"):
            NameConstraints(permitted=Subtrees.parse(dns=[f"a{number}.example" for number in range(101)]))

    def test_within_those_above(self) -> None:
        """A CA below may be permitted less than the one above, never something else; what is excluded is free."""
        deep = replace(INTERMEDIATE, path_length=None)
        top = make_intermediate(
            make_root(common_name="Wide"),
            name_constraints=_constraints({"dns": ["example.org"], "emails": [".example.org"]}),
        )
        issuer = replace(top, certificate=_with_path_length(top), chain=top.chain)
        for permitted in ({"dns": ["a.example.org"]}, {"ip_ranges": ["10.0.0.0/8"]}, {"emails": ["a@b.example.org"]}):
            request = ask("Sub CA", dns=(), name_constraints=_constraints(permitted, {"dns": ["example.net"]}))
            make_plan(request, profile=deep, issuer=issuer)
        for permitted, value in (
            ({"dns": ["org"]}, "org"),
            ({"dns": ["a.example.org", "example.com"]}, "example.com"),
            ({"emails": ["example.org"]}, "example.org"),
        ):
            request = ask("Sub CA", dns=(), name_constraints=_constraints(permitted))
            assert refusal(request, profile=deep, issuer=issuer) == ("name_constraints", value)

    def test_a_renewal_keeps_them(self) -> None:
        """What a CA's certificate is limited to, a request that copies it asks for again."""
        constraints = _constraints({"dns": ["example.org"], "ip_ranges": ["10.0.0.0/8"]}, {"uris": [".example.org"]})
        certificate = make_intermediate(make_root(), name_constraints=constraints).certificate
        assert CertificateRequest.from_certificate(certificate).name_constraints == constraints

    def test_a_renewal_of_what_is_not_known(self) -> None:
        """Constraints of a kind that is not signed here are not dropped: the request is refused."""
        name = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example")]))
        certificate = foreign_ca(more=[(x509.NameConstraints([name], None), True)]).certificate
        with pytest.raises(Invalid, match="DirectoryName is not supported"):
            CertificateRequest.from_certificate(certificate)

    def test_who_is_limited_in_names_makes_no_ca(self) -> None:
        """A caller with name limits gets no CA, which could sign outside them."""
        limits = Limits(names=NamePatterns.parse(dns=["*"]))
        assert refusal(ask("ca.example.org", dns=()), profile=INTERMEDIATE, limits=limits) == (
            "limits.names",
            "CA:TRUE",
        )


def _with_path_length(top: Issuer) -> x509.Certificate:
    """The same CA with room below it."""
    request = CertificateRequest.from_certificate(top.certificate)
    made = make_plan(
        replace(request, path_length=1, requests_ca=False, public_key=top.signer.public_key),
        profile=replace(INTERMEDIATE, path_length=None),
        issuer=make_root(common_name="Wide"),
    )
    return sign_certificate(made)


class TestNames:
    @pytest.mark.parametrize(
        "permitted,inside,outside",
        [
            (
                "example.org",
                ["example.org", "a.example.org", "*.example.org"],
                ["badexample.org", "org", "*.badexample.org"],
            ),
            ("a.example.org", ["*.a.example.org"], ["*.example.org", "b.example.org"]),
        ],
    )
    def test_dns(self, permitted: str, inside: list[str], outside: list[str]) -> None:
        """A DNS subtree is a name and all below it."""
        issuer = _issuer({"dns": [permitted]})
        make_plan(ask(None, dns=inside), issuer=issuer)
        for name in outside:
            assert _broken(AlternativeNames(dns=(name,)), issuer) == [("dns", name)]
            assert refusal(ask(None, dns=[name]), issuer=issuer) == ("name_constraints", name)

    def test_excluded_dns(self) -> None:
        """An excluded name takes all below it along, and every wildcard that stands for it."""
        issuer = _issuer(excluded={"dns": ["a.example.org"]})
        for name in ("a.example.org", "b.a.example.org", "*.a.example.org", "*.example.org"):
            assert refusal(ask(None, dns=[name]), issuer=issuer) == ("name_constraints", name)
        make_plan(ask(None, dns=["example.org", "b.example.org", "*.b.example.org"]), issuer=issuer)

    def test_addresses(self) -> None:
        """A permitted range speaks for both families: of the other one, nothing is permitted then."""
        issuer = _issuer({"ip_ranges": ["10.0.0.0/8"]}, {"ip_ranges": ["10.9.0.0/16"]})
        make_plan(ask(None, dns=["a.example.org"], ip=["10.1.2.3"]), issuer=issuer)
        for address in ("192.0.2.1", "10.9.1.1", "2001:db8::1"):
            assert refusal(ask(None, ip=[address]), issuer=issuer) == ("name_constraints", address)

    @pytest.mark.parametrize(
        "permitted,inside,outside",
        [
            ("example.org", ["a@example.org"], ["a@b.example.org", "a@example.com"]),
            (".example.org", ["a@b.example.org", "a@c.b.example.org"], ["a@example.org"]),
            ("a@example.org", ["a@example.org"], ["A@example.org", "b@example.org"]),
        ],
    )
    def test_emails(self, permitted: str, inside: list[str], outside: list[str]) -> None:
        """A subtree of mailboxes is one host, all hosts below it, or one mailbox."""
        issuer = _issuer({"emails": [permitted]})
        make_plan(ask("somebody", dns=(), emails=inside), profile=CLIENT, issuer=issuer)
        for name in outside:
            request = ask("somebody", dns=(), emails=[name])
            assert refusal(request, profile=CLIENT, issuer=issuer) == ("name_constraints", name)

    @pytest.mark.parametrize(
        "permitted,inside,outside",
        [
            ("example.org", ["https://example.org/a"], ["https://a.example.org/", "spiffe://example.com/example.org"]),
            (".example.org", ["spiffe://a.example.org/b"], ["spiffe://example.org/a", "https://aexample.org/"]),
        ],
    )
    def test_uris(self, permitted: str, inside: list[str], outside: list[str]) -> None:
        """A subtree of URIs is one host or all hosts below it; a URI with an address cannot be judged."""
        issuer = _issuer({"uris": [permitted]})
        make_plan(ask("somebody", dns=(), uris=inside), profile=CLIENT, issuer=issuer)
        for name in (*outside, "https://10.1.2.3/", "https://[2001:db8::1]/"):
            request = ask("somebody", dns=(), uris=[name])
            assert refusal(request, profile=CLIENT, issuer=issuer) == ("name_constraints", name)
        excluding = _issuer(excluded={"uris": [permitted]})
        assert _broken(AlternativeNames(uri=("https://10.1.2.3/",)), excluding) == [("uri", "https://10.1.2.3/")]

    def test_kinds_that_are_not_named(self) -> None:
        """Constraints on one kind leave the others free."""
        issuer = _issuer({"dns": ["example.org"]})
        make_plan(ask(None, dns=["a.example.org"], ip=["192.0.2.1"], uris=["https://b.example.com/"]), issuer=issuer)

    def test_common_names(self) -> None:
        """A common name that verifiers take for a DNS name counts; a person's name does not."""
        issuer = _issuer({"dns": ["example.org"]})
        make_plan(ask("Jane Doe", dns=()), profile=CLIENT, issuer=issuer)
        make_plan(ask("jane", dns=()), profile=CLIENT, issuer=issuer)
        make_plan(ask("jane.example.org", dns=()), profile=CLIENT, issuer=issuer)
        assert refusal(ask("jane.example.com", dns=()), profile=CLIENT, issuer=issuer)[0] == "name_constraints"
        # OpenSSL reads digits and dots as a DNS name too, where there is no other.
        assert refusal(ask("10.1.2.3", dns=()), profile=CLIENT, issuer=issuer)[0] == "name_constraints"

    def test_the_subject_of_a_ca(self) -> None:
        """A directoryName constraint of an imported CA holds for subjects, whatever their letter case."""
        base = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Example  Org")])
        root = foreign_ca(more=[(x509.NameConstraints([x509.DirectoryName(base)], None), True)]).certificate
        inside = x509.Name([*base, x509.NameAttribute(NameOID.COMMON_NAME, "a")])
        folded = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "EXAMPLE org")])
        outside = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a"), *base])
        assert list(violations([], inside, [root])) == []
        assert list(violations([], folded, [root])) == []
        ((kind, _, why),) = violations([], outside, [root])
        assert (kind, "permits only" in why) == ("directory", True)

    def test_kinds_that_nobody_can_judge(self) -> None:
        """A name of a kind that is not known here breaks any constraint on that kind."""
        oid = x509.RegisteredID(x509.ObjectIdentifier("1.2.3.4"))
        permitted = foreign_ca(more=[(x509.NameConstraints([oid], None), True)]).certificate
        excluded = foreign_ca(more=[(x509.NameConstraints(None, [oid]), True)]).certificate
        for certificate in (permitted, excluded):
            assert [kind for kind, _, _ in violations([oid], NOBODY, [certificate])] == ["RegisteredID"]

    def test_every_ca_above_counts(self) -> None:
        """A root's constraints hold for what an unconstrained CA below it signs."""
        root = _issuer({"dns": ["example.org"]})
        issuer = replace(make_intermediate(make_root()), chain=(root.certificate, *root.chain))
        assert refusal(ask(None, dns=["a.example.com"]), issuer=issuer)[0] == "name_constraints"

    def test_cosigning(self) -> None:
        """A foreign certificate with a name outside them is not co-signed."""
        issuer = _issuer({"dns": ["example.org"]})
        foreign = sign_certificate(make_plan(ask(None, dns=["a.example.com"]), issuer=make_root(common_name="Other")))
        with pytest.raises(Forbidden) as caught:
            cosign(foreign, issuer=issuer, validity=(NOW, issuer.not_valid_after))
        assert (caught.value.rule, caught.value.value) == ("name_constraints", "a.example.com")


class TestLint:
    def _findings(self, made: Plan, against: Plan | None = None) -> tuple[str, ...]:
        signer = made.issuer.signer if made.issuer else SoftwareSigner(None)  # type: ignore[arg-type]  # never
        encoded = x509.load_der_x509_certificate(signed(encode_tbs(made, signer), signer, b"\0"))
        try:
            lint(encoded, against or made)
        except LintError as error:
            return error.findings
        return ()

    def _plan(self, **fields: Any) -> Plan:  # noqa: ANN401  # the plan's own
        request = ask("Sub CA", dns=(), name_constraints=_constraints({"dns": ["example.org"]}))
        return replace(make_plan(request, profile=INTERMEDIATE), **fields)

    def test_good(self) -> None:
        """As planned, there is nothing to find."""
        assert self._findings(self._plan()) == ()

    def test_missing(self) -> None:
        """Constraints that were planned and are not there are found."""
        without = tuple(one for one in self._plan().extensions if not isinstance(one.value, x509.NameConstraints))
        assert self._findings(self._plan(extensions=without)) == ("extension 2.5.29.30 is missing",)

    def test_not_planned(self) -> None:
        """Constraints that nobody planned are found, in a leaf too."""
        value = _constraints({"dns": ["example.org"]}).to_extension()
        extra = x509.Extension(value.oid, True, value)  # noqa: FBT003  # critical
        for made in (make_plan(), make_plan(ask("Sub CA", dns=()), profile=INTERMEDIATE)):
            changed = replace(made, extensions=(*made.extensions, extra))
            assert self._findings(changed) == ("extension 2.5.29.30 must not be there",)

    def test_other_constraints(self) -> None:
        """Constraints that are not the planned ones, or not critical, are found."""
        planned = self._plan()
        other = replace(planned, name_constraints=_constraints({"dns": ["example.com"]}))
        assert self._findings(planned, other) == ("nameConstraints is not the planned one",)
        flipped = tuple(
            x509.Extension(one.oid, False, one.value) if isinstance(one.value, x509.NameConstraints) else one  # noqa: FBT003
            for one in self._plan().extensions
        )
        assert self._findings(self._plan(extensions=flipped)) == (
            "extension 2.5.29.30 must be critical (RFC 5280 §4.2.1)",
        )

    def test_names_outside(self) -> None:
        """A name that the CAs above forbid is found in what was encoded, whatever the plan thought."""
        made = make_plan(ask(None, dns=["a.example.com"]))
        assert made.issuer is not None
        constrained = _issuer({"dns": ["example.org"]})
        issuer = replace(made.issuer, chain=(constrained.certificate,))
        (finding,) = self._findings(replace(made, issuer=issuer))
        assert finding.startswith("the dns name 'a.example.com' breaks name constraints")


class TestOpenSSL:
    """What plan lets pass, openssl believes; what openssl does not believe, plan refuses."""

    @settings(max_examples=50, deadline=None)
    @given(data=st.data())
    def test_agreement(self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
        """For any constraints and names near them, no certificate leaves that openssl would reject for its names."""
        base = data.draw(dns_names(min_labels=2), label="base")
        below = f"{data.draw(labels(), label='label')}.{base}"
        near = st.sampled_from([base, below, f"*.{below}", f"*.{base}", f"x{base}", "example.org"])
        networks = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"])
        subtrees = st.fixed_dictionaries(
            {},
            optional={
                "dns": st.lists(st.sampled_from([base, below]), min_size=1, max_size=2),
                "ip_ranges": st.lists(networks, min_size=1, max_size=2),
                "emails": st.lists(st.sampled_from([base, f".{base}", f"a@{base}"]), min_size=1, max_size=2),
                "uris": st.lists(st.sampled_from([base, f".{base}"]), min_size=1, max_size=2),
            },
        )
        permitted, excluded = data.draw(subtrees, label="permitted"), data.draw(subtrees, label="excluded")
        if not permitted and not excluded:
            return
        issuer = _issuer(permitted, excluded)
        request = ask(
            None,
            dns=[name for name in data.draw(st.lists(near, min_size=1, max_size=2), label="dns") if len(name) <= 253],
            ip=data.draw(st.lists(st.sampled_from(["10.1.2.3", "10.2.2.2", "192.0.2.1", "2001:db8::1"]), max_size=2)),
            emails=data.draw(st.lists(st.sampled_from([f"a@{base}", f"b@{below}"]) | email_addresses(), max_size=1)),
            uris=data.draw(st.lists(st.sampled_from([f"https://{base}/", f"spiffe://{below}/x"]), max_size=1)),
        )
        try:
            made = make_plan(request, issuer=issuer)
        except Forbidden as error:
            if error.rule != "name_constraints":
                return
            # Signed all the same, by a CA without constraints in its memory, openssl says so too, but for wildcards:
            # it does not see that *.x stands for an excluded a.x.
            blind = replace(issuer, certificate=issuer.certificate, chain=())
            made = _unchecked(request, blind)
            verdict = _verify(tmp_path_factory.mktemp("nc"), sign_unlinted(made), issuer)
            stands_for_it = any(name.startswith("*.") for name in request.names.dns)
            assert "subtree violation" in verdict or stands_for_it, verdict
            return
        assert "OK" in _verify(tmp_path_factory.mktemp("nc"), sign_certificate(made), issuer)


def _unchecked(request: CertificateRequest, issuer: Issuer) -> Plan:
    """The plan that a CA without constraints has, for an issuer with them."""
    free = make_intermediate(make_root())
    made = make_plan(request, issuer=free)
    return replace(made, issuer=issuer)


def sign_unlinted(made: Plan) -> x509.Certificate:
    """Sign what lint would refuse."""
    assert made.issuer is not None
    signer = made.issuer.signer
    tbs = encode_tbs(made, signer)
    return x509.load_der_x509_certificate(signed(tbs, signer, signer.sign(tbs)))


def _verify(folder: Path, leaf: x509.Certificate, issuer: Issuer) -> str:
    for name, certificates in (
        ("leaf", (leaf,)),
        ("issuer", (issuer.certificate,)),
        ("root", (make_root().certificate,)),
    ):
        (folder / name).write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
    return openssl(
        *("verify", "-x509_strict", "-attime", str(int(NOW.timestamp()))),
        *("-CAfile", folder / "root", "-untrusted", folder / "issuer", folder / "leaf"),
        check=False,
    )


def test_subtrees_of_networks() -> None:
    """Of two networks, the smaller lies in the larger of its own family."""
    issuer = _issuer({"ip_ranges": ["10.0.0.0/8"]})
    assert _broken(AlternativeNames(ip=(ipaddress.ip_address("10.255.255.255"),)), issuer) == []
