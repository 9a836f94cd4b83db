"""What each profile issues, to the last extension; and what openssl and pkilint say of it."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, mldsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.api.answers import certificate_of, issued, problem
from tests.api.asking import EC_KEY, RSA_KEY, Key, csr, fresh_key
from tests.api.profile import CI, CLIENT, INTERMEDIATE, PEER, SERVER, Expected, assert_profile
from tests.pkilint_check import certificate_findings, crl_findings
from tests.running import CERTIFICATES, RunningService, openssl

JSON = {"Accept": "application/json"}
KEYS: dict[str, Key] = {
    "P-256": EC_KEY,
    "RSA-2048": RSA_KEY,
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ML-DSA-65": mldsa.MLDSA65PrivateKey.generate(),
}
LEAVES = [SERVER, CLIENT, PEER, CI]
OTHERS_OID = ObjectIdentifier("1.3.6.1.4.1.99999.1")


@pytest.fixture(scope="module")
def authorities(anybody: httpx.Client) -> tuple[x509.Certificate, x509.Certificate]:
    """The issuing CA and its root."""
    issuing, root = x509.load_pem_x509_certificates(anybody.get("/ca.pem").content)
    return issuing, root


def _issuer_id(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]


def _verified(folder: Path, authorities: tuple[x509.Certificate, ...], certificate: x509.Certificate) -> str:
    (folder / "ca.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in authorities))
    (folder / "one.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return openssl("verify", "-x509_strict", "-CAfile", folder / "ca.pem", folder / "one.pem").strip()


@pytest.mark.parametrize("kind", list(KEYS))
@pytest.mark.parametrize("expected", LEAVES, ids=lambda expected: expected.name)
def test_leaf(
    api: httpx.Client,
    service: RunningService,
    authorities: tuple[x509.Certificate, x509.Certificate],
    expected: Expected,
    kind: str,
) -> None:
    """A leaf has every field and extension of its profile and no other, with each kind of key; pkilint agrees."""
    asked = csr("app.example.org", x509.DNSName("www.example.org"), key=KEYS[kind])
    body = issued(api.post(CERTIFICATES, content=asked, headers=JSON, params={"profile": expected.name}))
    certificate = certificate_of(body)
    joined = [] if expected is CLIENT else [x509.DNSName("app.example.org")]
    assert_profile(
        certificate,
        expected,
        issuer=authorities[0],
        public_url=service.url,
        subject="CN=app.example.org",
        names=[x509.DNSName("www.example.org"), *joined],
    )
    assert (body["profile"], body["key_type"]) == (expected.name, expected.key_type)
    assert certificate_findings(certificate) == []


@pytest.mark.parametrize("expected", LEAVES, ids=lambda expected: expected.name)
def test_openssl_takes_a_leaf(
    api: httpx.Client, authorities: tuple[x509.Certificate, x509.Certificate], tmp_path: Path, expected: Expected
) -> None:
    """``openssl verify -x509_strict`` finds nothing wrong with a leaf."""
    body = issued(api.post(CERTIFICATES, content=csr(), headers=JSON, params={"profile": expected.name}))
    assert _verified(tmp_path, authorities, certificate_of(body)) == f"{tmp_path}/one.pem: OK"


@pytest.mark.parametrize("expected", LEAVES, ids=lambda expected: expected.name)
def test_leaf_without_subject(
    api: httpx.Client,
    service: RunningService,
    authorities: tuple[x509.Certificate, x509.Certificate],
    tmp_path: Path,
    expected: Expected,
) -> None:
    """Names alone are enough; the SAN is critical then, and openssl and pkilint agree."""
    name = x509.IPAddress(ipaddress.ip_address("2001:db8::1"))
    params = {"profile": expected.name, "lifetime": "10m"}
    certificate = certificate_of(issued(api.post(CERTIFICATES, content=csr(None, name), headers=JSON, params=params)))
    assert_profile(
        certificate,
        expected,
        issuer=authorities[0],
        public_url=service.url,
        subject="",
        names=[name],
        lifetime=timedelta(minutes=10),
    )
    assert certificate_findings(certificate) == []
    assert _verified(tmp_path, authorities, certificate) == f"{tmp_path}/one.pem: OK"


def test_intermediate(
    api: httpx.Client, service: RunningService, authorities: tuple[x509.Certificate, x509.Certificate], tmp_path: Path
) -> None:
    """The profile ``intermediate`` gives a CA below the root, with all that a CA's certificate needs."""
    params = {"profile": "intermediate", "issuer_id": _issuer_id(authorities[1])}
    subject = [(NameOID.ORGANIZATION_NAME, "Example")]
    asked = csr("Example sub CA", subject=subject, extensions=[x509.BasicConstraints(ca=True, path_length=None)])
    body = issued(api.post(CERTIFICATES, content=asked, headers=JSON, params=params))
    certificate = certificate_of(body)
    assert_profile(
        certificate,
        INTERMEDIATE,
        issuer=authorities[1],
        public_url=service.url,
        subject="CN=Example sub CA,O=Example",
        names=[],
    )
    assert body["key_type"] == "CA"
    assert certificate_findings(certificate) == []
    assert _verified(tmp_path, authorities[1:], certificate) == f"{tmp_path}/one.pem: OK"


