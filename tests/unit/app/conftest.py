"""A real CA in a folder of its own, opened as the service opens it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from cryptography.x509.oid import NameOID

from app.auth.caller import Caller
from app.auth.principal import Permission, Principal
from app.main import open_ca
from app.metrics import Metrics
from app.services.crls import CRLPublisher
from app.services.issuance import IssuanceOrder, IssuancePipeline
from app.services.issuers import IssuerStore
from app.settings import Settings
from tiny_ca.ca_factory.keys import KeySpec, generate_private_key
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.db.async_db_manager import AsyncDBHandler

ADMIN = Principal("admin", frozenset(Permission))


@pytest.fixture
def anyio_backend() -> str:
    """The service runs on asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def _logging() -> Iterator[None]:
    """Log through the standard library, as the service does: structlog by itself prints every frame's variables."""
    structlog.configure(
        processors=[structlog.stdlib.render_to_log_kwargs], logger_factory=structlog.stdlib.LoggerFactory()
    )
    yield
    structlog.reset_defaults()


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        """Tell it."""
        return self.now

    def forward(self, span: timedelta) -> None:
        """Move it."""
        self.now += span


@dataclass(frozen=True)
class OpenCA:
    """The parts that tests put together."""

    db: AsyncDBHandler
    issuers: IssuerStore
    clock: Clock

    def pipeline(self, *, max_batch: int = 256, max_waiting: int = 1024) -> IssuancePipeline:
        """A pipeline that has not been started."""
        return IssuancePipeline(
            self.db, max_batch=max_batch, max_waiting=max_waiting, metrics=Metrics(), clock=self.clock
        )

    def publisher(self, *, shared: bool = False) -> CRLPublisher:
        """A publisher that has loaded nothing."""
        return CRLPublisher(self.db, self.issuers, lifetime=timedelta(hours=24), shared=shared, clock=self.clock)

    def order(self, common_name: str = "app.example.org", profile: Profile | None = None) -> IssuanceOrder:
        """An order for one certificate under ``server`` or another profile."""
        key = KeySpec.ec("P-256")
        request = CertificateRequest(
            subject=((NameOID.COMMON_NAME, common_name),),
            names=AlternativeNames(),
            public_key=generate_private_key(key).public_key(),
            key_spec=key,
        )
        return IssuanceOrder(
            read=lambda: request,
            profile=profile or BUILT_IN_PROFILES["server"],
            issuer=self.issuers.default,
            caller=Caller(ADMIN, "r-1"),
        )


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of an installation in a folder of its own."""
    return Settings(data_dir=tmp_path / "data")


@pytest.fixture
async def ca(settings: Settings) -> AsyncIterator[OpenCA]:
    """A CA that was just made."""
    db, issuers = await open_ca(settings)
    yield OpenCA(db, issuers, Clock())
    await db.aclose()
