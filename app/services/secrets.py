"""The two secrets of an installation: the passphrase of the CA keys, and the admin's token.

Given by a setting, or by a file of the operator's, or made on a first run into the data folder with mode 0600.
"""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from app.auth.token_format import make_token
from app.settings import MIN_PASSPHRASE_LENGTH, MIN_SECRET_LENGTH, Settings, SettingsError

__all__ = [
    "ADMIN_TOKEN_FILE",
    "PASSPHRASE_FILE",
    "Secret",
    "admin_token",
    "backup_passphrase",
    "key_passphrase",
    "prepare_data_dir",
    "replace_admin_token",
]

PASSPHRASE_FILE: Final = "key-passphrase"  # noqa: S105  # the names of the files
ADMIN_TOKEN_FILE: Final = "admin-token"  # noqa: S105
_ENTROPY: Final = 32
_DATABASE: Final = ("tiny-ca.db", "tiny-ca.db-wal", "tiny-ca.db-shm", "tiny-ca.db.lock")
_OURS: Final = frozenset({PASSPHRASE_FILE, ADMIN_TOKEN_FILE, *_DATABASE})


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret and where it came from: ``path`` is None where a setting held it."""

    value: str = field(repr=False)
    path: Path | None = None


def prepare_data_dir(folder: Path) -> None:
    """Make the data folder, for its owner alone; one that holds other things already keeps its mode.

    Raises
    ------
    SettingsError
        It cannot be made or written to.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Whatever the umask, and whoever made it; but never lock others out of a folder that is not ours alone.
        is_ours = folder.stat().st_uid == os.geteuid()  # a volume is its cluster's, with a group that may write
        if is_ours and {file.name for file in folder.iterdir()} <= _OURS:
            folder.chmod(0o700)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "it cannot be written to")
    except OSError as error:
        raise SettingsError(f"TINY_CA_DATA_DIR: {folder} cannot be used: {error.strerror}") from error


def key_passphrase(settings: Settings, *, create: bool) -> Secret:
    """Find the passphrase that encrypts the CA keys; ``create`` where no key exists yet that another one encrypts.

    Raises
    ------
    SettingsError
        There is none and none may be made, or it is too short.
    """
    found = _find(
        "TINY_CA_KEY_PASSPHRASE",
        settings.key_passphrase,
        settings.key_passphrase_file,
        settings.data_dir / PASSPHRASE_FILE,
        create=create,
    )
    if found is None:
        raise SettingsError(
            "TINY_CA_KEY_PASSPHRASE: the database holds CA keys, and the passphrase that opens them is neither set nor "
            f"in {settings.data_dir / PASSPHRASE_FILE}"
        )
    if len(found.value) < MIN_PASSPHRASE_LENGTH:
        raise SettingsError(f"TINY_CA_KEY_PASSPHRASE: a passphrase has at least {MIN_PASSPHRASE_LENGTH} characters")
    return found


def admin_token(settings: Settings, *, create: bool) -> Secret | None:
    """Find the admin's token; None where it is known to the database only by its hash.

    Raises
    ------
    SettingsError
        It is too short.
    """
    found = _find(
        "TINY_CA_ADMIN_TOKEN",
        settings.admin_token,
        settings.admin_token_file,
        settings.data_dir / ADMIN_TOKEN_FILE,
        create=create,
    )
    if found is not None and len(found.value) < MIN_SECRET_LENGTH:
        raise SettingsError(f"TINY_CA_ADMIN_TOKEN: a token has at least {MIN_SECRET_LENGTH} characters")
    return found


def backup_passphrase(settings: Settings) -> str | None:
    """The passphrase of backups, None where no setting gives it.

    Raises
    ------
    SettingsError
        It is too short.
    """
    if settings.backup_passphrase is not None:
        return settings.backup_passphrase.get_secret_value()
    if settings.backup_passphrase_file is None:
        return None
    value = _read(settings.backup_passphrase_file, "TINY_CA_BACKUP_PASSPHRASE_FILE")
    if len(value) < MIN_PASSPHRASE_LENGTH:
        message = f"a passphrase has at least {MIN_PASSPHRASE_LENGTH} characters"
        raise SettingsError(f"TINY_CA_BACKUP_PASSPHRASE_FILE: {message}")
    return value


def replace_admin_token(settings: Settings) -> Secret:
    """Make a new admin token in the place of the one in the data folder; its hash is for the caller to keep.

    Raises
    ------
    SettingsError
        It cannot be written.
    """
    path = settings.data_dir / ADMIN_TOKEN_FILE
    return Secret(_make(path, "TINY_CA_ADMIN_TOKEN", replace=True), path)


def _find(
    setting: str, given: SecretStr | None, given_file: Path | None, default_file: Path, *, create: bool
) -> Secret | None:
    if given is not None:
        return Secret(given.get_secret_value())
    if given_file is not None:
        return Secret(_read(given_file, f"{setting}_FILE"), given_file)
    if default_file.exists():
        return Secret(_read(default_file, setting), default_file)
    return Secret(_make(default_file, setting), default_file) if create else None


def _read(path: Path, setting: str) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise SettingsError(f"{setting}: the secret in {path} cannot be read: {reason}") from error


def _make(path: Path, setting: str, *, replace: bool = False) -> str:
    """Write a new secret so that the file is whole or absent, and never readable by others, not even for a moment."""
    value = make_token() if path.name == ADMIN_TOKEN_FILE else secrets.token_urlsafe(_ENTROPY)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(value + "\n")
            file.flush()
            os.fsync(file.fileno())
        if replace:
            temporary.replace(path)
        else:
            os.link(temporary, path)  # fails where another process was first; then that one's secret holds
    except FileExistsError:
        return _read(path, setting)
    except OSError as error:
        raise SettingsError(f"{setting}: the secret {path} cannot be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return value


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