def test_intermediate_below_path_length_zero(api: httpx.Client) -> None:
    """The issuing CA has path length 0: no CA stands below it."""
    response = api.post(CERTIFICATES, content=csr("Example sub CA"), params={"profile": "intermediate"})
    problem(response, 403, rule="path_length")


def test_the_own_authorities(
    service: RunningService, authorities: tuple[x509.Certificate, x509.Certificate], tmp_path: Path
) -> None:
    """The intermediate of the first run is what its profile says, root and intermediate pass openssl and pkilint."""
    issuing, root = authorities
    subject = issuing.subject.rfc4514_string()
    assert_profile(issuing, INTERMEDIATE, issuer=root, public_url=service.url, subject=subject, names=[])
    assert [certificate_findings(one) for one in authorities] == [[], []]
    assert _verified(tmp_path, (root,), issuing) == f"{tmp_path}/one.pem: OK"
    assert _verified(tmp_path, (root,), root) == f"{tmp_path}/one.pem: OK"


def test_the_crls(
    api: httpx.Client, anybody: httpx.Client, authorities: tuple[x509.Certificate, x509.Certificate]
) -> None:
    """No error of pkilint in the CRL of either CA, with revocations of every reason in it."""
    for reason in ("unspecified", "keyCompromise", "certificateHold", "superseded"):
        body = issued(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))
        api.post(f"{CERTIFICATES}/{body['serial_number']}/revoke", json={"reason": reason}).raise_for_status()
    for authority in authorities:
        crl = x509.load_der_x509_crl(anybody.get(f"/issuers/{_issuer_id(authority)}/crl.der").content)
        assert crl.is_signature_valid(authority.public_key())  # type: ignore[arg-type]  # CAs sign with every kind
        assert crl_findings(crl) == []


