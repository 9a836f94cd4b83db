"""The yardstick of issuing: the crypto library's own loop on one core, with no policy, no lint and no record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

__all__ = ["LoopRate", "bare_loop", "measure_loop"]


class LoopRate(NamedTuple):
    """Certificates for each second by the clock, and for each that the process had a core."""

    per_second: float
    per_cpu_second: float


def bare_loop() -> Callable[[bytes], bytes]:
    """What a signing endpoint cannot do without, with the library's own parser and builder; no policy, no record."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench issuing CA")])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    crl = x509.UniformResourceIdentifier("http://127.0.0.1:8000/crl.der")
    ca = x509.UniformResourceIdentifier("http://127.0.0.1:8000/ca.der")
    extensions: tuple[tuple[x509.ExtensionType, bool], ...] = (
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False),
        (
            x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, ca)]),
            False,
        ),
        (x509.CRLDistributionPoints([x509.DistributionPoint([crl], None, None, None)]), False),
    )

    def issue(pem: bytes) -> bytes:
        csr = x509.load_pem_x509_csr(pem)
        assert csr.is_signature_valid
        now, public_key = datetime.now(UTC), csr.public_key()
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        builder = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(names, critical=False)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)

    return issue


def measure_loop(issue: Callable[[bytes], bytes], csrs: Sequence[bytes], seconds: float) -> LoopRate:
    """Run it on one core for so many seconds."""
    done, began, cpu_began = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        issue(csrs[done % len(csrs)])
        done += 1
    return LoopRate(done / (time.perf_counter() - began), done / (time.process_time() - cpu_began))
