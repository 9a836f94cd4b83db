"""A certificate's file is renewed in place: with its key, with a new one, or, once it has expired, by a new request."""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from app.client.config import TOKEN_VARIABLE, Identity
from app.client.errors import ClientError, ExitCode
from app.client.files import staged, write_file
from app.client.issuing import chain_of
from app.client.keys import csr_like, key_pem, load_key, private_key_block
from app.client.output import say
from app.client.schedule import Watch, Window
from app.client.transport import Transport
from tiny_ca.ca_factory.keys import PrivateKey, generate_private_key, key_spec
from tiny_ca.models.key_spec import KeySpec

__all__ = ["Revoked", "Rotation", "Target", "identity", "parse_command", "renew", "run_command", "watch"]

_ITSELF: Final = "/certificates/renew"
_REVOKED: Final = "client_certificate.revoked"


class Revoked(ClientError):
    """The certificate was revoked, and is not renewed for that reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is renewed, and how; ``key_kind`` None: of the old key's kind. ``itself``: without a token."""

    certificate: Path
    key: Path
    new_key: bool = False
    itself: bool = False
    key_kind: KeySpec | None = None
    lifetime: str | None = None


@dataclass(frozen=True, slots=True)
class _Current:
    """What is in the file now; ``key`` where the file holds that too, as some servers want it."""

    certificate: x509.Certificate
    key: bytes | None

    @property
    def path(self) -> str:
        return f"/certificates/{self.certificate.serial_number:x}"


@dataclass(slots=True)
class Rotation:
    """The new key that was asked for.

    Should the answer be lost, the same request is sent again: the service may have revoked the old certificate by then.
    """

    serial_number: int | None = None
    key: PrivateKey | None = None
    csr: str = ""
    idempotency_key: str = ""

    def begin(self, certificate: x509.Certificate, make: Callable[[], PrivateKey]) -> PrivateKey:
        """The key to ask for: the one of the last attempt, or a new one."""
        if self.key is None or self.serial_number != certificate.serial_number:
            self.key = make()
            self.serial_number, self.csr = certificate.serial_number, csr_like(self.key, certificate)
            self.idempotency_key = uuid.uuid4().hex
        return self.key


def renew(transport: Transport, target: Target, rotation: Rotation | None = None) -> dict[str, Any]:
    """Renew once, and put the result in place of the old one; returns the answer and the files' names.

    ``rotation``: kept by who will try again.

    Raises
    ------
    Revoked
        It was revoked.
    ClientError
        As ``Transport.post``; or a file cannot be read or written.
    """
    current = _read(target.certificate)
    if target.itself:
        return _renew_itself(transport, target, current, rotation or Rotation()) | _written(target, current)
    try:
        answer = (
            _rotate(transport, target, current, rotation or Rotation())
            if target.new_key
            else _renew(transport, target, current)
        )
    except ClientError as error:
        if error.code is not ExitCode.CONFLICT:
            raise
        answer = _after_conflict(transport, target, current, error)
    return answer | _written(target, current)


def identity(target: Target) -> Identity:
    """What proves who is asking, as it is now.

    Raises
    ------
    ClientError
        The certificate cannot be read.
    """
    return Identity(target.certificate, target.key if _read(target.certificate).key is None else None)


def watch(
    connect: Callable[[Callable[[float], object]], Transport],
    target: Target,
    *,
    renewed: Callable[[Mapping[str, Any]], None],
    command: Sequence[str],
) -> None:
    """Renew whenever it is due, until SIGTERM or SIGINT; outages are told and waited out.

    Raises
    ------
    ClientError
        The certificate cannot be read at the start, or was revoked.
    """
    stop = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())

    rotation = Rotation()

    def once() -> None:
        with connect(stop.wait) as transport:
            answer = renew(transport, target, rotation)
        renewed(answer)
        if command:
            try:
                run_command(command)
            except ClientError as error:  # the certificate is in place: not a reason to renew it again
                say(error.message)

    Watch(
        window=lambda: _window(target.certificate),
        renew=once,
        clock=lambda: datetime.now(UTC),
        wait=stop.wait,
        rng=random.random,
        report=lambda error: say(f"{target.certificate} is not renewed yet: {error.message}"),
        is_final=lambda error: isinstance(error, Revoked),
    ).run()


def parse_command(text: str | None) -> list[str]:
    """Split as a shell would, and know that its program is there; no shell is run.

    Raises
    ------
    ClientError
        It cannot be split, or there is no such program.
    """
    if text is None:
        return []
    try:
        command = shlex.split(text)
    except ValueError as error:
        raise ClientError(f"--exec: {text!r} cannot be split into words: {error}", code=ExitCode.USAGE) from error
    if not command or shutil.which(command[0]) is None:
        raise ClientError(f"--exec: {text!r} names no program that can be run", code=ExitCode.USAGE)
    return command


