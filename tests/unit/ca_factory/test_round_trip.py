"""What a configuration asks for is what its certificate says, to us and to openssl."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings

from tests.running import openssl
from tests.strategies import client_configs
from tests.unit.ca_factory.authorities import P256
from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.ca_factory.names import IPAddress
from tiny_ca.ca_factory.utils.serial import CertSerialParser
from tiny_ca.models.certificate import CertificateDetails, CertificateInfo, ClientConfig

_CERT, _KEY = CertificateFactory.build_self_signed_ca("Round Trip", "Örg", "DE", key=P256, days_valid=36_500)
_INFO = CertificateInfo(organization="Örg", country="DE")
_CA = CertificateFactory(SimpleNamespace(ca_cert=_CERT, ca_key=_KEY, base_info=_INFO))
_SUBJECT = ("-subject", "-nameopt", "utf8,sep_multiline,sname,space_eq")
_EXTENSIONS = ("-ext", "basicConstraints,extendedKeyUsage,subjectAltName")


def _issued(config: ClientConfig) -> x509.Certificate:
    cert, _, _ = _CA.issue_certificate(**config.model_dump(exclude={"name"}))
    return cert


def _window(config: ClientConfig, cert: x509.Certificate) -> tuple[datetime, datetime]:
    """When it was asked to begin and to end; where no beginning was, the certificate is asked."""
    asked = config.valid_from
    if asked is None:
        start = cert.not_valid_before_utc
        assert timedelta() <= datetime.now(UTC) - start < timedelta(minutes=1)
    else:
        start = (asked if asked.tzinfo else asked.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    return start, start + timedelta(days=config.days_valid)


def _names(config: ClientConfig) -> tuple[list[str], list[IPAddress]]:
    """DNS names and addresses, each once, a server's common name last."""
    dns = [name.lower().removesuffix(".") for name in config.san_dns or ()]
    ip = [ipaddress.ip_address(str(address)) for address in config.san_ip or ()]
    if config.is_server_cert:
        try:
            ip.append(ipaddress.ip_address(config.common_name))
        except ValueError:
            dns.append(config.common_name.lower().removesuffix("."))
    return list(dict.fromkeys(dns)), list(dict.fromkeys(ip))


@settings(deadline=None)
@given(client_configs())
def test_inspection_tells_what_was_asked(config: ClientConfig) -> None:
    """Every name, date and usage comes back as it was asked for, each name once and in normal form, and no other."""
    cert = _issued(config)
    (start, end), (dns, ip) = _window(config, cert), _names(config)
    server, client = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
    usages = [usage for usage, asked in ((server, config.is_server_cert), (client, config.is_client_cert)) if asked]
    assert CertSerialParser.typed(cert)[0] is config.serial_type
    assert _CA.inspect_certificate(cert) == CertificateDetails(
        serial_number=cert.serial_number,
        common_name=config.common_name,
        organization="Örg",
        country="DE",
        issuer_cn="Round Trip",
        not_valid_before=start,
        not_valid_after=end,
        is_ca=False,
        san_dns=dns,
        san_ip=[str(address) for address in ip],
        key_usage=["digital_signature"],
        extended_key_usage=[usage.dotted_string for usage in usages],
        fingerprint_sha256=cert.fingerprint(hashes.SHA256()).hex(":").upper(),
        subject_key_identifier=x509.SubjectKeyIdentifier.from_public_key(cert.public_key()).digest.hex(),
        public_key_size=None,
    )


@settings(deadline=None, max_examples=40)  # a process each
@given(client_configs())
def test_openssl_reads_what_was_asked(config: ClientConfig) -> None:
    """As openssl reads it, too: subject, names, usages and dates are what was asked for, with CA:FALSE."""
    cert = _issued(config)
    read = _openssl_reads(cert)
    (start, end), (dns, ip) = _window(config, cert), _names(config)
    assert read.pop("subject") == [
        "C = DE",
        "O = Örg",
        f"CN = {config.common_name}",
        *([f"emailAddress = {config.email}"] if config.email else []),
    ]
    assert (_moment(read.pop("notBefore")), _moment(read.pop("notAfter"))) == (start, end)
    assert read.pop("X509v3 Basic Constraints: critical") == ["CA:FALSE"]
    usages = [
        *(["TLS Web Server Authentication"] if config.is_server_cert else []),
        *(["TLS Web Client Authentication"] if config.is_client_cert else []),
    ]
    assert read.pop("X509v3 Extended Key Usage:", []) == ([", ".join(usages)] if usages else [])
    names = read.pop("X509v3 Subject Alternative Name:", [])
    assert _general_names(names) == [*dns, *ip, *([config.email] if config.email else [])]
    assert read == {}


def _openssl_reads(cert: x509.Certificate) -> dict[str, list[str]]:
    """What ``openssl x509`` prints: each heading with the lines below it, or with what follows it."""
    text = openssl("x509", "-noout", "-dates", *_SUBJECT, *_EXTENSIONS, stdin=cert.public_bytes(Encoding.PEM))
    read: dict[str, list[str]] = {}
    heading = ""
    for line in text.removesuffix("\n").split("\n"):  # other line breaks may stand in a name
        if line.startswith("    "):
            read[heading].append(line[4:])
        else:
            heading, _, value = line.partition("=")
            heading = heading.strip()
            read[heading] = [value] if value else []
    return read


def _moment(lines: list[str]) -> datetime:
    (text,) = lines
    return datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)


def _general_names(lines: list[str]) -> list[str | IPAddress]:
    """The names without their kinds; addresses as such, for openssl abbreviates none."""
    found = [name.split(":", 1) for line in lines for name in line.split(", ")]
    return [ipaddress.ip_address(value) if kind == "IP Address" else value for kind, value in found]
