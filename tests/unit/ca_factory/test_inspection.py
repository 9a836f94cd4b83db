"""What an inspection tells of a certificate."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography_vectors import open_vector_file
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.running import openssl
from tests.unit.ca_factory.authorities import KEY_SPECS, P256, kind
from tests.unit.ca_factory.test_reissue import factory
from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.exc import Invalid
from tiny_ca.models.certificate import CertificateDetails
from tiny_ca.models.key_spec import KeySpec

inspect = CertificateFactory.inspect_certificate


@pytest.mark.parametrize("spec", KEY_SPECS, ids=kind)
def test_every_field(spec: KeySpec) -> None:
    """Each field is what the certificate says; sizes are of RSA keys only."""
    cert, _, _ = factory().issue_certificate(
        "app.example.org",
        is_server_cert=True,
        is_client_cert=True,
        san_dns=["www.example.org"],
        san_ip=["10.0.0.1", "2001:db8::1"],
        key=spec,
    )
    details = inspect(cert)
    assert isinstance(details, CertificateDetails)
    ski = cert.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest.hex()
    assert details == CertificateDetails(
        serial_number=cert.serial_number,
        common_name="app.example.org",
        organization="Org",
        country=None,
        issuer_cn="Root",
        not_valid_before=cert.not_valid_before_utc,
        not_valid_after=cert.not_valid_after_utc,
        is_ca=False,
        san_dns=["www.example.org", "app.example.org"],
        san_ip=["10.0.0.1", "2001:db8::1"],
        key_usage=["digital_signature", "key_encipherment"] if spec.algorithm == "rsa" else ["digital_signature"],
        extended_key_usage=[
            ExtendedKeyUsageOID.SERVER_AUTH.dotted_string,
            ExtendedKeyUsageOID.CLIENT_AUTH.dotted_string,
        ],
        fingerprint_sha256=details.fingerprint_sha256,
        subject_key_identifier=ski,
        public_key_size=spec.size,
    )


def test_fingerprint_is_openssls(tmp_path: Path) -> None:
    """The fingerprint is written as openssl writes it."""
    cert, _, _ = factory().issue_certificate("a", key=P256)
    (tmp_path / "a.pem").write_bytes(cert.public_bytes(Encoding.PEM))
    shown = openssl("x509", "-in", str(tmp_path / "a.pem"), "-noout", "-fingerprint", "-sha256")
    assert shown.strip().partition("=")[2] == inspect(cert).fingerprint_sha256


def test_a_ca() -> None:
    """A CA shows as one."""
    details = inspect(factory().issuer.certificate)
    assert (details.is_ca, details.key_usage) == (True, ["digital_signature", "key_cert_sign", "crl_sign"])


def test_bare_certificate() -> None:
    """What is not there is None or empty, not an error."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([])
    cert = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(
        key, hashes.SHA256()
    )
    details = inspect(cert)
    assert (details.common_name, details.issuer_cn, details.subject_key_identifier) == (None, None, None)
    assert (details.san_dns, details.san_ip, details.key_usage, details.extended_key_usage) == ([], [], [], [])


def test_details_do_not_change() -> None:
    """What was inspected cannot be edited."""
    details = inspect(factory().issuer.certificate)
    with pytest.raises(ValidationError, match="frozen"):
        details.is_ca = False  # type: ignore[misc]


@given(st.data())
def test_any_certificate(data: st.DataObject) -> None:
    """Whatever a parser takes for a certificate is inspected, or refused by an error of ours."""
    with open_vector_file(f"x509/{data.draw(st.sampled_from(_VECTORS))}", "rb") as file:
        octets = bytearray(file.read())
    for _ in range(data.draw(st.integers(0, 3))):
        octets[data.draw(st.integers(0, len(octets) - 1))] = data.draw(st.integers(0, 255))
    try:
        cert = x509.load_der_x509_certificate(bytes(octets))
    except (ValueError, UserWarning):
        return
    try:
        assert inspect(cert).serial_number == cert.serial_number
    except Invalid as error:
        assert error.field == "cert"  # noqa: PT017 - either outcome is right


_VECTORS = (
    "PKITS_data/certs/GoodCACert.crt",
    "PKITS_data/certs/ValidRFC822nameConstraintsTest21EE.crt",
    "PKITS_data/certs/ValidURInameConstraintsTest34EE.crt",
    "PKITS_data/certs/RFC3280MandatoryAttributeTypesCACert.crt",
)
