"""Certificates that renew themselves: by a handshake with the service, or with a proxy in front (RFC 9440)."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.api.answers import certificate_of, issued, problem
from tests.api.asking import csr, fresh_key, fresh_name
from tests.running import CERTIFICATES, RunningService, tiny_ca

_RENEW = f"{CERTIFICATES}/renew"
_JSON = {"Accept": "application/json"}
_CONFIG = 'trusted_proxies = ["{network}"]\nclient_cert_header = true\n'


@dataclass(frozen=True)
class Holder:
    """A certificate, the key it is for, and the record of it."""

    record: dict[str, Any]
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate itself."""
        return certificate_of(self.record)

    @property
    def serial(self) -> str:
        """Its serial number."""
        return str(self.record["serial_number"])

    @property
    def header(self) -> str:
        """As a proxy passes it on."""
        return _header(self.certificate)

    def write(self, folder: Path) -> tuple[Path, Path]:
        """As files: the certificate with its intermediates, and the key."""
        pem, key = folder / "app.pem", folder / "app.key"
        pem.write_text(self.record["certificate"] + self.record["chain"][0])
        key.write_bytes(self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pem, key


def _header(certificate: x509.Certificate) -> str:
    return f":{base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()}:"


def _issue(api: httpx.Client, **params: str) -> Holder:
    key = fresh_key()
    body = csr(fresh_name(), key=key)
    answer = api.post(CERTIFICATES, content=body, headers=_JSON, params={"profile": "peer", **params})
    return Holder(issued(answer), key)


def _window(certificate: x509.Certificate) -> timedelta:
    return certificate.not_valid_after_utc - certificate.not_valid_before_utc


class Direct:
    """A service that asks its clients for certificates."""

    def __init__(self, service: RunningService, folder: Path) -> None:
        self.service = service
        self.folder = folder
        with httpx.Client(verify=False) as anybody:  # noqa: S501  # the root is what is fetched
            (folder / "roots.pem").write_bytes(anybody.get(f"{service.url}/roots.pem", timeout=30).content)

    def trust(self) -> ssl.SSLContext:
        """What every client needs."""
        return ssl.create_default_context(cafile=str(self.folder / "roots.pem"))

    def admin(self) -> httpx.Client:
        """Somebody with a token and no certificate."""
        return self.service.client(verify=self.trust())

    def by(self, certificate: Path, key: Path) -> httpx.Client:
        """Somebody with a certificate and no token."""
        trust = self.trust()
        trust.load_cert_chain(certificate, key)
        return httpx.Client(base_url=self.service.url, verify=trust, timeout=30)


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Direct]:
    """TLS ends in the service."""
    folder = tmp_path_factory.mktemp("direct")
    with RunningService(folder, "--tls", "auto", "--client-ca", "self") as service:
        yield Direct(service, folder)


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """TLS ends at a proxy, which the test is."""
    folder = tmp_path_factory.mktemp("behind")
    (folder / "tiny-ca.toml").write_text(_CONFIG.format(network="127.0.0.1"))
    with RunningService(folder, "--behind-proxy", "--config-file", "tiny-ca.toml") as service:
        yield service


