"""LocalStorage for async callers: each call in a worker thread."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial, wraps
from logging import Logger
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from anyio import to_thread
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from tiny_ca.storage.base_storage import BaseStorage
from tiny_ca.storage.local_storage import LocalStorage

__all__ = ["AsyncLocalStorage"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _threaded(
    method: Callable[Concatenate[LocalStorage, _P], _T],
) -> Callable[Concatenate[AsyncLocalStorage, _P], Coroutine[Any, Any, _T]]:
    @wraps(method)
    async def in_thread(self: AsyncLocalStorage, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await to_thread.run_sync(partial(method, self.local, *args, **kwargs))

    return in_thread


class AsyncLocalStorage(BaseStorage):
    """The arguments, answers and errors of LocalStorage; ``local`` is the one that does the work."""

    def __init__(
        self,
        base_folder: str | Path = "./certs",
        base_encoding: Encoding = Encoding.PEM,
        base_private_format: PrivateFormat = PrivateFormat.TraditionalOpenSSL,
        base_public_format: PublicFormat = PublicFormat.SubjectPublicKeyInfo,
        base_encryption_algorithm: KeySerializationEncryption = NoEncryption(),  # noqa: B008  # immutable
        logger: Logger | None = None,
    ) -> None:
        self.local = LocalStorage(
            base_folder, base_encoding, base_private_format, base_public_format, base_encryption_algorithm, logger
        )

    @property
    def base_folder(self) -> Path:
        """The absolute path of the root; it is made with the first file."""
        return self.local.base_folder

    save_certificate = _threaded(LocalStorage.save_certificate)
    delete_certificate_folder = _threaded(LocalStorage.delete_certificate_folder)
    has_certificate_folder = _threaded(LocalStorage.has_certificate_folder)
    locate_certificate_folder = _threaded(LocalStorage.locate_certificate_folder)
    check_replaceable = _threaded(LocalStorage.check_replaceable)
    delete_certificate_files = _threaded(LocalStorage.delete_certificate_files)
    replace_certificate_folder = _threaded(LocalStorage.replace_certificate_folder)
    saved_crl = _threaded(LocalStorage.saved_crl)
    begin_certificate_folder = _threaded(LocalStorage.begin_certificate_folder)
    finish_certificate_folder = _threaded(LocalStorage.finish_certificate_folder)
    discard_certificate_folder = _threaded(LocalStorage.discard_certificate_folder)
    unfinished_certificate_folders = _threaded(LocalStorage.unfinished_certificate_folders)
    lock_folders = _threaded(LocalStorage.lock_folders)
    sweep = _threaded(LocalStorage.sweep)
