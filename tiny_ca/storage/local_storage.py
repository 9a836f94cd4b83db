"""Storage in a folder of this machine. How files are written is in ``folders``, what is in them in ``serializer``."""

from __future__ import annotations

import stat
import warnings
from contextlib import suppress
from logging import Logger
from pathlib import Path
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tiny_ca.exc import FileAlreadyExists
from tiny_ca.settings import DEFAULT_LOGGER
from tiny_ca.storage import folders, unfinished
from tiny_ca.storage.base_storage import BaseStorage
from tiny_ca.storage.const import CryptoObject
from tiny_ca.storage.serializer import Serializer
from tiny_ca.storage.unfinished import StorageLock, UnfinishedFolder

__all__ = ["LocalStorage"]


class LocalStorage(BaseStorage):
    """Folders of mode 0700 below ``base_folder``, private keys of mode 0600 in them, whatever the umask.

    A name, UUID or path that would leave the folder, also through a symbolic link, is refused with Invalid.
    With a passphrase give ``PrivateFormat.PKCS8``: the traditional form derives its key with a single MD5.
    """

    def __init__(
        self,
        base_folder: str | Path = "./certs",
        base_encoding: Encoding = Encoding.PEM,
        base_private_format: PrivateFormat = PrivateFormat.TraditionalOpenSSL,
        base_public_format: PublicFormat = PublicFormat.SubjectPublicKeyInfo,
        base_encryption_algorithm: KeySerializationEncryption = NoEncryption(),  # noqa: B008  # immutable
        logger: Logger | None = None,
    ) -> None:
        self._root = Path(base_folder).absolute()
        self._serializer = Serializer(base_encoding, base_private_format, base_public_format, base_encryption_algorithm)
        self._logger = logger or DEFAULT_LOGGER

    @property
    def base_folder(self) -> Path:
        """The absolute path of the root; it is made with the first file."""
        return self._root

    def save_certificate(  # noqa: D102, PLR0913, PLR0917  # the contract is in BaseStorage
        self,
        cert: CryptoObject,
        file_name: str,
        cert_path: str | Path | None = None,
        uuid_str: str | None = None,
        encoding: Encoding | None = None,
        private_format: PrivateFormat | None = None,
        public_format: PublicFormat | None = None,
        encryption_algorithm: KeySerializationEncryption | None = None,
        is_add_uuid: bool = True,  # noqa: FBT001, FBT002
        is_overwrite: bool = False,  # noqa: FBT001, FBT002
    ) -> tuple[Path, str | None]:
        # 1. Everything that can be refused without touching the disk.
        file = self._serializer.overridden(encoding, private_format, public_format, encryption_algorithm).serialize(
            cert
        )
        name = folders.checked_name(file_name, "file_name") + file.suffix
        steps = folders.checked_path(cert_path, "cert_path")
        uuid = None
        if is_add_uuid:
            uuid = str(uuid4()) if uuid_str is None else folders.checked_name(uuid_str, "uuid_str")
            steps += (uuid,)
        # 2. The file.
        path = self._root.joinpath(*steps, name)
        try:
            with folders.opened(self._root, steps, create=True) as folder:
                folders.write_file(folder, name, file.data, secret=file.secret, overwrite=is_overwrite)
        except FileAlreadyExists as error:
            raise FileAlreadyExists(f"{path} exists; pass is_overwrite=True to replace it") from error
        self._logger.debug("wrote %s", path)
        return path, uuid

    def delete_certificate_folder(self, uuid_str: str, cert_path: str | Path | None = None) -> bool:
        """Delete the folder and all in it; True also where there is none, False (logged) on an OSError.

        Warns
        -----
        UserWarning
            It does not exist, or is not a directory; nothing is done then.
        """
        steps, name = self._place(uuid_str, cert_path)
        path = self._root.joinpath(*steps, name)
        try:
            with folders.opened(self._root, steps) as parent:
                mode = folders.entry_mode(parent, name)
                if mode is not None and stat.S_ISDIR(mode):
                    folders.delete_folder(parent, name)
                    return True
        except FileNotFoundError:
            mode = None
        except OSError:
            self._logger.exception("could not delete %s", path)
            return False
        fault = "does not exist" if mode is None else "is not a directory"
        warnings.warn(f"nothing to delete: {path} {fault}", UserWarning, stacklevel=2)
        return True

    def has_certificate_folder(self, uuid_str: str, cert_path: str | Path | None = None) -> bool:
        """Tell whether anything has that name already."""
        steps, name = self._place(uuid_str, cert_path)
        try:
            with folders.opened(self._root, steps) as parent:
                return folders.entry_mode(parent, name) is not None
        except FileNotFoundError:
            return False

    def locate_certificate_folder(self, uuid_str: str, serial_number: int) -> str | None:
        """Return the ``cert_path`` of the folder of that name that holds this certificate; None where there is none."""
        return unfinished.locate(self._root, folders.checked_name(uuid_str, "uuid_str"), serial_number)

    def check_replaceable(self, uuid_str: str, cert_path: str | Path | None = None) -> None:
        """Let pass what may be replaced: a folder with files alone.

        Raises
        ------
        Invalid
            It is a link or a file, or other folders are in it, which hold other certificates.
        """
        steps, name = self._place(uuid_str, cert_path)
        with folders.opened(self._root, steps) as parent:
            folders.check_replaceable(parent, name)

    def delete_certificate_files(self, uuid_str: str, serial_number: int, cert_path: str | Path | None = None) -> bool:
        """Delete what belongs to one certificate, and its folder where nothing else is in it.

        The folder is looked for at ``cert_path`` and then everywhere. True also where there is none; False (logged) on
        an OSError.
        """
        steps, name = self._place(uuid_str, cert_path)
        try:
            if not unfinished.holds(self._root.joinpath(*steps, name), serial_number):
                found = self.locate_certificate_folder(uuid_str, serial_number)
                if found is None:
                    return True
                steps = folders.checked_path(found, "cert_path")
            unfinished.delete_certificate(self._root, steps, name, serial_number)
        except FileNotFoundError:
            return True
        except OSError:
            self._logger.exception("could not delete the files of certificate %x", serial_number)
            return False
        return True

    def replace_certificate_folder(self, uuid_str: str, by_uuid: str, cert_path: str | Path | None = None) -> Path:
        """Put the folder ``by_uuid`` in the place of ``uuid_str``; what was there is deleted. Return its path."""
        steps, name = self._place(uuid_str, cert_path)
        with folders.opened(self._root, steps) as parent:
            folders.replace_folder(parent, name, folders.checked_name(by_uuid, "by_uuid"))
        return self._root.joinpath(*steps, name)

    def saved_crl(self, file_name: str, cert_path: str | Path | None = None) -> x509.CertificateRevocationList | None:
        """Read the CRL that was saved under that name, in no folder of its own; None where there is none.

        Raises
        ------
        FileAlreadyExists
            The file is something else.
        """
        steps = folders.checked_path(cert_path, "cert_path")
        path = self._root.joinpath(*steps, f"{folders.checked_name(file_name, 'file_name')}.pem")
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        for load in (x509.load_pem_x509_crl, x509.load_der_x509_crl):
            with suppress(ValueError):
                return load(data)
        raise FileAlreadyExists(f"{path} is no CRL, so that none takes its place; give another cert_path")

    def begin_certificate_folder(self, uuid_str: str, cert_path: str | Path | None = None) -> UnfinishedFolder:
        """Make the folder for a certificate that is still to be recorded; until ``finish`` it counts as unfinished.

        Raises
        ------
        FileAlreadyExists
            Something has that name already.
        """
        steps, name = self._place(uuid_str, cert_path)
        return unfinished.begin(self._root, steps, name)

    def finish_certificate_folder(self, folder: UnfinishedFolder) -> None:
        """The certificate in the folder is recorded: the folder stands, wherever it was renamed to."""
        unfinished.finish(folder)

    def discard_certificate_folder(self, folder: UnfinishedFolder) -> None:
        """The certificate in the folder is not recorded: nothing is left of it."""
        unfinished.discard(self._root, folder)

    def unfinished_certificate_folders(self) -> list[UnfinishedFolder]:
        """The folders whose maker died before it finished them; those that somebody works on are not among them."""
        return unfinished.stale(self._root)

    def lock_folders(self) -> StorageLock | None:
        """Lock the storage against every other process and task; None, after a moment, where another has it."""
        return unfinished.lock(self._root)

    def sweep(self) -> int:
        """Delete the temporary files and folders of those who died, and return how many there were."""
        return unfinished.sweep(self._root)

    @staticmethod
    def _place(uuid_str: str, cert_path: str | Path | None) -> tuple[tuple[str, ...], str]:
        return folders.checked_path(cert_path, "cert_path"), folders.checked_name(uuid_str, "uuid_str")
