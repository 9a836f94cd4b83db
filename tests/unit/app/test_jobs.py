"""The runs of the background jobs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from app.jobs import Job, JobRunner
from app.metrics import Metrics
from tiny_ca.exc import RegistryUnavailable

pytestmark = pytest.mark.anyio
_NOW = datetime(2026, 11, 25, tzinfo=UTC)


def _runner(*jobs: Job) -> JobRunner:
    return JobRunner(jobs, metrics=Metrics(), clock=lambda: _NOW)


async def test_a_stop_lets_a_run_come_to_its_end() -> None:
    """A run that has begun is not cut in the middle, and none begins after it."""
    begun, go_on, ends = asyncio.Event(), asyncio.Event(), []

    async def run() -> int:
        begun.set()
        await go_on.wait()
        ends.append(True)
        return 1

    runner = _runner(Job("slow", every_seconds=1, run=run, why="", alarm_after=1))
    runner.start()
    await begun.wait()
    stop = asyncio.create_task(runner.stop())
    await asyncio.sleep(0)
    go_on.set()
    await stop
    assert ends == [True]
    assert runner.states["slow"].last_run == _NOW


async def test_failures_show_when_they_matter() -> None:
    """A job that fails is not failing until it has done so as often as its table says; one success forgets them."""
    answers: list[Exception | int] = [RegistryUnavailable("gone"), RegistryUnavailable("gone"), 0]

    async def run() -> int:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    job = Job("shaky", every_seconds=60, run=run, why="", alarm_after=2)
    runner = _runner(job)
    seen = []
    for _ in range(3):
        await runner.run(job)
        seen.append(runner.failing())
    assert seen == [{}, {"shaky": "RegistryUnavailable"}, {}]
