"""New certificates: a key made here, its CSR sent, the answer put beside it; one, or a file of many."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from app.client.errors import ClientError, ExitCode
from app.client.files import StagedFile, staged, write_file
from app.client.keys import csr_of_name, key_pem, private_key_block
from app.client.transport import Transport
from tiny_ca.ca_factory.keys import generate_private_key
from tiny_ca.models.key_spec import KeySpec

__all__ = ["BatchResult", "Place", "Wish", "chain_of", "issue", "issue_batch", "issue_from_csr", "places", "read_batch"]

_CHUNK_REQUESTS: Final = 100
_CHUNK_BYTES: Final = 3 * 1024 * 1024  # the service takes 4 MiB
_FIELDS: Final = ("name", "common_name", "san", "profile", "lifetime", "issuer_id")
_PATH: Final = "/certificates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a certificate shall be; None leaves it to the service."""

    name: str
    names: tuple[str, ...] = ()
    profile: str | None = None
    lifetime: str | None = None
    issuer_id: str | None = None

    def body(self, csr: str) -> dict[str, Any]:
        """The request."""
        wished = {"profile": self.profile, "lifetime": self.lifetime, "issuer_id": self.issuer_id}
        return {"csr": csr} | {name: value for name, value in wished.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a certificate and its key go; ``key`` None where the key is somebody else's."""

    certificate: Path
    key: Path | None

    def check_free(self, *, force: bool) -> None:
        """Before anything is asked for.

        Raises
        ------
        ClientError
            A key would be overwritten.
        """
        if self.key == self.certificate:
            raise ClientError(f"{self.key} would be the key and the certificate", code=ExitCode.USAGE)
        if force:
            return
        if self.key is not None and (self.key.exists() or self.key.is_symlink()):
            raise ClientError(f"{self.key} is there already; --force replaces it", code=ExitCode.USAGE)
        if self.certificate.is_file() and private_key_block(self.certificate.read_bytes()):
            message = f"{self.certificate} holds a private key; --force replaces it"
            raise ClientError(message, code=ExitCode.USAGE)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of one of many; ``problem`` None: it was made."""

    wish: Wish
    answer: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None

    def view(self, place: Place) -> dict[str, Any]:
        """For the output."""
        if self.answer is None:
            problem = self.problem or {}
            return {"name": self.wish.name, "status": problem.get("status"), "problem": problem}
        return {"name": self.wish.name, "status": 201, **_summary(self.answer), **_files(place)}


def places(name: str, *, out_dir: Path, out: Path | None) -> Place:
    """``out`` and the key beside it as ``.key``, or ``NAME.pem`` and ``NAME.key`` in the folder."""
    certificate = out if out is not None else out_dir / f"{_file_name(name)}.pem"
    # Not with_suffix(): "app.example.org" has none.
    stem = certificate.name.removesuffix(".pem").removesuffix(".crt")
    return Place(certificate, certificate.with_name(f"{stem}.key"))


def issue(transport: Transport, wish: Wish, place: Place, *, key: KeySpec, force: bool) -> dict[str, Any]:
    """Make a key, have it certified, and write both; returns the answer and the files' names."""
    place.check_free(force=force)
    private_key = generate_private_key(key)
    csr = csr_of_name(private_key, wish.name, wish.names)
    assert place.key is not None  # noqa: S101  # ``places`` gives one
    # The key is safely on disk before anybody vouches for it.
    with staged(place.key, key_pem(private_key)) as file:
        answer = transport.post(_PATH, wish.body(csr))
        file.place(replace=force)
        write_file(place.certificate, chain_of(answer), replace=True, keep_mode=True)
    return answer | _files(place)


def issue_from_csr(transport: Transport, wish: Wish, csr: bytes) -> dict[str, Any]:
    """Have somebody's CSR certified.

    Raises
    ------
    ClientError
        A private key is beside it; or as ``Transport.post``.
    """
    if b"PRIVATE KEY-----" in csr:
        raise ClientError(
            "the CSR's file holds a private key, which must not be sent; give the CSR alone", code=ExitCode.USAGE
        )
    if b"-----BEGIN" not in csr:
        raise ClientError("the CSR is no PEM; convert it: openssl req -inform DER", code=ExitCode.USAGE)
    return transport.post(_PATH, wish.body(csr.decode("utf-8", errors="replace")))


def read_batch(text: str, *, defaults: Wish) -> list[Wish]:
    """Read names, one a line, or JSON objects, one a line; ``#`` begins a comment.

    Raises
    ------
    ClientError
        A line is neither, a name comes twice, or two would have one file.
    """
    wishes: dict[str, Wish] = {}
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        wish = _from_json(stripped, number, defaults) if stripped.startswith("{") else replace(defaults, name=stripped)
        file = _file_name(wish.name)
        if file in wishes:
            message = f"line {number}: {wish.name!r} would have the same files as {wishes[file].name!r}"
            raise ClientError(message, code=ExitCode.USAGE)
        wishes[file] = wish
    if not wishes:
        raise ClientError("the batch has no names in it", code=ExitCode.USAGE)
    return list(wishes.values())


def issue_batch(
    transport: Transport,
    wanted: Sequence[tuple[Wish, Place]],
    *,
    key: KeySpec,
    force: bool,
    done: Callable[[int], None],
) -> Iterator[BatchResult]:
    """Have many certified, some at a time; each is written before its result is yielded."""
    for _, place in wanted:
        place.check_free(force=force)
    with ThreadPoolExecutor() as pool:  # the crypto library lets go of the interpreter while it makes a key
        for chunk in _chunks(wanted, key, pool):
            yield from _issue_chunk(transport, chunk, force=force)
            done(len(chunk))


def chain_of(answer: Mapping[str, Any]) -> bytes:
    """What a TLS server sends: the certificate and the intermediates above it, without the root."""
    return "".join([answer["certificate"], *answer["chain"][:-1]]).encode("ascii")


@dataclass(frozen=True, slots=True)
class _Order:
    wish: Wish
    place: Place
    key: bytes
    csr: str


def _chunks(wanted: Sequence[tuple[Wish, Place]], key: KeySpec, pool: ThreadPoolExecutor) -> Iterator[list[_Order]]:
    def order(one: tuple[Wish, Place]) -> _Order:
        private_key = generate_private_key(key)
        return _Order(*one, key_pem(private_key), csr_of_name(private_key, one[0].name, one[0].names))

    for start in range(0, len(wanted), _CHUNK_REQUESTS):
        chunk: list[_Order] = []
        size = 0
        for made in pool.map(order, wanted[start : start + _CHUNK_REQUESTS]):
            if chunk and size + len(made.csr) > _CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
            chunk.append(made)
            size += len(made.csr)
        yield chunk


def _issue_chunk(transport: Transport, chunk: Sequence[_Order], *, force: bool) -> Iterator[BatchResult]:
    with ExitStack() as stack:
        files = [stack.enter_context(staged(_key_path(order.place), order.key)) for order in chunk]
        body = {"requests": [order.wish.body(order.csr) for order in chunk]}
        results = transport.post(f"{_PATH}/batch", body, idempotency_key=uuid.uuid4().hex)["results"]
        for order, file, result in zip(chunk, files, results, strict=True):
            yield _settled(order, file, result, force=force)


def _settled(order: _Order, file: StagedFile, result: Mapping[str, Any], *, force: bool) -> BatchResult:
    if result["status"] != 201:
        return BatchResult(order.wish, problem=result["problem"])
    answer = result["certificate"]
    try:
        file.place(replace=force)
        write_file(order.place.certificate, chain_of(answer), replace=True, keep_mode=True)
    except ClientError as error:  # the others were issued too, and are to be written
        return BatchResult(order.wish, problem={"status": 0, "detail": error.message})
    return BatchResult(order.wish, answer=answer)


def _key_path(place: Place) -> Path:
    assert place.key is not None  # noqa: S101  # ``places`` gives one
    return place.key


def _from_json(line: str, number: int, defaults: Wish) -> Wish:
    try:
        given = json.loads(line)
    except ValueError as error:
        raise ClientError(f"line {number} is no JSON: {error}", code=ExitCode.USAGE) from error
    unknown = sorted(given.keys() - set(_FIELDS))
    if unknown:
        message = f"line {number}: {unknown[0]} is not known; known are {', '.join(_FIELDS)}"
        raise ClientError(message, code=ExitCode.USAGE)
    name = given.pop("name", None) or given.pop("common_name", None)
    san = given.pop("san", list(defaults.names))
    if not isinstance(name, str) or not _are_strings(san) or not _are_strings(given.values()):
        raise ClientError(f"line {number}: name, and texts but for san, a list of them", code=ExitCode.USAGE)
    return replace(defaults, name=name, names=tuple(san), **given)


def _are_strings(values: Iterable[object]) -> bool:
    return not isinstance(values, str) and all(isinstance(value, str) for value in values)


def _file_name(name: str) -> str:
    """A name as that of a file in this folder, whatever is in it; a wildcard begins with ``_wildcard``."""
    plain = re.sub(r"[^A-Za-z0-9._@-]", "_", name.replace("*", "_wildcard"))[:200]
    return f"_{plain[1:]}" if plain[:1] in {".", "-"} else plain


def _files(place: Place) -> dict[str, Any]:
    return {"certificate_file": str(place.certificate)} | ({} if place.key is None else {"key_file": str(place.key)})


def _summary(answer: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "serial_number",
        "common_name",
        "san",
        "profile",
        "not_valid_before",
        "not_valid_after",
        "fingerprint_sha256",
    )
    return {name: answer.get(name) for name in names}
