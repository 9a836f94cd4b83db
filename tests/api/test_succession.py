"""Renew, rotate, unhold, delete: what becomes of a certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from tests.api.answers import certificate_of, issued, problem
from tests.api.asking import csr, fresh_key, fresh_name
from tests.running import CERTIFICATES, openssl

JSON = {"Accept": "application/json"}


def _issue(api: httpx.Client, **params: str) -> dict[str, object]:
    name = fresh_name()
    return issued(api.post(CERTIFICATES, content=csr(name, key=fresh_key()), headers=JSON, params=params))


def _on_crl(anybody: httpx.Client, serial: object) -> bool:
    crl = x509.load_der_x509_crl(anybody.get("/crl.der").content)
    return crl.get_revoked_certificate_by_serial_number(int(str(serial), 16)) is not None


class TestRenewing:
    def test_same_key_new_serial(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """The renewed certificate has the key, names and profile of the old one, which stays valid."""
        old = _issue(api)
        new = issued(api.post(f"{CERTIFICATES}/{old['serial_number']}/renew", json={"lifetime": "1h"}))
        for field in ("spki_sha256", "common_name", "san", "profile", "issuer_id", "key_type", "subject"):
            assert new[field] == old[field]
        assert new["serial_number"] != old["serial_number"]
        assert api.get(f"{CERTIFICATES}/{old['serial_number']}").json()["status"] == "valid"
        assert not _on_crl(anybody, old["serial_number"])

    def test_any_form(self, api: httpx.Client) -> None:
        """As PEM chain or DER too; without a body the profile's default lifetime holds."""
        old = _issue(api)
        path = f"{CERTIFICATES}/{old['serial_number']}/renew"
        pem = api.post(path, headers={"Accept": "application/pem-certificate-chain"})
        der = api.post(path, headers={"Accept": "application/pkix-cert"})
        assert (pem.status_code, pem.content.count(b"BEGIN CERTIFICATE")) == (201, 2)
        assert x509.load_der_x509_certificate(der.content).public_key() == certificate_of(dict(old)).public_key()

    @pytest.mark.parametrize(
        "body, field",
        [({"lifetime": "0h"}, "lifetime"), ({"lifetme": "1h"}, "lifetme"), ({"lifetime": 7}, "lifetime")],
    )
    def test_wrong_bodies(self, api: httpx.Client, body: dict[str, object], field: str) -> None:
        """A wrong field is named."""
        problem(api.post(f"{CERTIFICATES}/{_issue(api)['serial_number']}/renew", json=body), 422, field=field)

    def test_policy_still_holds(self, api: httpx.Client) -> None:
        """A renewal is held to the profile like any request."""
        path = f"{CERTIFICATES}/{_issue(api)['serial_number']}/renew"
        problem(api.post(path, json={"lifetime": "399d"}), 403, rule="max_lifetime")

    @pytest.mark.parametrize("act", ["renew", "rotate"])
    def test_not_of_what_is_revoked_or_unknown(self, api: httpx.Client, act: str) -> None:
        """Revoked: 409. Unknown: 404."""
        old = _issue(api)
        api.post(f"{CERTIFICATES}/{old['serial_number']}/revoke")
        assert "revoked" in problem(api.post(f"{CERTIFICATES}/{old['serial_number']}/{act}"), 409)["detail"]
        problem(api.post(f"{CERTIFICATES}/abcdef/{act}"), 404)