def run_command(command: Sequence[str]) -> None:
    """Run it, without the token in its environment.

    Raises
    ------
    ClientError
        It cannot be run, or fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != TOKEN_VARIABLE}
    try:
        code = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, check=False).returncode  # noqa: S603  # the operator's own
    except OSError as error:
        raise ClientError(f"the certificate is in place, but {command[0]} cannot be run: {error.strerror}") from error
    if code:
        raise ClientError(f"the certificate is in place, but {shlex.join(command)} ended with {code}")


def _written(target: Target, current: _Current) -> dict[str, str]:
    written = {"certificate_file": str(target.certificate)}
    if target.new_key and current.key is None:
        written["key_file"] = str(target.key)
    return written


def _renew_itself(transport: Transport, target: Target, current: _Current, rotation: Rotation) -> dict[str, Any]:
    """The old certificate stays valid, also where the key is new: should the answer be lost, it can ask again."""
    if current.certificate.not_valid_after_utc < datetime.now(UTC):
        message = f"{target.certificate} has expired, and proves nothing any more: renew it with a token"
        raise ClientError(message, code=ExitCode.CONFLICT)
    try:
        if target.new_key:
            key = rotation.begin(current.certificate, lambda: _new_key(target, current))
            return _with_key(target, current, key, lambda: _ask(transport, _ITSELF, rotation))
        answer = transport.post(_ITSELF, {})
    except ClientError as error:
        if error.rule == _REVOKED:
            raise Revoked(error.message, code=ExitCode.CONFLICT) from error
        raise
    _write(target, (current.key or b"") + chain_of(answer))
    return answer


def _ask(transport: Transport, path: str, rotation: Rotation) -> dict[str, Any]:
    return transport.post(path, {"csr": rotation.csr}, idempotency_key=rotation.idempotency_key)


def _renew(transport: Transport, target: Target, current: _Current) -> dict[str, Any]:
    body = {} if target.lifetime is None else {"lifetime": target.lifetime}
    answer = transport.post(f"{current.path}/renew", body)
    _write(target, (current.key or b"") + chain_of(answer))
    return answer


def _rotate(transport: Transport, target: Target, current: _Current, rotation: Rotation) -> dict[str, Any]:
    key = rotation.begin(current.certificate, lambda: _new_key(target, current))
    return _with_key(target, current, key, lambda: _ask(transport, f"{current.path}/rotate", rotation))


def _after_conflict(transport: Transport, target: Target, current: _Current, error: ClientError) -> dict[str, Any]:
    """An expired certificate cannot be renewed: ask for a new one of the same profile and names."""
    status = transport.get(f"{current.path}/status")["status"]
    if status == "revoked":
        raise Revoked(error.message, code=ExitCode.CONFLICT) from error
    if status != "expired":
        raise error
    record = transport.get(current.path)
    wished = {"profile": record.get("profile"), "issuer_id": record.get("issuer_id"), "lifetime": target.lifetime}
    body = {name: value for name, value in wished.items() if value is not None}
    key = _new_key(target, current) if target.new_key else _old_key(target, current)
    body["csr"] = csr_like(key, current.certificate)
    if target.new_key:
        return _with_key(target, current, key, lambda: transport.post("/certificates", body))
    answer = transport.post("/certificates", body)
    _write(target, (current.key or b"") + chain_of(answer))
    return answer


def _with_key(target: Target, current: _Current, key: PrivateKey, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Replace key and certificate together: one file in one step, two files right after each other."""
    pem = key_pem(key)
    # On disk before the old certificate is revoked.
    with staged(target.key if current.key is None else target.certificate, pem, keep_mode=True) as key_file:
        answer = ask()
        if current.key is not None:
            _write(target, pem + chain_of(answer))
            return answer
        with staged(target.certificate, chain_of(answer), keep_mode=True) as certificate_file:
            key_file.place(replace=True)
            certificate_file.place(replace=True)
    return answer


def _new_key(target: Target, current: _Current) -> PrivateKey:
    kind = target.key_kind or key_spec(current.certificate.public_key())
    if kind is None:
        message = f"{target.certificate}: its key is of a kind that is not made here; say which with --key"
        raise ClientError(message, code=ExitCode.USAGE)
    return generate_private_key(kind)


def _old_key(target: Target, current: _Current) -> PrivateKey:
    if current.key is not None:
        return load_key(current.key, source=str(target.certificate))
    try:
        pem = target.key.read_bytes()
    except OSError as error:
        message = f"{target.certificate} has expired, and its key {target.key} cannot be read: {error.strerror}"
        raise ClientError(f"{message}; give --key-file or --new-key", code=ExitCode.CONFLICT) from error
    return load_key(pem, source=str(target.key))


def _write(target: Target, content: bytes) -> None:
    write_file(target.certificate, content, replace=True, keep_mode=True)


def _read(path: Path) -> _Current:
    try:
        pem = path.read_bytes()
        return _Current(x509.load_pem_x509_certificate(pem), private_key_block(pem))
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror}", code=ExitCode.USAGE) from error
    except ValueError as error:
        raise ClientError(f"{path} holds no certificate in PEM", code=ExitCode.USAGE) from error


def _window(path: Path) -> Window:
    certificate = _read(path).certificate
    return Window(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
