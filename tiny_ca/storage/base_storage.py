"""The contract of a storage. Sync implementations return values, async ones awaitables of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    PrivateFormat,
    PublicFormat,
)

from tiny_ca.storage.const import CryptoObject

__all__ = ["BaseStorage"]


class BaseStorage(ABC):
    """Where certificates, keys, CSRs and CRLs are kept: the files of one certificate in one folder, named by a UUID."""

    @abstractmethod
    def save_certificate(  # noqa: PLR0913, PLR0917  # the documented signature
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
    ) -> tuple[Path, str | None] | Awaitable[tuple[Path, str | None]]:
        """Keep the object as ``[cert_path/][uuid/]file_name`` and the extension of its kind; all of it or nothing.

        Parameters
        ----------
        uuid_str : str | None
            The folder; None makes a new one. Not looked at where ``is_add_uuid`` is False.
        encoding, private_format, public_format, encryption_algorithm
            None takes the storage's own.

        Returns
        -------
        tuple
            The file's absolute path, and the UUID, None without one.

        Raises
        ------
        FileAlreadyExists
            The file is there and ``is_overwrite`` is False.
        TypeError
            ``cert`` is of no kind that is kept.
        """

    @abstractmethod
    def delete_certificate_folder(self, uuid_str: str, cert_path: str | Path | None = None) -> bool | Awaitable[bool]:
        """Delete the folder and all in it; True also where there is none, False (logged) where it could not be."""