class TestRotating:
    def test_with_a_csr(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """The CSR's key under the old names; the old certificate is superseded, on the CRL before the answer."""
        old, key = _issue(api), fresh_key()
        asked = csr("something.else.example.org", key=key).decode()
        new = issued(api.post(f"{CERTIFICATES}/{old['serial_number']}/rotate", json={"csr": asked}))
        assert certificate_of(new).public_key() == key.public_key()
        assert new["san"] == old["san"]
        assert "private_key" not in new
        record = api.get(f"{CERTIFICATES}/{old['serial_number']}").json()
        assert (record["status"], record["revocation_reason"]) == ("revoked", "superseded")
        assert _on_crl(anybody, old["serial_number"])

    def test_with_a_key_made_here(self, api: httpx.Client) -> None:
        """Without a CSR the service makes a key, of the old one's kind or another, and returns it once."""
        for body in ({}, {"key": {"algorithm": "ed25519"}}):
            old = _issue(api)
            new = issued(api.post(f"{CERTIFICATES}/{old['serial_number']}/rotate", json=body))
            key = load_pem_private_key(new["private_key"].encode(), None)
            assert key.public_key() == certificate_of(new).public_key()
            assert new["public_key"]["algorithm"] == ("ed25519" if body else "ec")

    def test_into_a_pkcs12_file(self, api: httpx.Client, anybody: httpx.Client, tmp_path: Path) -> None:
        """With a password, the new key, its certificate and the chain come in one file."""
        old = _issue(api)
        path = f"{CERTIFICATES}/{old['serial_number']}/rotate"
        problem(api.post(path, headers={"Accept": "application/x-pkcs12"}), 422, field="pkcs12_password")
        body: dict[str, Any] = {"csr": csr(key=fresh_key()).decode(), "pkcs12_password": "x"}
        problem(api.post(path, json=body), 422)
        body = {"key": {"algorithm": "mldsa"}, "pkcs12_password": "x"}
        problem(api.post(path, json=body), 422, field="key")
        assert not _on_crl(anybody, old["serial_number"])
        answer = api.post(path, json={"pkcs12_password": "a long password"})
        assert (answer.status_code, answer.headers["content-type"]) == (201, "application/x-pkcs12")
        (tmp_path / "a.p12").write_bytes(answer.content)
        shown = openssl("pkcs12", "-in", tmp_path / "a.p12", "-noenc", "-passin", "pass:a long password")
        assert api.get(answer.headers["location"]).json()["certificate"] in shown
        assert "BEGIN PRIVATE KEY" in shown
        assert _on_crl(anybody, old["serial_number"])

    def test_not_to_the_old_key(self, api: httpx.Client) -> None:
        """A CSR with the old key is no rotation; the old certificate stays as it was."""
        key = fresh_key()
        old = issued(api.post(CERTIFICATES, content=csr(key=key), headers=JSON))
        path = f"{CERTIFICATES}/{old['serial_number']}/rotate"
        problem(api.post(path, json={"csr": csr(key=key).decode()}), 422, field="csr.public_key")
        assert api.get(f"{CERTIFICATES}/{old['serial_number']}").json()["status"] == "valid"

    def test_one_of_two(self, api: httpx.Client) -> None:
        """Rotated twice, the second time is 409: it has a successor already."""
        path = f"{CERTIFICATES}/{_issue(api)['serial_number']}/rotate"
        issued(api.post(path))
        problem(api.post(path), 409)

    def test_csr_and_key(self, api: httpx.Client) -> None:
        """One of the two makes the key."""
        body = {"csr": csr().decode(), "key": {"algorithm": "ec"}}
        problem(api.post(f"{CERTIFICATES}/{_issue(api)['serial_number']}/rotate", json=body), 422)


class TestHolding:
    def test_held_and_released(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """A hold is on the CRL; lifted, the certificate is valid and on no CRL when the answer comes."""
        serial = _issue(api)["serial_number"]
        api.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "certificateHold"})
        assert _on_crl(anybody, serial)
        released = api.post(f"{CERTIFICATES}/{serial}/unhold")
        assert (released.status_code, released.json()["status"]) == (200, "valid")
        assert not _on_crl(anybody, serial)
        problem(api.post(f"{CERTIFICATES}/{serial}/unhold"), 409)

    def test_only_a_hold(self, api: httpx.Client) -> None:
        """What is revoked for good stays so."""
        serial = _issue(api)["serial_number"]
        api.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "superseded"})
        problem(api.post(f"{CERTIFICATES}/{serial}/unhold"), 409)
        problem(api.post(f"{CERTIFICATES}/abcdef/unhold"), 404)


