"""What relying parties fetch without a token: CA certificates and CRLs, and how caches treat them."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from tests.api.answers import issued, problem
from tests.api.asking import csr
from tests.running import CERTIFICATES

PEM, CERTIFICATE, CRL = "application/x-pem-file", "application/pkix-cert", "application/pkix-crl"
IDENTITY = {"Accept-Encoding": "identity"}
FILES = ["/ca.pem", "/roots.pem", "/crl.pem", "/crl.der", "/issuers/{}.der", "/issuers/{}/crl.der"]
TYPES = dict(zip(FILES, [PEM, PEM, PEM, CRL, CERTIFICATE, CRL], strict=True))


@pytest.fixture(scope="module")
def authorities(anybody: httpx.Client) -> tuple[x509.Certificate, x509.Certificate]:
    """The issuing CA and its root."""
    issuing, root = x509.load_pem_x509_certificates(anybody.get("/ca.pem").content)
    return issuing, root


def _id(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()[:16]


@pytest.fixture(params=FILES)
def path(request: pytest.FixtureRequest, authorities: tuple[x509.Certificate, ...]) -> str:
    """Each of the files."""
    return str(request.param).format(_id(authorities[0]))


def test_content_types(anybody: httpx.Client, authorities: tuple[x509.Certificate, ...]) -> None:
    """Each file has the media type of its format."""
    found = {file: anybody.get(file.format(_id(authorities[0]))).headers["content-type"] for file in FILES}
    assert found == TYPES


def test_headers(anybody: httpx.Client, path: str) -> None:
    """Validators, a short freshness, and nothing to guess about the type."""
    response = anybody.get(path, headers=IDENTITY)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "public, max-age=60"
    assert response.headers["etag"].startswith('"')
    assert parsedate_to_datetime(response.headers["last-modified"]) <= datetime.now(UTC)
    assert response.headers["vary"].lower() == "accept-encoding"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert int(response.headers["content-length"]) == len(response.content) > 0


def test_if_none_match(anybody: httpx.Client, path: str) -> None:
    """Who has the file by its ETag gets 304: strong, weak, one of a list, or any; no body, the same validators."""
    whole = anybody.get(path, headers=IDENTITY)
    etag = whole.headers["etag"]
    for asked in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = anybody.get(path, headers=IDENTITY | {"If-None-Match": asked})
        assert (response.status_code, response.content) == (304, b"")
        for header in ("etag", "last-modified", "cache-control", "vary"):
            assert whole.headers[header] == response.headers[header]
    lines = [*IDENTITY.items(), ("If-None-Match", '"other"'), ("If-None-Match", etag)]  # RFC 9110 §5.3: one list
    assert anybody.get(path, headers=lines).status_code == 304
    assert anybody.get(path, headers=IDENTITY | {"If-None-Match": '"other"'}).status_code == 200


def test_if_modified_since(anybody: httpx.Client, path: str) -> None:
    """Who has it by its date gets 304; older, or no date at all, gets the file. A CRL of a busy second has no date."""
    modified = anybody.get(path).headers["last-modified"]
    earlier = format_datetime(parsedate_to_datetime(modified) - timedelta(seconds=1), usegmt=True)
    asked = {earlier: 200, "yesterday": 200, "": 200, "Mon, 99 Xyz 2026 00:00:00 GMT": 200}
    if "crl" not in path:
        asked[modified] = 304
    found = {date: anybody.get(path, headers={"If-Modified-Since": date}).status_code for date in asked}
    assert asked == found


def test_the_etag_goes_first(anybody: httpx.Client, path: str) -> None:
    """With If-None-Match, If-Modified-Since counts for nothing (RFC 9110 §13.1.3)."""
    modified = anybody.get(path).headers["last-modified"]
    headers = {"If-None-Match": '"other"', "If-Modified-Since": modified}
    assert anybody.get(path, headers=headers).status_code == 200


def test_head(anybody: httpx.Client, path: str) -> None:
    """HEAD has the headers of GET, Content-Length too, and no body; it answers 304 as well."""
    got, head = anybody.get(path, headers=IDENTITY), anybody.head(path, headers=IDENTITY)
    assert (head.status_code, head.content) == (200, b"")
    for header in ("content-length", "content-type", "etag", "last-modified", "cache-control"):
        assert got.headers[header] == head.headers[header]
    assert anybody.head(path, headers=IDENTITY | {"If-None-Match": got.headers["etag"]}).status_code == 304


@pytest.mark.parametrize("path", ["/ca.pem", "/roots.pem", "/crl.pem"])
def test_gzip(anybody: httpx.Client, path: str) -> None:
    """PEM is compressed for those who take it, with a strong ETag of its own (RFC 9110 §8.8.3.3)."""
    plain = anybody.get(path, headers=IDENTITY)
    with anybody.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) == len(raw) < len(plain.content)
    assert gzip.decompress(raw) == plain.content
    assert packed.headers["etag"] != plain.headers["etag"]
    headers = {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["etag"]}
    assert anybody.get(path, headers=headers).status_code == 304


@pytest.mark.parametrize("encoding", ["gzip;q=0", "identity, gzip;q=0.0", "br", "identity"])
def test_no_gzip(anybody: httpx.Client, encoding: str) -> None:
    """Who does not take gzip does not get it."""
    assert "content-encoding" not in anybody.get("/ca.pem", headers={"Accept-Encoding": encoding}).headers


def test_what_the_files_hold(anybody: httpx.Client, authorities: tuple[x509.Certificate, x509.Certificate]) -> None:
    """``/ca.pem`` is the issuing CA and its root, ``/roots.pem`` roots alone, the DER files each its own."""
    issuing, root = authorities
    issuing.verify_directly_issued_by(root)
    roots = x509.load_pem_x509_certificates(anybody.get("/roots.pem").content)  # with those that other tests import
    assert root in roots
    assert all(one.subject == one.issuer for one in roots)
    for one in authorities:
        assert anybody.get(f"/issuers/{_id(one)}.der").content == one.public_bytes(Encoding.DER)
        crl = x509.load_der_x509_crl(anybody.get(f"/issuers/{_id(one)}/crl.der").content)
        assert crl.is_signature_valid(one.public_key())  # type: ignore[arg-type]  # CAs sign with every kind
        assert one.subject == crl.issuer


def test_the_crl(anybody: httpx.Client, authorities: tuple[x509.Certificate, x509.Certificate]) -> None:
    """The CRL is v2 and current, lives a day, and has a number and the issuer's key identifier; both forms agree."""
    crl = x509.load_der_x509_crl(anybody.get("/crl.der").content)
    assert crl.public_bytes(Encoding.PEM) == anybody.get("/crl.pem").content
    assert crl.next_update_utc is not None
    assert crl.last_update_utc <= datetime.now(UTC) < crl.next_update_utc
    assert crl.next_update_utc - crl.last_update_utc == timedelta(hours=24)
    found = {extension.oid: extension.critical for extension in crl.extensions}
    assert found == {x509.CRLNumber.oid: False, x509.AuthorityKeyIdentifier.oid: False}
    ski = authorities[0].extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    aki = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    assert ski == aki


