"""POST of a config: the service makes the key, and returns it once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.api.answers import certificate_of, issued, problem
from tests.api.asking import csr, fresh_name
from tests.running import CERTIFICATES, openssl

CHAIN = "application/pem-certificate-chain"
PKCS12 = "application/x-pkcs12"


@pytest.mark.parametrize(
    "key",
    [
        {"algorithm": "rsa", "size": 2048},
        {"algorithm": "ec", "curve": "P-256"},
        {"algorithm": "ec", "curve": "P-384"},
        {"algorithm": "ec", "curve": "P-521"},
        {"algorithm": "ed25519"},
        {"algorithm": "mldsa", "parameter_set": "ML-DSA-44"},
        {"algorithm": "mldsa", "parameter_set": "ML-DSA-65"},
        {"algorithm": "mldsa", "parameter_set": "ML-DSA-87"},
    ],
    ids=lambda key: "-".join(map(str, key.values())),
)
def test_each_kind_of_key(api: httpx.Client, key: dict[str, Any]) -> None:
    """The private key that comes back is of the kind that was asked for, and the certificate is for it."""
    body = issued(api.post(CERTIFICATES, json={"common_name": "app.example.org", "key": key, "lifetime": "1h"}))
    private_key = load_pem_private_key(body["private_key"].encode(), None)
    assert private_key.public_key() == certificate_of(body).public_key()
    assert {"size": None, "curve": None, "parameter_set": None} | key == body["public_key"]


def test_key_size(api: httpx.Client) -> None:
    """``key_size``, the documented field, asks for an RSA key of that many bits."""
    body = issued(api.post(CERTIFICATES, json={"common_name": "app.example.org", "key_size": 2048}))
    assert (body["public_key"]["algorithm"], body["public_key"]["size"]) == ("rsa", 2048)


def test_the_usual_key(api: httpx.Client) -> None:
    """Without a wish the key is P-256, in PKCS#8."""
    body = issued(api.post(CERTIFICATES, json={"common_name": "app.example.org"}))
    assert body["private_key"].startswith("-----BEGIN PRIVATE KEY-----\n")
    private_key = load_pem_private_key(body["private_key"].encode(), None)
    assert isinstance(private_key, ec.EllipticCurvePrivateKey)
    assert private_key.curve.name == "secp256r1"


def test_the_key_is_returned_once(api: httpx.Client) -> None:
    """The record has no private key, in no form."""
    body = issued(api.post(CERTIFICATES, json={"common_name": "app.example.org"}))
    location = f"{CERTIFICATES}/{body['serial_number']}"
    assert "private_key" not in api.get(location).json()
    assert b"PRIVATE KEY" not in api.get(location, headers={"Accept": CHAIN}).content
    assert b"PRIVATE KEY" not in api.get(f"{location}/chain").content


def test_pem_chain(api: httpx.Client) -> None:
    """As PEM: the private key, the leaf, the intermediate, in this order."""
    response = api.post(CERTIFICATES, json={"common_name": "app.example.org"}, headers={"Accept": CHAIN})
    assert (response.status_code, response.headers["content-type"]) == (201, CHAIN)
    labels = [line for line in response.text.splitlines() if line.startswith("-----BEGIN")]
    certificate = "-----BEGIN CERTIFICATE-----"
    assert labels == ["-----BEGIN PRIVATE KEY-----", certificate, certificate]
    leaf = x509.load_pem_x509_certificates(response.content)[0]
    assert load_pem_private_key(response.content, None).public_key() == leaf.public_key()


@pytest.mark.parametrize("accept", ["application/pkix-cert", "text/html"])
def test_forms_that_leave_no_room_for_the_key(api: httpx.Client, accept: str) -> None:
    """DER holds one certificate and no key, so it cannot be the answer; nothing is issued."""
    name = fresh_name()
    said = problem(api.post(CERTIFICATES, json={"common_name": name}, headers={"Accept": accept}), 406)
    assert "DER would leave no room" in said["detail"]
    assert api.get(CERTIFICATES, params={"common_name": name}).json()["items"] == []


