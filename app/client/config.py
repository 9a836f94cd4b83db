"""Which service, whose token, which trust: from flags, the environment and a file, in this order."""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from app.client.errors import ClientError, ExitCode

__all__ = ["TOKEN_VARIABLE", "URL_VARIABLE", "Connection", "Identity", "load_connection"]

URL_VARIABLE: Final = "TINY_CA_URL"
TOKEN_VARIABLE: Final = "TINY_CA_TOKEN"  # noqa: S105  # the variable's name
_KNOWN: Final = ("url", "token", "token_file", "ca_file", "insecure_http")
_USER: Final = re.compile(r"//.*@")
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,16384}")


@dataclass(frozen=True, slots=True)
class Identity:
    """A client certificate; ``key`` None where the certificate's file holds that too."""

    certificate: Path
    key: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """``token`` and ``identity`` None: only what is public can be asked for. ``ca_file`` None: the system's trust."""

    url: str
    token: str | None = field(default=None, repr=False)
    identity: Identity | None = None
    ca_file: Path | None = None
    retries: int = 5


def load_connection(
    *,
    url: str | None,
    token_file: Path | None,
    ca_file: Path | None,
    config: Path | None,
    retries: int,
    insecure_http: bool,
    environment: Mapping[str, str],
) -> Connection:
    """Put together what the flags, the environment and the config file say.

    Raises
    ------
    ClientError
        There is no URL, a file cannot be read or says what is not known, or the token would go over plain HTTP to
        another machine; the code is USAGE.
    """
    path = config or _default_path(environment)
    written = _read_config(path, is_given=config is not None)
    found = url or environment.get(URL_VARIABLE) or written.get("url")
    if not found:
        raise _wrong(f"which service? give --url, {URL_VARIABLE}, or url in {path}")
    trust = ca_file or _path(written, "ca_file", path)
    if trust is not None and not trust.is_file():
        raise _wrong(f"--ca-file: {trust} is no file")
    service, token = _checked_url(found), _token(token_file, environment, written, path)
    if token is not None and not insecure_http and written.get("insecure_http") is not True:
        _check_is_safe(service)
    return Connection(
        url=service,
        token=token,
        ca_file=trust,
        retries=retries,
    )


def _default_path(environment: Mapping[str, str]) -> Path:
    # XDG Base Directory Specification: a relative path is invalid, and is to be ignored.
    given = Path(environment.get("XDG_CONFIG_HOME", ""))
    home = Path(environment.get("HOME") or Path.home())
    return (given if given.is_absolute() else home / ".config") / "tiny-ca" / "client.toml"


def _read_config(path: Path, *, is_given: bool) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            written: dict[str, Any] = tomllib.load(file)
            readable_by_others = path.stat().st_mode & 0o077
    except FileNotFoundError:
        if is_given:
            raise _wrong(f"--config: {path} does not exist") from None
        return {}
    except OSError as error:
        raise _wrong(f"the config {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise _wrong(f"the config {path} is no TOML: {error}") from error
    for name, value in written.items():
        if name not in _KNOWN:
            raise _wrong(f"the config {path}: {name} is not known; known are {', '.join(_KNOWN)}")
        kind, called = (bool, "true or false") if name == "insecure_http" else (str, "a string")
        if not isinstance(value, kind):
            raise _wrong(f"the config {path}: {name} must be {called}")
    if {"token", "token_file"} <= written.keys():
        raise _wrong(f"the config {path}: give token or token_file, not both")
    if "token" in written and readable_by_others:
        raise _wrong(f"the config {path} holds a token and is open to others: chmod 600 {path}")
    return written


def _token(
    token_file: Path | None, environment: Mapping[str, str], written: Mapping[str, Any], config: Path
) -> str | None:
    if token_file is not None:
        return _checked_token(_read_token(token_file), f"--token-file {token_file}")
    if environment.get(TOKEN_VARIABLE):
        return _checked_token(environment[TOKEN_VARIABLE], TOKEN_VARIABLE)
    if "token" in written:
        return _checked_token(written["token"], f"token in {config}")
    path = _path(written, "token_file", config)
    return None if path is None else _checked_token(_read_token(path), f"token_file {path}")


def _read_token(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise _wrong(f"the token file {path} cannot be read: {reason}") from error


def _checked_token(text: str, source: str) -> str:
    """A token fits into a header; its text is never repeated."""
    token = text.strip()
    if not _TOKEN.fullmatch(token):
        raise _wrong(f"{source}: a token is one word of visible ASCII characters")
    return token


def _path(written: Mapping[str, Any], name: str, config: Path) -> Path | None:
    """A path in the config is meant from the config's folder."""
    return config.parent / Path(written[name]).expanduser() if name in written else None


def _checked_url(url: str) -> str:
    shown = _USER.sub("//…@", url)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _wrong(f"--url: {shown!r} is no URL such as https://ca.example.org") from None
    is_clean = url.isprintable() and " " not in url
    if not is_clean or parts.scheme not in {"http", "https"} or not host or parts.username is not None:
        raise _wrong(f"--url: {shown!r} is no URL such as https://ca.example.org, without user or password")
    if parts.query or parts.fragment:
        raise _wrong(f"--url: {shown!r} has a query or a fragment; give the part before it")
    return url.rstrip("/")


def _check_is_safe(url: str) -> None:
    """Whoever sees the token on its way has it; on the loopback nobody else does."""
    parts = urlsplit(url)
    if parts.scheme == "http" and not _is_loopback(str(parts.hostname)):
        message = "the token would be readable on its way; use https, or --insecure-http if you trust the network"
        raise _wrong(f"--url: {url} is plain HTTP to another machine: {message}")


def _is_loopback(host: str) -> bool:
    # Not what ends in .localhost: not every resolver keeps such names here, as RFC 6761 §6.3 asks.
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _wrong(message: str) -> ClientError:
    return ClientError(message, code=ExitCode.USAGE)
