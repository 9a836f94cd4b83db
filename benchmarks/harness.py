"""What the benchmarks share: the real service as a process, a load from another one, and medians of rounds in turn.

The machines are shared: quote the ratios of figures from one run, not the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.running import RunningService

__all__ = ["Load", "cpu_seconds", "drive", "request_bytes", "serving"]

_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Load:
    """What one round of requests gave; ``latencies`` in seconds, ``sample`` one body."""

    answers: int
    refused: int
    seconds: float
    latencies: tuple[float, ...]
    sample: bytes

    @property
    def per_second(self) -> float:
        """Successful answers for each second of the round."""
        return self.answers / self.seconds


@contextlib.contextmanager
def serving(*arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[RunningService]:
    """Start the service in an empty folder, without a log line for each request."""
    with tempfile.TemporaryDirectory(prefix="tiny-ca-bench-") as folder:
        settings = {"TINY_CA_LOG_LEVEL": "warning", **(environment or {})}
        with RunningService(Path(folder), *arguments, environment=settings) as service:
            yield service


def cpu_seconds(service: RunningService) -> float:
    """User and system time of the service's process so far."""
    fields = Path(f"/proc/{service.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def request_bytes(
    method: str, target: str, *, token: str | None = None, body: bytes = b"", accept: str = "*/*"
) -> bytes:
    """One HTTP/1.1 request that keeps its connection."""
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: ca\r\nAccept: {accept}\r\n{authorization}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode("ascii") + body


def drive(service: RunningService, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Send the requests in turn over this many connections for this long, from a process of its own."""
    port = int(service.url.rpartition(":")[2])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_drive, port, list(requests), connections, seconds).result()


def _drive(port: int, requests: list[bytes], connections: int, seconds: float) -> Load:
    return asyncio.run(_load(port, requests, connections, seconds))


async def _load(port: int, requests: list[bytes], connections: int, seconds: float) -> Load:
    latencies: list[float] = []
    refused = 0
    sample = b""
    began = time.perf_counter()
    end = began + seconds

    async def client(first: int) -> None:
        nonlocal refused, sample
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        at = first
        while (sent := time.perf_counter()) < end:
            writer.write(requests[at % len(requests)])
            at += connections
            head = await reader.readuntil(_HEAD_END)
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            body = await reader.readexactly(int(length.partition(b":")[2]))
            if head.startswith(b"HTTP/1.1 2"):
                latencies.append(time.perf_counter() - sent)
                sample = body
            else:
                refused += 1
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*map(client, range(connections)))
    return Load(len(latencies), refused, time.perf_counter() - began, tuple(latencies), sample)
