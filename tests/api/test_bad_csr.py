"""CSRs that nobody should sign: each refused for its own reason, nothing issued."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.api.answers import detail_of_refusal, problem
from tests.api.asking import EC_KEY, RSA_KEY, Key, csr, weak_csr
from tests.running import CERTIFICATES, openssl

BEGIN, END = b"-----BEGIN CERTIFICATE REQUEST-----\n", b"-----END CERTIFICATE REQUEST-----\n"


class TestUnreadable:
    @pytest.mark.parametrize(
        "body",
        [
            b"\x30",
            b"\x30\x82\xff\xff",
            b"\x30\x03\x02\x01\x00",
            csr(encoding=Encoding.DER)[:-1],
            csr(encoding=Encoding.DER) + b"\x00",
            BEGIN,
            BEGIN + END,
            BEGIN + b"!!! not base64 !!!\n" + END,
            BEGIN + b"MAMCAQA=\n" + END,
            csr()[:-40],
            csr() + csr(),
            b"-----BEGIN NONSENSE-----\nAAAA\n-----END NONSENSE-----\n",
        ],
    )
    def test_not_a_csr(self, api: httpx.Client, body: bytes) -> None:
        """Bytes that claim to be a CSR and are none: 400."""
        problem(api.post(CERTIFICATES, content=body), 400)

    def test_a_certificate(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """A certificate is no CSR: 400, and the text says which block was wanted."""
        one = x509.load_pem_x509_certificates(anybody.get("/ca.pem").content)[0].public_bytes(Encoding.PEM)
        assert "CERTIFICATE REQUEST" in detail_of_refusal(api.post(CERTIFICATES, content=one), 400)

    def test_not_a_csr_in_json(self, api: httpx.Client) -> None:
        """The same in JSON: 400."""
        problem(api.post(CERTIFICATES, json={"csr": "hello"}), 400)

    def test_a_private_key(self, api: httpx.Client) -> None:
        """A private key sent along is refused with a warning, and is not repeated."""
        key = EC_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        response = api.post(CERTIFICATES, content=key + csr())
        assert "private key" in detail_of_refusal(response, 422)
        assert key.splitlines()[1].decode() not in response.text


class TestKeys:
    @pytest.mark.parametrize(
        "vector,reason",
        [
            ("rsa-2048-roca", "ROCA"),
            ("rsa-2048-close-primes", "close"),
            ("rsa-2048-square", "close"),
            ("rsa-2048-small-factor", "divisible by 751"),
            ("rsa-2048-even", "divisible by 2"),
        ],
    )
    def test_weak_rsa(self, api: httpx.Client, vector: str, reason: str) -> None:
        """An RSA key with a known weakness is 422, and the weakness named."""
        response = api.post(CERTIFICATES, content=weak_csr(vector))
        problem(response, 422, field="csr.public_key")
        assert reason in response.json()["detail"]

    @pytest.mark.parametrize(
        "key",
        [
            rsa.generate_private_key(65537, 1024),  # noqa: S505  # it is to be refused
            rsa.generate_private_key(3, 2048),
            ec.generate_private_key(ec.SECP256K1()),
            ec.generate_private_key(ec.SECP224R1()),
        ],
        ids=["RSA-1024", "e=3", "secp256k1", "P-224"],
    )
    def test_unfit(self, api: httpx.Client, key: Key) -> None:
        """A key too short, with a small exponent or on another curve: 422."""
        problem(api.post(CERTIFICATES, content=csr(key=key)), 422, field="csr.public_key")

    @pytest.mark.parametrize("algorithm", ["dsa", "ed448"])
    def test_of_other_kinds(self, api: httpx.Client, tmp_path: Path, algorithm: str) -> None:
        """A kind of key that is not taken is 422, and what is taken is said."""
        if algorithm == "dsa":
            openssl("dsaparam", "-genkey", "-noout", "-out", tmp_path / "key.pem", "1024")
        else:
            openssl("genpkey", "-algorithm", algorithm, "-out", tmp_path / "key.pem")
        der = _openssl_csr(tmp_path, "-key", str(tmp_path / "key.pem"))
        response = api.post(CERTIFICATES, content=der)
        assert "P-256" in problem(response, 422, field="csr.public_key")["detail"]


class TestSignatures:
    def test_broken(self, api: httpx.Client) -> None:
        """A signature that does not verify is 422: nobody has shown to hold the key."""
        der = bytearray(csr(encoding=Encoding.DER))
        der[-5] ^= 1
        problem(api.post(CERTIFICATES, content=bytes(der)), 422, field="csr.signature")

    def test_of_another_key(self, api: httpx.Client) -> None:
        """Names changed after signing are 422."""
        der = csr("app.example.org", encoding=Encoding.DER).replace(b"app.example.org", b"evl.example.org")
        problem(api.post(CERTIFICATES, content=der), 422, field="csr.signature")

    @pytest.mark.parametrize("digest", ["md5", "sha1"])
    def test_weak_hash(self, api: httpx.Client, tmp_path: Path, digest: str) -> None:
        """A CSR signed with MD5 or SHA-1 is 422, and the cure is said."""
        key = tmp_path / "key.pem"
        key.write_bytes(RSA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        response = api.post(CERTIFICATES, content=_openssl_csr(tmp_path, "-key", str(key), f"-{digest}"))
        assert "SHA-256" in problem(response, 422, field="csr.signature")["detail"]


class TestNames:
    def test_hundred_and_one(self, api: httpx.Client) -> None:
        """101 names are 422, with the limit."""
        names = [x509.DNSName(f"n{number}.example.org") for number in range(101)]
        body = problem(api.post(CERTIFICATES, content=csr(None, *names)), 422, kind="too-large")
        assert body["limit"] == 100

    def test_hundred_and_the_common_name(self, api: httpx.Client) -> None:
        """The common name that joins counts too."""
        names = [x509.DNSName(f"n{number}.example.org") for number in range(100)]
        body = problem(api.post(CERTIFICATES, content=csr("app.example.org", *names)), 422, kind="too-large")
        assert body["limit"] == 100

    def test_hundred_and_one_in_json(self, api: httpx.Client) -> None:
        """101 names in ``san_dns`` are 422, with the limit."""
        names = [f"n{number}.example.org" for number in range(101)]
        response = api.post(CERTIFICATES, json={"common_name": "n0.example.org", "san_dns": names})
        assert problem(response, 422, kind="too-large")["limit"] == 100

    @pytest.mark.parametrize("profile", ["server", "client", "peer", "ci"])
    def test_none_at_all(self, api: httpx.Client, profile: str) -> None:
        """An empty subject and no SAN: there is nobody to certify, whatever the profile."""
        problem(api.post(CERTIFICATES, content=csr(None), params={"profile": profile}), 422, field="subject")

    @pytest.mark.parametrize(
        "name",
        [
            "a\0.example.org", "a.example.org\n", "a b.example.org", "a" * 300, "a" * 64 + ".example.org",
            "a..example.org", ".example.org", "-a.example.org", "a_b.example.org", "a.example.123", "",
            "a.*.example.org", "*", "*.org", "*.*.example.org", "a*.example.org", "xn--a.example.org",
        ],
    )  # fmt: skip
    def test_no_dns_names(self, api: httpx.Client, name: str) -> None:
        """What is no DNS name, or a wildcard in a place where none may be, is 422: in the CSR and beside it."""
        if name:  # the crypto library refuses to write an empty one
            asked = csr("app.example.org", x509.DNSName(name))
            problem(api.post(CERTIFICATES, content=asked), 422, field="csr.san_dns")
        asked_in_json = {"common_name": "app.example.org", "san_dns": [name]}
        problem(api.post(CERTIFICATES, json=asked_in_json), 422, field="san_dns")

    @pytest.mark.parametrize("name", ["a\0.example.org", "a.example.org\n", "a" * 300, "\x1b[31mred", "\u202eevil"])
    def test_no_common_names(self, api: httpx.Client, name: str) -> None:
        """Control characters and 300 characters in a common name are 422, whatever the profile."""
        for profile in ("server", "client"):
            problem(api.post(CERTIFICATES, content=csr(name), params={"profile": profile}), 422, field="csr.subject")

    def test_the_text_of_a_refusal_is_short(self, api: httpx.Client) -> None:
        """A name of 60,000 characters is not repeated in full."""
        response = api.post(CERTIFICATES, json={"common_name": "a.example.org", "san_dns": ["a" * 60_000]})
        problem(response, 422)
        assert len(response.content) < 2000

    @pytest.mark.parametrize(
        "name,a_label",
        [("bücher.example.org", "xn--bcher-kva.example.org"), ("*.bücher.example.org", "*.xn--bcher-kva.example.org")],
    )
    def test_u_labels(self, api: httpx.Client, name: str, a_label: str) -> None:
        """An internationalised name is 422, naming the A-label to send; that one is taken."""
        config = {"common_name": "app.example.org", "san_dns": [name]}
        response = api.post(CERTIFICATES, json=config)
        assert f"'{a_label}'" in problem(response, 422, field="san_dns")["detail"]
        assert api.post(CERTIFICATES, json=config | {"san_dns": [a_label]}).status_code == 201

    def test_u_labels_in_a_common_name(self, api: httpx.Client) -> None:
        """A U-label is no host, so no common name under ``server``."""
        response = api.post(CERTIFICATES, content=csr("bücher.example.org"))
        assert response.status_code in {403, 422}

    @pytest.mark.parametrize(
        "name",
        [
            x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a")])),
            x509.RegisteredID(x509.ObjectIdentifier("1.2.3")),
            x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a"),
        ],
        ids=lambda name: type(name).__name__,
    )
    def test_other_kinds(self, api: httpx.Client, name: x509.GeneralName) -> None:
        """Kinds of names that nobody checks here are 422, not passed through."""
        problem(api.post(CERTIFICATES, content=csr("app.example.org", name)), 422)


class TestLifetimes:
    @pytest.mark.parametrize(
        "lifetime", ["0s", "0d", "-1d", "59s", "15 parsecs", "", "90", "1.5h", "1h30m", "999999999w", "1H", "٣d", " 1d"]
    )
    def test_that_are_none(self, api: httpx.Client, lifetime: str) -> None:
        """Zero, negative, below a minute, or no duration at all: 422, in the query as in JSON."""
        raw = api.post(CERTIFICATES, content=csr(), params={"lifetime": lifetime})
        problem(raw, 422, field="lifetime")
        as_json = api.post(CERTIFICATES, json={"csr": csr().decode(), "lifetime": lifetime})
        problem(as_json, 422, field="lifetime")

    def test_too_long(self, api: httpx.Client) -> None:
        """10,000 days are 403, with the profile's limit in the text, and nothing is cut."""
        body = problem(api.post(CERTIFICATES, content=csr(), params={"lifetime": "10000d"}), 403, rule="max_lifetime")
        assert (body["value"], "398d" in body["detail"]) == ("10000d", True)

    @pytest.mark.parametrize("days", [0, -1, 3_650_001])
    def test_days(self, api: httpx.Client, days: int) -> None:
        """``days_valid`` of zero, less, or past every calendar: 422."""
        problem(api.post(CERTIFICATES, content=csr(), params={"days_valid": days}), 422, field="days_valid")
        problem(api.post(CERTIFICATES, json={"csr": csr().decode(), "days_valid": days}), 422, field="days_valid")

    def test_both(self, api: httpx.Client) -> None:
        """``lifetime`` and ``days_valid`` together are 422: nobody knows which one was meant."""
        both: dict[str, str | int] = {"lifetime": "24h", "days_valid": 1}
        problem(api.post(CERTIFICATES, content=csr(), params=both), 422)
        problem(api.post(CERTIFICATES, json={"csr": csr().decode(), **both}), 422)
        problem(api.post(CERTIFICATES, json={"common_name": "app.example.org", **both}), 422)


