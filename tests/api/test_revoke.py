"""POST revoke: what is believed afterwards, by us and by openssl."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.api.answers import issued, problem
from tests.api.asking import csr, fresh_key
from tests.running import CERTIFICATES, openssl

JSON = {"Accept": "application/json"}
REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "keyCompromise": x509.ReasonFlags.key_compromise,
    "cACompromise": x509.ReasonFlags.ca_compromise,
    "affiliationChanged": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessationOfOperation": x509.ReasonFlags.cessation_of_operation,
    "certificateHold": x509.ReasonFlags.certificate_hold,
    "privilegeWithdrawn": x509.ReasonFlags.privilege_withdrawn,
    "aACompromise": x509.ReasonFlags.aa_compromise,
}


def _issue(api: httpx.Client) -> str:
    return str(issued(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))["serial_number"])


def _revoke(api: httpx.Client, serial: str, reason: str | None = None) -> httpx.Response:
    return api.post(f"{CERTIFICATES}/{serial}/revoke", json={} if reason is None else {"reason": reason})


def _crl(anybody: httpx.Client) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(anybody.get("/crl.der").content)


def _reason_on(crl: x509.CertificateRevocationList, serial: str) -> x509.ReasonFlags | None:
    """The reason of an entry; RFC 5280 §5.3.1 leaves ``unspecified`` out."""
    entry = crl.get_revoked_certificate_by_serial_number(int(serial, 16))
    if entry is None:
        return None
    try:
        return entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
    except x509.ExtensionNotFound:
        return x509.ReasonFlags.unspecified


@pytest.mark.parametrize("reason", list(REASONS))
def test_every_reason(api: httpx.Client, anybody: httpx.Client, reason: str) -> None:
    """Each reason of RFC 5280 is taken, answered, and on the CRL when the answer is there."""
    serial = _issue(api)
    response = _revoke(api, serial, reason)
    assert REASONS[reason] == _reason_on(_crl(anybody), serial)
    body = response.json()
    assert (response.status_code, body["status"], body["revocation_reason"]) == (200, "revoked", reason)
    assert api.get(f"{CERTIFICATES}/{serial}").json() == body


@pytest.mark.parametrize("body", [b"", b"{}"])
def test_without_a_reason(api: httpx.Client, body: bytes) -> None:
    """Without a reason, or without a body, it is ``unspecified``."""
    response = api.post(f"{CERTIFICATES}/{_issue(api)}/revoke", content=body)
    assert (response.status_code, response.json()["revocation_reason"]) == (200, "unspecified")


@pytest.mark.parametrize("reason", list(REASONS))
def test_again_with_the_same_reason(api: httpx.Client, reason: str) -> None:
    """Again with the same reason: 200, and nothing changes, the date neither."""
    serial = _issue(api)
    first = _revoke(api, serial, reason).json()
    again = _revoke(api, serial, reason)
    assert (200, first) == (again.status_code, again.json())


@pytest.mark.parametrize("first", [reason for reason in REASONS if reason != "certificateHold"])
@pytest.mark.parametrize("second", ["superseded", "certificateHold", "unspecified"])
def test_again_with_another_reason(api: httpx.Client, first: str, second: str) -> None:
    """Another reason is 409 with the one in force, which stays."""
    if first == second:
        return
    serial = _issue(api)
    before = _revoke(api, serial, first).json()
    assert first in problem(_revoke(api, serial, second), 409)["detail"]
    assert api.get(f"{CERTIFICATES}/{serial}").json() == before


@pytest.mark.parametrize("reason", [reason for reason in REASONS if reason != "certificateHold"])
def test_from_a_hold(api: httpx.Client, anybody: httpx.Client, reason: str) -> None:
    """A hold becomes final with any reason; the date stays the first."""
    serial = _issue(api)
    held = _revoke(api, serial, "certificateHold").json()
    final = _revoke(api, serial, reason)
    assert (final.status_code, final.json()["revocation_reason"]) == (200, reason)
    assert final.json()["revocation_date"] == held["revocation_date"]
    assert REASONS[reason] == _reason_on(_crl(anybody), serial)


@pytest.mark.parametrize("first", [reason for reason in REASONS if reason != "keyCompromise"])
def test_to_key_compromise(api: httpx.Client, anybody: httpx.Client, first: str) -> None:
    """A key that turns out to be stolen is worse than whatever was said before."""
    serial = _issue(api)
    _revoke(api, serial, first)
    worse = _revoke(api, serial, "keyCompromise")
    assert (worse.status_code, worse.json()["revocation_reason"]) == (200, "keyCompromise")
    assert _reason_on(_crl(anybody), serial) is x509.ReasonFlags.key_compromise


@pytest.mark.parametrize("reason", ["removeFromCRL", "KeyCompromise", "key_compromise", "stolen", "", "1", "x" * 65])
def test_no_reasons(api: httpx.Client, reason: str) -> None:
    """``removeFromCRL``, and what is no reason of RFC 5280, are 422, and nothing is revoked."""
    serial = _issue(api)
    problem(_revoke(api, serial, reason), 422, field="reason")
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "valid"


def test_a_hold_is_not_lifted_by_a_reason(api: httpx.Client) -> None:
    """``removeFromCRL`` does not lift a hold."""
    serial = _issue(api)
    _revoke(api, serial, "certificateHold")
    problem(_revoke(api, serial, "removeFromCRL"), 422, field="reason")
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "revoked"


@pytest.mark.parametrize(
    "body,field",
    [({"reason": 1}, "reason"), ({"reason": None}, "reason"), ({"resaon": "keyCompromise"}, "resaon"), ([], "body")],
)
def test_wrong_bodies(api: httpx.Client, body: Any, field: str) -> None:  # noqa: ANN401  # any JSON
    """A wrong or unknown field is 422, and nothing is revoked."""
    serial = _issue(api)
    problem(api.post(f"{CERTIFICATES}/{serial}/revoke", json=body), 422, field=field)
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "valid"


def test_no_json(api: httpx.Client) -> None:
    """A body that is no JSON is 400, and nothing is revoked."""
    serial = _issue(api)
    problem(api.post(f"{CERTIFICATES}/{serial}/revoke", content=b"reason=keyCompromise"), 400)
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "valid"


def test_a_reason_in_the_query(api: httpx.Client) -> None:
    """A reason in the query is 422, not ignored: it would be revoked for another reason than was meant."""
    serial = _issue(api)
    problem(api.post(f"{CERTIFICATES}/{serial}/revoke", params={"reason": "keyCompromise"}), 422, field="reason")
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "valid"


def test_unknown(api: httpx.Client) -> None:
    """A serial number that nobody knows is 404."""
    problem(_revoke(api, "abc", "keyCompromise"), 404)


def test_a_root(api: httpx.Client, anybody: httpx.Client) -> None:
    """A root cannot be revoked: 409; it is on no CRL."""
    root = x509.load_pem_x509_certificate(anybody.get("/roots.pem").content)
    serial = f"{root.serial_number:x}"
    problem(_revoke(api, serial, "cACompromise"), 409)
    assert api.get(f"{CERTIFICATES}/{serial}/status").json()["status"] == "valid"
    crl = anybody.get(f"/issuers/{root.fingerprint(hashes.SHA256()).hex()[:16]}/crl.der").content
    assert _reason_on(x509.load_der_x509_crl(crl), serial) is None


def test_openssl_believes_it(api: httpx.Client, anybody: httpx.Client, tmp_path: Path) -> None:
    """``openssl verify -crl_check`` takes a certificate before, and refuses it after, with the CRL just fetched."""
    (tmp_path / "ca.pem").write_bytes(anybody.get("/ca.pem").content)
    body = issued(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))
    (tmp_path / "app.pem").write_text(body["certificate"])
    said = []
    for _ in range(2):
        (tmp_path / "crl.pem").write_bytes(anybody.get("/crl.pem").content)
        arguments = ("-CAfile", tmp_path / "ca.pem", "-CRLfile", tmp_path / "crl.pem", tmp_path / "app.pem")
        said.append(openssl("verify", "-x509_strict", "-crl_check", *arguments, check=False))
        _revoke(api, body["serial_number"], "keyCompromise")
    assert said[0] == f"{tmp_path}/app.pem: OK\n"
    assert "certificate revoked" in said[1]


def test_many_at_once(api: httpx.Client, anybody: httpx.Client) -> None:
    """Revocations at the same time: each is on the CRL that is served when its answer is there; numbers only grow."""
    serials = [_issue(api) for _ in range(24)]
    missing: list[str] = []
    numbers: list[list[int]] = [[] for _ in range(8)]

    def work(own: list[str], seen: list[int]) -> None:
        for serial in own:
            assert _revoke(api, serial, "superseded").status_code == 200
            crl = _crl(anybody)
            seen.append(crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number)
            if _reason_on(crl, serial) is None:
                missing.append(serial)

    threads = [threading.Thread(target=work, args=(serials[one::8], numbers[one])) for one in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert missing == []
    assert [len(seen) for seen in numbers] == [3] * 8
    assert all(seen == sorted(seen) for seen in numbers)
