"""The real service as a process on a free port, as a user would start it; and openssl as a second opinion."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

import httpx

from tests.forking import Forked

__all__ = ["CERTIFICATES", "DATABASE_URL", "RunningService", "make_csr", "openssl", "tiny_ca"]

CERTIFICATES = "/api/v1/certificates"
DATABASE_URL = "TINY_CA_DATABASE_URL"
_START_SECONDS = 30
_STOP_SECONDS = 15
# A private key in PEM, a token of ours, and a signed one (RFC 7515 §7.1: its header begins so in base64url).
_SECRET = re.compile(r"PRIVATE KEY-----|tcat_[0-9A-Za-z]{8}|eyJ[0-9A-Za-z_-]+\.[0-9A-Za-z_-]+\.")


class RunningService:
    """``with RunningService(folder) as service:`` starts ``tiny-ca serve`` and waits until it says where it listens.

    ``forked`` False starts Python anew, as a user does.
    """

    def __init__(
        self, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None, forked: bool = True
    ) -> None:
        self.folder = folder
        self._forked = forked
        self.log = ""
        self._arguments = arguments
        self._environment = environment or {}
        self._process: Forked | subprocess.Popen[bytes] | None = None
        self._listens = threading.Event()
        self._printed = threading.Condition()
        self._readers: list[threading.Thread] = []
        self.url = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()

    @property
    def process(self) -> Forked | subprocess.Popen[bytes]:
        """The process, running or ended."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.folder / "data"

    @property
    def database_url(self) -> str:
        """The URL of its database."""
        return self._environment.get(DATABASE_URL) or f"sqlite:///{self.data / 'tiny-ca.db'}"

    @property
    def token(self) -> str:
        """The admin's token."""
        return (self.data / "admin-token").read_text().strip()

    def start(self) -> None:
        """Start, on port 0 unless the arguments say otherwise; returns when it listens."""
        self.spawn()
        self.wait_until_listening()

    def wait_until_listening(self) -> None:
        """Wait until what was spawned says where it listens."""
        if not self._listens.wait(_START_SECONDS):
            self.process.kill()
            raise AssertionError(f"the service did not start:\n{self.log}")

    def spawn(self) -> None:
        """Start, and do not wait for anything."""
        self._listens.clear()
        port = () if "--port" in self._arguments else ("--port", "0")
        environment = {"TINY_CA_LOG_FORMAT": "json", "TINY_CA_LOG_LEVEL": "debug", **self._environment}
        arguments = ("serve", *port, *self._arguments)
        outputs = [os.pipe() for _ in range(2)]
        (_, stdout), (_, stderr) = outputs
        self._process = _start(arguments, self.folder, environment, forked=self._forked, stdout=stdout, stderr=stderr)
        self._readers = [threading.Thread(target=self._read, args=(readable,), daemon=True) for readable, _ in outputs]
        for reader in self._readers:
            reader.start()
        for _, writable in outputs:
            os.close(writable)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until what it printed matches, and return the match."""
        deadline = time.monotonic() + _START_SECONDS
        with self._printed:
            while not (found := re.search(pattern, self.log, re.MULTILINE | re.DOTALL)):
                assert self._printed.wait(deadline - time.monotonic()), f"never printed {pattern}:\n{self.log}"
        return found

    def workers(self) -> set[int]:
        """The ids of its worker processes."""
        parent = self.process.pid
        children = map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split())
        return {pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()}

    def wait_until_ready(self) -> None:
        """With several workers, the announcement comes before the first of them answers."""
        with self.anonymous() as client:
            assert client.get("/readyz").json()["ready"] is True

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """End it as an operator does; returns the exit code."""
        self.process.send_signal(how)
        return self._ended()

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self._ended()

    def client(self, **options: Any) -> httpx.Client:  # noqa: ANN401  # httpx's own
        """A client with the admin's token."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30, **options)

    def anonymous(self) -> httpx.Client:
        """A client without a token."""
        return httpx.Client(base_url=self.url, timeout=30)

    def _ended(self) -> int:
        code = self.process.wait(_STOP_SECONDS)
        for reader in self._readers:
            reader.join(_STOP_SECONDS)
        self._check_log()
        return code

    def _check_log(self) -> None:
        """Nothing secret is logged at debug level, whatever a test did to the service."""
        shown = _SECRET.search(self.log)
        assert shown is None, f"the log shows a secret: …{self.log[max(0, shown.start() - 200) : shown.end()]}"
        for name in ("admin-token", "key-passphrase"):
            file = self.data / name
            secret = file.read_text().strip() if file.is_file() else ""
            assert not secret or secret not in self.log, f"the log shows {name}"

    def _read(self, readable: int) -> None:
        with open(readable, encoding="utf-8") as stream:
            for line in stream:
                with self._printed:
                    self.log += line
                    self._printed.notify_all()
                found = re.search(r"tiny-ca serves on (https?://\S+)", line)
                if found:
                    self.url = found[1]
                    self._listens.set()
        if self.process.poll() is not None:
            self._listens.set()


_ROOT = Path(__file__).parent.parent


def tiny_ca(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, list[str]]:
    """Run the command line to its end: exit code, standard output, lines of standard error; on a free port."""
    given = arguments[:1] != ("serve",) or "--port" in arguments or "TINY_CA_PORT" in environment
    arguments = (*arguments, *(() if given else ("--port", "0")))
    with TemporaryFile() as stdout, TemporaryFile() as stderr:
        process = _start(arguments, folder, environment, stdout=stdout.fileno(), stderr=stderr.fileno())
        try:
            code = process.wait(60)
        finally:
            process.kill()
        written = []
        for stream in (stdout, stderr):
            stream.seek(0)
            written.append(stream.read().decode())
    return code, written[0], written[1].splitlines()


def _start(
    arguments: Sequence[str],
    folder: Path,
    environment: Mapping[str, str],
    *,
    forked: bool = True,
    stdout: int,
    stderr: int,
) -> Forked | subprocess.Popen[bytes]:
    environment = {**_inherited(), **environment}
    if forked:
        return Forked(arguments, folder=folder, environment=environment, stdout=stdout, stderr=stderr)
    return subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )


def _inherited() -> dict[str, str]:
    """The environment without anybody's settings, and with this checkout importable from any folder."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TINY_CA_")}
    return {**inherited, "PYTHONPATH": str(_ROOT)}


def openssl(*arguments: str | Path, stdin: bytes | None = None, check: bool = True) -> str:
    """Run openssl; what it prints, standard error after standard output."""
    done = subprocess.run(["openssl", *map(str, arguments)], input=stdin, capture_output=True, check=False, timeout=60)
    text = (done.stdout + done.stderr).decode(errors="replace")
    assert done.returncode == 0 or not check, text
    return text


def make_csr(folder: Path, *, common_name: str = "app.example.org", san: str | None = None) -> bytes:
    """A P-256 CSR made by openssl, PEM; ``san`` as openssl writes it, None for the common name as DNS."""
    names = f"DNS:{common_name}" if san is None else san
    extension = ("-addext", f"subjectAltName={names}") if names else ()
    openssl(
        *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", folder / "app.key", "-subj", f"/CN={common_name}" if common_name else "/"),
        *extension,
        *("-out", folder / "app.csr"),
    )
    return (folder / "app.csr").read_bytes()
