"""Reading certificate signing requests: whatever the bytes, a ParsedCSR or one of our refusals."""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
from pathlib import Path

import cryptography_vectors
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.strategies import mutations
from tests.vectors import make_keys
from tiny_ca.ca_factory.csr import MAX_CSR_SIZE, ParsedCSR, parse_csr
from tiny_ca.exc import Invalid, Malformed, TooLarge

Builder = x509.CertificateSigningRequestBuilder
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
SEEDS = sorted((Path(cryptography_vectors.__file__).parent / "x509" / "requests").iterdir())
ECDSA_SHA256 = bytes.fromhex("300a06082a8648ce3d040302")
EXTENSION_REQUEST = bytes.fromhex("06092a864886f70d01090e")


def _builder(*attributes: tuple[x509.ObjectIdentifier, str]) -> Builder:
    return Builder().subject_name(x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes]))


def _signed(builder: Builder, encoding: Encoding = Encoding.DER) -> bytes:
    return builder.sign(EC_KEY, hashes.SHA256()).public_bytes(encoding)


def _with(*extensions: x509.ExtensionType) -> bytes:
    builder = _builder((NameOID.COMMON_NAME, "a.example"))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return _signed(builder)


def _key_usage(*, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    return bytes([tag, *([size] if size < 128 else [0x80 | len(octets), *octets])]) + content


def _spki(key: rsa.RSAPublicKey | ed448.Ed448PublicKey | ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _by_hand(*, subject: bytes = b"", spki: bytes | None = None, attributes: bytes = b"") -> bytes:
    """A CSR that no builder would make; signed with EC_KEY."""
    info = b"\x02\x01\x00" + _tlv(0x30, subject) + (spki or _spki(EC_KEY.public_key())) + _tlv(0xA0, attributes)
    signature = EC_KEY.sign(_tlv(0x30, info), ec.ECDSA(hashes.SHA256()))
    return _tlv(0x30, _tlv(0x30, info) + ECDSA_SHA256 + _tlv(0x03, b"\0" + signature))


def _attribute(oid: x509.ObjectIdentifier, tag: int, value: bytes) -> bytes:
    name = x509.Name([x509.NameAttribute(oid, "xx")]).public_bytes()
    encoded_oid = name[6 : 6 + 2 + name[7]]
    return _tlv(0x31, _tlv(0x30, encoded_oid + _tlv(tag, value)))


def _extension_request(*extensions: bytes) -> bytes:
    return _tlv(0x30, EXTENSION_REQUEST + _tlv(0x31, _tlv(0x30, b"".join(extensions))))


def _refusal(data: bytes, kind: type[Invalid] = Invalid) -> Invalid:
    with pytest.raises(kind) as caught:
        parse_csr(data)
    return caught.value


GOOD = [
    _with(
        x509.SubjectAlternativeName([x509.DNSName("a.example"), x509.IPAddress(ipaddress.ip_address("::1"))]),
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
        x509.BasicConstraints(ca=False, path_length=None),
    ),
    _signed(_builder((NameOID.COMMON_NAME, "a"), (NameOID.COUNTRY_NAME, "DE")), Encoding.PEM),
    Builder().subject_name(x509.Name([])).sign(RSA_KEY, hashes.SHA256()).public_bytes(Encoding.DER),
]


class TestReading:
    def test_gives_what_was_asked_for(self) -> None:
        """Subject, names, key and extended key usage come back; duplicates fold."""
        names = [x509.DNSName("A.example"), x509.DNSName("a.example"), x509.DNSName("*.b.example")]
        data = _with(x509.SubjectAlternativeName(names), x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))
        parsed = parse_csr(data)
        assert x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.example")]) == parsed.subject
        assert parsed.names.dns == ("a.example", "*.b.example")
        assert parsed.extended_key_usage == (ExtendedKeyUsageOID.CLIENT_AUTH,)
        assert str(parsed.key_spec) == "EC P-256"
        assert EC_KEY.public_key() == parsed.public_key
        assert (parsed.requests_ca, parsed.unknown_extensions) == (False, ())

    @pytest.mark.parametrize(
        "csr",
        [
            _builder().sign(RSA_KEY, hashes.SHA512()),
            _builder().sign(RSA_KEY, hashes.SHA256(), rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), 32)),
            _builder().sign(ed25519.Ed25519PrivateKey.generate(), None),
            _builder().sign(mldsa.MLDSA65PrivateKey.generate(), None),
        ],
        ids=["rsa", "rsa-pss", "ed25519", "ml-dsa"],
    )
    def test_takes_each_kind_of_signature(self, csr: x509.CertificateSigningRequest) -> None:
        """RSA with either padding, Ed25519 and ML-DSA prove possession as ECDSA does."""
        assert isinstance(parse_csr(csr.public_bytes(Encoding.PEM)), ParsedCSR)

    def test_takes_pem_with_text_before_it_and_the_old_label(self) -> None:
        """The output of ``openssl req -text`` is taken, and so is NEW CERTIFICATE REQUEST, with any line ends."""
        pem = _signed(_builder(), Encoding.PEM).replace(b" CERT", b" NEW CERT").replace(b"\n", b"\r\n")
        assert len(parse_csr(b"Certificate Request:\n  Subject: \xc3\xa4\n" + pem).names) == 0

    def test_nothing_past_the_bound_is_read(self) -> None:
        """One byte more than MAX_CSR_SIZE is TooLarge, with the limit."""
        refusal = _refusal(bytes(MAX_CSR_SIZE + 1), TooLarge)
        assert isinstance(refusal, TooLarge)
        assert (refusal.limit, refusal.field) == (MAX_CSR_SIZE, "csr")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"hello",
            b"\x30\x00",
            GOOD[0] + b"\0",
            GOOD[0][:-1],
            GOOD[1] * 2,
            GOOD[1].replace(b"END", b"FIN"),
            GOOD[1].replace(b"CERTIFICATE REQUEST", b"CERTIFICATE"),
            GOOD[1].replace(b"REQUEST-----\nM", b"REQUEST-----\n!"),
            GOOD[1] + b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        ],
    )
    def test_what_is_no_csr_is_malformed(self, data: bytes) -> None:
        """Trailing bytes, two blocks, another label, damaged base64: Malformed."""
        with pytest.raises(Malformed):
            parse_csr(data)

    def test_a_private_key_is_sent_home(self) -> None:
        """A body with a private key is refused without a byte of it in the message."""
        pem = EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        refusal = _refusal(GOOD[1] + pem)
        assert "stays with its owner" in refusal.message
        assert refusal.value is None
        assert pem.split(b"\n")[1].decode() not in refusal.message