class TestWhatIsNotThere:
    @pytest.mark.parametrize("profile", ["nosuch", "Server", "root", "../server"])
    def test_profiles(self, api: httpx.Client, profile: str) -> None:
        """A profile that is not there is 422, and those that are there are named."""
        response = api.post(CERTIFICATES, json={"csr": csr().decode(), "profile": profile})
        assert "server" in problem(response, 422, field="profile")["detail"]

    @pytest.mark.parametrize("field", ["profile", "issuer_id"])
    def test_empty_names(self, api: httpx.Client, field: str) -> None:
        """An empty name is no wish for the default: 422, in JSON as in the query."""
        problem(api.post(CERTIFICATES, json={"csr": csr().decode(), field: ""}), 422, field=field)
        problem(api.post(CERTIFICATES, content=csr(), params={field: ""}), 422, field=field)

    def test_issuers(self, api: httpx.Client) -> None:
        """An issuer that is not there is a wrong field: 422."""
        response = api.post(CERTIFICATES, json={"csr": csr().decode(), "issuer_id": "0123456789abcdef"})
        problem(response, 422, field="issuer_id")


def _openssl_csr(folder: Path, *arguments: str) -> bytes:
    openssl("req", "-new", "-subj", "/CN=app.example.org", "-outform", "DER", "-out", folder / "one.csr", *arguments)
    return (folder / "one.csr").read_bytes()