def test_a_revocation_changes_the_validators(api: httpx.Client, anybody: httpx.Client) -> None:
    """A CRL that was fetched before a revocation is not confirmed by 304 after it."""
    serial = issued(api.post(CERTIFICATES, content=csr(), headers={"Accept": "application/json"}))["serial_number"]
    for path in ("/crl.pem", "/crl.der"):
        etag = anybody.get(path).headers["etag"]
        api.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "certificateHold"}).raise_for_status()
        assert anybody.get(path, headers={"If-None-Match": etag}).status_code == 200
        api.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "superseded"}).raise_for_status()
        serial = issued(api.post(CERTIFICATES, content=csr(), headers={"Accept": "application/json"}))["serial_number"]


def test_where_certificates_point_to(api: httpx.Client, anybody: httpx.Client) -> None:
    """The URLs in a certificate lead to its issuer and to the CRL that is signed by it."""
    body = issued(api.post(CERTIFICATES, content=csr(), headers={"Accept": "application/json"}))
    certificate = x509.load_pem_x509_certificate(body["certificate"].encode())
    (access,) = certificate.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    (point,) = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    issuer = x509.load_der_x509_certificate(anybody.get(access.access_location.value).content)
    certificate.verify_directly_issued_by(issuer)
    assert point.full_name is not None
    crl = x509.load_der_x509_crl(anybody.get(point.full_name[0].value).content)
    assert crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # as above


@pytest.mark.parametrize(
    "path", ["/issuers/0123456789abcdef.der", "/issuers/0123456789abcdef/crl.der", "/issuers/x.der"]
)
def test_unknown_issuers(anybody: httpx.Client, path: str) -> None:
    """An issuer that is not there is 404."""
    problem(anybody.get(path), 404)
