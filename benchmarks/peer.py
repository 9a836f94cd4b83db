"""Starts this service as one of several servers under the same load, as a runner of such comparisons asks for it.

In the environment: PORT, WORKERS, CA_CERT_FILE and CA_KEY_FILE (the CA that shall sign, self-signed, its key in plain
PEM), DB (``sqlite…`` or ``postgres…``) with DB_FILE or DB_URL, and BENCH_DIR, in which its folder is made. The CA is
imported through the API, as a user would do it, before the service listens on PORT. Whoever asks sends ``TOKEN``.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Final

import httpx

from benchmarks.harness import Service

TOKEN: Final = "peer-under-the-same-load-as-the-others"  # noqa: S105  # of a service that lives as long as a measurement


def main() -> None:
    """Prepare, and become the service."""
    asked = os.environ
    folder = Path(tempfile.mkdtemp(prefix="tiny-ca-", dir=asked["BENCH_DIR"]))
    settings = {"TINY_CA_DATABASE_URL": _database_url(), "TINY_CA_ADMIN_TOKEN": TOKEN, "TINY_CA_LOG_FORMAT": "json"}
    with Service(folder, settings) as service:
        _import_ca(service, Path(asked["CA_CERT_FILE"]), Path(asked["CA_KEY_FILE"]))
    os.chdir(folder)
    serve = [sys.executable, "-m", "app", "serve", "--port", asked["PORT"]]
    environment = {**asked, **settings, "TINY_CA_WORKERS": asked.get("WORKERS", "1")}
    # The runner ends, and counts the time of, the process that it started.
    os.execve(sys.executable, serve, environment)  # noqa: S606


def _database_url() -> str:
    kind = os.environ["DB"]
    if kind.startswith("sqlite"):
        return f"sqlite:///{os.environ['DB_FILE']}"
    if kind.startswith("postgres"):
        return os.environ["DB_URL"]
    sys.exit(f"DB={kind}: this service records what it signs, in sqlite or in postgres")


def _import_ca(service: Service, certificate: Path, key: Path) -> None:
    body = {"certificate": certificate.read_text(), "private_key": key.read_text()}
    with httpx.Client(base_url=f"{service.url}/api/v1", headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        made = client.post("/issuers", json=body)
        assert made.status_code == 201, made.text
        changed = client.patch(f"/issuers/{made.json()['id']}", json={"default": True})
        assert changed.status_code == 200, changed.text


if __name__ == "__main__":
    main()
