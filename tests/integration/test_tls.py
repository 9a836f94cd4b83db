"""TLS with a certificate that the CA issues to itself, over a socket, as other programs see it."""

from __future__ import annotations

import json
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from app.cli import _announce
from app.settings import load_settings
from tests.running import CERTIFICATES, RunningService, make_csr, openssl, tiny_ca

_EVERYWHERE = "0.0.0.0"  # noqa: S104  # that is the point


def _port(service: RunningService) -> int:
    return int(service.url.rpartition(":")[2])


def _trust(service: RunningService) -> ssl.SSLContext:
    """Fetch the root as a new client does: from whoever answers, compared with what the service printed."""
    url = f"https://127.0.0.1:{_port(service)}/roots.pem"
    with httpx.Client(verify=False) as anybody:  # noqa: S501
        (service.folder / "roots.pem").write_bytes(anybody.get(url, timeout=30).content)
    said = openssl("x509", "-in", service.folder / "roots.pem", "-noout", "-fingerprint", "-sha256")
    printed = re.search(r"root SHA-256 +([0-9A-F:]{95})$", service.log, re.MULTILINE)
    assert printed is not None
    assert said.strip().endswith(f"={printed[1]}")
    return ssl.create_default_context(cafile=str(service.folder / "roots.pem"))


def _shown(service: RunningService, trust: ssl.SSLContext) -> x509.Certificate:
    with (
        socket.create_connection(("127.0.0.1", _port(service)), timeout=30) as plain,
        trust.wrap_socket(plain, server_hostname="127.0.0.1") as session,
    ):
        der = session.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der)


@pytest.fixture(scope="module")
def everywhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Beyond loopback, with nothing said of TLS."""
    public = ("--public-url", "https://ca.example.org")
    port = ("--port", str(_free_port()))
    with RunningService(tmp_path_factory.mktemp("tls"), "--host", _EVERYWHERE, *port, *public) as service:
        service.url = f"https://127.0.0.1:{port[1]}"
        yield service


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_other_programs_connect(everywhere: RunningService) -> None:
    """The root alone is enough for openssl and curl, by the name of the URL, of the machine and by address."""
    _trust(everywhere)
    roots, port = everywhere.folder / "roots.pem", _port(everywhere)
    connect = ("s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", str(roots), "-verify_return_error")
    for name in ("-verify_hostname ca.example.org", "-verify_hostname localhost", "-verify_ip 127.0.0.1"):
        said = openssl(*connect, *name.split(), stdin=b"")
        assert "Verification: OK" in said
        assert "TLSv1.3" in said
    curl = ("curl", "-fsS", "--cacert", roots, "--resolve", f"ca.example.org:{port}:127.0.0.1")
    for host in ("ca.example.org", "localhost", "127.0.0.1"):
        done = subprocess.run([*curl, f"https://{host}:{port}/readyz"], capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["checks"]["tls"] == "ok"


@pytest.mark.parametrize(
    "flags,accepted",
    [
        ("-tls1_3", True),
        ("-tls1_2", True),
        ("-tls1_2 -cipher ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0", False),
        ("-tls1_1 -cipher ALL:@SECLEVEL=0", False),
        ("-tls1 -cipher ALL:@SECLEVEL=0", False),
    ],
    ids=["1.3", "1.2", "cbc", "1.1", "1.0"],
)
def test_versions_and_ciphers(everywhere: RunningService, flags: str, *, accepted: bool) -> None:
    """TLS 1.2 and 1.3 with authenticated encryption; nothing older."""
    said = openssl("s_client", "-connect", f"127.0.0.1:{_port(everywhere)}", *flags.split(), stdin=b"", check=False)
    assert ("Cipher is (NONE)" not in said) == accepted, said


def test_nobody_is_asked_for_a_certificate(everywhere: RunningService) -> None:
    """Unless ``--client-ca`` says so."""
    said = openssl("s_client", "-connect", f"127.0.0.1:{_port(everywhere)}", stdin=b"")
    assert "Client Certificate Types" not in said
    assert "No client certificate CA names sent" in said
    with everywhere.client(verify=_trust(everywhere)) as api:
        answer = api.post(f"{CERTIFICATES}/renew")
    assert answer.status_code == 401
    assert "TINY_CA_CLIENT_CA" in answer.json()["detail"]


def test_on_record(everywhere: RunningService) -> None:
    """It is listed and audited like any other."""
    trust = _trust(everywhere)
    serial = f"{_shown(everywhere, trust).serial_number:x}"
    with everywhere.client(verify=trust) as api:
        record = api.get(f"{CERTIFICATES}/{serial}").json()
        (row,) = api.get("/api/v1/audit", params={"serial_number": serial}).json()["items"]
    assert (record["requester"], record["profile"], record["status"]) == ("tiny-ca", "server", "valid")
    assert record["san"] == ["ca.example.org", "localhost", "127.0.0.1", "::1"]
    assert (row["actor"], row["action"], row["outcome"]) == ("tiny-ca", "certificate.issue", "success")


def test_renewed_while_connections_stay(tmp_path: Path) -> None:
    """What prevents a renewal shows in /readyz; when it is mended, new connections see another certificate at once.

    A connection that was open all the time goes on.
    """
    environment = {"TINY_CA_TLS_LIFETIME": "1m"}
    with RunningService(tmp_path, "--tls", "auto", environment=environment) as service:
        trust = _trust(service)
        with service.client(verify=trust) as kept:
            first, connection = _shown(service, trust), _socket_of(kept)
            issuer = next(one["id"] for one in kept.get("/api/v1/issuers").json()["items"] if one["default"])
            assert kept.patch(f"/api/v1/issuers/{issuer}", json={"enabled": False}).status_code == 200
            _until(lambda: "is not renewed" in kept.get("/readyz").json()["checks"]["tls"])
            assert "is disabled" in kept.get("/readyz").json()["checks"]["tls"]
            assert _shown(service, trust) == first  # which is still valid
            assert kept.patch(f"/api/v1/issuers/{issuer}", json={"enabled": True}).status_code == 200
            _until(lambda: _shown(service, trust) != first)
            assert _shown(service, trust).public_key() != first.public_key()
            _until(lambda: kept.get("/readyz").json()["ready"])
            assert _socket_of(kept) == connection
        service.wait_for('"event": "server_certificate.not_renewed"')


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "it never was so"
        time.sleep(0.2)


def _socket_of(client: httpx.Client) -> object:
    """The address of the client's end of its one connection."""
    with client.stream("GET", "/healthz") as response:
        response.read()
        address: object = response.extensions["network_stream"].get_extra_info("client_addr")
    return address


