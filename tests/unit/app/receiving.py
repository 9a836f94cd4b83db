"""A receiver of webhooks on loopback, for real."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

__all__ = ["OK", "Receiver", "receiving"]

OK = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver:
    """A server on loopback that answers what it is told to, and keeps what it gets."""

    def __init__(self, answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
        self.answer = answer
        self.requests: list[tuple[bytes, bytes]] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.requests.append((head, await reader.readexactly(length)))
            if callable(self.answer):
                await self.answer(writer)
            else:
                writer.write(self.answer)
                await writer.drain()
        except (OSError, EOFError):
            pass  # what the sender does not wait for
        finally:
            writer.close()


@asynccontextmanager
async def receiving(
    answer: bytes | Callable[[asyncio.StreamWriter], Awaitable[None]] = OK, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """One that listens."""
    receiver = Receiver(answer)
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
