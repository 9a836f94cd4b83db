"""``create_app``: the one place that picks concrete classes and ties them together."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from socket import gethostname
from typing import Any

import structlog
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from sqlalchemy import update
from sqlalchemy.orm import Session

from app import database
from app.api import acts, batch, certificates, docs, examine, health, operations, public, renewal, tokens
from app.api import issuers as issuer_routes
from app.api.documentation import SCHEMAS
from app.api.issuers import ISSUER_SCHEMAS
from app.auth.authenticator import Authenticator
from app.auth.mtls import CertificateAuthenticator, Source
from app.auth.oidc import OIDCAuthenticator
from app.auth.tokens import ADMIN_TOKEN_ID, TokenAuthenticator, token_sha256
from app.clock import SteadyClock, last_on_record
from app.config_file import ConfigFile, load_config_file
from app.dependencies import Service
from app.direct import DirectRoutes
from app.jobs import JobRunner, job_table
from app.key_blocklist import read_key_blocklist
from app.metrics import Metrics
from app.middleware import BodyLimitMiddleware, RequestMiddleware
from app.peers import PeerMiddleware
from app.problems import add_problem_handlers
from app.rate_limits import RateLimits
from app.services.audit import AuditTrail
from app.services.authorities import Authorities
from app.services.ca_making import ACTOR
from app.services.crls import CRLPublisher
from app.services.examination import Examination
from app.services.issuance import IssuancePipeline
from app.services.issuers import IssuerStore
from app.services.lifecycle import LifecycleService
from app.services.notices import Notices
from app.services.readiness import Readiness
from app.services.records import Records
from app.services.reload import Reloader
from app.services.revocations import Revocations
from app.services.secrets import admin_token, key_passphrase, prepare_data_dir
from app.services.server_certificate import ServerCertificate
from app.services.tokens import Tokens
from app.services.watching import Watch
from app.services.webhook import Webhook
from app.settings import Settings, SettingsError
from app.tls import server_context
from app.tracing import TracedRequestMiddleware, close_tracing, tracing_from
from tiny_ca.ca_factory.profile_file import parse_profiles
from tiny_ca.ca_factory.profiles import Profile
from tiny_ca.db.async_db_manager import AsyncDBHandler
from tiny_ca.db.entries import AuditEntry, TokenEntry
from tiny_ca.db.models import TokenRecord
from tiny_ca.db.queries.issuers import list_issuers
from tiny_ca.db.queries.tokens import put_token, token_by_id
from tiny_ca.exc import Invalid

__all__ = ["create_app", "load_files", "open_ca", "prepare_ca", "touch"]

_log = structlog.get_logger(__name__)
# In this order: of the paths that match, the first one answers, and "batch" and "renew" are no serial numbers.
_ROUTERS = (
    batch.router,
    renewal.router,
    certificates.router,
    acts.router,
    examine.router,
    tokens.router,
    issuer_routes.router,
    operations.router,
    public.router,
    health.router,
    docs.router,
)
_COUNT_SECONDS = 30.0
# A request waits for the database so long, and no longer; less than clients wait for their answer.
_PATIENCE_SECONDS = 10.0
_DESCRIPTION = """
Send a CSR, get a certificate. Every answer that is not a success is a problem document (RFC 9457) with a `request_id`.
"""


def _now() -> datetime:
    return datetime.now(UTC)


def create_app(settings: Settings, *, clock: Callable[[], datetime] = _now) -> FastAPI:
    """The application; it opens its CA when it starts and closes it when it stops."""
    profiles, config = load_files(settings)
    metrics = Metrics()
    tracer_provider = tracing_from(os.environ)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            if tracer_provider is not None:
                stack.push_async_callback(close_tracing, tracer_provider)
            app.state.service = await _start(stack, settings, config, profiles, metrics, clock)
            yield

    app = FastAPI(
        title="tiny-ca",
        summary="A certificate authority as a service.",
        description=_DESCRIPTION,
        version="1",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        telemetry={
            "tracing": tracer_provider is not None,
            "tracer_provider": tracer_provider,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
        redirect_slashes=False,  # a redirect would follow the caller's Host
    )
    for router in _ROUTERS:
        app.include_router(router)
    app.mount(docs.STATIC_PATH, docs.static_files())
    add_problem_handlers(app)
    if tracer_provider is None:  # FastAPI's own spans begin further in
        app.add_middleware(DirectRoutes)
    app.add_middleware(BodyLimitMiddleware)
    app.add_middleware(RequestMiddleware, metrics=metrics)
    if config.trusted_proxies:
        app.add_middleware(PeerMiddleware, trusted=config.trusted_proxies)
    if tracer_provider is not None:
        app.add_middleware(TracedRequestMiddleware)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]  # the way FastAPI documents
    return app


def load_files(settings: Settings) -> tuple[dict[str, Profile], ConfigFile]:
    """The profiles, and what the settings file says.

    Raises
    ------
    SettingsError
        One cannot be read, or the two, or the settings, do not fit together.
    """
    profiles = _load_profiles(settings)
    config = load_config_file(settings.config_file, profiles=profiles)
    if config.trusted_proxies and not settings.behind_proxy:
        raise SettingsError("trusted_proxies: there is no proxy without TINY_CA_BEHIND_PROXY; set it, or take them out")
    if config.client_cert_header and not config.trusted_proxies:
        raise SettingsError("client_cert_header: say in trusted_proxies whose header is to be believed")
    return profiles, config


async def open_ca(settings: Settings) -> tuple[AsyncDBHandler, IssuerStore]:
    """Open the CA of these settings: schema, secrets, keys; on a first run they are made.

    Raises
    ------
    SettingsError
        A secret does not fit, a folder cannot be written, or the schema is not the one that is needed.
    RegistryUnavailable
        The database does not answer.
    """
    prepare_data_dir(settings.data_dir)
    db = database.connect(settings, patience=_PATIENCE_SECONDS)
    try:
        await (database.upgrade(settings) if settings.auto_migrate else database.require_current(db))
        is_new = not await db.read(list_issuers)
        passphrase = key_passphrase(settings, create=is_new)
        issuers = IssuerStore(db, settings.effective_public_url)
        if is_new:
            await issuers.bootstrap(settings, passphrase.value, now=_now())
        await issuers.load(passphrase.value)
        await _keep_admin_token(db, settings)
    except BaseException:
        await db.aclose()
        raise
    return db, issuers


async def prepare_ca(settings: Settings) -> tuple[str, ...]:
    """Make what a first run makes, and close it again; returns the fingerprints of the roots, raises as ``open_ca``."""
    db, issuers = await open_ca(settings)
    await db.aclose()
    return issuers.root_fingerprints


async def _start(
    stack: AsyncExitStack,
    settings: Settings,
    config: ConfigFile,
    profiles: Mapping[str, Profile],
    metrics: Metrics,
    clock: Callable[[], datetime],
) -> Service:
    db, issuers = await open_ca(settings)
    stack.push_async_callback(db.aclose)
    clock = SteadyClock(clock, since=await db.read(last_on_record))
    # Of a million revocations, a CRL takes longer than a request may wait.
    patient = db.patient()
    crls = CRLPublisher(patient, issuers, lifetime=settings.crl_lifetime, shared=settings.shares_database, clock=clock)
    await crls.load()
    crls.watch()
    stack.push_async_callback(crls.close)
    issuers.watch()
    stack.push_async_callback(issuers.close)
    pipeline = IssuancePipeline(
        db,
        max_batch=settings.issue_batch,
        max_waiting=settings.issue_queue,
        metrics=metrics,
        clock=clock,
        blocked_keys=_blocked_keys(config),
        patience=_PATIENCE_SECONDS,
    )
    pipeline.start()
    stack.push_async_callback(pipeline.close)
    lifecycle = LifecycleService(db, issuers=issuers, crls=crls, pipeline=pipeline, profiles=profiles, clock=clock)
    api_tokens = TokenAuthenticator(db, clock)
    identity_tokens = OIDCAuthenticator(
        [issuer.trusted() for issuer in config.oidc], db=db, metrics=metrics, clock=clock
    )
    stack.push_async_callback(identity_tokens.close)
    notices = _notices(config, patient, metrics, clock)
    if notices is not None:
        counting = Watch(notices.count, seconds=_COUNT_SECONDS, failed="notices.count_failed")
        counting.start()
        stack.push_async_callback(counting.stop)
    server_certificate = None
    if settings.tls_mode == "auto":
        server_certificate = ServerCertificate(lifecycle, server_context(), settings, db=db, clock=clock)
        stack.push_async_callback(server_certificate.close)
        await server_certificate.start()
    jobs = JobRunner(
        job_table(patient, crls, clock, notices),
        db=db,
        replica=f"{gethostname()}:{os.getpid()}",
        lease=settings.job_lease,
        metrics=metrics,
    )
    jobs.start()
    stack.push_async_callback(jobs.stop)
    readiness = Readiness(
        database=lambda: touch(db),
        migrations=lambda: database.serves(db),
        issuers=issuers,
        crls=crls,
        failed_jobs=jobs.failing,
        clock=clock,
        server_certificate=server_certificate,
    )
    _log.info("service.started", issuer=issuers.default.id, database=db.engine.dialect.name)
    return Service(
        settings=settings,
        metrics=metrics,
        authenticator=Authenticator(api_tokens=api_tokens, identity_tokens=identity_tokens if config.oidc else None),
        rate_limits=RateLimits.of(config.rate_limits, time.monotonic),
        issuers=issuers,
        authorities=Authorities(
            db,
            issuers=issuers,
            crls=crls,
            profiles=lambda: lifecycle.profiles,
            clock=clock,
            blocked_keys=lambda: pipeline.blocked_keys,
        ),
        crls=crls,
        lifecycle=lifecycle,
        records=Records(db, issuers=issuers, clock=clock),
        revocations=Revocations(db, issuers=issuers, crls=crls, metrics=metrics, clock=clock),
        examination=Examination(db, issuers=issuers, clock=clock),
        tokens=Tokens(db, authenticator=api_tokens, clock=clock),
        audit=AuditTrail(db, clock),
        readiness=readiness,
        jobs=jobs,
        server_certificate=server_certificate,
        client_certificates=CertificateAuthenticator(db, clock, source=_client_certificates(settings, config)),
        reloader=Reloader(
            profiles=lambda: _reloaded_profiles(settings, config),
            blocked_keys=lambda: _blocked_keys(config),
            lifecycle=lifecycle,
            pipeline=pipeline,
        ),
    )


async def _keep_admin_token(db: AsyncDBHandler, settings: Settings) -> None:
    """Keep the admin token's hash; a token file that its operator took away is not made anew."""
    known = await db.read(token_by_id, ADMIN_TOKEN_ID)
    token = admin_token(settings, create=known is None)
    if token is None:
        return
    digest = token_sha256(token.value)
    if known is not None and known.token_sha256 == digest:
        return
    entry = TokenEntry(id=ADMIN_TOKEN_ID, name="admin", token_sha256=digest, created_at=_now())
    audit = AuditEntry(
        at=_now(), actor=ACTOR, action="token.create" if known is None else "token.rotate", outcome="success"
    )
    await db.write(put_token, entry, audit=audit)


