"""One storm from the first replica's start to what the checker says."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.crash.storm.checker import Registry, crls_seen, problems, read_registry
from tests.crash.storm.clients import Client, new_http, watch_crls
from tests.crash.storm.received import Received
from tests.crash.storm.trouble import StormReplica, Trouble
from tests.postgres import PostgresServer, new_database

__all__ = ["Outcome", "Plan", "report", "run"]

_CSRS: Final = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """How long, how many, and the seed of everything that is by chance."""

    seconds: float
    clients: int = 64
    replicas: int = 3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened, and what was wrong with it."""

    plan: Plan
    received: Received
    registry: Registry
    happened: Counter[str]
    problems: list[str]


def run(plan: Plan) -> Outcome:
    """Make a PostgreSQL server, replicas and clients; let it storm; check."""
    with PostgresServer() as server, new_database(server.url) as url, tempfile.TemporaryDirectory() as folder:
        token = secrets.token_urlsafe(32)
        environment = {
            "TINY_CA_DATABASE_URL": url,
            "TINY_CA_KEY_PASSPHRASE": secrets.token_urlsafe(32),
            "TINY_CA_ADMIN_TOKEN": token,
            "TINY_CA_LOG_LEVEL": "warning",
        }
        replicas = []
        for number in range(plan.replicas):
            home = Path(folder) / str(number)
            home.mkdir()
            replicas.append(StormReplica(home, environment))
        try:
            for replica in replicas:  # all at once: exactly one of them makes the CA
                replica.spawn()
            for replica in replicas:
                replica.wait_until_listening()
            return asyncio.run(_storm(plan, replicas, server, url, token))
        finally:
            for replica in replicas:
                if replica.process.poll() is None:
                    replica.stop()


def report(outcome: Outcome) -> str:
    """The counts, and what is wrong."""
    received, registry = outcome.received, outcome.registry
    held = {der for answers in received.certificates.values() for der in answers}
    leaves = sum(row["key_type"] != "CA" for row in registry.certificates.values())
    storm = (
        f"storm of {outcome.plan.seconds:.0f} s, {outcome.plan.clients} clients, {outcome.plan.replicas} replicas, "
        f"seed {outcome.plan.seed}"
    )
    crls = f"{crls_seen(received.crls)} different CRLs seen in {len(received.crls)} fetches"
    lines = [
        storm,
        "  trouble: " + ", ".join(f"{times} x {what}" for what, times in sorted(outcome.happened.items())),
        "  answers: "
        + ", ".join(f"{times} x {status}" for status, times in sorted(received.statuses.items()))
        + f"; {received.lost} x none",
        f"  {len(received.certificates)} idempotency keys, {len(held)} certificates received, {leaves} on record",
        f"  {len(received.revocations)} revocations acknowledged, {crls}",
        f"  {len(outcome.problems)} problems",
        *(f"    {problem}" for problem in outcome.problems[:50]),
    ]
    return "\n".join(lines)


async def _storm(plan: Plan, replicas: list[StormReplica], server: PostgresServer, url: str, token: str) -> Outcome:
    received, trouble = Received(), Trouble(replicas, server, plan.seed)
    csrs = [_csr(number) for number in range(_CSRS)]
    calm = asyncio.Event()
    async with new_http(token) as http:
        clients = [Client(http, replicas, csrs, received, plan.seed + number) for number in range(plan.clients)]
        work = [asyncio.create_task(client.work(calm)) for client in clients]
        work.append(asyncio.create_task(watch_crls(http, replicas, received, calm)))
        try:
            await trouble.make(plan.seconds)
        finally:
            calm.set()
            await asyncio.gather(*work)
        issuer, last_crl = await _published(http, replicas)
    registry = await read_registry(url)
    return Outcome(
        plan, received, registry, trouble.happened, problems(received, registry, issuer=issuer, last_crl=last_crl)
    )


async def _published(http: httpx.AsyncClient, replicas: list[StormReplica]) -> tuple[x509.Certificate, bytes]:
    bundle = (await http.get(f"{replicas[0].url}/ca.pem")).raise_for_status().content
    crl = (await http.get(f"{replicas[0].url}/crl.der")).raise_for_status().content
    return x509.load_pem_x509_certificates(bundle)[0], crl


def _csr(number: int) -> bytes:
    name = f"host{number}.example.org"
    builder = x509.CertificateSigningRequestBuilder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    return builder.sign(ec.generate_private_key(ec.SECP256R1()), SHA256()).public_bytes(Encoding.PEM)
