"""Make the secrets of ``docker-compose.yml``, each in a file; those that are there stay as they are."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from app.auth.token_format import make_token

_USER: Final = 10001  # of the image


def main(ours: Path, databases: Path) -> None:
    """``ours`` is the service's alone; ``databases`` holds the password as PostgreSQL wants it."""
    # PostgreSQL's user reads it, whose number is the other image's affair; no other container has that volume.
    password = _kept(databases / "password", 0o444, _random)
    _kept(ours / "database-url", 0o400, lambda: f"postgresql+asyncpg://tiny-ca:{password}@database/tiny-ca")
    _kept(ours / "key-passphrase", 0o400, _random)
    _kept(ours / "admin-token", 0o400, make_token)


def _random() -> str:
    return secrets.token_urlsafe(32)


def _kept(path: Path, mode: int, make: Callable[[], str]) -> str:
    """What is in the file; where there is none, it is made, whole or not at all."""
    if path.exists():
        return path.read_text(encoding="ascii").strip()
    temporary = path.with_name(f".{path.name}")
    temporary.unlink(missing_ok=True)
    value = make()
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(value + "\n")
        file.flush()
        os.fsync(file.fileno())
    if os.geteuid() == 0:
        os.chown(temporary, _USER, _USER)
    temporary.chmod(mode)
    temporary.rename(path)
    return value


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