class TestPKCS12:
    @pytest.mark.parametrize("password", ["a long password", "pässwörd 🔑", "x", "x" * 1023], ids=len)
    def test_openssl_opens_it(self, api: httpx.Client, tmp_path: Path, password: str) -> None:
        """Key, certificate and chain in one file, which opens with the password and with no other."""
        config = {"common_name": fresh_name(), "pkcs12_password": password}
        answer = api.post(CERTIFICATES, json=config, headers={"Accept": PKCS12})
        assert (answer.status_code, answer.headers["content-type"]) == (201, PKCS12)
        assert answer.headers["cache-control"] == "no-store"
        record = api.get(answer.headers["location"]).json()
        assert record["common_name"] == config["common_name"]
        (tmp_path / "a.p12").write_bytes(answer.content)
        (tmp_path / "password").write_text(password + "\n")
        shown = openssl("pkcs12", "-in", tmp_path / "a.p12", "-noenc", "-passin", f"file:{tmp_path / 'password'}")
        assert shown.count("BEGIN CERTIFICATE") == 3
        assert record["certificate"] in shown
        key = load_pem_private_key(shown[shown.index("-----BEGIN PRIVATE KEY") :].encode(), None)
        assert key.public_key() == x509.load_pem_x509_certificate(record["certificate"].encode()).public_key()
        assert "invalid password" in openssl(
            "pkcs12", "-in", tmp_path / "a.p12", "-noenc", "-passin", "pass:wrong", check=False
        )

    @pytest.mark.parametrize("accept", ["*/*", "application/*", None])
    def test_the_password_says_what_is_wanted(self, api: httpx.Client, accept: str | None) -> None:
        """Where ``Accept`` takes it, PKCS #12 is what a request with a password gets."""
        config = {"common_name": fresh_name(), "pkcs12_password": "a long password"}
        headers = {} if accept is None else {"Accept": accept}
        assert api.post(CERTIFICATES, json=config, headers=headers).headers["content-type"] == PKCS12

    @pytest.mark.parametrize("accept", ["application/json", CHAIN, "application/pkix-cert"])
    def test_a_password_for_nothing(self, api: httpx.Client, accept: str) -> None:
        """A password that encrypts nothing is not ignored: 406, and nothing is issued."""
        config = {"common_name": fresh_name(), "pkcs12_password": "a long password"}
        problem(api.post(CERTIFICATES, json=config, headers={"Accept": accept}), 406)
        assert api.get(CERTIFICATES, params={"common_name": config["common_name"]}).json()["items"] == []

    @pytest.mark.parametrize("password", [{}, {"pkcs12_password": ""}, {"pkcs12_password": "x" * 1024}], ids=str)
    def test_no_password(self, api: httpx.Client, password: dict[str, str]) -> None:
        """Without one, or past its bounds: 422, and nothing is issued."""
        config = {"common_name": fresh_name(), **password}
        answer = api.post(CERTIFICATES, json=config, headers={"Accept": PKCS12})
        problem(answer, 422, field="pkcs12_password")
        assert api.get(CERTIFICATES, params={"common_name": config["common_name"]}).json()["items"] == []

    def test_a_key_that_no_file_holds(self, api: httpx.Client) -> None:
        """ML-DSA is refused before a certificate is made whose key could not be handed out."""
        config = {"common_name": fresh_name(), "key": {"algorithm": "mldsa"}, "pkcs12_password": "a long password"}
        problem(api.post(CERTIFICATES, json=config), 422, field="key")
        assert api.get(CERTIFICATES, params={"common_name": str(config["common_name"])}).json()["items"] == []

    def test_not_of_a_csr(self, api: httpx.Client) -> None:
        """A CSR brings no key: 406 says where to go, and a password beside it is no field."""
        asked = csr(fresh_name())
        for content in (asked, json.dumps({"csr": asked.decode()}).encode()):
            said = problem(api.post(CERTIFICATES, headers={"Accept": PKCS12}, content=content), 406)
            assert "/pkcs12" in said["detail"]
        body = {"csr": asked.decode(), "pkcs12_password": "a long password"}
        problem(api.post(CERTIFICATES, json=body), 422, field="pkcs12_password")

    def test_not_in_a_batch(self, api: httpx.Client) -> None:
        """A batch answers in JSON: the request with a password is refused, its neighbour is not."""
        name = fresh_name()
        requests = [{"common_name": name, "pkcs12_password": "x"}, {"common_name": fresh_name()}]
        results = api.post(f"{CERTIFICATES}/batch", json={"requests": requests}).json()["results"]
        assert [one["status"] for one in results] == [422, 201]
        assert api.get(CERTIFICATES, params={"common_name": name}).json()["items"] == []


def test_every_field(api: httpx.Client) -> None:
    """All that a config may say is in the certificate, where it belongs."""
    config = {
        "common_name": "app.example.org",
        "organization": "Example",
        "organizational_unit": "Ops",
        "country": "DE",
        "state": "Hessen",
        "locality": "Fulda",
        "email": "ops@example.org",
        "san_dns": ["www.example.org", "*.apps.example.org"],
        "san_ip": ["10.1.2.3", "2001:db8::1"],
        "san_uri": ["https://example.org/app"],
        "san_email": ["app@example.org"],
        "serial_type": "DEV",
        "days_valid": 7,
        "profile": "server",
    }
    body = issued(api.post(CERTIFICATES, json=config))
    assert body["subject"] == "CN=app.example.org,OU=Ops,O=Example,L=Fulda,ST=Hessen,C=DE"
    dns = ["www.example.org", "*.apps.example.org", "app.example.org"]
    others = ["10.1.2.3", "2001:db8::1", "https://example.org/app", "app@example.org", "ops@example.org"]
    assert [*dns, *others] == body["san"]
    assert body["key_type"] == "DEV"
    certificate = certificate_of(body)
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 7