class TestKeyAndSignature:
    @pytest.mark.parametrize("path", sorted(make_keys.FOLDER.glob("rsa-*.pem")), ids=lambda path: path.stem)
    def test_the_key_is_judged_before_the_signature(self, path: Path) -> None:
        """A weak key is refused as such, though the signature is wrong too; a sound one only for that."""
        der = base64.b64decode(b"".join(path.read_bytes().splitlines()[1:-1]))
        expected = "csr.signature" if "sound" in path.stem else "csr.public_key"
        assert expected == _refusal(_by_hand(spki=der)).field

    def test_other_kinds_of_keys_are_refused(self) -> None:
        """A key that loads but is not taken, one that does not load, and one marked RSASSA-PSS."""
        plain = _spki(RSA_KEY.public_key())
        pss = _tlv(0x30, bytes.fromhex("300b06092a864886f70d01010a") + plain[19:])
        off_curve = _spki(EC_KEY.public_key())[:-1] + b"\x00"
        spkis = [
            _spki(ed448.Ed448PrivateKey.generate().public_key()),
            pss,
            off_curve,
            _tlv(0x30, ECDSA_SHA256 + b"\x03\x01\0"),
        ]
        refusals = [_refusal(_by_hand(spki=spki)) for spki in spkis]
        assert [refusal.field for refusal in refusals] == ["csr.public_key"] * 4
        assert "Ed448 keys are not supported" in refusals[0].message
        assert "plain RSA key" in refusals[1].message

    def test_a_signature_by_another_key_is_refused(self) -> None:
        """Without proof of possession there is no certificate."""
        other = ec.generate_private_key(ec.SECP256R1()).public_key()
        assert _refusal(_by_hand(spki=_spki(other))).field == "csr.signature"

    @pytest.mark.parametrize("algorithm", [hashes.SHA224(), hashes.SHA3_256()])
    def test_other_hashes_are_refused_by_name(self, algorithm: hashes.SHA224 | hashes.SHA3_256) -> None:
        """A hash other than SHA-256, SHA-384 and SHA-512 is refused by its name."""
        refusal = _refusal(_builder().sign(EC_KEY, algorithm).public_bytes(Encoding.DER))
        assert ("csr.signature", algorithm.name) == (refusal.field, refusal.value)

    @pytest.mark.parametrize("oid,name", [("2a864886f70d010105", "sha1"), ("2a864886f70d010104", "md5")])
    def test_sha1_and_md5_are_refused_by_name(self, oid: str, name: str) -> None:
        """SHA-1 and MD5 are refused by name, before their signature is looked at."""
        data = _builder().sign(RSA_KEY, hashes.SHA256()).public_bytes(Encoding.DER)
        refusal = _refusal(data.replace(bytes.fromhex("2a864886f70d01010b"), bytes.fromhex(oid)))
        assert ("csr.signature", name) == (refusal.field, refusal.value)


