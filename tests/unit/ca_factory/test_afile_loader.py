"""The CA loader for async callers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tiny_ca.ca_factory import AsyncCAFileLoader, CertificateFactory
from tiny_ca.exc import NotExistCertFile
from tiny_ca.models import KeySpec
from tiny_ca.storage import LocalStorage


def test_loaded_or_not(tmp_path: Path) -> None:
    """Before load() a property is a RuntimeError that names it; afterwards, and from create(), it is a CA."""
    cert, key = CertificateFactory.build_self_signed_ca(key=KeySpec.ec())
    storage = LocalStorage(tmp_path)
    cert_path, _ = storage.save_certificate(cert, "ca", is_add_uuid=False)
    key_path, _ = storage.save_certificate(key, "ca", is_add_uuid=False)

    async def load() -> None:
        loader = AsyncCAFileLoader(cert_path, key_path)
        for name in ("ca_cert", "ca_key", "base_info"):
            with pytest.raises(RuntimeError, match="load"):
                getattr(loader, name)
        await loader.load()
        assert loader.ca_cert == cert
        assert CertificateFactory(await AsyncCAFileLoader.create(cert_path, key_path)).issuer.certificate == cert
        with pytest.raises(NotExistCertFile):
            await AsyncCAFileLoader.create(tmp_path / "gone.pem", key_path)

    asyncio.run(load())
