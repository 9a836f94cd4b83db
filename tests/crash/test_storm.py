"""A storm that fits into a test run; ``make storm`` is the long one."""

from __future__ import annotations

import sys

import pytest

from tests.crash.storm.run import Plan, report, run


@pytest.mark.timeout(400)
def test_a_storm_loses_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Three replicas and their database are killed, stopped and restarted under load: every promise is kept."""
    outcome = run(Plan(seconds=15, seed=20261125))
    with capsys.disabled():
        sys.stdout.write("\n" + report(outcome) + "\n")
    assert outcome.problems == []
    assert outcome.received.revocations
    assert outcome.happened["database crash"] == outcome.happened["database restart"] == 1