class TestSubject:
    @pytest.mark.parametrize(
        "oid,value,reason",
        [
            (NameOID.COMMON_NAME, "a\0b", "control"),
            (NameOID.COMMON_NAME, "a\nb", "control"),
            (NameOID.ORGANIZATION_NAME, "a\u202eb", "invisible"),
            (NameOID.ORGANIZATION_NAME, "  ", "is empty"),
            (NameOID.ORGANIZATION_NAME, "o" * 65, "is 65 characters long; at most 64"),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "o" * 65, "is 65 characters long; at most 64"),
            (NameOID.STATE_OR_PROVINCE_NAME, "s" * 129, "is 129 characters long; at most 128"),
            (NameOID.LOCALITY_NAME, "l" * 300, "is 300 characters long; at most 128"),
            (NameOID.SERIAL_NUMBER, "1" * 65, "serialNumber .* is 65 characters long; at most 64"),
            (NameOID.EMAIL_ADDRESS, "e" * 256, "emailAddress .* is 256 characters long; at most 255"),
            (NameOID.GIVEN_NAME, "g" * 256, "is 256 characters long; at most 255"),
            (NameOID.COUNTRY_NAME, "D1", "two letters"),
        ],
    )
    def test_values_are_checked(self, oid: x509.ObjectIdentifier, value: str, reason: str) -> None:
        """A value past its bound (RFC 5280 Appendix A.1), empty, or with characters nobody sees is refused."""
        with pytest.raises(Invalid, match=reason) as caught:
            parse_csr(_by_hand(subject=_attribute(oid, 0x0C, value.encode())))
        assert caught.value.field == "csr.subject"

    @pytest.mark.parametrize(
        "oid,size", [(NameOID.COMMON_NAME, 65), (NameOID.COMMON_NAME, 0), (NameOID.COUNTRY_NAME, 3)]
    )
    @pytest.mark.filterwarnings("default:Attribute's length:UserWarning")
    def test_values_that_cryptography_warns_of_are_refused(self, oid: x509.ObjectIdentifier, size: int) -> None:
        """A common name or country of the wrong length is refused, whether warnings are errors or not."""
        with pytest.warns(UserWarning, match="Attribute's length"):
            assert _refusal(_by_hand(subject=_attribute(oid, 0x0C, b"a" * size))).field == "csr.subject"

    @pytest.mark.parametrize("tag", [0x02, 0x03, 0x1E, 0x30])
    def test_odd_types_are_refused(self, tag: int) -> None:
        """An integer, a bit string, half a UTF-16 character or a sequence as a value is refused."""
        with pytest.raises((Invalid, Malformed)):
            parse_csr(_by_hand(subject=_attribute(NameOID.COMMON_NAME, tag, b"\0")))

    def test_multi_valued_rdns_are_refused(self) -> None:
        """Two attributes in one RDN are refused, with the hint at the plus sign."""
        one = _attribute(NameOID.COMMON_NAME, 0x0C, b"a")[2:]
        refusal = _refusal(_by_hand(subject=_tlv(0x31, one + _attribute(NameOID.ORGANIZATION_NAME, 0x0C, b"b")[2:])))
        assert "'\\+'" in refusal.message

    def test_one_common_name_many_organizations(self) -> None:
        """Two common names are refused; two organizations, as Kubernetes' groups are, are not."""
        assert "2 of CN" in _refusal(_signed(_builder((NameOID.COMMON_NAME, "a"), (NameOID.COMMON_NAME, "b")))).message
        parsed = parse_csr(_signed(_builder((NameOID.ORGANIZATION_NAME, "a"), (NameOID.ORGANIZATION_NAME, "b"))))
        assert [attribute.value for attribute in parsed.subject] == ["a", "b"]

    def test_countries_become_upper_case_printable(self) -> None:
        """A country comes back in upper case and as PrintableString, whatever it was."""
        subject = parse_csr(_by_hand(subject=_attribute(NameOID.COUNTRY_NAME, 0x0C, b"de"))).subject
        assert x509.Name([x509.NameAttribute(NameOID.COUNTRY_NAME, "DE")]).public_bytes() == subject.public_bytes()


