"""What the benchmarks share: the real service as a process, a load from another process, CPU seconds, medians.

The client is small on purpose: it shares the machine with the service, and every cycle it takes is one less to measure.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import multiprocessing
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Final, NamedTuple, Self, cast
from urllib.parse import urlsplit

import psutil  # type: ignore[import-untyped]
import uvloop

__all__ = [
    "Answer",
    "Load",
    "Measured",
    "Service",
    "arguments",
    "cpu_seconds",
    "drive",
    "http_request",
    "machine",
    "median_of",
    "percentile",
    "scratch",
]

_ROOT: Final = Path(__file__).resolve().parent.parent
_START_SECONDS: Final = 30
_STOP_SECONDS: Final = 15
_ANSWER_SECONDS: Final = 120  # an RSA-4096 key may take some seconds on a busy machine
_ADDRESS: Final = re.compile(r"tiny-ca serves on (http://\S+)")
_STARTED: Final = '"service.started"'  # in the log, once for each process that serves
_CONTENT_LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_CLOCK_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Service:
    """``with Service(folder) as service:`` is ``tiny-ca serve`` in that folder; its log goes to a file there."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._log = folder / "service.log"
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TINY_CA_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "app", "serve", "--port", "0"],
                cwd=self._folder,
                env={**inherited, "TINY_CA_LOG_FORMAT": "json", **self._environment, "PYTHONPATH": str(_ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.url = self._wait_for_address()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is None:
            return
        self._process.terminate()
        code = self._process.wait(_STOP_SECONDS)
        assert code == 0, f"the service ended with {code}; see {self._log}"

    @property
    def pids(self) -> list[int]:
        """The processes whose CPU seconds count: the one that was started, and its workers."""
        assert self._process is not None, "not started"
        started = psutil.Process(self._process.pid)
        return [process.pid for process in (started, *started.children(recursive=True))]

    @property
    def database_url(self) -> str:
        """The URL of its database."""
        return self._environment.get("TINY_CA_DATABASE_URL", f"sqlite:///{self._folder / 'data' / 'tiny-ca.db'}")

    @property
    def token(self) -> str:
        """The admin's token."""
        return (self._folder / "data" / "admin-token").read_text().strip()

    def _wait_for_address(self) -> str:
        assert self._process is not None, "not started"
        end = time.monotonic() + _START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            log = self._log.read_text()
            found = _ADDRESS.search(log)
            # The address comes before the workers do, and the first of them would take every connection.
            if found and log.count(_STARTED) >= int(self._environment.get("TINY_CA_WORKERS", "1")):
                return found[1]
            time.sleep(0.05)
        self._process.kill()
        raise AssertionError(f"the service did not start:\n{self._log.read_text()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Connections that each send a request, wait for the answer, pause, and send the next of ``requests``."""

    requests: Sequence[bytes]
    connections: int
    pause: float = 0.0


class Answer(NamedTuple):
    """One answer, also of a status that nobody wanted. ``counts``: it came while the clock ran."""

    status: int
    seconds: float
    counts: bool
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What came of one load. ``answers`` holds those outside the window too: of the warm-up, and the last in flight."""

    answers: list[Answer]
    seconds: float
    cpu_seconds: float

    @property
    def counted(self) -> list[Answer]:
        """The answers inside the window."""
        return [answer for answer in self.answers if answer.counts]

    @property
    def per_second(self) -> float:
        """Answers for each second."""
        return len(self.counted) / self.seconds

    @property
    def per_cpu_second(self) -> float:
        """Answers for each second that the service had a core; the client's share is not in it."""
        return len(self.counted) / self.cpu_seconds


def http_request(service: Service, method: str, path: str, body: bytes = b"", headers: str = "") -> bytes:
    """Put one HTTP/1.1 request together, with the admin's token; ``headers`` are whole lines that end in CRLF."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: {urlsplit(service.url).netloc}\r\n"
        f"Authorization: Bearer {service.token}\r\n{headers}Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def drive(service: Service, loads: Sequence[Load], *, seconds: float, warm_up: float = 0.5) -> list[Measured]:
    """Put the loads on the service, all at once, from a process of their own; every request is answered at the end."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as client:
        return client.submit(_drive_here, service.url, service.pids, loads, seconds, warm_up).result()


def _drive_here(url: str, pids: Sequence[int], loads: Sequence[Load], seconds: float, warm_up: float) -> list[Measured]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_drive(url, pids, loads, seconds, warm_up))


async def _drive(
    url: str, pids: Sequence[int], loads: Sequence[Load], seconds: float, warm_up: float
) -> list[Measured]:
    loop, address = asyncio.get_running_loop(), urlsplit(url)
    crews: list[list[_Connection]] = []
    for load in loads:
        crew = [_Connection(requests, load.pause) for requests in _shares(load)]
        for connection in crew:
            await loop.create_connection(partial(_same, connection), address.hostname or "", address.port or 0)
        crews.append(crew)
    everybody = [connection for crew in crews for connection in crew]
    for connection in everybody:
        connection.send()
    await asyncio.sleep(warm_up)
    began, cpu_began = time.perf_counter(), cpu_seconds(pids)
    await asyncio.sleep(seconds)
    ended, cpu_ended = time.perf_counter(), cpu_seconds(pids)
    for connection in everybody:
        connection.finish()
    async with asyncio.timeout(_ANSWER_SECONDS):
        await asyncio.gather(*(connection.done for connection in everybody))
    return [
        Measured(
            answers=[
                Answer(status, at - sent, began <= at <= ended, body)
                for connection in crew
                for status, sent, at, body in connection.answers
            ],
            seconds=ended - began,
            cpu_seconds=cpu_ended - cpu_began,
        )
        for crew in crews
    ]


def _same(connection: _Connection) -> _Connection:
    return connection


def _shares(load: Load) -> Iterator[Iterator[bytes]]:
    """The same requests for every connection, each beginning elsewhere."""
    for number in range(load.connections):
        yield islice(cycle(load.requests), number * len(load.requests) // load.connections, None)


class _Connection(asyncio.Protocol):
    """A keep-alive connection with one request under way; the answers must announce their length."""

    def __init__(self, requests: Iterator[bytes], pause: float) -> None:
        self._requests = requests
        self._pause = pause
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._sent: float | None = None
        self._finishing = False
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answers: list[tuple[int, float, float, bytes]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what is written to."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def send(self) -> None:
        """Send the next request, unless it is time to go."""
        assert self._transport is not None
        if self._finishing:
            self._close()
            return
        self._transport.write(next(self._requests))
        self._sent = time.perf_counter()

    def finish(self) -> None:
        """Send nothing more; ``done`` once what is under way has its answer."""
        self._finishing = True
        if self._sent is None:
            self._close()

    def data_received(self, data: bytes) -> None:
        """Take the answer, and go on when it is whole."""
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        status, length = int(self._received[9:12]), _CONTENT_LENGTH.search(self._received, 0, end + 2)
        assert length is not None or status == 304, bytes(self._received[:end])  # RFC 9110 §15.4.5: it has no content
        whole = end + 4 + (0 if length is None else int(length[1]))
        if len(self._received) < whole:
            return
        assert self._sent is not None, "an answer that nobody asked for"
        body = bytes(self._received[end + 4 : whole])
        self.answers.append((status, self._sent, time.perf_counter(), body))
        self._received.clear()
        self._sent = None
        if self._pause and not self._finishing:
            asyncio.get_running_loop().call_later(self._pause, self.send)
        else:
            self.send()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell who waits: an answer that never came is no measurement."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the service closed a connection that was in use"))

    def _close(self) -> None:
        assert self._transport is not None
        if not self.done.done():
            self.done.set_result(None)
        self._transport.close()


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of processes, all of their threads (proc(5): fields 14 and 15 of stat)."""
    after_names = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return sum(int(fields[11]) + int(fields[12]) for fields in after_names) / _CLOCK_TICKS


def arguments(
    description: str | None,
    *,
    rounds: int,
    seconds: float,
    connections: int,
    also: Mapping[str, Sequence[int]] | None = None,
    flags: Mapping[str, str] | None = None,
) -> argparse.Namespace:
    """The options that every benchmark has, with their defaults; and where its database lies.

    ``also`` names options of its own that take several numbers, ``flags`` those that take none, with their help.
    """
    parser = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seconds", type=float, default=seconds, help="of each measurement in a round")
    parser.add_argument("--connections", type=int, default=connections)
    parser.add_argument("--folder", type=Path, help="on the disk whose commits are to be measured, not on tmpfs")
    for name, numbers in (also or {}).items():
        parser.add_argument(name, type=int, nargs="+", default=list(numbers))
    for name, meaning in (flags or {}).items():
        parser.add_argument(name, action="store_true", help=meaning)
    return parser.parse_args()


@contextmanager
def scratch(folder: Path | None) -> Iterator[Path]:
    """A folder for the service's data, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="tiny-ca-bench-", dir=folder) as name:
        yield Path(name)


def machine(folder: Path) -> str:
    """What the figures depend on besides the code: cores, how busy and how fast they are now, the file system."""
    rounds = 200_000
    began = time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", rounds)
    speed = rounds / 1000 / (time.perf_counter() - began)
    return (
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, speed {speed:.0f} PBKDF2 rounds/ms, "
        f"Python {sys.version_info.major}.{sys.version_info.minor}, data on {_file_system(folder)}"
    )


def _file_system(folder: Path) -> str:
    mounts = (line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines())
    found = [(len(point), kind) for point, kind in mounts if folder.resolve().is_relative_to(point)]
    return max(found)[1]


def median_of(rounds: Sequence[Measured], figure: Callable[[Measured], float]) -> float:
    """The median over the rounds of one figure."""
    return statistics.median(map(figure, rounds))


def percentile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