class TestOverTLS:
    def test_for_the_same_key(self, direct: Direct, tmp_path: Path) -> None:
        """Without a body or a token: the same key, names and profile, as long again; the old one stays valid."""
        with direct.admin() as admin:
            old = _issue(admin, lifetime="2h")
            with direct.by(*old.write(tmp_path)) as holder:
                new = issued(holder.post(_RENEW))
            assert new["serial_number"] != old.serial
            for field in ("spki_sha256", "subject", "san", "profile", "issuer_id", "key_type", "requester"):
                assert new[field] == old.record[field]
            assert _window(certificate_of(new)) == _window(old.certificate)
            assert admin.get(f"{CERTIFICATES}/{old.serial}").json()["status"] == "valid"
            (row,) = admin.get("/api/v1/audit", params={"serial_number": new["serial_number"]}).json()["items"]
        assert (row["actor"], row["action"]) == (f"certificate:{old.serial}", "certificate.renew")

    def test_for_a_new_key(self, direct: Direct, tmp_path: Path) -> None:
        """A CSR, raw or in JSON, with the names of the certificate, gives the key; the old one is not revoked."""
        with direct.admin() as admin:
            old, key = _issue(admin), fresh_key()
            asked = csr(old.record["common_name"], key=key)
            with direct.by(*old.write(tmp_path)) as holder:
                raw = holder.post(_RENEW, content=asked)
                new = issued(holder.post(_RENEW, json={"csr": asked.decode()}))
            assert admin.get(f"{CERTIFICATES}/{old.serial}").json()["status"] == "valid"
        assert raw.headers["content-type"].startswith("application/pem-certificate-chain")
        for certificate in (x509.load_pem_x509_certificate(raw.content), certificate_of(new)):
            assert certificate.public_key() == key.public_key()
            assert certificate.subject == old.certificate.subject

    def test_a_csr_with_the_same_key(self, direct: Direct, tmp_path: Path) -> None:
        """It is as good as none, also without a subject and with the names spelt out."""
        with direct.admin() as admin:
            old = _issue(admin)
        name = x509.DNSName(old.record["common_name"])
        with direct.by(*old.write(tmp_path)) as holder:
            new = issued(holder.post(_RENEW, json={"csr": csr(None, name, key=old.key).decode()}))
        assert new["spki_sha256"] == old.record["spki_sha256"]
        assert new["subject"] == old.record["subject"]

    @pytest.mark.parametrize(
        "common_name,names,rule",
        [
            ("{}", ["{}", "other.example.org"], "names"),
            (None, ["other.example.org"], "names"),
            ("other.example.org", [], "subject"),
            ("other.example.org", ["{}"], "subject"),
        ],
    )
    def test_a_csr_that_says_something_else(
        self, direct: Direct, tmp_path: Path, common_name: str | None, names: list[str], rule: str
    ) -> None:
        """It is refused and audited: a renewal gets nobody another name."""
        with direct.admin() as admin:
            old = _issue(admin)
            mine = str(old.record["common_name"])
            alternative = [x509.DNSName(name.format(mine)) for name in names]
            asked = csr(common_name and common_name.format(mine), *alternative, key=fresh_key())
            with direct.by(*old.write(tmp_path)) as holder:
                problem(holder.post(_RENEW, content=asked), 403, rule=rule)
            wanted = {"actor": f"certificate:{old.serial}"}
            (row,) = admin.get("/api/v1/audit", params=wanted).json()["items"]
        assert (row["outcome"], row["rule"]) == ("refused", rule)

    def test_for_ever(self, direct: Direct, tmp_path: Path) -> None:
        """Renewed again and again it never lasts longer, nor for somebody else."""
        with direct.admin() as admin:
            holder = first = _issue(admin, lifetime="1h")
        for _ in range(3):
            with direct.by(*holder.write(tmp_path)) as client:
                holder = Holder(issued(client.post(_RENEW)), holder.key)
        assert _window(holder.certificate) == _window(first.certificate)
        assert holder.record["requester"] == "admin"

    def test_the_same_request_again(self, direct: Direct, tmp_path: Path) -> None:
        """With its Idempotency-Key it gets the same certificate."""
        with direct.admin() as admin:
            old = _issue(admin)
        with direct.by(*old.write(tmp_path)) as holder:
            first, second = (holder.post(_RENEW, headers={"Idempotency-Key": "once"}) for _ in range(2))
        assert issued(first)["serial_number"] == issued(second)["serial_number"]

    def test_nothing_else(self, direct: Direct, tmp_path: Path) -> None:
        """To every other request it is nobody."""
        with direct.admin() as admin:
            old = _issue(admin)
            paths = admin.get("/openapi.json").json()["paths"]
        asked = 0
        with direct.by(*old.write(tmp_path)) as holder:
            for path, operations in paths.items():
                for method in operations:
                    if path.startswith("/api/") and path != _RENEW:
                        url = path.format(
                            serial_number=old.serial, issuer_id=old.record["issuer_id"], token_id="x", name="forget"
                        )
                        problem(holder.request(method, url), 401)
                        asked += 1
        assert asked > 20

    def test_a_token_is_no_certificate(self, direct: Direct) -> None:
        """Who may do everything shows a certificate to renew by one, or renews by serial number."""
        with direct.admin() as admin:
            said = problem(admin.post(_RENEW), 401)
            assert admin.get(_RENEW).status_code == 405
        assert "no client certificate" in said["detail"]

    @pytest.mark.parametrize("reason", ["certificateHold", "superseded"])
    def test_a_revoked_one(self, direct: Direct, tmp_path: Path, reason: str) -> None:
        """From the moment of the answer on, also on a connection that was open before; the refusal is audited."""
        with direct.admin() as admin:
            old = _issue(admin)
            with direct.by(*old.write(tmp_path)) as holder:
                issued(holder.post(_RENEW))
                assert admin.post(f"{CERTIFICATES}/{old.serial}/revoke", json={"reason": reason}).status_code == 200
                problem(holder.post(_RENEW), 403, rule="client_certificate.revoked")
                wanted = {"actor": f"certificate:{old.serial}", "outcome": "refused"}
                (row,) = admin.get("/api/v1/audit", params=wanted).json()["items"]
                assert (row["action"], row["rule"]) == ("login", "client_certificate.revoked")
                if reason == "certificateHold":
                    assert admin.post(f"{CERTIFICATES}/{old.serial}/unhold").status_code == 200
                    issued(holder.post(_RENEW))

    @pytest.mark.parametrize("kind", ["foreign", "look-alike", "server"])
    def test_no_handshake(self, direct: Direct, tmp_path: Path, kind: str) -> None:
        """A certificate of nobody's, of a CA that took our CA's name, or one that is no client's, does not connect."""
        with direct.admin() as admin:
            old = _issue(admin, profile="server")
        if kind != "server":
            named = old.certificate.issuer if kind == "look-alike" else x509.Name([])
            old = Holder({**old.record, "certificate": _pem(_forged(old, named))}, old.key)
        with direct.by(*old.write(tmp_path)) as holder, pytest.raises(httpx.TransportError):
            holder.post(_RENEW)

    def test_no_certificate_is_needed(self, direct: Direct) -> None:
        """Who has none is served as before."""
        with httpx.Client(base_url=direct.service.url, verify=direct.trust()) as anybody:
            assert anybody.get("/readyz").json()["ready"]

    def test_headers_are_not_read(self, direct: Direct) -> None:
        """Where TLS ends in the service, nobody's ``Client-Cert`` counts."""
        with direct.admin() as admin:
            problem(admin.post(_RENEW, headers={"Client-Cert": _issue(admin).header}), 401)