class TestExtensions:
    @pytest.mark.parametrize(
        "extension,asks",
        [
            (x509.BasicConstraints(ca=True, path_length=None), True),
            (x509.BasicConstraints(ca=False, path_length=None), False),
            (_key_usage(key_cert_sign=True), True),
            (_key_usage(crl_sign=True), True),
            (_key_usage(), False),
        ],
    )
    def test_tells_who_wants_to_be_a_ca(self, extension: x509.ExtensionType, asks: bool) -> None:  # noqa: FBT001
        """ca=TRUE, keyCertSign and cRLSign each ask for a CA."""
        assert asks == parse_csr(_with(extension)).requests_ca

    def test_lists_what_it_does_not_know(self) -> None:
        """Extensions other than SAN, KU, EKU, BasicConstraints and SKI are listed."""
        strange = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")
        parsed = parse_csr(_with(x509.OCSPNoCheck(), strange, x509.SubjectKeyIdentifier(b"12345")))
        assert (x509.OCSPNoCheck.oid, strange.oid) == parsed.unknown_extensions

    @pytest.mark.parametrize(
        "name,field",
        [
            (x509.DNSName("a_b.example"), "csr.san_dns"),
            (x509.DNSName("a.example\0.b"), "csr.san_dns"),
            (x509.IPAddress(ipaddress.ip_network("10.0.0.0/8")), "csr.san_ip"),
            (x509.UniformResourceIdentifier("nothing"), "csr.san_uri"),
            (x509.RFC822Name("nobody"), "csr.san_email"),
            (x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), "csr"),
        ],
    )
    def test_names_are_checked(self, name: x509.GeneralName, field: str) -> None:
        """A name that is none is refused, with its kind in the field."""
        assert field == _refusal(_with(x509.SubjectAlternativeName([name]))).field

    def test_101_names_are_too_many(self) -> None:
        """More names than a certificate may have are TooLarge."""
        _refusal(_with(x509.SubjectAlternativeName([x509.DNSName(f"n{i}.example") for i in range(101)])), TooLarge)

    def test_duplicates_are_refused(self) -> None:
        """An extension twice, and two extensionRequest attributes, are refused."""
        san = _tlv(0x30, bytes.fromhex("0603551d11") + _tlv(0x04, _tlv(0x30, _tlv(0x82, b"a.example"))))
        twice = _refusal(_by_hand(attributes=_extension_request(san, san)))
        assert (twice.field, twice.value) == ("csr.extensions", "2.5.29.17")
        two = _refusal(_by_hand(attributes=_extension_request(san) + _extension_request(san)))
        assert "2 extensionRequest attributes" in two.message
        assert parse_csr(_by_hand(attributes=_extension_request(san))).names.dns == ("a.example",)

    @pytest.mark.parametrize(
        "general_name", [_tlv(0x83, b"x"), _tlv(0x82, b"\xff"), _tlv(0x87, b"123"), b"\xa3\0", b"\5"]
    )
    def test_broken_names_are_refused(self, general_name: bytes) -> None:
        """A name of an unsupported kind, or one that cannot be decoded, is refused."""
        san = _tlv(0x30, bytes.fromhex("0603551d11") + _tlv(0x04, _tlv(0x30, general_name)))
        assert _refusal(_by_hand(attributes=_extension_request(san))).field == "csr.extensions"


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.name)
def test_vectors_are_read_or_refused(path: Path) -> None:
    """Each CSR of cryptography's test vectors is read, or refused by an error of ours."""
    _read_or_refuse(path.read_bytes())


@settings(max_examples=400, deadline=dt.timedelta(seconds=5))
@given(st.one_of(mutations(GOOD), mutations([path.read_bytes() for path in SEEDS]), st.binary()))
def test_no_bytes_escape(data: bytes) -> None:
    """Whatever the bytes, the answer is a ParsedCSR, Malformed or Invalid."""
    _read_or_refuse(data)


@settings(max_examples=300)
@given(
    st.binary(max_size=40), st.binary(max_size=40), st.sampled_from([0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E, 0x03, 0x05])
)
def test_no_signed_bytes_escape(value: bytes, general_name: bytes, tag: int) -> None:
    """The same holds for what stands behind a good signature: odd subjects and extensions."""
    san = _tlv(0x30, bytes.fromhex("0603551d11") + _tlv(0x04, _tlv(0x30, general_name)))
    _read_or_refuse(_by_hand(subject=_attribute(NameOID.ORGANIZATION_NAME, tag, value)))
    _read_or_refuse(_by_hand(attributes=_extension_request(san, value)))
    _read_or_refuse(_by_hand(attributes=value))


def _read_or_refuse(data: bytes) -> None:
    try:
        assert isinstance(parse_csr(data), ParsedCSR)
    except (Malformed, Invalid) as error:
        assert error.message  # noqa: PT017 - both outcomes are right