class TestConstraints:
    """A profile is a set of constraints that a request cannot override."""

    @pytest.mark.parametrize("expected", LEAVES, ids=lambda expected: expected.name)
    def test_no_leaf_profile_gives_a_ca(self, api: httpx.Client, expected: Expected) -> None:
        """A CSR that asks for CA:TRUE, or to sign certificates, is refused."""
        wants = [x509.BasicConstraints(ca=True, path_length=None)]
        response = api.post(CERTIFICATES, content=csr(extensions=wants), params={"profile": expected.name})
        problem(response, 403, rule="certificate_authority")

    @pytest.mark.parametrize(
        "profile,lifetime,status",
        [("server", "398d", 201), ("server", "399d", 403), ("ci", "24h", 201), ("ci", "1441m", 403)],
    )
    def test_lifetimes(self, api: httpx.Client, profile: str, lifetime: str, status: int) -> None:
        """The longest lifetime is given, one unit more is refused, not cut."""
        params = {"profile": profile, "lifetime": lifetime}
        response = api.post(CERTIFICATES, content=csr(), params=params)
        assert response.status_code == status
        if status == 403:
            assert problem(response, 403, rule="max_lifetime")["value"] == lifetime

    def test_no_window_is_longer_than_the_maximum(self, api: httpx.Client) -> None:
        """At the longest lifetime nothing is backdated: 398 days are 398 days."""
        body = issued(api.post(CERTIFICATES, content=csr(), headers=JSON, params={"lifetime": "398d"}))
        certificate = certificate_of(body)
        assert certificate.not_valid_after_utc - certificate.not_valid_before_utc <= timedelta(days=398)

    @pytest.mark.parametrize("profile,status", [("server", 201), ("peer", 403), ("ci", 403), ("client", 403)])
    def test_wildcards(self, api: httpx.Client, profile: str, status: int) -> None:
        """A wildcard is given where the profile says so, else refused."""
        asked = csr("app.example.org", x509.DNSName("*.example.org"))
        response = api.post(CERTIFICATES, content=asked, params={"profile": profile})
        assert response.status_code == status
        if status == 403:
            assert problem(response, 403, rule="wildcards")["value"] == "*.example.org"

    @pytest.mark.parametrize(
        "name",
        [
            x509.DNSName("app.example.com"),
            x509.DNSName("example.org"),
            x509.DNSName("badexample.org"),
            x509.IPAddress(ipaddress.ip_address("11.0.0.1")),
            x509.IPAddress(ipaddress.ip_address("::1")),
        ],
        ids=lambda name: str(name.value),
    )
    def test_names_outside(self, api: httpx.Client, name: x509.GeneralName) -> None:
        """A name that no pattern of the profile covers is refused and named."""
        asked = csr("app.example.org", name)
        body = problem(api.post(CERTIFICATES, content=asked, params={"profile": "narrow"}), 403, rule="names")
        assert body["value"] == str(name.value)

    def test_names_inside(self, api: httpx.Client) -> None:
        """Names that the patterns cover are given, at any depth."""
        names = [x509.DNSName("a.b.example.org"), x509.IPAddress(ipaddress.ip_address("10.255.0.1"))]
        response = api.post(CERTIFICATES, content=csr("app.example.org", *names), params={"profile": "narrow"})
        assert response.status_code == 201

    def test_a_common_name_is_a_name(self, api: httpx.Client) -> None:
        """A common name outside the patterns does not slip past beside an allowed SAN."""
        asked = csr("app.example.com", x509.DNSName("app.example.org"))
        problem(api.post(CERTIFICATES, content=asked, params={"profile": "narrow"}), 403, rule="names")

    @pytest.mark.parametrize("profile", ["server", "peer"])
    def test_a_common_name_that_is_no_host(self, api: httpx.Client, profile: str) -> None:
        """Under a profile for servers the common name is a host."""
        asked = csr("My Server", x509.DNSName("app.example.org"))
        body = problem(api.post(CERTIFICATES, content=asked, params={"profile": profile}), 403, rule="common_name")
        assert body["value"] == "My Server"

    @pytest.mark.parametrize("profile,status", [("client", 201), ("ci", 201)])
    def test_a_common_name_of_a_person(self, api: httpx.Client, profile: str, status: int) -> None:
        """A client's common name may be any text, and stays out of the SAN."""
        response = api.post(CERTIFICATES, content=csr("Ada Lovelace"), headers=JSON, params={"profile": profile})
        assert (response.status_code, response.json()["san"]) == (status, [])

    def test_unknown_extensions_are_dropped(self, api: httpx.Client) -> None:
        """What a CSR brings that no profile names is never copied."""
        extensions = [
            x509.UnrecognizedExtension(OTHERS_OID, b"\x05\x00"),
            x509.TLSFeature([x509.TLSFeatureType.status_request]),
            x509.NameConstraints([x509.DNSName("org")], None),
            x509.CRLDistributionPoints(
                [x509.DistributionPoint([x509.UniformResourceIdentifier("http://evil.example/crl")], None, None, None)]
            ),
        ]
        body = issued(api.post(CERTIFICATES, content=csr(extensions=extensions), headers=JSON))
        plain = issued(api.post(CERTIFICATES, content=csr(), headers=JSON))
        oids = [[extension.oid for extension in certificate_of(one).extensions] for one in (body, plain)]
        assert oids[0] == oids[1]
        assert b"evil.example" not in certificate_of(body).public_bytes(Encoding.DER)

    def test_unknown_extensions_are_refused(self, api: httpx.Client) -> None:
        """… or refused, where the profile says so, with the extension's name."""
        asked = csr(extensions=[x509.UnrecognizedExtension(OTHERS_OID, b"\x05\x00")])
        body = problem(api.post(CERTIFICATES, content=asked, params={"profile": "strict"}), 403, rule="extensions")
        assert body["value"] == OTHERS_OID.dotted_string

    def test_extended_key_usage_outside(self, api: httpx.Client) -> None:
        """A usage that the profile does not give is refused."""
        asked = csr(extensions=[x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])])
        problem(api.post(CERTIFICATES, content=asked), 403, rule="extended_key_usage")

    @pytest.mark.parametrize("key", [KEYS["RSA-2048"], KEYS["Ed25519"]])
    def test_keys_outside(self, api: httpx.Client, key: Key) -> None:
        """A kind of key that the profile does not take is refused."""
        problem(api.post(CERTIFICATES, content=csr(key=key), params={"profile": "narrow"}), 403, rule="key")

    def test_no_names_where_some_are_needed(self, api: httpx.Client) -> None:
        """A server's certificate needs a name that TLS clients read."""
        asked = csr(None, subject=[(NameOID.ORGANIZATION_NAME, "Example")])
        problem(api.post(CERTIFICATES, content=asked), 403, rule="require_san")

    def test_outliving_the_issuer(self, api: httpx.Client) -> None:
        """A leaf that would outlive its issuer is refused, though its profile would allow it."""
        params = {"profile": "endless", "lifetime": "3000d"}
        problem(api.post(CERTIFICATES, content=csr(), params=params), 403, rule="issuer_validity")

    def test_a_unique_common_name(self, api: httpx.Client) -> None:
        """One valid certificate for a name where the profile wants it so; revoked, the name is free again."""
        asked = csr("single.example.org")
        first = issued(api.post(CERTIFICATES, content=asked, headers=JSON, params={"profile": "single"}))
        problem(api.post(CERTIFICATES, content=asked, params={"profile": "single"}), 409)
        api.post(f"{CERTIFICATES}/{first['serial_number']}/revoke", json={"reason": "superseded"}).raise_for_status()
        assert api.post(CERTIFICATES, content=asked, params={"profile": "single"}).status_code == 201
