"""The certificate that the service shows to its own clients: issued by its CA like any other, and renewed in time.

Each process has its own, with a key that no other process and no file ever holds.
"""

from __future__ import annotations

import asyncio
import random
import ssl
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final
from urllib.parse import urlsplit

import structlog
from cryptography.x509.oid import NameOID

from app.auth.caller import Caller
from app.auth.principal import Permission, Principal
from app.client.schedule import Window, draw_share, due, pause
from app.net import is_unspecified
from app.services.ca_making import ACTOR
from app.services.lifecycle import LifecycleService, Made, Wish
from app.settings import Settings, SettingsError
from app.tls import put_in_place
from tiny_ca.ca_factory.names import AlternativeNames, host_name
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.queries.revocations import revoked_among
from tiny_ca.exc import Conflict, Forbidden, Invalid, RegistryUnavailable, TinyCAError
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["ServerCertificate", "names_of"]

_log = structlog.get_logger(__name__)
_PROFILE: Final = "server"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
# It may be revoked at any time, and the clock of a virtual machine may jump.
_LOOK_EVERY: Final = timedelta(minutes=1)
_SHORTEST_WAIT: Final = timedelta(seconds=1)


def names_of(settings: Settings) -> tuple[AlternativeNames, AlternativeNames]:
    """What clients call this service: the host of its URL, and that with the address it listens on and loopback."""
    public = _hosts(urlsplit(settings.effective_public_url).hostname or "")
    listening = () if is_unspecified(settings.host) else (settings.host,)
    return public, public.merged(_hosts(*listening, *_LOOPBACK))


class ServerCertificate:
    """Keeps a certificate in ``context``. ``trouble`` says why it is not renewed although it is due."""

    def __init__(
        self,
        lifecycle: LifecycleService,
        context: ssl.SSLContext,
        settings: Settings,
        *,
        db: AsyncDBHandler,
        clock: Callable[[], datetime],
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._lifecycle = lifecycle
        self._db = db
        self.context = context
        self._wanted = names_of(settings)
        self._organization = settings.organization
        self._lifetime = settings.tls_lifetime
        self._clock = clock
        self._rng = rng
        self._share = draw_share(rng)
        self._current: Made | None = None
        self._placed_at = clock()
        self._watching: asyncio.Task[None] | None = None
        self._failures = 0
        self.trouble: str | None = None

    async def start(self) -> None:
        """Get the first one, and from then on renew it at two thirds of its lifetime.

        Raises
        ------
        SettingsError
            The CA does not issue it, or OpenSSL cannot be given it.
        Unavailable
            It cannot do so just now.
        """
        try:
            await self.renew()
        except (Conflict, Forbidden, Invalid) as error:
            raise SettingsError(
                f"TINY_CA_TLS: the CA does not issue the service's own certificate: {error.message}; give --tls-cert "
                "and --tls-key, or serve on loopback until that is mended"
            ) from error
        except OSError as error:
            message = f"TINY_CA_TLS: no temporary file can be written: {error.strerror or error}; set TMPDIR"
            raise SettingsError(message) from error
        self._watching = asyncio.create_task(self._watch(), name="server-certificate")

    async def close(self) -> None:
        """Renew no more."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])

    async def renew(self) -> None:
        """Have a certificate issued for a new key, and put it in place.

        Raises
        ------
        Conflict, Forbidden, Invalid, Unavailable
            As of any other request.
        """
        me = Caller(Principal(ACTOR, frozenset({Permission.CERTIFICATES_ISSUE})), uuid.uuid4().hex)
        request = await self._allowed_request(me)
        made = await self._lifecycle.issue_from_config(me, request, Wish(), default_profile=_PROFILE)
        assert made.private_key is not None  # noqa: S101  # it was made for this request
        put_in_place(self.context, (made.certificate, *made.above[:-1]), made.private_key)
        self._current, self._placed_at = made, self._clock()
        _log.info(
            "server_certificate.in_place",
            serial=f"{made.certificate.serial_number:x}",
            names=[name for _, name in request.names.items()],
            not_valid_after=rfc3339(made.certificate.not_valid_after_utc),
        )

    async def _allowed_request(self, me: Caller) -> CertificateRequest:
        """With every name; where profile or name constraints leave some out, with that of the URL alone."""
        public, every = (self._request(names) for names in self._wanted)
        *_, said = await self._lifecycle.simulate(me, lambda: every, Wish(), default_profile=_PROFILE)
        return every if all(verdict.passed for verdict in said) else public

    def _request(self, names: AlternativeNames) -> CertificateRequest:
        # Without a common name: where profiles want that to be unique, each process could not have its own.
        return CertificateRequest(
            subject=((NameOID.ORGANIZATION_NAME, self._organization),),
            names=names,
            public_key=None,
            key_spec=KeySpec.ec("P-256"),
            lifetime=self._lifetime,
        )

    async def look(self) -> timedelta:
        """Renew it if that is due, and tell how long to wait before looking again."""
        try:
            if await self._is_due():
                await self.renew()
        except Exception as error:  # noqa: BLE001  # whatever fails, it is tried again until it is mended
            self._failures += 1
            self._tell(error)
            return pause(self._failures, self._window, self._rng)
        self._failures, self.trouble = 0, None
        left = due(self._window, self._share) - self._clock()
        return max(_SHORTEST_WAIT, min(left, _LOOK_EVERY))

    async def _watch(self) -> None:
        while True:
            wait = await self.look()
            await asyncio.sleep(wait.total_seconds())

    async def _is_due(self) -> bool:
        return self._clock() >= due(self._window, self._share) or await self._is_revoked()

    async def _is_revoked(self) -> bool:
        """Whether it, or a CA above it, is; where that cannot be told just now, the next look does."""
        made = self._made
        try:
            return bool(
                await self._db.read(revoked_among, [one.serial_number for one in (made.certificate, *made.above)])
            )
        except RegistryUnavailable:
            return False

    def _tell(self, error: Exception) -> None:
        is_known = isinstance(error, TinyCAError)
        ends = rfc3339(self._window.not_valid_after)
        why = error.message if isinstance(error, Conflict | Forbidden | Invalid) else type(error).__name__
        self.trouble = f"the certificate of this service ends {ends} and is not renewed: {why}"
        _log.error(
            "server_certificate.not_renewed",
            error=str(error),
            failures=self._failures,
            not_valid_after=ends,
            exc_info=None if is_known else error,
        )

    @property
    def _window(self) -> Window:
        # From when it was put in place: a profile may date certificates back by more than they are made to last.
        return Window(self._placed_at, self._made.certificate.not_valid_after_utc)

    @property
    def _made(self) -> Made:
        assert self._current is not None  # noqa: S101  # ``start`` comes first
        return self._current


def _hosts(*given: str) -> AlternativeNames:
    """Those that can stand in a certificate: the name of a machine need not be one of a host."""
    names = AlternativeNames()
    for one in given:
        host = host_name(one)
        names = names if host is None else names.with_host(host)
    return names
