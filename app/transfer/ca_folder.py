"""Folders of ``openssl ca`` and of easy-rsa: an ``index.txt``, and the certificates in files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from app.transfer.files import open_regular, read_file
from app.transfer.found import Found, Lacking, Source, certificate_from_pem, revocation_of, shown
from app.transfer.index_txt import MAX_LINE, IndexEntry, parse_index
from tiny_ca.exc import Invalid, TooLarge

__all__ = ["open_easy_rsa", "open_openssl"]

_MAX_INDEX: Final = 1024**3
_MAX_FILES: Final = 5_000_000
_CA_CERTIFICATES: Final = ("cacert.pem", "ca.crt", "ca.pem", "certs/ca.cert.pem", "private/cacert.pem")
_CA_KEYS: Final = ("private/cakey.pem", "private/ca.key", "private/ca.key.pem")
# By serial number, as openssl and easy-rsa name them.
_BY_SERIAL: Final = (
    "newcerts/{}.pem",
    "certs_by_serial/{}.pem",
    "revoked/certs_by_serial/{}.crt",
    "renewed/certs_by_serial/{}.crt",
)
# By name: looked through once, and only where a file is missing above.
_BY_NAME: Final = (
    "newcerts",
    "certs",
    "issued",
    "expired",
    "revoked/issued",
    "renewed/issued",
    "revoked/certs_by_serial",
    "renewed/certs_by_serial",
)
_SUFFIXES: Final = frozenset({".pem", ".crt", ".cer"})


def open_openssl(folder: Path) -> Source:
    """A folder such as ``demoCA``: index.txt, newcerts, and maybe cacert.pem, private/cakey.pem and crlnumber.

    Raises
    ------
    Invalid
        There is no index.txt, or it cannot be read.
    """
    return _open(folder)


def open_easy_rsa(folder: Path) -> Source:
    """A folder ``pki``, or the one above it: index.txt, certs_by_serial, issued, revoked, ca.crt, private/ca.key.

    Raises
    ------
    Invalid
        There is no index.txt, or it cannot be read.
    """
    return _open(folder if (folder / "index.txt").exists() else folder / "pki")


def _open(folder: Path) -> Source:
    index = folder / "index.txt"
    try:
        with open_regular(index) as file:
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError as error:
        raise Invalid(f"{index} cannot be read: {error.strerror}", field="file") from error
    if size > _MAX_INDEX:
        raise TooLarge(f"{index} is larger than {_MAX_INDEX} octets", limit=_MAX_INDEX, field="file")
    return Source(
        entries=_entries(folder, index),
        ca_certificate=_first(folder, _CA_CERTIFICATES),
        ca_key=_first(folder, _CA_KEYS),
        crl_number=_crl_number(folder / "crlnumber"),
    )


def _entries(folder: Path, index: Path) -> Iterator[Found | Lacking]:
    others: dict[int, Path] | None = None
    for entry in parse_index(_lines(index), str(index)):
        found = _by_serial(folder, entry)
        if found is None:
            if others is None:
                others = _look_through(folder)
            found = _read(others[entry.serial_number], entry) if entry.serial_number in others else None
        if found is None:
            yield Lacking(entry.serial_number, entry.expires, entry.revoked_at is not None, entry.where)
        else:
            yield found


def _lines(index: Path) -> Iterator[bytes]:
    try:
        with open_regular(index) as file:
            while line := file.readline(MAX_LINE + 1):
                yield line
    except OSError as error:
        raise Invalid(f"{index} cannot be read: {error.strerror}", field="file") from error


def _by_serial(folder: Path, entry: IndexEntry) -> Found | None:
    for pattern in _BY_SERIAL:
        for written in dict.fromkeys((entry.serial_hex, entry.serial_hex.upper(), entry.serial_hex.lower())):
            try:
                return _read(folder / pattern.format(written), entry)
            except FileNotFoundError:
                continue
    return None


def _read(path: Path, entry: IndexEntry) -> Found:
    certificate = certificate_from_pem(read_file(path), str(path))
    if certificate.serial_number != entry.serial_number:
        message = f"{path} has the serial number {certificate.serial_number:X}, and {entry.where} {entry.serial_hex}"
        raise Invalid(message, field="serial")
    revocation = None if entry.revoked_at is None else revocation_of(entry.revoked_at, entry.reason, entry.where)
    return Found(certificate, revocation, entry.where)


def _look_through(folder: Path) -> dict[int, Path]:
    """Where certificates are that are not called by their serial number; what is none is left out."""
    found: dict[int, Path] = {}
    for name in _BY_NAME:
        if not (folder / name).is_dir():
            continue
        for path in sorted((folder / name).iterdir()):
            if path.suffix not in _SUFFIXES:
                continue
            try:
                certificate = certificate_from_pem(read_file(path), str(path))
            except (Invalid, FileNotFoundError):
                continue
            found.setdefault(certificate.serial_number, path)
            if len(found) > _MAX_FILES:
                raise TooLarge(f"{folder} holds more than {_MAX_FILES} certificates", limit=_MAX_FILES, field="folder")
    return found


def _first(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _crl_number(path: Path) -> int:
    """The number that the next CRL would have had, which is above all that were given out; 0 where there is no file."""
    try:
        text = read_file(path, 128).strip().decode("ascii", "replace")
    except FileNotFoundError:
        return 0
    try:
        number = int(text, 16)
    except ValueError:
        raise Invalid(f"{path} holds {shown(text)}, which is no number in hex", field="crlnumber") from None
    # RFC 5280 §5.2.3 allows 20 octets; the registry has 8.
    if not 0 <= number < 1 << 62:
        raise Invalid(f"{path}: a CRL number of {shown(text)} is larger than is kept here", field="crlnumber")
    return number
