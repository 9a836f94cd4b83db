"""Replicas and their database, and what becomes of them."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.postgres import PostgresServer
from tests.running import RunningService

__all__ = ["StormReplica", "Trouble"]

_CALM: Final = (0.3, 1.5)
_STOPPED: Final = (0.5, 3.0)


class StormReplica(RunningService):
    """A service that is started again and again; ``starts`` counts how often."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        super().__init__(folder, environment=environment)
        self.starts = 0

    def wait_until_listening(self) -> None:
        """Wait until it has its new port."""
        super().wait_until_listening()
        self.starts += 1


class Trouble:
    """Kills, stops and restarts, one thing at a time; ``happened`` counts what."""

    def __init__(self, replicas: Sequence[StormReplica], server: PostgresServer, seed: int) -> None:
        self._replicas = replicas
        self._server = server
        self._random = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
        self.happened: Counter[str] = Counter()

    async def make(self, seconds: float) -> None:
        """Make trouble for so long; the database is restarted twice, once as after a power cut."""
        loop = asyncio.get_running_loop()
        begin = loop.time()
        of_the_database = [(begin + seconds / 3, "restart"), (begin + seconds * 2 / 3, "crash")]
        while loop.time() < begin + seconds or of_the_database:
            await asyncio.sleep(self._random.uniform(*_CALM))
            if of_the_database and loop.time() >= of_the_database[0][0]:
                _, how = of_the_database.pop(0)
                await asyncio.to_thread(getattr(self._server, how))
                self.happened[f"database {how}"] += 1
                continue
            replica = self._random.choice(self._replicas)
            how = self._random.choice(("kill", "kill", "stop", "restart"))
            await getattr(self, f"_{how}")(replica)
            self.happened[f"replica {how}"] += 1

    async def _kill(self, replica: StormReplica) -> None:
        await asyncio.to_thread(replica.kill)
        await asyncio.to_thread(replica.start)

    async def _stop(self, replica: StormReplica) -> None:
        """SIGSTOP: to the others it is as if its machine hung."""
        replica.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(self._random.uniform(*_STOPPED))
        replica.process.send_signal(signal.SIGCONT)

    async def _restart(self, replica: StormReplica) -> None:
        code = await asyncio.to_thread(replica.stop)
        assert code == 0, f"a stop ended with {code}"
        await asyncio.to_thread(replica.start)
