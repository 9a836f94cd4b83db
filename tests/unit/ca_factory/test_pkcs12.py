"""PKCS #12 files, as openssl and Java's keytool open them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs12

from tests.running import openssl
from tests.unit.ca_factory.authorities import P256, RSA, kind, private_key
from tests.unit.ca_factory.test_reissue import factory
from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.exc import Invalid
from tiny_ca.models.certificate import CertificateInfo
from tiny_ca.models.key_spec import KeySpec

PASSWORD = b"correct horse battery staple"
KINDS = (P256, RSA, KeySpec.ed25519())


def _below() -> CertificateFactory:
    """A CA below a root, which knows the root."""
    root = factory()
    cert, key = root.issue_intermediate_ca("Issuing", key=P256, days_valid=390)
    loader = SimpleNamespace(ca_cert=cert, ca_key=key, ca_chain=(root.issuer.certificate,), base_info=CertificateInfo())
    return CertificateFactory(loader)


@pytest.mark.parametrize("spec", KINDS, ids=kind)
def test_all_of_it_is_there(spec: KeySpec) -> None:
    """Key, certificate and the chain up to the root, under the common name or another."""
    ca = _below()
    cert, key, _ = ca.issue_certificate("app.example.org", key=spec)
    for name, shown in ((None, b"app.example.org"), ("mine", b"mine")):
        read = pkcs12.load_pkcs12(ca.export_pkcs12(cert, key, PASSWORD, name), PASSWORD)
        assert read.key is not None
        assert read.key.public_key() == cert.public_key()
        assert read.cert is not None
        assert (read.cert.certificate, read.cert.friendly_name) == (cert, shown)
        assert [one.certificate for one in read.additional_certs] == ca.get_cert_chain(cert)[1:]


@pytest.mark.parametrize("compatibility", [False, True])
@pytest.mark.parametrize("spec", KINDS, ids=kind)
def test_openssl_opens_it(spec: KeySpec, tmp_path: Path, *, compatibility: bool) -> None:
    """Openssl names AES-256, PBKDF2 and SHA-256, or 3DES and SHA-1 where compatibility was asked for."""
    ca = _below()
    cert, key, _ = ca.issue_certificate("app.example.org", key=spec)
    file = tmp_path / "app.p12"
    file.write_bytes(ca.export_pkcs12(cert, key, PASSWORD, compatibility=compatibility))
    legacy = ["-legacy"] if compatibility else []
    arguments = ["pkcs12", "-in", str(file), "-info", "-noenc", "-passin", f"pass:{PASSWORD.decode()}", *legacy]
    shown = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=True)
    told = shown.stderr
    assert ("PBES2, PBKDF2, AES-256-CBC, Iteration 600000, PRF hmacWithSHA256" in told) is not compatibility
    assert ("pbeWithSHA1And3-KeyTripleDES-CBC" in told) is compatibility
    assert f"MAC: sha{'1' if compatibility else '256'}," in told
    assert cert.public_bytes(Encoding.PEM).decode().strip() in shown.stdout
    assert "-----BEGIN PRIVATE KEY-----" in shown.stdout


@pytest.mark.skipif(shutil.which("keytool") is None, reason="no Java on this machine")
@pytest.mark.parametrize("compatibility", [False, True])
def test_keytool_opens_it(tmp_path: Path, *, compatibility: bool) -> None:
    """Java finds the private key and its whole chain."""
    ca = _below()
    cert, key, _ = ca.issue_certificate("app.example.org", key=P256)
    file = tmp_path / "app.p12"
    file.write_bytes(ca.export_pkcs12(cert, key, PASSWORD, compatibility=compatibility))
    listed = subprocess.run(
        ["keytool", "-list", "-v", "-keystore", str(file), "-storetype", "PKCS12", "-storepass", PASSWORD.decode()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "PrivateKeyEntry" in listed
    assert "Certificate chain length: 3" in listed


def test_without_a_password(tmp_path: Path) -> None:
    """Without a password nothing is encrypted; an empty one is taken for a mistake."""
    ca = factory()
    cert, key, _ = ca.issue_certificate("a", key=P256)
    file = tmp_path / "a.p12"
    file.write_bytes(ca.export_pkcs12(cert, key))
    assert "BEGIN PRIVATE KEY" in openssl("pkcs12", "-in", str(file), "-noenc", "-passin", "pass:")
    with pytest.raises(Invalid, match="password is empty"):
        ca.export_pkcs12(cert, key, b"")


def test_what_is_no_name() -> None:
    """A name that is no text is told apart from one of another kind."""
    ca = factory()
    cert, key, _ = ca.issue_certificate("a", key=P256)
    with pytest.raises(Invalid, match="surrogates") as refused:
        ca.export_pkcs12(cert, key, PASSWORD, "\ud800")
    assert refused.value.field == "name"
    with pytest.raises(TypeError, match="name is of type str or None, not int"):
        ca.export_pkcs12(cert, key, PASSWORD, 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="private_key is of type"):
        ca.export_pkcs12(cert, cert, PASSWORD)  # type: ignore[arg-type]


def test_another_key_is_refused() -> None:
    """A key that is not the certificate's is refused before anything is written."""
    ca = factory()
    cert, _, _ = ca.issue_certificate("a", key=P256)
    with pytest.raises(Invalid, match="does not belong") as refused:
        ca.export_pkcs12(cert, private_key(P256, "another"))
    assert refused.value.field == "private_key"


def test_ml_dsa_is_refused_with_the_reason() -> None:
    """The crypto library writes no ML-DSA keys into PKCS #12; the error says what to do."""
    ca = factory()
    cert, key, _ = ca.issue_certificate("a", key=KeySpec.mldsa("ML-DSA-44"))
    with pytest.raises(Invalid, match="PEM"):
        ca.export_pkcs12(cert, key, PASSWORD)
