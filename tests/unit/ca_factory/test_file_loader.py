"""A CA from two PEM files, and every way in which it is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ed448
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from tests.unit.ca_factory.authorities import KEY_SPECS, P256, kind, make_root, private_key
from tiny_ca.ca_factory.keys import PrivateKey, public_key_der
from tiny_ca.ca_factory.utils.file_loader import CAFileLoader, ICALoader
from tiny_ca.exc import ErrorLoadCert, IsNotFile, NotExistCertFile, WrongType
from tiny_ca.models.certificate import CertificateInfo
from tiny_ca.models.key_spec import KeySpec


def _pem(key: PrivateKey | dsa.DSAPrivateKey | ed448.Ed448PrivateKey, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate and its key, not encrypted."""
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    certificate.write_bytes(make_root().certificate.public_bytes(Encoding.PEM))
    key.write_bytes(_pem(private_key(P256, "Root")))
    return certificate, key


@pytest.mark.parametrize("spec", KEY_SPECS, ids=kind)
@pytest.mark.parametrize("password", [None, b"secret", "secret"])
def test_loads(spec: KeySpec, password: str | bytes | None, tmp_path: Path) -> None:
    """A CA of any kind of key, encrypted or not, is loaded whole."""
    certificate, key = tmp_path / "ca.pem", tmp_path / "ca.key"
    certificate.write_bytes(make_root(spec).certificate.public_bytes(Encoding.PEM))
    key.write_bytes(_pem(private_key(spec, "Root"), b"secret" if password else None))

    loader = CAFileLoader(str(certificate), key, password)

    assert loader.ca_cert == make_root(spec).certificate
    assert public_key_der(loader.ca_key.public_key()) == public_key_der(private_key(spec, "Root").public_key())
    assert loader.base_info == CertificateInfo()
    assert isinstance(loader, ICALoader)


def test_no_file(files: tuple[Path, Path]) -> None:
    """A path that leads to nothing is named."""
    with pytest.raises(NotExistCertFile, match=r"there is no file .*missing\.pem"):
        CAFileLoader(files[0].with_name("missing.pem"), files[1])
    with pytest.raises(NotExistCertFile, match=r"missing\.key"):
        CAFileLoader(files[0], files[1].with_name("missing.key"))


def test_a_folder(files: tuple[Path, Path]) -> None:
    """A folder is no file."""
    with pytest.raises(IsNotFile, match="is no regular file"):
        CAFileLoader(files[0].parent, files[1])


def test_extension(files: tuple[Path, Path]) -> None:
    """A file of another extension is refused before it is read."""
    other = files[0].rename(files[0].with_suffix(".crt"))
    with pytest.raises(WrongType, match=r"must end in one of \.key, \.pem, \.csr, not '\.crt'"):
        CAFileLoader(other, files[1])


def test_too_large(files: tuple[Path, Path]) -> None:
    """A file of more than a mebibyte is no CA's."""
    files[0].write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(ErrorLoadCert, match="larger than"):
        CAFileLoader(*files)


def test_unreadable(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that may not be read says so."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ErrorLoadCert, match="cannot be read: Permission denied"):
        CAFileLoader(*files)


@pytest.mark.parametrize("content", [b"", b"junk", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_no_certificate(files: tuple[Path, Path], content: bytes) -> None:
    """A file without a certificate is refused."""
    files[0].write_bytes(content)
    with pytest.raises(ErrorLoadCert, match="holds no PEM certificate"):
        CAFileLoader(*files)


def test_no_key(files: tuple[Path, Path]) -> None:
    """A file without a key is refused, and its content not repeated."""
    files[1].write_bytes(b"top secret")
    with pytest.raises(ErrorLoadCert, match="holds no private key") as caught:
        CAFileLoader(*files)
    assert "top secret" not in caught.value.message


def test_passwords(files: tuple[Path, Path]) -> None:
    """A password that is missing, wrong, or not needed, is each told."""
    with pytest.raises(ErrorLoadCert, match="is not encrypted: give no password"):
        CAFileLoader(*files, "secret")
    files[1].write_bytes(_pem(private_key(P256, "Root"), b"secret"))
    with pytest.raises(ErrorLoadCert, match="is encrypted: give ca_key_password"):
        CAFileLoader(*files)
    with pytest.raises(ErrorLoadCert, match="that this password opens"):
        CAFileLoader(*files, "wrong")
    with pytest.raises(ErrorLoadCert, match="is no text"):
        CAFileLoader(*files, "\ud800")


def test_a_kind_that_signs_nothing_here(files: tuple[Path, Path]) -> None:
    """A key of a kind that no CA here has is refused."""
    files[1].write_bytes(_pem(ed448.Ed448PrivateKey.generate()))
    with pytest.raises(ErrorLoadCert, match=r"holds a .*; a CA key is RSA, P-256/384/521, Ed25519 or ML-DSA"):
        CAFileLoader(*files)


def test_not_a_pair(files: tuple[Path, Path]) -> None:
    """A key that is not the certificate's is refused."""
    files[1].write_bytes(_pem(private_key(P256, "other")))
    with pytest.raises(ErrorLoadCert, match="does not belong to the certificate"):
        CAFileLoader(*files)