class TestCompromised:
    def test_the_key_is_blocked(self, api: httpx.Client) -> None:
        """After keyCompromise nobody gets a certificate for that key: not by CSR, renewal or co-signing."""
        key = fresh_key()
        first, second = (
            issued(api.post(CERTIFICATES, content=csr(fresh_name(), key=key), headers=JSON)) for _ in range(2)
        )
        api.post(f"{CERTIFICATES}/{first['serial_number']}/revoke", json={"reason": "keyCompromise"})
        problem(api.post(CERTIFICATES, content=csr(key=key)), 403, rule="key_blocked")
        problem(api.post(f"{CERTIFICATES}/{second['serial_number']}/renew"), 403, rule="key_blocked")
        problem(api.post("/api/v1/cosign", json={"certificate": first["certificate"]}), 403, rule="key_blocked")

    def test_all_with_the_key(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """``all_with_key`` revokes every valid certificate with that key, in one go."""
        key = fresh_key()
        serials = [
            issued(api.post(CERTIFICATES, content=csr(fresh_name(), key=key), headers=JSON))["serial_number"]
            for _ in range(3)
        ]
        body = {"reason": "keyCompromise", "all_with_key": True}
        assert api.post(f"{CERTIFICATES}/{serials[1]}/revoke", json=body).status_code == 200
        assert all(_on_crl(anybody, serial) for serial in serials)


class TestDeleting:
    def test_only_what_expired(self, api: httpx.Client) -> None:
        """A certificate that has not expired would fall off the CRL: 409, and it stays. Unknown: 404."""
        serial = _issue(api)["serial_number"]
        problem(api.delete(f"{CERTIFICATES}/{serial}"), 409)
        assert api.get(f"{CERTIFICATES}/{serial}").status_code == 200
        problem(api.delete(f"{CERTIFICATES}/abcdef"), 404)


class TestPKCS12:
    def test_openssl_opens_it(self, api: httpx.Client, tmp_path: Path) -> None:
        """The file holds the sent key, the certificate and its chain under the password."""
        key = fresh_key()
        made = issued(api.post(CERTIFICATES, content=csr(key=key), headers=JSON))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        path = f"{CERTIFICATES}/{made['serial_number']}/pkcs12"
        answer = api.post(path, json={"private_key": pem, "password": "a long password"})
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/x-pkcs12")
        assert answer.headers["cache-control"] == "no-store"
        (tmp_path / "a.p12").write_bytes(answer.content)
        shown = openssl("pkcs12", "-in", tmp_path / "a.p12", "-noenc", "-passin", "pass:a long password")
        assert shown.count("BEGIN CERTIFICATE") == 3
        assert "BEGIN PRIVATE KEY" in shown

    @pytest.mark.parametrize(
        "change, field",
        [
            ({"password": ""}, "password"),
            ({"password": None}, "password"),
            ({"private_key": "no key"}, "private_key"),
            ({"private_key": None}, "private_key"),
        ],
    )
    def test_wrong_bodies(self, api: httpx.Client, change: dict[str, object], field: str) -> None:
        """No password, no key: 422, and nothing of what was sent is repeated."""
        pem = fresh_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        path = f"{CERTIFICATES}/{_issue(api)['serial_number']}/pkcs12"
        body = {
            name: value for name, value in {"private_key": pem, "password": "x", **change}.items() if value is not None
        }
        answer = api.post(path, json=body)
        problem(answer, 422, field=field)
        assert "BEGIN PRIVATE" not in answer.text

    def test_another_key(self, api: httpx.Client) -> None:
        """A key that is not the certificate's is 422."""
        pem = fresh_key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        path = f"{CERTIFICATES}/{_issue(api)['serial_number']}/pkcs12"
        problem(api.post(path, json={"private_key": pem, "password": "x"}), 422, field="private_key")
