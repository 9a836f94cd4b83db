"""uvicorn as this service runs it: one screen once it listens, and an end within ten seconds that loses nothing."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import ssl
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.supervisors import Multiprocess

from app.http_protocol import BoundedHttpProtocol
from app.main import create_app, prepare_ca
from app.settings import Settings, SettingsError

__all__ = ["serve"]

# Of the ten seconds that a stop may take: until what waits for a key or a batch is given up, until connections are cut;
# the rest is for closing
# what is open: the jobs, the pipeline, the CRLs and the database have a second each.
_GIVE_UP_SECONDS: Final = 4
_GRACE_SECONDS: Final = 5
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Says where it is as soon as somebody could connect, and ends in our hands rather than by the signal."""

    def __init__(self, app: FastAPI, settings: Settings, announce: Callable[[], None]) -> None:
        super().__init__(uvicorn.Config(app, lifespan="off", **_options(settings)))
        self._app = app
        self._announce = announce

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen."""
        await super().startup(sockets)
        if self.started:
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is in flight; who waits for too long gets 503 rather than a cut connection."""
        give_up = self._app.state.service.lifecycle.give_up
        timer = asyncio.get_running_loop().call_later(_GIVE_UP_SECONDS, give_up)
        await super().shutdown(sockets)
        timer.cancel()

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """As uvicorn's, which raises the signal again afterwards: that would end us before the CA is closed."""
        handlers = {number: signal.signal(number, self.handle_exit) for number in _STOP_SIGNALS}
        try:
            yield
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)


def serve(asked: Settings, announce: Callable[[Settings], None]) -> int:
    """Serve until told to stop; returns the exit code. ``announce`` gets the settings, with the port that it became.

    Raises
    ------
    SettingsError, TinyCAError
        The address cannot be listened on, or the CA not be opened.
    """
    _check_tls(asked)
    with _listen(asked) as listener:
        # Port 0 is whichever was free; what certificates point to must be the real one.
        settings = asked.model_copy(update={"port": listener.getsockname()[1]})
        if settings.workers > 1:
            return _serve_many(settings, listener, announce)
        app = create_app(settings)
        server = _Server(app, settings, lambda: announce(settings))
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_serve_one(app, server, listener))


async def _serve_one(app: FastAPI, server: _Server, listener: socket.socket) -> int:
    # The lifespan is ours to hold: uvicorn would turn a wrong setting into a traceback.
    async with app.router.lifespan_context(app):
        await server.serve(sockets=[listener])
    return 0


def _serve_many(settings: Settings, listener: socket.socket, announce: Callable[[Settings], None]) -> int:
    """Worker processes share the socket and the database only; they read their settings from the environment."""
    asyncio.run(prepare_ca(settings))  # the first run's work is done once, before any of them
    os.environ.update(settings.as_environment())
    config = uvicorn.Config(
        "app.main:app_from_environment",
        factory=True,
        lifespan="on",
        workers=settings.workers,
        **_options(settings),
    )
    announce(settings)
    Multiprocess(config, sockets=[listener]).run()
    return 0


def _check_tls(settings: Settings) -> None:
    """Before the CA is opened: a missing file is a wrong setting."""
    if settings.tls_cert is None or settings.tls_key is None:
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl.SSLError is one
        message = (
            f"TINY_CA_TLS_CERT: {settings.tls_cert} and {settings.tls_key} cannot be used: {error.strerror or error}"
        )
        raise SettingsError(message) from error


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        name = "TINY_CA_PORT" if error.errno in {errno.EADDRINUSE, errno.EACCES} else "TINY_CA_HOST"
        message = f"{name}: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}"
        raise SettingsError(message) from error
    listener.set_inheritable(True)
    return listener


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "loop": "uvloop",
        "http": BoundedHttpProtocol,
        "timeout_graceful_shutdown": _GRACE_SECONDS,
        "timeout_keep_alive": 30,
        "ssl_certfile": settings.tls_cert,
        "ssl_keyfile": settings.tls_key,
    }