class TestBehindAProxy:
    def test_the_header_of_a_trusted_proxy(self, behind: RunningService) -> None:
        """The certificate in it renews itself; ``Client-Cert-Chain`` beside it is not read."""
        with behind.client() as admin:
            old = _issue(admin)
        with behind.anonymous() as proxy:
            new = issued(proxy.post(_RENEW, headers={"Client-Cert": old.header, "Client-Cert-Chain": ":bm9uZQ==:, x"}))
        assert new["san"] == old.record["san"]

    def test_the_header_of_anybody_else(self, tmp_path: Path) -> None:
        """It says nothing, whatever is in it."""
        (tmp_path / "tiny-ca.toml").write_text(_CONFIG.format(network="192.0.2.0/24"))
        flags = ("--behind-proxy", "--config-file", "tiny-ca.toml")
        with RunningService(tmp_path, *flags) as service, service.client() as admin:
            forged = {"Client-Cert": _issue(admin).header, "X-Forwarded-For": "192.0.2.7", "Forwarded": "for=192.0.2.7"}
            said = problem(admin.post(_RENEW, headers=forged), 401)
        assert "no client certificate came by a proxy that is trusted" in said["detail"]

    def test_a_proxy_that_says_nothing_of_certificates(self, tmp_path: Path) -> None:
        """To be trusted for addresses is not enough: such a proxy may pass on what its clients wrote."""
        (tmp_path / "tiny-ca.toml").write_text('trusted_proxies = ["127.0.0.1"]\n')
        flags = ("--behind-proxy", "--config-file", "tiny-ca.toml")
        with RunningService(tmp_path, *flags) as service, service.client() as admin:
            problem(admin.post(_RENEW, headers={"Client-Cert": _issue(admin).header}), 401)

    def test_without_a_list_of_proxies(self, tmp_path: Path) -> None:
        """The start stops, for it is not said whose header should count."""
        (tmp_path / "tiny-ca.toml").write_text("client_cert_header = true\n")
        code, _, (line,) = tiny_ca(tmp_path, "serve", "--behind-proxy", "--config-file", "tiny-ca.toml")
        assert code == 2
        assert "client_cert_header: say in trusted_proxies" in line

    @pytest.mark.parametrize(
        "form",
        [
            "", ":", "::", "{base64}", ":{base64}", "{base64}:", ':{base64}:;a="b"', ":{base64}:,:{base64}:",
            '"{base64}"', ":{base64}{base64}:", ":{base64}=:", ":%%%%:", ":{base64} :", ":{long}:", ":AAAA:", ":MIIB:",
            "{url}",
        ],
    )  # fmt: skip
    def test_what_is_no_certificate(self, behind: RunningService, form: str) -> None:
        """Anything but one certificate as RFC 9440 writes it is nobody."""
        with behind.client() as admin:
            encoded = _issue(admin).header.strip(":")
        sent = form.format(base64=encoded, long="A" * 17_000, url=encoded.replace("+", "%2B"))
        with behind.anonymous() as proxy:
            problem(proxy.post(_RENEW, headers={"Client-Cert": sent}), 401)

    def test_two_headers(self, behind: RunningService) -> None:
        """Of two the proxy may have written either."""
        with behind.client() as admin:
            mine = _issue(admin).header
        with behind.anonymous() as proxy:
            problem(proxy.post(_RENEW, headers=[("Client-Cert", mine), ("Client-Cert", mine)]), 401)
            problem(proxy.post(_RENEW, headers={"Client_Cert": mine}), 401)

    def test_the_serial_number_of_another(self, behind: RunningService) -> None:
        """A certificate of another CA with all the names and the serial number of one of ours."""
        with behind.client() as admin:
            old = _issue(admin)
        forged = _forged(old, old.certificate.issuer)
        assert forged.serial_number == old.certificate.serial_number
        with behind.anonymous() as proxy:
            said = problem(proxy.post(_RENEW, headers={"Client-Cert": _header(forged)}), 401)
        assert "none that this CA has issued" in said["detail"]

    @pytest.mark.parametrize(
        "profile,rule", [("server", "extended_key_usage"), ("ci", "no_rev_avail"), ("client", None), ("peer", None)]
    )
    def test_which_profiles(self, behind: RunningService, profile: str, rule: str | None) -> None:
        """Those of clients; but not what lives for minutes because nobody can revoke it."""
        with behind.client() as admin:
            old = _issue(admin, profile=profile)
        with behind.anonymous() as proxy:
            answer = proxy.post(_RENEW, headers={"Client-Cert": old.header})
        if rule is None:
            issued(answer)
        else:
            problem(answer, 403, rule=f"client_certificate.{rule}")

    def test_a_ca(self, behind: RunningService) -> None:
        """Its certificate is public, and renews nothing."""
        with behind.anonymous() as proxy:
            for authority in x509.load_pem_x509_certificates(proxy.get("/ca.pem").content):
                answer = proxy.post(_RENEW, headers={"Client-Cert": _header(authority)})
                problem(answer, 403, rule="client_certificate.certificate_authority")

    def test_a_revoked_and_an_expired_one(self, behind: RunningService) -> None:
        """Each is told apart."""
        with behind.client() as admin:
            revoked = _issue(admin)
            assert admin.post(f"{CERTIFICATES}/{revoked.serial}/revoke").status_code == 200
            early = (datetime.now(UTC) - timedelta(seconds=57)).strftime("%Y-%m-%dT%H:%M:%SZ")
            body = {"csr": csr(fresh_name()).decode(), "profile": "peer", "lifetime": "1m", "valid_from": early}
            expired = certificate_of(issued(admin.post(CERTIFICATES, json=body)))
        with behind.anonymous() as proxy:
            answer = proxy.post(_RENEW, headers={"Client-Cert": revoked.header})
            problem(answer, 403, rule="client_certificate.revoked")
            while datetime.now(UTC) <= expired.not_valid_after_utc + timedelta(seconds=1):
                time.sleep(0.1)
            answer = proxy.post(_RENEW, headers={"Client-Cert": _header(expired)})
            problem(answer, 403, rule="client_certificate.expired")

    def test_the_issuer_is_disabled(self, behind: RunningService) -> None:
        """A renewal needs the CA like any other: 409."""
        with behind.client() as admin:
            made = admin.post("/api/v1/issuers", json={"common_name": "tiny-ca for a while"}).json()
            old = _issue(admin, issuer_id=made["id"])
            assert admin.patch(f"/api/v1/issuers/{made['id']}", json={"enabled": False}).status_code == 200
        with behind.anonymous() as proxy:
            problem(proxy.post(_RENEW, headers={"Client-Cert": old.header}), 409)

    @pytest.mark.parametrize("body,field", [({"lifetime": "9h"}, "lifetime"), ({"csr": 7}, "csr")])
    def test_wrong_bodies(self, behind: RunningService, body: dict[str, object], field: str) -> None:
        """A CSR or nothing; above all no lifetime."""
        with behind.client() as admin:
            old = _issue(admin)
        with behind.anonymous() as proxy:
            problem(proxy.post(_RENEW, json=body, headers={"Client-Cert": old.header}), 422, field=field)


def _forged(like: Holder, issuer: x509.Name) -> x509.Certificate:
    """All that the certificate says, signed by a key of somebody else's."""
    old, foreign = like.certificate, fresh_key()
    builder = (
        x509.CertificateBuilder()
        .subject_name(old.subject)
        .issuer_name(issuer if issuer.rdns else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Foreign CA")]))
        .public_key(like.key.public_key())
        .serial_number(old.serial_number)
        .not_valid_before(old.not_valid_before_utc)
        .not_valid_after(old.not_valid_after_utc)
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(foreign, hashes.SHA256())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
