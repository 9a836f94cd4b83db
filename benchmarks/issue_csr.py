"""Certificates per second from P-256 CSRs, durable in SQLite, against the bare loop and against batching off.

    python benchmarks/issue_csr.py [--rounds 5] [--seconds 4] [--connections 32]

The bare loop is what the crypto library can do on one core: parse a PEM CSR, verify it, build and sign a certificate,
write PEM. It has no policy, no lint, no audit, no database and no HTTP. The three are measured in turn, round by round.
"""

from __future__ import annotations

import argparse
import datetime as dt
import sqlite3
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.harness import cpu_seconds, drive, request_bytes, serving
from tests.running import CERTIFICATES, RunningService, openssl

_CSRS = 200


def make_csrs(count: int = _CSRS) -> list[bytes]:
    """So many PEM CSRs, each with a key and a name of its own."""
    made = []
    for number in range(count):
        host = f"host{number:04d}.bench.example.org"
        builder = x509.CertificateSigningRequestBuilder().subject_name(
            x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
        )
        names = x509.SubjectAlternativeName([x509.DNSName(host), x509.DNSName(f"www.{host}")])
        key = ec.generate_private_key(ec.SECP256R1())
        made.append(builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return made


class BareLoop:
    """One core, the library's own parser and builder."""

    def __init__(self, csrs: list[bytes]) -> None:
        self._csrs = csrs
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "bare")])
        self._identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())

    def per_second(self, seconds: float) -> float:
        """Certificates per second of one core."""
        count, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            self._issue(self._csrs[count % len(self._csrs)])
            count += 1
        return count / (time.perf_counter() - began)

    def _issue(self, pem: bytes) -> bytes:
        csr = x509.load_pem_x509_csr(pem)
        assert csr.is_signature_valid
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(csr.subject)
            .issuer_name(self._issuer)
            .public_key(csr.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(days=90))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value, critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(csr.public_key()), critical=False)
            .add_extension(self._identifier, critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=4.0)
    options.add_argument("--connections", type=int, default=32)
    asked = options.parse_args()
    csrs = make_csrs()
    bare_loop = BareLoop(csrs)
    figures: dict[str, list[float]] = {name: [] for name in ("bare", "on", "on/cpu", "off", "off/cpu", "p50", "p99")}
    with serving() as batching, serving(environment={"TINY_CA_ISSUE_BATCH": "1"}) as single:
        received = {batching.url: 0, single.url: 0}
        for _ in range(asked.rounds):
            figures["bare"].append(bare_loop.per_second(asked.seconds / 2))
            for name, service in (("on", batching), ("off", single)):
                before = cpu_seconds(service)
                load = drive(service, _requests(service, csrs), connections=asked.connections, seconds=asked.seconds)
                assert load.refused == 0, load.sample
                received[service.url] += load.answers
                figures[name].append(load.per_second)
                figures[f"{name}/cpu"].append(load.answers / (cpu_seconds(service) - before))
                if name == "on":
                    in_order = sorted(load.latencies)
                    figures["p50"].append(in_order[len(in_order) // 2] * 1000)
                    figures["p99"].append(in_order[len(in_order) * 99 // 100] * 1000)
                    _verify(service, load.sample)
        for service in (batching, single):
            assert _recorded(service) == received[service.url] + 2, "answers without rows, or rows without answers"
    _report({name: statistics.median(values) for name, values in figures.items()}, asked.connections)


def _requests(service: RunningService, csrs: list[bytes]) -> list[bytes]:
    target = f"{CERTIFICATES}?profile=server&lifetime=24h"
    return [request_bytes("POST", target, token=service.token, body=csr) for csr in csrs]


def _verify(service: RunningService, chain: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, service.anonymous() as client:
        leaf, roots = Path(folder) / "leaf.pem", Path(folder) / "ca.pem"
        leaf.write_bytes(chain)
        roots.write_bytes(client.get("/ca.pem").content)
        openssl("verify", "-x509_strict", "-CAfile", roots, leaf)


def _recorded(service: RunningService) -> int:
    with closing(sqlite3.connect(f"file:{service.data / 'tiny-ca.db'}?mode=ro", uri=True)) as database:
        return int(database.execute("select count(*) from certificates").fetchone()[0])


def _report(figures: dict[str, float], connections: int) -> None:
    print(f"P-256 CSRs, {connections} connections, SQLite synchronous=FULL; medians")
    print(f"  bare loop, one core             {figures['bare']:8.0f}/s")
    print(f"  service                         {figures['on']:8.0f}/s   {figures['on/cpu']:8.0f} per CPU second")
    print(f"  service, batching off           {figures['off']:8.0f}/s   {figures['off/cpu']:8.0f} per CPU second")
    print(f"  latency                         {figures['p50']:8.1f} ms median, {figures['p99']:.1f} ms p99")
    print(f"  service / bare loop             {figures['on'] / figures['bare']:8.2f}")
    print(f"  service / bare loop, per CPU    {figures['on/cpu'] / figures['bare']:8.2f}")
    print(f"  service / batching off          {figures['on'] / figures['off']:8.2f}")


if __name__ == "__main__":
    main()
