"""What all tests share: one running service for those that only talk to it, and real databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.postgres import any_server, new_database
from tests.running import RunningService

# Beside the built-in profiles, unchanged: one for each constraint that none of those has.
_PROFILES = """
[profiles.narrow]
extends = "server"
wildcards = false
dns = ["*.example.org"]
ip_ranges = ["10.0.0.0/8"]
keys = ["ec:P-256"]

[profiles.strict]
extends = "server"
unknown_extensions = "refuse"

[profiles.single]
extends = "server"
unique_common_name = true

[profiles.slow]
extends = "server"
min_lifetime = "1h"

[profiles.endless]
extends = "client"
max_lifetime = "9000d"
"""


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The service runs on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """Give the URL of a PostgreSQL server."""
    with any_server() as url:
        yield url


@pytest.fixture
def postgres_database(postgres_url: str) -> Iterator[str]:
    """Give the URL of an empty PostgreSQL database."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def db_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database, one of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ca.db'}"
    url: str = request.getfixturevalue("postgres_database")
    return url


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The service as a process, with the built-in profiles and a few more; nobody may stop it."""
    folder = tmp_path_factory.mktemp("service")
    (folder / "profiles.toml").write_text(_PROFILES)
    with RunningService(folder, "--profiles-file", "profiles.toml") as running:
        yield running


@pytest.fixture(scope="session")
def api(service: RunningService) -> Iterator[httpx.Client]:
    """The admin, talking to the service."""
    with service.client() as client:
        yield client


@pytest.fixture(scope="session")
def anybody(service: RunningService) -> Iterator[httpx.Client]:
    """Somebody without a token, talking to the service."""
    with service.anonymous() as client:
        yield client
