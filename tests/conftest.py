"""What all tests share: one running service for those that only talk to it, and real databases."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TypeAlias

import httpx
import pytest

from tests.postgres import any_server, new_database
from tests.running import DATABASE_URL, RunningService

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

NewEnvironment: TypeAlias = Callable[[], AbstractContextManager[dict[str, str]]]


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


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """The kind of database that services run over, one after the other."""
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def new_environment(database: str, request: pytest.FixtureRequest) -> NewEnvironment:
    """What gives a service's environment with an empty database of that kind; SQLite is in the data folder."""
    if database == "sqlite":
        return lambda: nullcontext({})
    url: str = request.getfixturevalue("postgres_url")
    return lambda: _postgres_environment(url)


@contextmanager
def _postgres_environment(server_url: str) -> Iterator[dict[str, str]]:
    with new_database(server_url) as url:
        yield {DATABASE_URL: url}


@pytest.fixture
def environment(new_environment: NewEnvironment) -> Iterator[dict[str, str]]:
    """The environment of one test's own service."""
    with new_environment() as made:
        yield made


@contextmanager
def _service(folder: Path, environment: dict[str, str]) -> Iterator[RunningService]:
    """With the built-in profiles and a few more."""
    (folder / "profiles.toml").write_text(_PROFILES)
    with RunningService(folder, "--profiles-file", "profiles.toml", environment=environment) as running:
        yield running


@pytest.fixture(scope="session")
def sqlite_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """The service over SQLite."""
    with _service(tmp_path_factory.mktemp("service"), {}) as running:
        yield running


@pytest.fixture(scope="session")
def postgresql_service(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Iterator[RunningService]:
    """The service over PostgreSQL."""
    with (
        _postgres_environment(postgres_url) as environment,
        _service(tmp_path_factory.mktemp("service"), environment) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def service(database: str, request: pytest.FixtureRequest) -> RunningService:
    """The service as a process, over each database in turn; nobody may stop it.

    Both run until the session ends: pytest goes back and forth between them once a file.
    """
    running: RunningService = request.getfixturevalue(f"{database}_service")
    return running


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


# What they ask is answered before any database is, or is the client's; TINY_CA_TEST_ALL=1 runs them over both.
_BEFORE_THE_DATABASE = {
    "test_bad_bodies",
    "test_bad_csr",
    "test_client",
    "test_client_renew",
    "test_metrics",
    "test_openapi",
    "test_review",
    "test_schemathesis",
    "test_smuggling",
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run what needs no database over one of them, and what dies hundreds of times in turns: CI has fifteen minutes."""
    if os.environ.get("TINY_CA_TEST_ALL"):
        return
    spared = {item for item in items if "postgresql" in item.name and item.path.stem in _BEFORE_THE_DATABASE}
    spared |= set(_other_turns(items))
    config.hook.pytest_deselected(items=list(spared))
    items[:] = [item for item in items if item not in spared]


def _other_turns(items: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Of each case in which a manager fails or dies before each of its effects, all kinds of managers but one."""
    cases: dict[tuple[str, ...], list[pytest.Item]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.originalname == "test_before_every_effect":
            case = (str(value) for name, value in item.callspec.params.items() if name != "copied_manager")
            cases.setdefault(tuple(case), []).append(item)
    for number, kinds in enumerate(cases.values()):
        yield from (item for turn, item in enumerate(kinds) if turn != number % len(kinds))
