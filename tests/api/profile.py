"""One certificate read back and held against its whole profile: what is there, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID, ObjectIdentifier

__all__ = ["CI", "CLIENT", "INTERMEDIATE", "NO_REV_AVAIL", "PEER", "SERVER", "Expected", "assert_profile"]

NO_REV_AVAIL = ObjectIdentifier("2.5.29.56")  # RFC 9608 §2
_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What every certificate of one profile has in common. ``key_encipherment`` goes to RSA keys only."""

    name: str
    lifetime: timedelta
    key_type: str
    key_usage: tuple[str, ...] = ("digital_signature",)
    extended_key_usage: tuple[ObjectIdentifier, ...] = ()
    ca: bool = False
    path_length: int | None = None
    revocable: bool = True


_TLS_SERVER = ("digital_signature", "key_encipherment")
SERVER = Expected(
    name="server",
    lifetime=timedelta(days=90),
    key_type="SVC",
    key_usage=_TLS_SERVER,
    extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH,),
)
CLIENT = Expected(
    name="client",
    lifetime=timedelta(days=90),
    key_type="USR",
    extended_key_usage=(ExtendedKeyUsageOID.CLIENT_AUTH,),
)
PEER = Expected(
    name="peer",
    lifetime=timedelta(days=90),
    key_type="SVC",
    key_usage=_TLS_SERVER,
    extended_key_usage=(ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
)
CI = Expected(
    name="ci",
    lifetime=timedelta(minutes=15),
    key_type="INT",
    extended_key_usage=(ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH),
    revocable=False,
)
INTERMEDIATE = Expected(
    name="intermediate",
    lifetime=timedelta(days=1825),
    key_type="CA",
    key_usage=("digital_signature", "key_cert_sign", "crl_sign"),
    ca=True,
    path_length=0,
)


def assert_profile(
    certificate: x509.Certificate,
    expected: Expected,
    *,
    issuer: x509.Certificate,
    public_url: str,
    subject: str,
    names: list[x509.GeneralName],
    lifetime: timedelta | None = None,
) -> None:
    """Every field and every extension, in order, with its criticality; nothing beside them."""
    _assert_fields(certificate, issuer, subject, lifetime or expected.lifetime)
    issuer_id = issuer.fingerprint(hashes.SHA256()).hex()[:16]
    usage = x509.KeyUsage(
        **{name: name in _usages(certificate, expected) for name in _KEY_USAGES},
        encipher_only=False,
        decipher_only=False,
    )
    wanted: list[tuple[ObjectIdentifier, bool, x509.ExtensionType]] = [
        (ExtensionOID.BASIC_CONSTRAINTS, True, x509.BasicConstraints(expected.ca, expected.path_length)),
        (ExtensionOID.KEY_USAGE, True, usage),
    ]
    if expected.extended_key_usage:
        eku = x509.ExtendedKeyUsage(expected.extended_key_usage)
        wanted.append((ExtensionOID.EXTENDED_KEY_USAGE, False, eku))
    if names:  # critical where it alone names the holder: RFC 5280 §4.2.1.6
        san = x509.SubjectAlternativeName(names)
        wanted.append((ExtensionOID.SUBJECT_ALTERNATIVE_NAME, not subject, san))
    own, above = (x509.SubjectKeyIdentifier.from_public_key(_key(one)) for one in (certificate, issuer))
    aki = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(above)
    wanted += [(ExtensionOID.SUBJECT_KEY_IDENTIFIER, False, own), (ExtensionOID.AUTHORITY_KEY_IDENTIFIER, False, aki)]
    wanted.append((ExtensionOID.AUTHORITY_INFORMATION_ACCESS, False, _aia(f"{public_url}/issuers/{issuer_id}.der")))
    if expected.revocable:
        wanted.append((ExtensionOID.CRL_DISTRIBUTION_POINTS, False, _cdp(f"{public_url}/issuers/{issuer_id}/crl.der")))
    else:  # an ASN.1 NULL: RFC 9608 §2
        wanted.append((NO_REV_AVAIL, False, x509.UnrecognizedExtension(NO_REV_AVAIL, b"\x05\x00")))
    assert wanted == [(found.oid, found.critical, found.value) for found in certificate.extensions]


def _assert_fields(certificate: x509.Certificate, issuer: x509.Certificate, subject: str, lifetime: timedelta) -> None:
    assert certificate.version is x509.Version.v3
    assert 0 < certificate.serial_number.bit_length() < 160  # RFC 5280 §4.1.2.2: positive, at most 20 octets
    assert certificate.subject.rfc4514_string() == subject
    assert certificate.issuer.public_bytes() == issuer.subject.public_bytes()
    certificate.verify_directly_issued_by(issuer)
    # A minute earlier than now, for clocks that lag; RFC 5280 §4.1.2.5 counts the last second in.
    window = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert lifetime <= window <= lifetime + timedelta(minutes=1)
    assert certificate.not_valid_after_utc <= issuer.not_valid_after_utc


def _usages(certificate: x509.Certificate, expected: Expected) -> set[str]:
    without = set() if isinstance(certificate.public_key(), rsa.RSAPublicKey) else {"key_encipherment"}
    return set(expected.key_usage) - without


def _key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """The key, for what needs its bytes only; its stub knows fewer kinds than there are."""
    key = certificate.public_key()
    assert key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return key  # type: ignore[return-value]


def _aia(url: str) -> x509.AuthorityInformationAccess:
    location = x509.UniformResourceIdentifier(url)
    return x509.AuthorityInformationAccess([x509.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, location)])


def _cdp(url: str) -> x509.CRLDistributionPoints:
    location = x509.UniformResourceIdentifier(url)
    return x509.CRLDistributionPoints([x509.DistributionPoint([location], None, None, None)])
