"""Files below one folder, through both storages."""

from __future__ import annotations

import asyncio
import inspect
import os
import stat
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tiny_ca.exc import FileAlreadyExists, Invalid
from tiny_ca.storage import AsyncLocalStorage, LocalStorage

KEY: Final = ec.generate_private_key(ec.SECP256R1())
NAME: Final = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "host")])
NOW: Final = datetime.now(UTC)
CSR: Final = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(KEY, SHA256())
CRL: Final = (
    x509.CertificateRevocationListBuilder()
    .issuer_name(NAME)
    .last_update(NOW)
    .next_update(NOW + timedelta(days=1))
    .sign(KEY, SHA256())
)
CERT: Final = x509.CertificateBuilder(NAME, NAME, KEY.public_key(), 1, NOW, NOW + timedelta(days=1)).sign(KEY, SHA256())


class Storage:
    """A storage of either kind, called the same way."""

    def __init__(self, storage: LocalStorage | AsyncLocalStorage, runner: asyncio.Runner) -> None:
        self.folder = storage.base_folder
        self._storage = storage
        self._runner = runner

    def __getattr__(self, method: str) -> Any:  # noqa: ANN401 - any of its methods
        def call(*args: object, **kwargs: object) -> object:
            result = getattr(self._storage, method)(*args, **kwargs)
            return self._runner.run(result) if inspect.iscoroutine(result) else result

        return call


@pytest.fixture(params=[LocalStorage, AsyncLocalStorage])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """Give each storage over an empty folder."""
    with asyncio.Runner() as runner:
        yield Storage(request.param(tmp_path / "pki"), runner)


class TestKinds:
    @pytest.mark.parametrize(
        "obj, suffix",
        [(CERT, ".pem"), (CSR, ".csr"), (CRL, ".pem"), (KEY, ".key"), (KEY.public_key(), ".pub")],
        ids=["certificate", "csr", "crl", "private key", "public key"],
    )
    def test_extension_and_pem(self, storage: Storage, obj: Any, suffix: str) -> None:  # noqa: ANN401 - of each kind
        """Each kind has its extension and is PEM by default; the path is absolute, the UUID the folder's name."""
        path, uuid = storage.save_certificate(obj, "host")
        assert path == storage.folder / uuid / f"host{suffix}"
        assert path.read_bytes().startswith(b"-----BEGIN ")

    @pytest.mark.parametrize(
        "key",
        [ed25519.Ed25519PrivateKey.generate(), mldsa.MLDSA65PrivateKey.generate()],
        ids=["Ed25519", "ML-DSA"],
    )
    def test_keys_without_a_traditional_form(self, storage: Storage, key: Any) -> None:  # noqa: ANN401 - of each kind
        """A key that has no traditional form is written as PKCS#8 and reads back."""
        path, _ = storage.save_certificate(key, "host")
        assert load_pem_private_key(path.read_bytes(), None).public_key() == key.public_key()

    def test_traditional_by_default(self, storage: Storage) -> None:
        """An RSA key is PKCS#1 unless another format is asked for."""
        key = rsa.generate_private_key(65537, 2048)
        path, _ = storage.save_certificate(key, "a")
        assert path.read_bytes().startswith(b"-----BEGIN RSA PRIVATE KEY-----")
        path, _ = storage.save_certificate(key, "b", private_format=PrivateFormat.PKCS8)
        assert path.read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----")

    def test_every_option(self, storage: Storage) -> None:
        """Encoding, formats and encryption are taken from the call."""
        path, _ = storage.save_certificate(CERT, "a", encoding=Encoding.DER)
        assert x509.load_der_x509_certificate(path.read_bytes()) == CERT
        path, _ = storage.save_certificate(
            KEY, "b", private_format=PrivateFormat.PKCS8, encryption_algorithm=BestAvailableEncryption(b"secret")
        )
        with pytest.raises(TypeError):
            load_pem_private_key(path.read_bytes(), None)
        assert load_pem_private_key(path.read_bytes(), b"secret").public_key() == KEY.public_key()
        path, _ = storage.save_certificate(
            KEY.public_key(), "c", encoding=Encoding.DER, public_format=PublicFormat.SubjectPublicKeyInfo
        )
        assert load_der_public_key(path.read_bytes()) == KEY.public_key()

    def test_nothing_else_is_kept(self, storage: Storage) -> None:
        """Another object is a TypeError, a combination that does not exist a ValueError, and neither leaves a trace."""
        with pytest.raises(TypeError, match="str"):
            storage.save_certificate("text", "a")
        with pytest.raises(ValueError, match="format"):
            storage.save_certificate(KEY.public_key(), "a", public_format=PublicFormat.Raw)
        assert not storage.folder.exists()


