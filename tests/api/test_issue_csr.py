"""POST of a CSR: every way to send one, every form of the answer."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.api.answers import certificate_of, issued, problem
from tests.api.asking import EC_KEY, RSA_KEY, Key, csr, fresh_name
from tests.running import CERTIFICATES, make_csr

JSON = {"Accept": "application/json"}
CHAIN = "application/pem-certificate-chain"
DER = "application/pkix-cert"


def test_from_json(api: httpx.Client) -> None:
    """A CSR in JSON gives every field of the documented answer, and no private key."""
    name = fresh_name()
    body = issued(api.post(CERTIFICATES, json={"csr": csr(name).decode(), "profile": "server", "lifetime": "24h"}))
    certificate = certificate_of(body)
    expected = {
        "serial_number": f"{certificate.serial_number:x}",
        "status": "valid",
        "profile": "server",
        "requester": "admin",
        "subject": f"CN={name}",
        "common_name": name,
        "san": [name],
        "key_type": "SVC",
        "public_key": {"algorithm": "ec", "curve": "P-256", "size": None, "parameter_set": None},
        "not_valid_before": f"{certificate.not_valid_before_utc:%Y-%m-%dT%H:%M:%SZ}",
        "not_valid_after": f"{certificate.not_valid_after_utc:%Y-%m-%dT%H:%M:%SZ}",
        "revocation_date": None,
        "revocation_reason": None,
    }
    assert expected == {field: body[field] for field in expected}
    assert "private_key" not in body
    assert EC_KEY.public_key() == certificate.public_key()


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
@pytest.mark.parametrize(
    "content_type",
    [
        None, "application/json", "application/x-www-form-urlencoded", "application/pkcs10", "application/x-pem-file",
        "text/plain; charset=utf-16", "multipart/form-data", "no media type at all",
    ],
)  # fmt: skip
def test_raw(api: httpx.Client, encoding: Encoding, content_type: str | None) -> None:
    """A raw CSR, PEM or DER, is known by its first bytes, whatever its Content-Type says."""
    headers = JSON | ({} if content_type is None else {"Content-Type": content_type})
    response = api.post(CERTIFICATES, content=csr(encoding=encoding), headers=headers, params={"profile": "server"})
    assert EC_KEY.public_key() == certificate_of(issued(response)).public_key()


def test_pem_of_openssl(api: httpx.Client, tmp_path: Path) -> None:
    """What ``openssl req`` writes is taken, text before the PEM block and CR LF included."""
    pem = make_csr(tmp_path)
    text = b"Certificate Request:\r\n    Data:\r\n" + pem.replace(b"\n", b"\r\n")
    assert api.post(CERTIFICATES, content=text).status_code == 201


@pytest.mark.parametrize("accept", [None, "*/*", "application/*", CHAIN, f"application/json;q=0.5, {CHAIN}"])
def test_raw_gives_the_chain(api: httpx.Client, accept: str | None) -> None:
    """Without another wish, a raw CSR gives leaf and intermediate as PEM, without the root."""
    request = api.build_request("POST", CERTIFICATES, content=csr())
    if accept is None:
        del request.headers["Accept"]
    else:
        request.headers["Accept"] = accept
    response = api.send(request)
    assert (response.status_code, response.headers["content-type"]) == (201, CHAIN)
    leaf, intermediate = x509.load_pem_x509_certificates(response.content)
    assert response.headers["location"] == f"{CERTIFICATES}/{leaf.serial_number:x}"
    assert response.headers["cache-control"] == "no-store"
    leaf.verify_directly_issued_by(intermediate)
    assert intermediate.issuer != intermediate.subject


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "accept,content_type", [("application/json", "application/json"), (CHAIN, CHAIN), (DER, DER), (DER.upper(), DER)]
)
def test_accept(api: httpx.Client, accept: str, content_type: str, *, as_json: bool) -> None:
    """Each form of the answer is had by its Accept, for a CSR in JSON as for a raw one."""
    content = json.dumps({"csr": csr().decode()}).encode() if as_json else csr()
    response = api.post(CERTIFICATES, content=content, headers={"Accept": accept})
    assert (response.status_code, response.headers["content-type"]) == (201, content_type)
    if content_type == DER:
        assert EC_KEY.public_key() == x509.load_der_x509_certificate(response.content).public_key()


def test_json_gives_json(api: httpx.Client) -> None:
    """Without a wish, JSON gives JSON."""
    issued(api.post(CERTIFICATES, json={"csr": csr().decode()}, headers={"Accept": "*/*"}))


@pytest.mark.parametrize("accept", ["text/html", "image/*", "application/json;q=0", "nonsense", "application/xml, a/b"])
@pytest.mark.parametrize("as_json", [True, False])
def test_accept_that_cannot_be_met(api: httpx.Client, accept: str, *, as_json: bool) -> None:
    """An Accept that takes none of the forms is 406, and nothing is issued."""
    name = fresh_name()
    content = json.dumps({"csr": csr(name).decode()}).encode() if as_json else csr(name)
    problem(api.post(CERTIFICATES, content=content, headers={"Accept": accept}), 406)
    assert api.get(CERTIFICATES, params={"common_name": name}).json()["items"] == []


def test_location_is_the_certificate(api: httpx.Client) -> None:
    """Location leads to the record of what was made."""
    response = api.post(CERTIFICATES, content=csr(), headers=JSON)
    assert issued(response) == api.get(response.headers["location"]).json()


@pytest.mark.parametrize(
    "key,public_key",
    [
        (RSA_KEY, {"algorithm": "rsa", "size": 2048}),
        (ec.generate_private_key(ec.SECP384R1()), {"algorithm": "ec", "curve": "P-384"}),
        (ec.generate_private_key(ec.SECP521R1()), {"algorithm": "ec", "curve": "P-521"}),
        (ed25519.Ed25519PrivateKey.generate(), {"algorithm": "ed25519"}),
        (mldsa.MLDSA44PrivateKey.generate(), {"algorithm": "mldsa", "parameter_set": "ML-DSA-44"}),
        (mldsa.MLDSA65PrivateKey.generate(), {"algorithm": "mldsa", "parameter_set": "ML-DSA-65"}),
        (mldsa.MLDSA87PrivateKey.generate(), {"algorithm": "mldsa", "parameter_set": "ML-DSA-87"}),
        (rsa.generate_private_key(65537, 3072), {"algorithm": "rsa", "size": 3072}),
    ],
    ids=lambda value: value.get("parameter_set", value["algorithm"]) if isinstance(value, dict) else "",
)
def test_each_kind_of_key(api: httpx.Client, key: Key, public_key: dict[str, object]) -> None:
    """Every supported kind of key gets its certificate, and is named in the answer."""
    body = issued(api.post(CERTIFICATES, content=csr(key=key), headers=JSON))
    assert key.public_key() == certificate_of(body).public_key()
    nothing = {"size": None, "curve": None, "parameter_set": None}
    assert nothing | public_key == body["public_key"]


def test_query_beside_a_raw_csr(api: httpx.Client) -> None:
    """Profile, lifetime in days and issuer are taken from the query."""
    first = issued(api.post(CERTIFICATES, content=csr(), headers=JSON))
    params = {"profile": "peer", "days_valid": "3", "issuer_id": first["issuer_id"]}
    body = issued(api.post(CERTIFICATES, content=csr(), headers=JSON, params=params))
    certificate = certificate_of(body)
    assert (body["profile"], body["issuer_id"]) == ("peer", first["issuer_id"])
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days == 3


def test_fields_replace_the_names_of_the_csr(api: httpx.Client) -> None:
    """``san_*`` fields beside a CSR replace its names; the common name still joins."""
    text = csr("app.example.org", x509.DNSName("csr.example.org")).decode()
    wish = {"csr": text, "san_dns": ["New.example.org."], "san_ip": ["2001:DB8:0::1"], "san_uri": ["spiffe://x/y"]}
    body = issued(api.post(CERTIFICATES, json=wish))
    assert body["san"] == ["new.example.org", "app.example.org", "2001:db8::1", "spiffe://x/y"]


def test_serial_type(api: httpx.Client) -> None:
    """``serial_type`` is the category of the certificate."""
    body = issued(api.post(CERTIFICATES, json={"csr": csr().decode(), "serial_type": "DEV", "profile": "server"}))
    assert body["key_type"] == "DEV"


class TestNames:
    def test_common_name_joins_the_san(self, api: httpx.Client) -> None:
        """A common name that is a host or an address joins the SAN under a profile that serves TLS."""
        assert issued(api.post(CERTIFICATES, content=csr("App.example.org"), headers=JSON))["san"] == [
            "app.example.org"
        ]
        assert issued(api.post(CERTIFICATES, content=csr("10.1.2.3"), headers=JSON))["san"] == ["10.1.2.3"]

    def test_every_kind(self, api: httpx.Client) -> None:
        """DNS, IPv4, IPv6, URI and e-mail names come through."""
        names = [
            x509.DNSName("*.example.org"),
            x509.IPAddress(ipaddress.ip_address("10.1.2.3")),
            x509.IPAddress(ipaddress.ip_address("2001:db8::1")),
            x509.UniformResourceIdentifier("spiffe://example.org/app"),
            x509.RFC822Name("app@example.org"),
        ]
        certificate = certificate_of(issued(api.post(CERTIFICATES, content=csr(None, *names), headers=JSON)))
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert names == list(found.value)
        assert found.critical  # RFC 5280 §4.2.1.6: the subject is empty

    def test_duplicates_fold(self, api: httpx.Client) -> None:
        """The same name in other letters is there once."""
        names = [x509.DNSName(name) for name in ("a.example.org", "A.EXAMPLE.org", "a.example.org.", "b.example.org")]
        body = issued(api.post(CERTIFICATES, content=csr("b.example.org", *names), headers=JSON))
        assert body["san"] == ["a.example.org", "b.example.org"]

    def test_hundred(self, api: httpx.Client) -> None:
        """A hundred names fit, the common name among them."""
        names = [x509.DNSName(f"n{number}.example.org") for number in range(100)]
        body = issued(api.post(CERTIFICATES, content=csr("n0.example.org", *names), headers=JSON))
        assert len(body["san"]) == 100

    def test_subject_keeps_what_the_profile_names(self, api: httpx.Client) -> None:
        """CN, O, OU, C, ST and L stay; a mailbox does not belong into a server's subject."""
        subject = [
            (NameOID.COUNTRY_NAME, "DE"),
            (NameOID.STATE_OR_PROVINCE_NAME, "Hessen"),
            (NameOID.LOCALITY_NAME, "Köln"),
            (NameOID.ORGANIZATION_NAME, "Example, Inc."),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "Ops"),
            (NameOID.EMAIL_ADDRESS, "ops@example.org"),
        ]
        body = issued(api.post(CERTIFICATES, content=csr("app.example.org", subject=subject), headers=JSON))
        assert body["subject"] == "CN=app.example.org,OU=Ops,O=Example\\, Inc.,L=Köln,ST=Hessen,C=DE"
