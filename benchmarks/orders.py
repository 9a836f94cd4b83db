"""CSRs and orders of keys, the requests that carry them, and whether what came back is what was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID
from sqlalchemy import select

from benchmarks.harness import Measured, Service, http_request
from benchmarks.rows import open_database
from tiny_ca.db.models import CertificateRecord

__all__ = ["ISSUE", "key_request", "make_csrs", "requests", "serials", "verify", "verify_keys"]

ISSUE: Final = "/api/v1/certificates?profile=server"
_HEADERS: Final = "Content-Type: application/pkcs10\r\nAccept: application/pem-certificate-chain\r\n"


def make_csrs(count: int) -> list[bytes]:
    """Make P-256 CSRs, PEM, each with a key and a host of its own."""
    return [_csr(f"host{number:03}.bench.example.org") for number in range(count)]


def requests(service: Service, csrs: Sequence[bytes]) -> list[bytes]:
    """One request for each CSR."""
    return [http_request(service, "POST", ISSUE, csr, _HEADERS) for csr in csrs]


def serials(service: Service) -> set[int]:
    """What is on record; read by a connection of our own."""
    engine = open_database(service.database_url)
    try:
        with engine.connect() as connection:
            return {int(serial) for serial in connection.scalars(select(CertificateRecord.serial_number))}
    finally:
        engine.dispose()


def verify(name: str, rounds: Sequence[Measured], csrs: Sequence[bytes], stored: set[int]) -> str:
    """Stop unless each answer was a certificate for a key that was asked for, and the database has exactly those."""
    keys = {_spki(x509.load_pem_x509_csr(csr).public_key()) for csr in csrs}
    received = [answer for measured in rounds for answer in measured.answers]
    numbers: set[int] = set()
    for answer in received:
        assert answer.status == 201, f"{name}: {answer.status}: {answer.body[:500]!r}"
        certificate = x509.load_pem_x509_certificates(answer.body)[0]
        assert _spki(certificate.public_key()) in keys, f"{name}: a certificate for a key that nobody sent"
        numbers.add(certificate.serial_number)
    assert len(numbers) == len(received), f"{name}: a serial number was given twice"
    # The clients waited for what was in flight, so nothing may be over on either side.
    assert numbers == stored, f"{name}: {len(numbers - stored)} not on record, {len(stored - numbers)} never received"
    return f"{name}: {len(received)} certificates received, all different, {len(stored)} new rows, the same ones"


def key_request(service: Service, bits: int) -> bytes:
    """A request for a certificate with an RSA key that the service makes."""
    body = {"common_name": "keys.bench.example.org", "key": {"algorithm": "rsa", "size": bits}}
    headers = "Content-Type: application/json\r\n"
    return http_request(service, "POST", "/api/v1/certificates", json.dumps(body).encode(), headers)


def verify_keys(rounds: Sequence[Measured], bits: int) -> int:
    """Stop unless each answer holds a key of that size and a certificate for it; returns how many there were."""
    answers = [answer for measured in rounds for answer in measured.answers]
    for answer in answers:
        assert answer.status == 201, f"{answer.status}: {answer.body[:500]!r}"
        held = json.loads(answer.body)
        key = load_pem_private_key(held["private_key"].encode(), None)
        assert isinstance(key, rsa.RSAPrivateKey)
        assert key.key_size == bits
        assert x509.load_pem_x509_certificate(held["certificate"].encode()).public_key() == key.public_key()
    return len(answers)


def _spki(key: object) -> bytes:
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _csr(host: str) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject).add_extension(names, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
