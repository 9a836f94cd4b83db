"""uvicorn as this service runs it: it says where it listens, reloads at SIGHUP, and ends within ten seconds."""

from __future__ import annotations

import asyncio
import errno
import gc
import signal
import socket
import ssl
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, Final

import structlog
import uvicorn
import uvloop
from cryptography import x509
from fastapi import FastAPI

from app.dependencies import Service
from app.http_protocol import BoundedHttpProtocol
from app.lock import only_server
from app.logs import configure_logging
from app.main import create_app, load_files, prepare_ca
from app.services.secrets import prepare_data_dir
from app.settings import OWN_CAS, Settings, SettingsError
from app.tls import ask_for_client_certificates, server_context
from app.workers import TRY_AGAIN, supervise
from tiny_ca.exc import RegistryUnavailable, TinyCAError

__all__ = ["serve"]

# Of the ten seconds that a stop may take: until what waits for a key or a batch is given up, until connections are cut;
# the rest is for closing
# what is open: the jobs, the pipeline, the CRLs and the database have a second each.
_GIVE_UP_SECONDS: Final = 4
_GRACE_SECONDS: Final = 5
_PORT_SECONDS: Final = 1.0
_COLLECT_AFTER: Final = 20_000  # objects more than before; of a batch's, most are gone by themselves
_STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class _Server(uvicorn.Server):
    """Says where it is as soon as somebody could connect, and ends in our hands rather than by the signal."""

    def __init__(self, app: FastAPI, tls: ssl.SSLContext | None, announce: Callable[[], None]) -> None:
        super().__init__(uvicorn.Config(app, lifespan="off", **_options(tls)))
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


def serve(asked: Settings, announce: Callable[[Settings, Sequence[str]], None]) -> int:
    """Serve until told to stop; returns the exit code.

    ``announce`` gets the settings, with the port that it became, and the fingerprints of the CA's roots.

    Raises
    ------
    SettingsError, TinyCAError
        The address cannot be listened on, or the CA not be opened.
    """
    # From here on a reload waits until somebody can take it: by default the signal would end us.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    _check_files(asked)
    load_files(asked)  # a wrong one is told before anything is made, and not by each worker
    with _listen(asked) as listener:
        # Port 0 is whichever was free; what certificates point to must be the real one.
        settings = asked.model_copy(update={"port": listener.getsockname()[1]})
        prepare_data_dir(settings.data_dir)
        with only_server(settings):
            if settings.workers == 1:
                return _serve_one(settings, listener, lambda roots: announce(settings, roots))
            # The first run's work is done once, before any of them.
            announce(settings, asyncio.run(prepare_ca(settings)))
            return supervise(settings, listener, _worker)


def _worker(settings: Settings, listener: socket.socket) -> int:
    """One of several processes; what stops it is one line, as for a single one."""
    configure_logging(form=settings.log_format, level=settings.log_level)
    try:
        return _serve_one(settings, listener, lambda _: None)
    except (SettingsError, TinyCAError) as error:
        structlog.get_logger(__name__).error("worker.cannot_start", error=str(error))
        return TRY_AGAIN if isinstance(error, RegistryUnavailable) else 1


def _serve_one(settings: Settings, listener: socket.socket, announce: Callable[[Sequence[str]], None]) -> int:
    async def run() -> None:
        asked = _reloads()  # before the files are read: what changes after that is read again
        app = create_app(settings)
        # The lifespan is ours to hold: uvicorn would turn a wrong setting into a traceback.
        async with app.router.lifespan_context(app):
            _spare_collections()
            service: Service = app.state.service
            tls = _context(settings, service)
            server = _Server(app, tls, lambda: announce(service.issuers.root_fingerprints))
            reloading = asyncio.create_task(_reload_when(asked, app))
            await server.serve(sockets=[listener])
            reloading.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())
    return 0


def _spare_collections() -> None:
    """What is loaded by now stays: no collection needs to look at it again, and fewer are needed."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


def _reloads() -> asyncio.Event:
    """Set by each SIGHUP from now on."""
    asked = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    return asked


async def _reload_when(asked: asyncio.Event, app: FastAPI) -> None:
    while True:
        await asked.wait()
        asked.clear()
        await app.state.service.reloader.reload()


def _context(settings: Settings, service: Service) -> ssl.SSLContext | None:
    """What TLS is spoken with; None where it is not."""
    own = service.server_certificate
    context = _files_context(settings) if own is None else own.context
    if context is not None:
        _ask_clients(context, settings, service.issuers.certificates)
    return context


def _check_files(settings: Settings) -> None:
    """Before the CA is opened: a missing file is a wrong setting."""
    _files_context(settings)
    if settings.client_ca != OWN_CAS:
        _ask_clients(server_context(), settings, ())


def _files_context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = server_context()
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except OSError as error:  # ssl.SSLError is one
        message = (
            f"TINY_CA_TLS_CERT: {settings.tls_cert} and {settings.tls_key} cannot be used: {error.strerror or error}"
        )
        raise SettingsError(message) from error
    return context


def _ask_clients(context: ssl.SSLContext, settings: Settings, own: Iterable[x509.Certificate]) -> None:
    if settings.client_ca is None:
        return
    try:
        ask_for_client_certificates(context, own if settings.client_ca == OWN_CAS else settings.client_ca)
    except OSError as error:
        message = f"TINY_CA_CLIENT_CA: {settings.client_ca} cannot be used: {error.strerror or error}"
        raise SettingsError(message) from error


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    until = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            listener = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
            break
        except OSError as error:
            # The workers of a parent that was killed need a moment to notice, and hold the port meanwhile.
            if error.errno == errno.EADDRINUSE and time.monotonic() < until:
                time.sleep(_PORT_SECONDS / 10)
                continue
            raise _not_listening(settings, error) from error
    listener.set_inheritable(True)
    return listener


def _not_listening(settings: Settings, error: OSError) -> SettingsError:
    name = "TINY_CA_PORT" if error.errno in {errno.EADDRINUSE, errno.EACCES} else "TINY_CA_HOST"
    return SettingsError(f"{name}: cannot listen on {settings.host}:{settings.port}: {error.strerror or error}")


def _options(tls: ssl.SSLContext | None) -> dict[str, Any]:
    return {
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "proxy_headers": False,
        "loop": "uvloop",
        "http": BoundedHttpProtocol,
        "timeout_graceful_shutdown": _GRACE_SECONDS,
        "timeout_keep_alive": 30,
        "ssl_context_factory": None if tls is None else lambda *_: tls,
    }
