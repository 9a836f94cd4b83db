"""The schema of the service's database: brought up to date at the start, or by its operator; once, however many try."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from app.database import _UPGRADE_LOCK
from tests.running import DATABASE_URL, RunningService, tiny_ca
from tests.stored import rows

_HEAD = "0008"
_BY_HAND = {"TINY_CA_AUTO_MIGRATE": "false"}
_MANY = 4


def _status(folder: Path, environment: dict[str, str]) -> tuple[int, dict[str, object]]:
    code, out, lines = tiny_ca(folder, "db", "status", **environment)
    assert lines == []
    return code, json.loads(out)


def test_by_hand(tmp_path: Path, environment: dict[str, str]) -> None:
    """The start names the command; the command does it, and again changes nothing; then the start goes on."""
    by_hand = environment | _BY_HAND
    for command in ("serve", "init"):
        code, out, lines = tiny_ca(tmp_path, command, **by_hand)
        assert (code, out, len(lines)) == (2, "", 1)
        assert "has no schema yet" in lines[0]
        assert "tiny-ca db upgrade" in lines[0]
    assert _status(tmp_path, environment) == (1, {"revision": None, "needed": _HEAD, "current": False})
    for before in (None, _HEAD):
        code, out, lines = tiny_ca(tmp_path, "db", "upgrade", **by_hand)
        assert (code, json.loads(out), lines) == (0, {"before": before, "revision": _HEAD}, [])
    assert _status(tmp_path, environment) == (0, {"revision": _HEAD, "needed": _HEAD, "current": True})
    with RunningService(tmp_path, environment=by_hand) as service:
        service.wait_until_ready()


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """``db status`` makes no SQLite file."""
    assert _status(tmp_path, {})[0] == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("found,says", [("0002", "is at revision 0002"), ("9999", "newer than this program")])
def test_another_revision(tmp_path: Path, environment: dict[str, str], found: str, says: str) -> None:
    """A schema that is older or newer stops the start in one line."""
    service = RunningService(tmp_path, environment=environment)
    assert tiny_ca(tmp_path, "init", **environment)[0] == 0
    rows(service.database_url, "UPDATE alembic_version SET version_num = :found", found=found)
    code, _, lines = tiny_ca(tmp_path, "serve", **environment, **_BY_HAND)
    assert (code, len(lines)) == (2, 1)
    assert says in lines[0]
    code, _, lines = tiny_ca(tmp_path, "db", "status", **environment)
    assert code == 1


@pytest.mark.parametrize("found,status", [("0003", 503), ("9999", 200)])
def test_under_a_running_service(tmp_path: Path, environment: dict[str, str], found: str, status: int) -> None:
    """It stays ready when a newer release migrates, for that only adds; on an older schema it is not ready."""
    with RunningService(tmp_path, environment=environment) as service, service.anonymous() as client:
        rows(service.database_url, "UPDATE alembic_version SET version_num = :found", found=found)
        answer = client.get("/readyz")
        assert answer.status_code == status, answer.text


def test_many_upgrade_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    """One does it, the others find it done; all say so."""
    with ThreadPoolExecutor(_MANY) as pool:
        ends = list(pool.map(lambda _: tiny_ca(tmp_path, "db", "upgrade", **environment), range(_MANY)))
    assert [(code, json.loads(out)["revision"]) for code, out, _ in ends] == [(0, _HEAD)] * _MANY


def test_many_start_at_once(tmp_path: Path, postgres_database: str) -> None:
    """On an empty PostgreSQL database, one migrates and one makes the CA; all come up, with the same one."""
    environment = {
        DATABASE_URL: postgres_database,
        "TINY_CA_KEY_PASSPHRASE": "a passphrase of all of them",
        "TINY_CA_ADMIN_TOKEN": "the admin's of all, of 32 letters or more",
    }
    with ExitStack() as stack:
        services = [RunningService(tmp_path, environment=environment) for _ in range(_MANY)]
        for service in services:
            service.spawn()
            stack.push(service)
        for service in services:
            service.wait_until_listening()
            service.wait_until_ready()
        bundles = set()
        for service in services:
            with service.anonymous() as client:
                bundles.add(client.get("/ca.pem").content)
        assert len(bundles) == 1
    assert sorted(rows(postgres_database, "SELECT is_root, is_default FROM issuers")) == [(False, True), (True, False)]
    assert rows(postgres_database, "SELECT count(*) FROM certificates") == [(2,)]
    assert rows(postgres_database, "SELECT version_num FROM alembic_version") == [(_HEAD,)]


def test_help_names_the_commands() -> None:
    """``tiny-ca db`` shows both."""
    shown = subprocess.run([sys.executable, "-m", "app", "db", "--help"], capture_output=True, text=True, check=True)
    assert "upgrade" in shown.stdout
    assert "status" in shown.stdout


def test_a_migration_is_waited_for_however_long_it_takes(tmp_path: Path, postgres_database: str) -> None:
    """What a service asks for has bounds, a migration has none; who finds the schema up to date waits for nobody."""
    impatient = {DATABASE_URL: postgres_database, "TINY_CA_DATABASE_LOCK_TIMEOUT": "1s"}

    async def migrating(seconds: float) -> None:
        connection = await asyncpg.connect(postgres_database)
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _UPGRADE_LOCK)
            locked.set()
            await asyncio.sleep(seconds)
        await connection.close()

    locked = threading.Event()
    with ThreadPoolExecutor() as pool:
        another = pool.submit(asyncio.run, migrating(4))
        assert locked.wait(10)
        with RunningService(tmp_path, environment=impatient) as service:
            service.wait_until_ready()
            assert another.done()
        locked.clear()
        another = pool.submit(asyncio.run, migrating(15))
        assert locked.wait(10)
        with RunningService(tmp_path, environment=impatient) as service:
            service.wait_until_ready()
            assert not another.done()
