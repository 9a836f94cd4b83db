"""``python -m tests.crash.storm --seconds 600``: the long one, by hand."""

from __future__ import annotations

import argparse
import random
import sys

from tests.crash.storm.run import Plan, report, run

parser = argparse.ArgumentParser(prog="python -m tests.crash.storm", description=__doc__)
parser.add_argument("--seconds", type=float, default=600)
parser.add_argument("--clients", type=int, default=64)
parser.add_argument("--replicas", type=int, default=3)
parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
given = parser.parse_args()
outcome = run(Plan(seconds=given.seconds, clients=given.clients, replicas=given.replicas, seed=given.seed))
sys.stdout.write(report(outcome) + "\n")
sys.exit(1 if outcome.problems else 0)