def _load_profiles(settings: Settings) -> dict[str, Profile]:
    if settings.profiles_file is None:
        return parse_profiles("")
    try:
        return parse_profiles(settings.profiles_file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"TINY_CA_PROFILES_FILE: {settings.profiles_file} cannot be read: {error}"
        raise SettingsError(message) from error
    except Invalid as error:
        raise SettingsError(f"TINY_CA_PROFILES_FILE: {settings.profiles_file}: {error.message}") from error


def _reloaded_profiles(settings: Settings, config: ConfigFile) -> dict[str, Profile]:
    profiles = _load_profiles(settings)
    for entry, name in config.unknown_profiles(profiles):
        raise SettingsError(
            f"TINY_CA_PROFILES_FILE: {settings.profiles_file}: profile {name!r} is gone, and {entry} names it"
        )
    return profiles


def _blocked_keys(config: ConfigFile) -> frozenset[str]:
    try:
        return read_key_blocklist(config.key_blocklist)
    except Invalid as error:
        raise SettingsError(f"TINY_CA_CONFIG_FILE: key_blocklist: {error.message}") from error


def _client_certificates(settings: Settings, config: ConfigFile) -> Source | None:
    if config.client_cert_header:
        return Source.HEADER
    return Source.TLS if settings.client_ca is not None else None


def _notices(config: ConfigFile, db: AsyncDBHandler, metrics: Metrics, clock: Callable[[], datetime]) -> Notices | None:
    settings = config.notices
    if settings is None:
        return None
    webhook = Webhook(
        settings.url,
        secret=settings.read_secret(),
        allow_private_addresses=settings.allow_private_addresses,
        tls=settings.tls_context(),
    )
    return Notices(db, webhook=webhook, days=settings.days, metrics=metrics, clock=clock)


def _openapi(app: FastAPI) -> dict[str, Any]:
    """FastAPI's document, and the models of the bodies that the routes read themselves."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=app.description,
            routes=app.routes,
        )
        components = document.setdefault("components", {})
        components.setdefault("securitySchemes", {})["mutualTLS"] = {
            "type": "mutualTLS",
            "description": "The certificate that is to be renewed, where TINY_CA_CLIENT_CA is set.",
        }
        schemas = components.setdefault("schemas", {})
        for model in (*SCHEMAS, *ISSUER_SCHEMAS):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas |= schema.pop("$defs", {})
            schemas[model.__name__] = schema
        app.openapi_schema = document
    return app.openapi_schema


async def touch(db: AsyncDBHandler) -> None:
    """Write a row as it is: a database that is locked, read-only or full does not let us.

    Raises
    ------
    RegistryUnavailable
        It does not.
    """
    await db.write(_rewrite_admin)


def _rewrite_admin(session: Session) -> None:
    session.execute(update(TokenRecord).where(TokenRecord.id == ADMIN_TOKEN_ID).values(name=TokenRecord.name))
