"""A CA from two PEM files, for async callers: CAFileLoader in a worker thread."""

from __future__ import annotations

from functools import partial
from logging import Logger
from pathlib import Path

from anyio import to_thread
from cryptography import x509

from tiny_ca.ca_factory.keys import PrivateKey
from tiny_ca.ca_factory.utils.file_loader import CAFileLoader
from tiny_ca.models.certificate import CertificateInfo

__all__ = ["AsyncCAFileLoader"]


class AsyncCAFileLoader:
    """Reads both files in ``load``, or is made loaded by ``create``; before that its properties raise RuntimeError."""

    def __init__(
        self,
        ca_cert_path: str | Path,
        ca_key_path: str | Path,
        ca_key_password: str | bytes | None = None,
        logger: Logger | None = None,
    ) -> None:
        self._read = partial(CAFileLoader, ca_cert_path, ca_key_path, ca_key_password, logger)
        self._loader: CAFileLoader | None = None

    @classmethod
    async def create(
        cls,
        ca_cert_path: str | Path,
        ca_key_path: str | Path,
        ca_key_password: str | bytes | None = None,
        logger: Logger | None = None,
    ) -> AsyncCAFileLoader:
        """Make one that is loaded; raises what CAFileLoader raises."""
        loader = cls(ca_cert_path, ca_key_path, ca_key_password, logger)
        await loader.load()
        return loader

    async def load(self) -> None:
        """Read and check both files; raises what CAFileLoader raises."""
        self._loader = await to_thread.run_sync(self._read)

    @property
    def ca_cert(self) -> x509.Certificate:
        """The CA certificate."""
        return self._loaded.ca_cert

    @property
    def ca_key(self) -> PrivateKey:
        """The CA's private key."""
        return self._loaded.ca_key

    @property
    def ca_chain(self) -> tuple[x509.Certificate, ...]:
        """The CAs above it, as far as its file holds them, nearest first."""
        return self._loaded.ca_chain

    @property
    def base_info(self) -> CertificateInfo:
        """What the CA certificate's subject says."""
        return self._loaded.base_info

    @property
    def _loaded(self) -> CAFileLoader:
        if self._loader is None:
            raise RuntimeError("the CA is not loaded: await load() first, or make the loader with create()")
        return self._loader