@pytest.mark.parametrize(
    "flags,profile,usages",
    [
        ({}, "server", [ExtendedKeyUsageOID.SERVER_AUTH]),
        ({"is_server_cert": True}, "server", [ExtendedKeyUsageOID.SERVER_AUTH]),
        ({"is_client_cert": True}, "client", [ExtendedKeyUsageOID.CLIENT_AUTH]),
        (
            {"is_server_cert": True, "is_client_cert": True},
            "peer",
            [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
        ),
        ({"is_server_cert": True, "profile": "peer"}, "peer", [ExtendedKeyUsageOID.SERVER_AUTH]),
    ],
)
def test_the_two_flags(
    api: httpx.Client, flags: dict[str, Any], profile: str, usages: list[x509.ObjectIdentifier]
) -> None:
    """``is_server_cert`` and ``is_client_cert`` choose the profile, or what is used of the one that is named."""
    body = issued(api.post(CERTIFICATES, json={"common_name": "app.example.org", **flags}))
    assert body["profile"] == profile
    assert usages == list(certificate_of(body).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_a_usage_outside_the_profile(api: httpx.Client) -> None:
    """A flag that the profile does not give is refused, not dropped."""
    config = {"common_name": "app.example.org", "profile": "client", "is_server_cert": True}
    problem(api.post(CERTIFICATES, json=config), 403, rule="extended_key_usage")


def test_valid_from(api: httpx.Client) -> None:
    """A certificate may begin later; the lifetime counts from there."""
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)
    local = moment.astimezone(timezone(timedelta(hours=1))).isoformat()
    config = {"common_name": "app.example.org", "valid_from": local, "lifetime": "24h"}
    body = issued(api.post(CERTIFICATES, json=config))
    certificate = certificate_of(body)
    assert local.endswith("+01:00")
    assert moment == certificate.not_valid_before_utc
    assert moment + timedelta(days=1) == certificate.not_valid_after_utc


class TestRefusals:
    @pytest.mark.parametrize(
        "config,field",
        [
            ({}, "subject"),
            ({"common_name": ""}, "common_name"),
            ({"common_name": "a" * 65}, "common_name"),
            ({"country": "DEU", "common_name": "a.example.org"}, "country"),
            ({"common_name": "a.example.org", "key": {"algorithm": "dsa"}}, "key.algorithm"),
            ({"common_name": "a.example.org", "key": {"algorithm": "rsa", "size": 1024}}, "key.size"),
            ({"common_name": "a.example.org", "key": {"algorithm": "ec", "curve": "secp256k1"}}, "key.curve"),
            ({"common_name": "a.example.org", "key": {"algorithm": "ec", "size": 2048}}, "key"),
            ({"common_name": "a.example.org", "key": {"algorithm": "ec", "colour": "red"}}, "key.colour"),
            ({"common_name": "a.example.org", "key": "ec"}, "key"),
            ({"common_name": "a.example.org", "key": {"algorithm": "ec"}, "key_size": 2048}, "body"),
            ({"common_name": "a.example.org", "key_size": 2047}, "key_size"),
            ({"common_name": "a.example.org", "email": "no mailbox"}, "email"),
            ({"common_name": "a.example.org", "san_ip": ["10.0.0.0/8"]}, "san_ip"),
            ({"common_name": "a.example.org", "san_ip": ["::ffff:10.0.0.1"]}, "san_ip"),
            ({"common_name": "a.example.org", "san_uri": ["/relative"]}, "san_uri"),
            ({"common_name": "a.example.org", "valid_from": "2001-01-01T00:00:00Z"}, "valid_from"),
            ({"common_name": "a.example.org", "valid_from": "2101-01-01T00:00:00"}, "valid_from"),
            ({"common_name": "a.example.org", "serial_type": "XYZ"}, "serial_type"),
        ],
    )
    def test_wrong_fields(self, api: httpx.Client, config: dict[str, Any], field: str) -> None:
        """A field that is wrong is 422 and named."""
        problem(api.post(CERTIFICATES, json=config), 422, field=field)

    def test_ca_as_a_category(self, api: httpx.Client) -> None:
        """A certificate of the category CA is for a CA profile only."""
        response = api.post(CERTIFICATES, json={"common_name": "a.example.org", "serial_type": "CA"})
        problem(response, 403, rule="certificate_authority")

    def test_a_key_outside_the_profile(self, api: httpx.Client) -> None:
        """A key that the profile does not take is 403 and named."""
        config = {"common_name": "a.example.org", "profile": "narrow", "key": {"algorithm": "ed25519"}}
        assert problem(api.post(CERTIFICATES, json=config), 403, rule="key")["value"] == "Ed25519"
