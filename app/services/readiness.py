"""Can this process issue now? Each thing that takes, asked for real, and named."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from cryptography.exceptions import InvalidSignature

from app.services.crls import CRLPublisher
from app.services.issuers import IssuerStore
from app.services.server_certificate import ServerCertificate
from tiny_ca.exc import Conflict, TinyCAError, Unavailable
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["Readiness", "ReadinessReport"]

_log = structlog.get_logger(__name__)
_OK: Final = "ok"
_CACHE_SECONDS: Final = 1.0
_TIMEOUT_SECONDS: Final = 1.0
# An operator needs some warning before nothing can be issued at all; longer lifetimes are refused before that.
_ISSUER_MARGIN: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ReadinessReport:
    """``checks``: ``ok`` or what is wrong, by name."""

    checks: dict[str, str]

    @property
    def ready(self) -> bool:
        """Whether every check passed."""
        return all(result == _OK for result in self.checks.values())


class Readiness:
    """Asks the checks at most once a second, whoever asks how often: the question needs no token."""

    def __init__(
        self,
        *,
        database: Callable[[], Awaitable[None]],
        migrations: Callable[[], Awaitable[bool]],
        issuers: IssuerStore,
        crls: CRLPublisher,
        failed_jobs: Callable[[], dict[str, str]],
        clock: Callable[[], datetime],
        server_certificate: ServerCertificate | None = None,
    ) -> None:
        self._database = database
        self._migrations = migrations
        self._issuers = issuers
        self._crls = crls
        self._failed_jobs = failed_jobs
        self._clock = clock
        self._server_certificate = server_certificate
        self._until = 0.0
        self._report = ReadinessReport({})
        self._lock = asyncio.Lock()

    async def report(self) -> ReadinessReport:
        """Ask every check; none takes longer than a second."""
        async with self._lock:
            if time.monotonic() >= self._until:
                self._report = ReadinessReport(await self._ask_all())
                self._until = time.monotonic() + _CACHE_SECONDS
                if not self._report.ready:
                    _log.warning("service.not_ready", **self._report.checks)
        return self._report

    async def _ask_all(self) -> dict[str, str]:
        checks: dict[str, Callable[[], Awaitable[str]]] = {
            "database": self._ask_database,
            "migrations": self._ask_migrations,
            "signature": self._ask_signature,
            "crl": self._ask_crl,
            "issuer": self._ask_issuer,
            "jobs": self._ask_jobs,
        }
        if self._server_certificate is not None:
            checks["tls"] = self._ask_tls
        results = await asyncio.gather(*(_bounded(check) for check in checks.values()))
        return dict(zip(checks, results, strict=True))

    async def _ask_database(self) -> str:
        await self._database()
        return _OK

    async def _ask_migrations(self) -> str:
        return _OK if await self._migrations() else "the schema is older than this program"

    async def _ask_signature(self) -> str:
        issuer = self._issuers.default
        probe = b"tiny-ca readiness"
        signature = await asyncio.to_thread(issuer.signer.sign, probe)
        await asyncio.to_thread(issuer.signer.verify, signature, probe)
        return _OK

    async def _ask_crl(self) -> str:
        for issuer in self._issuers.signing:
            if issuer.not_valid_after <= self._clock():
                continue  # what it signed has ended with it
            crl = self._crls.peek(issuer.id)
            if crl is None:  # another process made the issuer just now
                with suppress(Unavailable):
                    crl = await self._crls.current(issuer.id)
            if crl is None or crl.next_update <= self._clock():
                return f"there is no current CRL of issuer {issuer.id}"
        return _OK

    async def _ask_issuer(self) -> str:
        await self._issuers.load_revoked()  # another process may have revoked it
        try:
            ends = self._issuers.for_issuing(self._issuers.default.id).not_valid_after
        except Conflict as error:  # of a state that anybody sees: it is disabled, or revoked
            return error.message
        return _OK if ends > self._clock() + _ISSUER_MARGIN else f"the default issuer ends {rfc3339(ends)}"

    async def _ask_jobs(self) -> str:
        return "; ".join(f"{job}: {error}" for job, error in self._failed_jobs().items()) or _OK

    async def _ask_tls(self) -> str:
        return (self._server_certificate and self._server_certificate.trouble) or _OK


async def _bounded(check: Callable[[], Awaitable[str]]) -> str:
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            return await check()
    except TimeoutError:
        return "no answer within a second"
    except (TinyCAError, InvalidSignature) as error:
        # The text of a database's failure may name hosts and users; the log has it, the public page does not.
        _log.warning("readiness.check_failed", error=str(error))
        return f"failed: {type(error).__name__}"
