"""A proxy between the service and PostgreSQL that loses what a test wants lost."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from sqlalchemy import make_url

__all__ = ["LosingProxy"]

_CHUNK: Final = 65536


@dataclass(frozen=True, slots=True)
class _Side:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


class LosingProxy:
    """``with LosingProxy(url) as proxy:`` listens on a TCP port, in its own thread; ``proxy.url`` leads through it.

    ``lose`` is what a transaction must have said for the answer to its COMMIT to be lost, once, with the connection.
    """

    def __init__(self, database_url: str) -> None:
        self._behind = make_url(database_url)
        self.lose: bytes | None = None
        self.lost = threading.Event()

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"postgresql+asyncpg://{self._behind.username}@127.0.0.1:{port}/{self._behind.database}"
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Side(reader, writer)
        socket = f"{self._behind.query['host']}/.s.PGSQL.5432"
        server = _Side(*await asyncio.open_unix_connection(socket))
        cut = asyncio.Event()
        ways = [
            asyncio.create_task(self._asked(client, server, cut)),
            asyncio.create_task(self._answered(server, client, cut)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for side in (client, server):
                side.writer.close()

    async def _asked(self, client: _Side, server: _Side, cut: asyncio.Event) -> None:
        said = False
        with suppress(ConnectionError):
            while data := await client.reader.read(_CHUNK):
                said = (said or (self.lose is not None and self.lose in data)) and b"ROLLBACK" not in data
                if said and b"COMMIT" in data:
                    self.lose = None
                    cut.set()
                server.writer.write(data)
                await server.writer.drain()

    async def _answered(self, server: _Side, client: _Side, cut: asyncio.Event) -> None:
        with suppress(ConnectionError):
            while data := await server.reader.read(_CHUNK):
                if cut.is_set():  # it has been done, and nobody will hear of it
                    self.lost.set()
                    return
                client.writer.write(data)
                await client.writer.drain()
