"""The head of an answer leaves with its body, and never waits for anything else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from app.one_write import OneWriteTransport

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n"


class Wire(asyncio.Transport):
    """What would go out: each item is one system call."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Note it."""
        assert not self.closed
        self.sent.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Note them as one."""
        self.write(b"".join(map(bytes, list_of_data)))

    def close(self) -> None:
        """Note it."""
        self.closed = True


@pytest.fixture
def wire() -> Wire:
    """Nothing has gone out yet."""
    return Wire()


@pytest.fixture
async def transport(wire: Wire) -> OneWriteTransport:
    """A transport over the wire."""
    return OneWriteTransport(wire, asyncio.get_running_loop())


async def test_head_and_body_are_one_write(wire: Wire, transport: OneWriteTransport) -> None:
    """An answer is one write, and so is the next one on the connection."""
    for _ in range(2):
        transport.write(HEAD)
        transport.write(b"body")
    assert wire.sent == [HEAD + b"body"] * 2
    await asyncio.sleep(0)
    assert len(wire.sent) == 2


async def test_a_head_without_a_body_goes_out(wire: Wire, transport: OneWriteTransport) -> None:
    """An answer to HEAD, and one whose body takes its time, wait for one turn of the event loop."""
    transport.write(HEAD)
    await asyncio.sleep(0)
    assert wire.sent == [HEAD]
    transport.write(b"body")
    assert wire.sent == [HEAD, b"body"]


async def test_continue_is_not_held(wire: Wire, transport: OneWriteTransport) -> None:
    """Whoever waits for 100 Continue sends no body before it."""
    transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert wire.sent == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def test_what_is_held_goes_out_before_the_end(wire: Wire, transport: OneWriteTransport) -> None:
    """A connection is closed behind the head, not in place of it."""
    transport.write(HEAD)
    transport.close()
    assert wire.sent == [HEAD]
    assert wire.closed
    await asyncio.sleep(0)
    assert wire.sent == [HEAD]
