"""The signed POST, to real receivers on loopback."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from app.services.webhook import SIGNATURE_HEADER, NotDelivered, Webhook, is_public, signature
from tests.unit.app.receiving import receiving

pytestmark = pytest.mark.anyio
_SECRET = SecretStr("a secret of the test, which is long")
_BODY = b'{"id":"1.7d"}'


def _answering(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    """A name service of one host, which gives each answer once: who asks twice gets the next."""
    answers = [addresses, ("127.0.0.1",)]

    async def resolver(_host: str, _port: int) -> Sequence[str]:
        return answers.pop(0)

    return resolver


def _webhook(
    url: str,
    *,
    private: bool = True,
    resolver: Callable[[str, int], Awaitable[Sequence[str]]] | None = None,
    ca: Path | None = None,
    seconds: float = 5,
) -> Webhook:
    tls = ssl.create_default_context(cafile=ca)
    more = {} if resolver is None else {"resolver": resolver}
    return Webhook(url, secret=_SECRET, allow_private_addresses=private, tls=tls, seconds=seconds, **more)


async def test_what_the_receiver_gets() -> None:
    """One POST with the body to the byte, its path and query, its host, and a signature over time and body."""
    async with receiving() as receiver:
        await _webhook(f"http://127.0.0.1:{receiver.port}/hook?a=b").post(_BODY, timestamp=1_700_000_000)
    ((head, body),) = receiver.requests
    line, *fields = head.decode().strip().split("\r\n")
    sent = dict(field.split(": ", 1) for field in fields)
    assert line == "POST /hook?a=b HTTP/1.1"
    assert body == _BODY
    assert sent["Host"] == f"127.0.0.1:{receiver.port}"
    assert sent["Content-Type"] == "application/json"
    expected = hmac.new(_SECRET.get_secret_value().encode(), b"1700000000." + _BODY, hashlib.sha256).hexdigest()
    assert sent[SIGNATURE_HEADER] == f"t=1700000000,v1={expected}"


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_a_2xx_is_delivery(status: int) -> None:
    """Also after an interim response (RFC 9110 §15.2), and whatever follows the status."""
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 %d \r\n" % status
    async with receiving(answer) as receiver:
        await _webhook(f"http://127.0.0.1:{receiver.port}/").post(_BODY, timestamp=1)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused(status: int) -> None:
    """A target that redirects to loopback, or anywhere, is not followed: the other server hears nothing."""
    async with receiving() as victim:
        location = b"http://127.0.0.1:%d/" % victim.port
        answer = b"HTTP/1.1 %d Moved\r\nLocation: %b\r\nContent-Length: 0\r\n\r\n" % (status, location)
        async with receiving(answer) as receiver:
            with pytest.raises(NotDelivered, match=rf"^it answers {status}, and redirects are not followed$"):
                await _webhook(f"http://127.0.0.1:{receiver.port}/").post(_BODY, timestamp=1)
        assert len(receiver.requests) == 1
    assert victim.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"HTTP/1.1 ", b"HTTP/1.1 500 Internal Server Error\r\n\r\n", b"HTTP/1.1 404\r\n\r\n",
        b"220 mail ESMTP\r\n",
        b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 20\r\n\r\n", b"HTTP/1.1 100 \r\n\r\n" * 100, b"\x00" * 100_000,
        b"HTTP/1.1 100 \r\n" + b"a: b\r\n" * 100,
    ],
    ids=lambda answer: repr(answer[:24]),
)  # fmt: skip
async def test_anything_else_is_not(answer: bytes) -> None:
    """Errors, other protocols, a head without end or none at all: not delivered, and why is said."""
    async with receiving(answer) as receiver:
        with pytest.raises(NotDelivered) as failed:
            await _webhook(f"http://127.0.0.1:{receiver.port}/").post(_BODY, timestamp=1)
    assert 5 < len(str(failed.value)) <= 200
    assert _SECRET.get_secret_value() not in str(failed.value)


async def test_an_answer_that_never_ends() -> None:
    """One that trickles is cut off in time, one that never comes too."""

    async def trickle(writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"H")
            await asyncio.sleep(0.02)

    async def silence(writer: asyncio.StreamWriter) -> None:
        await writer.wait_closed()

    for answer in (trickle, silence):
        async with receiving(answer) as receiver:
            with pytest.raises(NotDelivered, match=r"^no answer within 0\.2 seconds$"):
                await _webhook(f"http://127.0.0.1:{receiver.port}/", seconds=0.2).post(_BODY, timestamp=1)


async def test_a_large_answer_is_not_read() -> None:
    """Of an answer that goes on for ever, the status is read, and the connection closed."""
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with receiving(flood) as receiver:
        await _webhook(f"http://127.0.0.1:{receiver.port}/").post(_BODY, timestamp=1)
    assert sent < 16 * 1024 * 1024  # what fits into the buffers of two sockets


async def test_a_private_address_is_refused() -> None:
    """Loopback, by address and by name, is not connected to unless the setting allows it."""
    async with receiving() as receiver:
        for host in ("127.0.0.1", "localhost", "[::1]", "[::]", "2130706433", "127.1"):
            with pytest.raises(NotDelivered, match=r"which is private|gaierror"):
                await _webhook(f"http://{host}:{receiver.port}/", private=False).post(_BODY, timestamp=1)
    assert receiver.requests == []


async def test_every_address_of_a_name_is_checked() -> None:
    """A name with a public and a private address is refused before anything is connected to."""
    async with receiving() as receiver:
        url = f"http://hook.example.org:{receiver.port}/"
        with pytest.raises(NotDelivered, match=r"has the address 127\.0\.0\.1, which is private"):
            await _webhook(url, private=False, resolver=_answering("8.8.8.8", "127.0.0.1")).post(_BODY, timestamp=1)
        with pytest.raises(NotDelivered, match=r"has no address"):
            await _webhook(url, private=False, resolver=_answering()).post(_BODY, timestamp=1)
    assert receiver.requests == []


async def test_the_checked_address_is_the_one_connected_to() -> None:
    """A name is asked for once: one that answers something else the second time (DNS rebinding) gains nothing."""
    async with receiving() as receiver:
        resolver = _answering("127.0.0.2")  # nobody listens there; the next answer would be the receiver's address
        with pytest.raises(NotDelivered):
            await _webhook(f"http://hook.example.org:{receiver.port}/", resolver=resolver).post(_BODY, timestamp=1)
    assert receiver.requests == []


def _server_tls(folder: Path, name: str) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    pem = certificate.public_bytes(Encoding.PEM)
    (folder / "ca.pem").write_bytes(pem)
    (folder / "server.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


async def test_tls_is_checked_by_the_name(tmp_path: Path) -> None:
    """The certificate must be for the URL's host, whatever address that has, and from a CA that is trusted."""
    tls = _server_tls(tmp_path, "hook.example.org")
    async with receiving(tls=tls) as receiver:

        async def post(host: str, ca: Path | None) -> None:
            url = f"https://{host}:{receiver.port}/"
            await _webhook(url, resolver=_answering("127.0.0.1"), ca=ca).post(_BODY, timestamp=1)

        await post("hook.example.org", tmp_path / "ca.pem")
        for host, ca in (("other.example.org", tmp_path / "ca.pem"), ("hook.example.org", None)):
            with pytest.raises(NotDelivered, match=r"SSLCertVerificationError"):
                await post(host, ca)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.1.2.3",
        "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::",
        "2001:0:7f00:1::", "2001:db8::1", "", "localhost", "1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    """Private, loopback, link-local, shared, reserved, multicast, for documentation, and IPv4 inside IPv6."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_that_are_public(address: str) -> None:
    """The internet's."""
    assert is_public(address)


@given(st.binary(max_size=100), st.integers(0, 2**40))
def test_a_signature_binds_time_and_body(body: bytes, timestamp: int) -> None:
    """Another time or another body has another signature; a digit cannot move from one to the other."""
    seen = {signature(_SECRET, body, timestamp).partition("v1=")[2] for timestamp in (timestamp, timestamp + 1)}
    seen.add(signature(_SECRET, body + b"0", timestamp).partition("v1=")[2])
    assert len(seen) == 3