class TestPlaces:
    def test_grouped_by_uuid(self, storage: Storage) -> None:
        """Files of one UUID share a folder; without one they lie below cert_path."""
        first, uuid = storage.save_certificate(CERT, "host", cert_path="a/b")
        second, again = storage.save_certificate(KEY, "host", cert_path=Path("a/b"), uuid_str=uuid)
        assert (first.parent, again) == (second.parent, uuid)
        crl, none = storage.save_certificate(CRL, "crl", is_add_uuid=False, uuid_str=uuid)
        assert (crl, none) == (storage.folder / "crl.pem", None)

    @pytest.mark.parametrize(
        "name", ["", ".", "..", "../x", "a/b", "/etc/x", "a\0b", "x" * 300, ".0123456789abcdef.old"]
    )
    def test_names_outside_are_refused(self, storage: Storage, name: str) -> None:
        """A name that is no plain name is refused, and nothing is made."""
        with pytest.raises(Invalid):
            storage.save_certificate(CERT, name)
        assert not storage.folder.exists()

    @pytest.mark.parametrize(
        "place",
        [{"uuid_str": bad} for bad in ("", "..", "../x", "/x", "a\0b")]
        + [{"cert_path": bad} for bad in ("..", "a/../b", "/etc", "a\0b")],
        ids=repr,
    )
    def test_places_outside_are_refused(self, storage: Storage, place: dict[str, str]) -> None:
        """A UUID or path that leaves the folder is refused, for saving and for deleting."""
        with pytest.raises(Invalid):
            storage.save_certificate(CERT, "host", **place)
        with pytest.raises(Invalid):
            storage.delete_certificate_folder(**({"uuid_str": "x"} | place))
        assert not storage.folder.exists()

    def test_links_are_not_followed(self, storage: Storage, tmp_path: Path) -> None:
        """A symbolic link on the way is refused, and as a file it is replaced, not written through."""
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").write_text("kept")
        storage.folder.mkdir()
        (storage.folder / "link").symlink_to(outside)
        for place in ({"uuid_str": "link"}, {"cert_path": "link"}):
            with pytest.raises(Invalid, match="symbolic link"):
                storage.save_certificate(CERT, "host", **place)
        with pytest.warns(UserWarning, match="not a directory"):
            assert storage.delete_certificate_folder("link") is True
        (storage.folder / "crl.pem").symlink_to(outside / "kept")
        storage.save_certificate(CRL, "crl", is_add_uuid=False, is_overwrite=True)
        assert (outside / "kept").read_text() == "kept"


class TestWriting:
    @pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
    def test_modes_whatever_the_umask(self, storage: Storage, umask: int) -> None:
        """Private keys are 0600 and their folders 0700, whatever the umask."""
        old = os.umask(umask)
        try:
            path, _ = storage.save_certificate(KEY, "host", cert_path="a")
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        folders = [path.parent, path.parent.parent, storage.folder]
        assert [stat.S_IMODE(folder.stat().st_mode) for folder in folders] == [0o700] * 3

    def test_existing_is_kept_unless_asked(self, storage: Storage) -> None:
        """A file is replaced only with is_overwrite; nothing temporary stays."""
        path, uuid = storage.save_certificate(CERT, "host")
        with pytest.raises(FileAlreadyExists, match="is_overwrite"):
            storage.save_certificate(CRL, "host", uuid_str=uuid)
        assert x509.load_pem_x509_certificate(path.read_bytes()) == CERT
        storage.save_certificate(CRL, "host", uuid_str=uuid, is_overwrite=True)
        assert x509.load_pem_x509_crl(path.read_bytes()) == CRL
        assert list(path.parent.iterdir()) == [path]

    def test_exactly_one_writes(self, tmp_path: Path) -> None:
        """Of many that write one name at once exactly one does."""
        storage = LocalStorage(tmp_path)

        def save(_: int) -> bool:
            try:
                storage.save_certificate(CERT, "host", uuid_str="u")
            except FileAlreadyExists:
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(save, range(32))) == 1

    @pytest.mark.parametrize("call, at", [("fsync", 1), ("fsync", 2), ("fsync", 3), ("fsync", 4), ("link", 1)])
    def test_a_failure_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, at: int
    ) -> None:
        """Whenever the disk fails neither a file nor a folder stays."""
        storage = LocalStorage(tmp_path)
        calls = []

        def fail(*args: object, **kwargs: object) -> None:
            calls.append(args)
            if len(calls) == at:
                raise OSError(28, "No space left on device")
            real(*args, **kwargs)

        real = getattr(os, call)
        with monkeypatch.context() as patch:
            patch.setattr("tiny_ca.storage.folders.os." + call, fail)
            with pytest.raises(OSError, match="No space"):
                storage.save_certificate(KEY, "host", cert_path="a")
        assert list(tmp_path.iterdir()) == []


class TestDeleting:
    def test_folder_goes(self, storage: Storage) -> None:
        """The folder goes with all in it, and only that one."""
        path, uuid = storage.save_certificate(CERT, "host", cert_path="a")
        storage.save_certificate(CERT, "other", cert_path="a")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert storage.delete_certificate_folder(uuid, cert_path="a") is True
        assert not path.parent.exists()
        assert len(list((storage.folder / "a").iterdir())) == 1

    def test_nothing_to_delete(self, storage: Storage) -> None:
        """A missing folder and a file in its place are warned of, and are True."""
        with pytest.warns(UserWarning, match="does not exist"):
            assert storage.delete_certificate_folder("gone") is True
        storage.folder.mkdir()
        (storage.folder / "file").touch()
        with pytest.warns(UserWarning, match="not a directory"):
            assert storage.delete_certificate_folder("file") is True
        assert (storage.folder / "file").exists()

    def test_what_cannot_be_deleted(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An OSError is logged and False."""
        path, uuid = storage.save_certificate(CERT, "host")

        def fail(*_args: object, **_kwargs: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tiny_ca.storage.folders.shutil.rmtree", fail)
        assert storage.delete_certificate_folder(uuid) is False
        assert str(path.parent) in caplog.text


class TestReplacing:
    def test_one_folder_for_another(self, storage: Storage) -> None:
        """One folder takes the place of another; nothing else stays."""
        storage.save_certificate(CERT, "old", uuid_str="web")
        storage.save_certificate(CERT, "new", uuid_str="fresh")
        assert storage.has_certificate_folder("web") is True
        assert storage.replace_certificate_folder("web", "fresh") == storage.folder / "web"
        assert storage.has_certificate_folder("fresh") is storage.has_certificate_folder("x", "y") is False
        assert [path.name for path in storage.folder.rglob("*")] == ["web", "new.pem"]
