"""``/readyz``: each check, failing for real."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import text

from app import database
from app.jobs import Job, JobRunner
from app.main import touch
from app.metrics import Metrics
from app.services.readiness import Readiness
from app.settings import Settings
from tests.unit.app.conftest import OpenCA
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.queries.issuers import change_issuer
from tiny_ca.exc import RegistryUnavailable

pytestmark = pytest.mark.anyio


async def _readiness(ca: OpenCA, *, db: AsyncDBHandler | None = None, jobs: dict[str, str] | None = None) -> Readiness:
    crls = ca.publisher()
    await crls.load()
    asked = db or ca.db
    return Readiness(
        database=asked.ping,
        migrations=lambda: database.serves(asked),
        issuers=ca.issuers,
        crls=crls,
        failed_jobs=lambda: jobs or {},
        clock=ca.clock,
    )


async def test_all_is_well(ca: OpenCA) -> None:
    """A CA that was just opened is ready, and every check says so by name."""
    report = await (await _readiness(ca)).report()
    assert report.ready
    assert set(report.checks) == {"database", "migrations", "signature", "crl", "issuer", "jobs"}


async def test_a_database_that_is_gone_is_named(ca: OpenCA) -> None:
    """With the database unreachable its checks fail within a second, and say nothing of where it is."""
    gone = AsyncDBHandler("postgresql+asyncpg://secret-user@127.0.0.1:9/none", strict=True, create_all=False)
    report = await (await _readiness(ca, db=gone)).report()
    await gone.aclose()
    assert not report.ready
    assert "RegistryUnavailable" in report.checks["database"]
    assert report.checks["migrations"] != "ok"
    assert report.checks["signature"] == "ok"
    assert "secret-user" not in str(report.checks)


async def test_an_old_crl_an_ending_issuer_and_failing_jobs_are_named(ca: OpenCA) -> None:
    """What time brings is seen: CRLs that ended, an issuer about to end, jobs that fail."""
    readiness = await _readiness(ca, jobs={"mark_expired": "RegistryUnavailable"})
    ca.clock.forward(timedelta(days=1824, hours=12))
    report = await readiness.report()
    assert "no current CRL" in report.checks["crl"]
    assert "ends" in report.checks["issuer"]
    assert report.checks["jobs"] == "mark_expired: RegistryUnavailable"


async def test_it_asks_at_most_once_a_second(ca: OpenCA) -> None:
    """A second question at once gets the same report."""
    readiness = await _readiness(ca)
    assert await readiness.report() is await readiness.report()


async def test_a_job_alarms_after_its_failures_and_recovers(ca: OpenCA) -> None:
    """A failing job is counted on whichever replica, matters from its threshold on, and is forgiven by one success."""
    works = False

    async def run() -> int:
        if not works:
            raise RegistryUnavailable("locked")
        return 3

    job = Job("fragile", every_seconds=60, run=run, why="to be tested", alarm_after=2)
    one, other = (
        JobRunner([job], db=ca.db, replica=name, lease=timedelta(seconds=30), metrics=Metrics()) for name in "ab"
    )
    await one.run_now("fragile")
    assert one.failing() == {}
    await other.run_now("fragile")
    await one.states()
    assert one.failing() == other.failing() == {"fragile": "RegistryUnavailable"}
    works = True
    await one.run_now("fragile")
    await other.states()
    assert one.failing() == other.failing() == {}


async def test_a_database_that_only_reads(ca: OpenCA, settings: Settings) -> None:
    """A database that takes no writes does not count as there, though it answers and even begins to write."""
    url = f"sqlite:///file:{settings.data_dir / 'tiny-ca.db'}?mode=ro&uri=true"
    read_only = AsyncDBHandler(url, strict=True, create_all=False)
    await read_only.write(lambda session: session.execute(text("SELECT 1")))
    await touch(ca.db)
    with pytest.raises(RegistryUnavailable, match="readonly"):
        await touch(read_only)
    await read_only.aclose()


async def test_an_issuer_that_another_process_made_has_its_crl_fetched(ca: OpenCA) -> None:
    """What is not in memory yet is asked for, before anybody is told that it is not there."""
    readiness = await _readiness(ca)
    publisher = ca.publisher()  # another process's
    for issuer in ca.issuers.signing:
        await publisher.publish(issuer.id)
    await publisher.close()
    assert (await readiness.report()).checks["crl"] == "ok"


async def test_a_disabled_issuer_is_named(ca: OpenCA) -> None:
    """The check says what is wrong, not only that something is."""
    await ca.db.write(lambda session: change_issuer(session, ca.issuers.default.id, enabled=False))
    await ca.issuers.refresh()
    assert "disabled" in (await (await _readiness(ca)).report()).checks["issuer"]
