"""TLS to PostgreSQL, in the words that libpq has for it: the same URL for both handlers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.tls_relay import TLSRelay
from tests.unit.db.helpers import Registry
from tiny_ca.ca_factory import CAFileLoader, CertificateFactory
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.sync_db_manager import SyncDBHandler
from tiny_ca.exc import RegistryUnavailable
from tiny_ca.managers import CertLifecycleManager
from tiny_ca.models import CAConfig, ClientConfig, KeySpec
from tiny_ca.storage import LocalStorage


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CA of the library's, a certificate for the host ``localhost`` and one for a client."""
    folder = tmp_path_factory.mktemp("pki")
    database = SyncDBHandler(f"sqlite:///{folder / 'ca.db'}")
    manager = CertLifecycleManager(LocalStorage(folder), db_handler=database)
    _, root = (
        manager.create_self_signed_ca(
            CAConfig(common_name=name, organization="Example", country="DE", key=KeySpec.ec()), uuid_str=name
        )
        for name in ("other", "root")
    )
    manager.factory = CertificateFactory(CAFileLoader(*root))
    manager.issue_certificate(ClientConfig(common_name="localhost", key=KeySpec.ec()), uuid_str="server")
    client = ClientConfig(common_name="service", key=KeySpec.ec(), is_server_cert=False, is_client_cert=True)
    manager.issue_certificate(client, uuid_str="client")
    database.close()
    return folder


@pytest.fixture(params=[False, True], ids=["anybody", "with certificates"])
def relay(request: pytest.FixtureRequest, pki: Path, postgres_database: str) -> Iterator[TLSRelay]:
    """A database that is reached by TLS alone; in turn, clients must have a certificate."""
    folder = Path(parse_qs(urlsplit(postgres_database).query)["host"][0])
    server = pki / "server" / "localhost"
    client_ca = pki / "root" / "ca.pem" if request.param else None
    with TLSRelay(
        folder / ".s.PGSQL.5432", server.with_suffix(".pem"), server.with_suffix(".key"), client_ca=client_ca
    ) as relay:
        yield relay


@pytest.fixture
def connect(
    pki: Path,
    relay: TLSRelay,
    postgres_database: str,
    handler_class: type[SyncDBHandler | AsyncDBHandler],
    runner: asyncio.Runner,
) -> Iterator[Callable[..., Registry]]:
    """Give what makes a registry from TLS parameters, the client's certificate among them."""
    made: list[Registry] = []
    name = urlsplit(postgres_database).path

    def with_parameters(host: str = "localhost", **parameters: str) -> Registry:
        client = pki / "client" / "service"
        given = {"sslcert": f"{client}.pem", "sslkey": f"{client}.key"} | parameters
        query = "&".join(f"{key}={quote(value)}" for key, value in given.items())
        url = f"postgresql+asyncpg://postgres@{host}:{relay.port}{name}?{query}"
        made.append(Registry(handler_class(url, strict=True, create_all=False), runner))
        return made[-1]

    yield with_parameters
    for registry in made:
        registry.close()


def test_verified(connect: Callable[..., Registry], pki: Path, relay: TLSRelay) -> None:
    """``sslmode=verify-full`` with the right root and name connects, over TLS."""
    connect(sslmode="verify-full", sslrootcert=str(pki / "root" / "ca.pem")).call("ping")
    assert relay.connections == 1


@pytest.mark.parametrize(
    "host,root,says",
    [
        ("127.0.0.1", "root", "127.0.0.1"),
        ("localhost", "other", "verify failed"),
        ("localhost", "nowhere", "nowhere|No such file"),
    ],
    ids=["name", "root", "file"],
)
def test_not_verified(
    connect: Callable[..., Registry], pki: Path, relay: TLSRelay, host: str, root: str, says: str
) -> None:
    """Another name, another root and a file that is not there are refused, before a password is sent."""
    with pytest.raises(RegistryUnavailable, match=says):
        connect(host, sslmode="verify-full", sslrootcert=str(pki / root / "ca.pem")).call("ping")
    assert relay.connections == 0
