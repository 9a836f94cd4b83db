"""What the documents say of the library: their code runs as it stands there, and the reference leaves nothing out."""

from __future__ import annotations

import ast
import asyncio
import doctest
import inspect
import os
import pydoc
import re
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509 import ReasonFlags
from pydantic import ValidationError

import tiny_ca
from tests.running import openssl
from tiny_ca import ca_factory, db, exc, managers, models, storage
from tiny_ca.ca_factory import CertificateFactory, CertLifetime, SerialWithEncoding
from tiny_ca.const import CertType
from tiny_ca.db import RevokeStatus, SyncDBHandler
from tiny_ca.managers.lifecycle import Lifecycle
from tiny_ca.models import CAConfig, CertificateInfo, ClientConfig, KeySpec

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
_TEXT = (_DOCS / "library.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"<!-- library: (\w+)(?:, after ([\w, ]+))? -->\n\n```python\n(.*?)```\n", re.DOTALL)
# Name -> (the blocks it goes on from, its code).
_BLOCKS = {name: (tuple(after.split(", ")) if after else (), code) for name, after, code in _BLOCK.findall(_TEXT)}
_HOST = "nginx.example.org"
_BROKEN = """
import pathlib
from tiny_ca.exc import RegistryUnavailable

db.close()
pathlib.Path("pki.db").write_text("no database" * 100)
try:
    db.get_by_serial(1)
except RegistryUnavailable as error:
    print(error.message)
"""


def _run(folder: Path, name: str, then: str = "") -> str:
    """Run a block, after those that it goes on from, in a process of its own; return what it printed."""
    before, code = _BLOCKS[name]
    script = "\n".join([*(_BLOCKS[one][1] for one in before), code, then])
    done = subprocess.run(
        # Python 3.13 minds that a script which ends leaves the closing of its database to that.
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", "-c", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def _one(folder: Path, pattern: str) -> Path:
    (path,) = folder.rglob(pattern)
    return path


def _trust(folder: Path) -> tuple[str | Path, ...]:
    crl = folder / "pki" / "crl.pem"
    return ("-x509_strict", "-CAfile", _one(folder, "ca.pem"), "-crl_check", "-CRLfile", crl)


def test_every_block_of_python_is_run() -> None:
    """No block stands in the document that no test runs."""
    assert _TEXT.count("```python") == len(_BLOCKS)
    assert set(_BLOCKS) == {"sync", "async", "again", "passphrase", "chain", "pkcs12", "strict", "repair"}


@pytest.fixture(scope="module", params=["sync", "async"])
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder in which a quick start was run, each in turn."""
    folder = tmp_path_factory.mktemp(request.param)
    _run(folder, request.param)
    return folder


def test_files_of_the_quick_start(started: Path) -> None:
    """A root, a certificate and a CRL are left; what was rotated is gone, and nobody else can read a key."""
    files = [path for path in (started / "pki").rglob("*") if path.is_file()]
    expected = ["ca.key", "ca.pem", "crl.pem", *(f"{_HOST}.{kind}" for kind in ("csr", "key", "pem"))]
    assert sorted(path.name for path in files) == expected
    assert {stat.S_IMODE(path.stat().st_mode) for path in files if path.suffix == ".key"} == {0o600}
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in files} == {0o700}
    assert stat.S_IMODE((started / "pki.db").stat().st_mode) == 0o600


def test_certificate_of_the_quick_start(started: Path) -> None:
    """Openssl verifies the certificate that stands, for its host, against the CRL."""
    cert = _one(started, f"{_HOST}.pem")
    asked = ("-purpose", "sslserver", "-verify_hostname", _HOST)
    assert f"{cert}: OK" in openssl("verify", *_trust(started), *asked, cert)


def test_crl_of_the_quick_start(started: Path, tmp_path: Path) -> None:
    """The CRL lists the certificate that was rotated as superseded, and openssl refuses it."""
    registry = SyncDBHandler(f"sqlite:///{started / 'pki.db'}")
    (old,) = registry.list_all(status="revoked")
    registry.close()
    (entry,) = x509.load_pem_x509_crl((started / "pki" / "crl.pem").read_bytes())
    assert entry.serial_number == int(old.serial_number)
    assert entry.extensions.get_extension_for_class(x509.CRLReason).value.reason is ReasonFlags.superseded
    (tmp_path / "old.pem").write_text(old.certificate_pem)
    assert "certificate revoked" in openssl("verify", *_trust(started), tmp_path / "old.pem", check=False)
    assert "DNS:www.example.org" in openssl("x509", "-in", tmp_path / "old.pem", "-noout", "-ext", "subjectAltName")


def test_both_quick_starts_say_the_same() -> None:
    """The manager's calls are the same, word for word, but that the async one's are awaited."""
    sync_calls, async_calls = (_manager_calls(_BLOCKS[colour][1]) for colour in ("sync", "async"))
    assert async_calls == [f"await {call}" for call in sync_calls]


def _manager_calls(code: str) -> list[str]:
    """What is asked of the manager, in order, however it is broken into lines."""
    nodes = list(ast.walk(ast.parse(code)))
    awaited = [node.value for node in nodes if isinstance(node, ast.Await)]
    calls = [node for node in nodes if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("manager.")]
    return [
        f"await {ast.unparse(call)}" if call in awaited else ast.unparse(call)
        for call in sorted(calls, key=lambda call: call.lineno)
    ]


@pytest.mark.parametrize("name", ["again", "repair"])
def test_what_follows_the_quick_start(tmp_path: Path, name: str) -> None:
    """It runs after the quick start; where nothing is unfinished, nothing is printed."""
    assert _run(tmp_path, name) == ""


def test_a_passphrase(tmp_path: Path) -> None:
    """The CA's key is encrypted, and openssl opens it with the passphrase."""
    _run(tmp_path, "passphrase")
    key = _one(tmp_path, "ca.key")
    assert key.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    openssl("pkey", "-in", key, "-noout", "-passin", "pass:at least sixteen characters")


def test_a_chain(tmp_path: Path) -> None:
    """A certificate of the intermediate comes with the chain up to the root, which openssl verifies."""
    printed = _run(tmp_path, "chain", then="print([one.subject.rfc4514_string() for one in chain])")
    assert [re.findall(r"CN=([^,]+)", name) for name in ast.literal_eval(printed)] == [
        ["api.example.org"],
        ["My Issuing"],
        ["My Root"],
    ]
    root, cert = _one(tmp_path, "ca.pem"), _one(tmp_path, "api.example.org.pem")
    openssl("verify", "-x509_strict", "-CAfile", root, "-untrusted", tmp_path / "chain.pem", cert)


def test_pkcs12(tmp_path: Path) -> None:
    """The file holds three certificates under the encryption that the document names."""
    _run(tmp_path, "pkcs12")
    opened = openssl(
        *("pkcs12", "-in", tmp_path / "api.p12", "-info", "-noenc"),
        *("-passin", "pass:a password that nobody guesses"),
    )
    assert opened.count("-----BEGIN CERTIFICATE-----") == 3
    assert opened.count("PBES2, PBKDF2, AES-256-CBC, Iteration 600000") == 2
    assert "friendlyName: api" in opened


def test_a_strict_registry(tmp_path: Path) -> None:
    """It raises where the database cannot be read."""
    assert _run(tmp_path, "strict", then=_BROKEN) == "the registry is unavailable: file is not a database\n"


# Where the reference has each name: a line ``::: path``.
_REFERENCE = {
    path
    for page in (_DOCS / "reference").glob("*.md")
    for path in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
}


def test_the_reference_leads_somewhere() -> None:
    """Each path of the reference is that of an object."""
    assert [path for path in sorted(_REFERENCE) if pydoc.locate(path) is None] == []


@pytest.mark.parametrize("room", [tiny_ca, managers, ca_factory, db, storage, models, exc])
def test_the_reference_has_every_public_name(room: ModuleType) -> None:
    """Whatever a room exports is in the reference."""
    referred = [pydoc.locate(path) for path in _REFERENCE]
    assert [name for name in room.__all__ if getattr(room, name) not in referred] == []


def test_the_reference_has_every_operation() -> None:
    """Whatever both managers do is in the reference."""
    operations = {name for name, _ in inspect.getmembers(Lifecycle, inspect.iscoroutinefunction) if name[0] != "_"}
    path = "tiny_ca.managers.lifecycle.Lifecycle."
    assert {one.removeprefix(path) for one in _REFERENCE if one.startswith(path)} == operations


# The API document's examples; where it shows the output of one run (a fingerprint), what every run has.
_EXAMPLES = {
    "CertLifetime.compute": """
        >>> start, end = CertLifetime.compute(days_valid=90)
        >>> assert (end - start).days == 90
    """,
    "CertLifetime.normalize_dt": """
        >>> naive = datetime(2025, 1, 1, 12, 0, 0)
        >>> CertLifetime.normalize_dt(naive).tzinfo is UTC
        True
    """,
    "CertType": """
        >>> CertType.SERVICE.value
        'SVC'
        >>> CertType("DEV")
        <CertType.DEVICE: 'DEV'>
    """,
    "CertificateFactory.cosign_certificate": """
        >>> cosigned = factory.cosign_certificate(third_party_cert, days_valid=365)
        >>> assert cosigned.issuer == factory._ca.ca_cert.subject
        >>> assert cosigned.subject == third_party_cert.subject
    """,
    "CertificateFactory.inspect_certificate": """
        >>> details = CertificateFactory.inspect_certificate(cert)
        >>> print(details.common_name)
        nginx.internal
        >>> print(details.is_ca)
        False
        >>> assert re.fullmatch("[0-9A-F]{2}:[0-9A-F]{2}:[0-9A-F]{2}", details.fingerprint_sha256[:8])
    """,
    "SerialWithEncoding.generate": """
        >>> serial = SerialWithEncoding.generate("nginx", CertType.SERVICE)
        >>> cert_type, name = SerialWithEncoding.parse(serial)
        >>> assert cert_type == CertType.SERVICE
        >>> assert name == "ngin"  # only first 4 chars are stored
    """,
    "SerialWithEncoding.parse": """
        >>> serial = SerialWithEncoding.generate("ca-root", CertType.CA)
        >>> cert_type, name = SerialWithEncoding.parse(serial)
        >>> assert cert_type == CertType.CA
        >>> assert name == "ca-r"
    """,
}


@pytest.fixture(scope="module")
def factory() -> CertificateFactory:
    """Give a CA without files."""
    return _made("Root")


def _made(common_name: str) -> CertificateFactory:
    ca_cert, ca_key = CertificateFactory.build_self_signed_ca(common_name, key=KeySpec.ec())
    return CertificateFactory(SimpleNamespace(ca_cert=ca_cert, ca_key=ca_key, base_info=CertificateInfo()))


@pytest.mark.parametrize("name", _EXAMPLES)
def test_an_example_of_the_api_document(factory: CertificateFactory, name: str) -> None:
    """Its lines run, and what they print is what they should."""
    cert, _, _ = factory.issue_certificate("nginx.internal", key=KeySpec.ec())
    third_party_cert, _, _ = _made("Third party").issue_certificate("app.internal", key=KeySpec.ec())
    known = {
        **{one.__name__: one for one in (CertLifetime, CertType, CertificateFactory, SerialWithEncoding, datetime, re)},
        "UTC": UTC,
        "cert": cert,
        "third_party_cert": third_party_cert,
        "factory": factory,
    }
    example = doctest.DocTestParser().get_doctest(_EXAMPLES[name], known, name, None, None)
    said: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(example, out=said.append).failed == 0, "".join(said)


def test_the_example_that_awaits() -> None:
    """``compute_async`` is awaited, ``compute`` is not."""

    async def example() -> None:
        start, end = await CertLifetime.compute_async(days_valid=90)
        assert (end - start).days == 90

    asyncio.run(example())


@pytest.mark.parametrize("name", ["name", None])
def test_configs_are_arguments_of_the_factory(factory: CertificateFactory, name: str | None) -> None:
    """``model_dump`` gives what the factory takes, as the document has it."""
    config = ClientConfig(common_name=_HOST, name=name, key=KeySpec.ec())
    cert, _, _ = factory.issue_certificate(**config.model_dump(exclude={"name"}))
    assert CertificateFactory.inspect_certificate(cert).san_dns == [_HOST]
    root, _ = CertificateFactory.build_self_signed_ca(**CAConfig(common_name="Root", key=KeySpec.ec()).model_dump())
    assert CertificateFactory.inspect_certificate(root).is_ca


class TestWhereTheDocumentIsWrong:
    def test_revoke_certificate(self) -> None:
        """The registry's argument is ``serial_number``; its answer is the documented pair."""
        registry: Any = SyncDBHandler("sqlite://")
        with pytest.raises(TypeError, match="'serial'"):
            registry.revoke_certificate(serial=12345, reason=ReasonFlags.key_compromise)
        answer = registry.revoke_certificate(serial_number=12345, reason=ReasonFlags.key_compromise)
        assert answer == (False, RevokeStatus.NOT_FOUND)
        registry.close()

    def test_kinds_are_stored_by_their_value(self, factory: CertificateFactory) -> None:
        """A device is stored as ``DEV`` and found as ``device`` too."""
        registry = SyncDBHandler("sqlite://")
        cert, _, _ = factory.issue_certificate("device-1", serial_type=CertType.DEVICE, key=KeySpec.ec())
        assert registry.register_cert_in_db(cert, "u", CertType.DEVICE)
        assert [record.key_type for record in registry.list_all(key_type="device")] == ["DEV"]
        assert len(registry.list_all(key_type="dev")) == len(registry.list_all(key_type=CertType.DEVICE)) == 1
        registry.close()

    def test_details_are_a_model(self, factory: CertificateFactory) -> None:
        """CertificateDetails has ``model_dump`` and does not change."""
        details = CertificateFactory.inspect_certificate(factory.issuer.certificate)
        assert details.model_dump()["common_name"] == "Root"
        with pytest.raises(ValidationError, match="frozen"):
            setattr(details, "common_name", "other")  # noqa: B010  # mypy knows that it is frozen
