"""A transport that sends the head of an answer together with its body.

uvicorn writes them one after the other, and uvloop sends each as it comes: two system calls and two segments for an
answer that fits into one, and two wake-ups of whoever waits for it.
"""

from __future__ import annotations

import asyncio
from typing import Final

__all__ = ["OneWriteTransport"]

_STATUS_LINE: Final = b"HTTP/1.1 "
_CONTINUE: Final = b"HTTP/1.1 100"  # RFC 9110 §10.1.1: the body waits for it


class OneWriteTransport(asyncio.Transport):
    """Holds what begins like the head of an answer until the next write, or until the event loop has nothing else.

    What an HTTP/1.1 server does with a transport, and no more.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._head = b""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """What the transport tells of itself."""
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        """Take nothing in for now."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take in again."""
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Give what comes in to another protocol."""
        self._transport.set_protocol(protocol)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, with the head that waits for it."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.writelines([head, data])
        elif isinstance(data, bytes) and data.startswith(_STATUS_LINE) and not data.startswith(_CONTINUE):
            self._head = data
            self._loop.call_soon(self._flush)  # an answer to HEAD, or one whose body takes its time
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Send what is held, and close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    def _flush(self) -> None:
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)
