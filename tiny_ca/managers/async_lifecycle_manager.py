"""The lifecycle manager for async callers. What the operations do is in ``lifecycle``."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from logging import Logger
from typing import Any, Concatenate, ParamSpec, TypeVar

from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.db.base_db import BaseDB
from tiny_ca.managers.effects import awaited, whole
from tiny_ca.managers.lifecycle import Lifecycle
from tiny_ca.storage.base_storage import BaseStorage

__all__ = ["AsyncCertLifecycleManager"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _operation(
    operation: Callable[Concatenate[Lifecycle, _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate[AsyncCertLifecycleManager, _P], Coroutine[Any, Any, _T]]:
    @wraps(operation)
    async def method(self: AsyncCertLifecycleManager, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await whole(operation(self._core, *args, **kwargs))

    return method


class AsyncCertLifecycleManager:
    """Takes any storage and database with the methods of BaseStorage and BaseDB, synchronous ones too.

    What is synchronous runs in worker threads. An operation that has begun ends, also where its caller is cancelled.
    """

    def __init__(
        self,
        storage: BaseStorage | None = None,
        factory: CertificateFactory | None = None,
        db_handler: BaseDB | None = None,
        logger: Logger | None = None,
    ) -> None:
        self._core = Lifecycle(storage, factory, db_handler, logger, run=awaited)

    @property
    def factory(self) -> CertificateFactory | None:
        """What signs; None until it is set. TypeError for anything but a CertificateFactory."""
        return self._core.factory

    @factory.setter
    def factory(self, factory: CertificateFactory) -> None:
        self._core.factory = factory

    create_self_signed_ca = _operation(Lifecycle.create_self_signed_ca)
    issue_certificate = _operation(Lifecycle.issue_certificate)
    issue_intermediate_ca = _operation(Lifecycle.issue_intermediate_ca)
    renew_certificate = _operation(Lifecycle.renew_certificate)
    rotate_certificate = _operation(Lifecycle.rotate_certificate)
    cosign_certificate = _operation(Lifecycle.cosign_certificate)
    revoke_certificate = _operation(Lifecycle.revoke_certificate)
    get_certificate_status = _operation(Lifecycle.get_certificate_status)
    verify_certificate = _operation(Lifecycle.verify_certificate)
    inspect_certificate = _operation(Lifecycle.inspect_certificate)
    export_pkcs12 = _operation(Lifecycle.export_pkcs12)
    get_cert_chain = _operation(Lifecycle.get_cert_chain)
    generate_crl = _operation(Lifecycle.generate_crl)
    verify_crl = _operation(Lifecycle.verify_crl)
    list_certificates = _operation(Lifecycle.list_certificates)
    get_expiring_soon = _operation(Lifecycle.get_expiring_soon)
    refresh_expired_statuses = _operation(Lifecycle.refresh_expired_statuses)
    delete_certificate = _operation(Lifecycle.delete_certificate)
    repair = _operation(Lifecycle.repair)
