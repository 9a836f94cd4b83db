"""Jobs of several real processes over one database: run once a period, taken over from the dead, kept from the late."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.api.answers import problem
from tests.api.asking import csr
from tests.running import CERTIFICATES, RunningService

JOBS = "/api/v1/jobs"
_CRL_PERIOD = 10


class Replicas:
    """Two services over one PostgreSQL database, whose notices go to a receiver that never answers."""

    def __init__(self, both: tuple[RunningService, RunningService], database: str, began: float) -> None:
        self.both = both
        self.began = began
        self._database = database

    def query(self, statement: str, *values: object) -> list[Any]:
        """Ask the database itself."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(self._database)
            try:
                return list(await connection.fetch(statement, *values))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def start_to_hang(self) -> tuple[RunningService, RunningService]:
        """Let one of them send a notice, which takes ten seconds; returns that one and the other one."""
        with self.both[0].client() as client:
            assert client.post(CERTIFICATES, content=csr()).status_code == 201
            ends = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=5)
            self.query(
                "UPDATE certificates SET not_valid_before = $1, not_valid_after = $2 WHERE profile = 'server'",
                *(ends - timedelta(days=90), ends),
            )
            assert client.post(f"{JOBS}/find_expiring/run").json()["done"] == 1
        self.query("UPDATE jobs SET due_at = $1 WHERE name = 'send_notices'", datetime(2020, 1, 1))  # noqa: DTZ001  # as it is stored
        _until(lambda: _job(self.both[0], "send_notices")["running_on"] is not None)
        holder, other = self.both
        if not _is(holder, _job(holder, "send_notices")["running_on"]):
            holder, other = other, holder
        assert _is(holder, _job(other, "send_notices")["running_on"])
        return holder, other


@pytest.fixture
def replicas(tmp_path: Path, postgres_database: str) -> Iterator[Replicas]:
    """Two services that have just started, with leases of three seconds."""
    with socket.create_server(("127.0.0.1", 0)) as receiver, ExitStack() as stack:
        (tmp_path / "tiny-ca.toml").write_text(
            f'[notices]\nurl = "http://127.0.0.1:{receiver.getsockname()[1]}/"\n'
            'secret = "what receiver and service share, 32 or more"\nallow_private_addresses = true\n'
        )
        environment = {"TINY_CA_DATABASE_URL": postgres_database, "TINY_CA_JOB_LEASE": "3s"}
        began = time.monotonic()
        one, other = (
            stack.enter_context(RunningService(tmp_path, "--config-file", "tiny-ca.toml", environment=environment))
            for _ in range(2)
        )
        pair = Replicas((one, other), postgres_database, began)
        _until(lambda: len(pair.query("SELECT name FROM jobs")) == 5)
        yield pair


def _job(service: RunningService, name: str) -> dict[str, Any]:
    with service.client() as client:
        (found,) = [one for one in client.get(JOBS).json()["items"] if one["name"] == name]
    assert isinstance(found, dict)
    return found


def _is(service: RunningService, replica: object) -> bool:
    return replica == f"{socket.gethostname()}:{service.process.pid}"


def _until(condition: Callable[[], bool], *, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _runs(service: RunningService, name: str) -> float:
    with service.anonymous() as client:
        families = text_string_to_metric_families(client.get("/metrics").text)
    return sum(
        sample.value
        for family in families
        for sample in family.samples
        if sample.name == "tiny_ca_job_runs_total" and sample.labels["job"] == name
    )


def test_a_replica_that_is_killed_in_a_run(replicas: Replicas) -> None:
    """Until its lease has ended the job is a conflict; then the other one runs it, long before its next period."""
    killed, other = replicas.start_to_hang()
    with other.client() as client:
        problem(client.post(f"{JOBS}/send_notices/run"), 409)
        (row,) = client.get("/api/v1/audit", params={"action": "job.run", "outcome": "refused"}).json()["items"]
    assert (row["rule"], row["detail"]["job"]) == ("conflict", "send_notices")
    killed.kill()
    _until(lambda: _is(other, _job(other, "send_notices")["replica"]), patience=25)  # a period is half a minute
    assert _job(other, "send_notices")["result"] == "success"


def test_a_replica_that_is_paused_in_a_run(replicas: Replicas) -> None:
    """When it wakes up it records nothing over what the other one did; meanwhile, CRLs are seen to once a period."""
    paused, other = replicas.start_to_hang()
    paused.process.send_signal(signal.SIGSTOP)
    try:
        _until(lambda: _is(other, _job(other, "send_notices")["replica"]))
        newer = _job(other, "send_notices")
    finally:
        paused.process.send_signal(signal.SIGCONT)
    paused.wait_for(
        r'"job": "send_notices"[^\n]*"event": "job.superseded"|"event": "job.superseded"[^\n]*"send_notices"'
    )
    told = _job(paused, "send_notices")
    assert (told["replica"], told["last_error"], told["failures"]) == (newer["replica"], None, 0)

    def crl_runs() -> int:
        return int(replicas.query("SELECT fence FROM jobs WHERE name = 'regenerate_crls'")[0][0])

    _until(lambda: crl_runs() >= 2)
    counted = sum(_runs(service, "regenerate_crls") for service in replicas.both)
    assert counted <= crl_runs() <= (time.monotonic() - replicas.began) / _CRL_PERIOD


def test_workers_of_one_service_tell_the_same(tmp_path: Path) -> None:
    """Over SQLite too, each worker knows what another one ran."""
    with RunningService(tmp_path, "--workers", "2") as service, ExitStack() as stack:
        service.wait_until_ready()
        clients = [stack.enter_context(service.client()) for _ in range(16)]
        ran = clients[0].post(f"{JOBS}/mark_expired/run").json()
        assert (ran["result"], ran["last_error"]) == ("success", None)
        host, _, pid = ran["replica"].rpartition(":")
        assert host == socket.gethostname()
        os.kill(int(pid), 0)
        for client in clients:
            assert [one for one in client.get(JOBS).json()["items"] if one["name"] == "mark_expired"] == [ran]
