"""TLS in front of a PostgreSQL server that speaks none, as a pooler does it: the wheel's server is built without."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

__all__ = ["TLSRelay"]

# https://www.postgresql.org/docs/current/protocol-message-formats.html: SSLRequest, GSSENCRequest
_SSL_REQUEST: Final = bytes.fromhex("0000000804d2162f")
_GSSENC_REQUEST: Final = bytes.fromhex("0000000804d21630")


class TLSRelay:
    """``with TLSRelay(socket_path, certificate, key) as relay:`` passes on what comes over TLS, and nothing else.

    With ``client_ca``, clients need a certificate under it.
    """

    def __init__(self, upstream: Path, certificate: Path, key: Path, *, client_ca: Path | None = None) -> None:
        self._upstream = upstream
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        if client_ca is not None:
            self._context.load_verify_locations(client_ca)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self.connections = 0  # over which a client said something

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    def _accept(self) -> None:
        with suppress(OSError):  # until it is closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while (request := connection.recv(8)) == _GSSENC_REQUEST:
                connection.sendall(b"N")
            if request != _SSL_REQUEST:
                return
            connection.sendall(b"S")
            with (
                self._context.wrap_socket(connection, server_side=True) as client,
                socket.socket(socket.AF_UNIX) as server,
            ):
                first = client.recv(65536)
                if not first:  # some find only after the handshake that the name is another one
                    return
                self.connections += 1
                server.connect(str(self._upstream))
                server.sendall(first)
                back = threading.Thread(target=_pump, args=(server, client), daemon=True)
                back.start()
                _pump(client, server)
                back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