def test_workers_have_one_each(tmp_path: Path) -> None:
    """Every worker serves with a certificate of its own under the same root."""
    with RunningService(tmp_path, "--tls", "auto", "--workers", "2") as service:
        service.wait_for(r'("event": "server_certificate.in_place".*){2}')
        trust = _trust(service)
        deadline, seen = time.monotonic() + 30, set[int]()
        while len(seen) < 2:
            assert time.monotonic() < deadline, "one of the workers never answered"
            seen.add(_shown(service, trust).serial_number)
        assert service.stop() == 0


def test_a_start_that_the_ca_refuses(tmp_path: Path) -> None:
    """One line that says what to do, and exit code 2."""
    (tmp_path / "profiles.toml").write_text('[profiles.server]\ndns = ["*.example.org"]\nip_ranges = []\n')
    given = ("--tls", "auto", "--profiles-file", "profiles.toml", "--public-url", "https://ca.example.com")
    code, _, lines = tiny_ca(tmp_path, "serve", *given)
    assert code == 2
    assert lines[-1].startswith("tiny-ca: TINY_CA_TLS: the CA does not issue the service's own certificate: ")
    assert "'ca.example.com' is outside what profile 'server' allows" in lines[-1]


def test_certificates_point_to_https(everywhere: RunningService, tmp_path: Path) -> None:
    """What AIA and CDP name is the URL that was set."""
    with everywhere.client(verify=_trust(everywhere)) as api:
        made = api.post(CERTIFICATES, content=make_csr(tmp_path), headers={"Accept": "application/pkix-cert"})
    (access,) = (
        x509.load_der_x509_certificate(made.content)
        .extensions.get_extension_for_class(x509.AuthorityInformationAccess)
        .value
    )
    assert access.access_location.value.startswith("https://ca.example.org/issuers/")


def test_a_fingerprint_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """``:CD:`` is two hex digits in it, and no picture of a compact disc."""
    _announce(load_settings(host=_EVERYWHERE), ["AB:CD:EF"])
    assert re.search(r"root SHA-256 +AB:CD:EF$", capsys.readouterr().out, re.MULTILINE)
