"""GET: one certificate in every form, its status and chain, and lists with filters and pages."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.api.answers import certificate_of, issued, problem
from tests.api.asking import csr, fresh_name
from tests.running import CERTIFICATES

JSON = {"Accept": "application/json"}
CHAIN = "application/pem-certificate-chain"
DER = "application/pkix-cert"


@pytest.fixture(scope="module")
def made(api: httpx.Client) -> dict[str, Any]:
    """A certificate with a name of its own."""
    return issued(api.post(CERTIFICATES, content=csr(fresh_name()), headers=JSON))


class TestOne:
    @pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/plain;q=0.5", ""])
    def test_json(self, api: httpx.Client, made: dict[str, Any], accept: str) -> None:
        """The record is what issuing answered, JSON unless another form is asked for."""
        response = api.get(f"{CERTIFICATES}/{made['serial_number']}", headers={"Accept": accept})
        assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
        assert made == response.json()

    def test_der(self, api: httpx.Client, made: dict[str, Any]) -> None:
        """By Accept the certificate alone, DER."""
        response = api.get(f"{CERTIFICATES}/{made['serial_number']}", headers={"Accept": DER})
        assert response.headers["content-type"] == DER
        assert certificate_of(made) == x509.load_der_x509_certificate(response.content)

    def test_pem_chain(self, api: httpx.Client, made: dict[str, Any]) -> None:
        """By Accept the chain as PEM; ``/chain`` gives the same without asking."""
        path = f"{CERTIFICATES}/{made['serial_number']}"
        for response in (api.get(path, headers={"Accept": CHAIN}), api.get(f"{path}/chain", headers={"Accept": "*/*"})):
            assert (response.status_code, response.headers["content-type"]) == (200, CHAIN)
            leaf, issuing = x509.load_pem_x509_certificates(response.content)
            assert certificate_of(made) == leaf
            leaf.verify_directly_issued_by(issuing)

    def test_no_form_that_suits(self, api: httpx.Client, made: dict[str, Any]) -> None:
        """An Accept that cannot be met is 406."""
        problem(api.get(f"{CERTIFICATES}/{made['serial_number']}", headers={"Accept": "text/html"}), 406)

    def test_the_chain_in_json(self, anybody: httpx.Client, made: dict[str, Any]) -> None:
        """``chain`` holds issuing CA and root, in this order, without the leaf: what /ca.pem holds."""
        assert "".join(made["chain"]) == anybody.get("/ca.pem").text

    def test_hashes(self, made: dict[str, Any]) -> None:
        """Fingerprint and SPKI hash are those of the certificate."""
        certificate = certificate_of(made)
        assert certificate.fingerprint(hashes.SHA256()).hex() == made["fingerprint_sha256"]

    def test_spellings_of_a_serial_number(self, api: httpx.Client, made: dict[str, Any]) -> None:
        """Upper case, colons and leading zeros are the same serial number."""
        serial = made["serial_number"]
        pairs = ":".join(serial[place : place + 2] for place in range(0, len(serial), 2))
        for spelling in (serial.upper(), pairs, pairs.upper(), f"00{serial}"):
            assert api.get(f"{CERTIFICATES}/{spelling}").json() == made

    @pytest.mark.parametrize("path", ["", "/chain"])
    @pytest.mark.parametrize("serial", ["1", "ff" * 20, "00"])
    def test_unknown(self, api: httpx.Client, serial: str, path: str) -> None:
        """A serial number that nobody knows is 404."""
        problem(api.get(f"{CERTIFICATES}/{serial}{path}"), 404)

    @pytest.mark.parametrize("path", ["", "/chain", "/status"])
    @pytest.mark.parametrize("serial", ["xyz", "-1", "0x1", "ff" * 21, "1.5", "%00", "1%20", "٣", "a" * 129])
    def test_no_serial_number(self, api: httpx.Client, serial: str, path: str) -> None:
        """What is no serial number is 422."""
        problem(api.get(f"{CERTIFICATES}/{serial}{path}"), 422, field="serial_number")

    @pytest.mark.parametrize("path", ["", "/chain", "/status"])
    def test_unknown_query_parameters(self, api: httpx.Client, made: dict[str, Any], path: str) -> None:
        """A query parameter that is not known is 422, also where none is."""
        response = api.get(f"{CERTIFICATES}/{made['serial_number']}{path}", params={"form": "pem"})
        problem(response, 422, field="form")


class TestStatus:
    def test_valid(self, api: httpx.Client, made: dict[str, Any]) -> None:
        """A certificate in its time is valid."""
        expected = {
            "serial_number": made["serial_number"],
            "status": "valid",
            "revocation_date": None,
            "revocation_reason": None,
        }
        assert expected == api.get(f"{CERTIFICATES}/{made['serial_number']}/status").json()

    def test_revoked(self, api: httpx.Client) -> None:
        """A revoked one says since when, and why."""
        serial = issued(api.post(CERTIFICATES, content=csr(), headers=JSON))["serial_number"]
        revoked = api.post(f"{CERTIFICATES}/{serial}/revoke", json={"reason": "superseded"}).json()
        expected = {
            "serial_number": serial,
            "status": "revoked",
            "revocation_date": revoked["revocation_date"],
            "revocation_reason": "superseded",
        }
        assert expected == api.get(f"{CERTIFICATES}/{serial}/status").json()
        moment = datetime.fromisoformat(expected["revocation_date"])
        assert expected["revocation_date"].endswith("Z")
        assert abs(datetime.now(UTC) - moment) < timedelta(minutes=1)

    def test_unknown(self, api: httpx.Client) -> None:
        """An unknown one is an answer too."""
        expected = {"serial_number": "abc", "status": "unknown", "revocation_date": None, "revocation_reason": None}
        response = api.get(f"{CERTIFICATES}/0ABC/status")
        assert (200, expected) == (response.status_code, response.json())


def _names(api: httpx.Client, **params: str | int) -> list[str]:
    response = api.get(CERTIFICATES, params=params)
    assert response.status_code == 200, response.text
    return [item["common_name"] for item in response.json()["items"]]


@pytest.fixture(scope="module")
def zone(api: httpx.Client) -> str:
    """A domain with three certificates: ``a`` of a server, ``b`` of a client and revoked, ``c.d`` of a CI job."""
    zone = fresh_name()
    key = ec.generate_private_key(ec.SECP256R1())
    for host, profile, lifetime in (("a", "server", "10d"), ("b", "client", "20d"), ("c.d", "ci", "1h")):
        asked = csr(f"{host}.{zone}", x509.DNSName(f"{host}.{zone}"), key=key)
        params = {"profile": profile, "lifetime": lifetime}
        body = issued(api.post(CERTIFICATES, content=asked, headers=JSON, params=params))
        if host == "b":
            api.post(f"{CERTIFICATES}/{body['serial_number']}/revoke").raise_for_status()
    return zone


class TestList:
    def test_an_item(self, api: httpx.Client, zone: str) -> None:
        """An item is the record without its chain."""
        (item,) = api.get(CERTIFICATES, params={"common_name": f"a.{zone}"}).json()["items"]
        whole = api.get(f"{CERTIFICATES}/{item['serial_number']}").json()
        assert item == {field: value for field, value in whole.items() if field != "chain"}

    def test_newest_first(self, api: httpx.Client, zone: str) -> None:
        """The newest comes first."""
        assert _names(api, san=f"*.{zone}") == [f"c.d.{zone}", f"b.{zone}", f"a.{zone}"]

    @pytest.mark.parametrize(
        "filters,hosts",
        [
            ({"status": "valid"}, ["c.d", "a"]),
            ({"status": "revoked"}, ["b"]),
            ({"status": "expired"}, []),
            ({"key_type": "SVC"}, ["a"]),
            ({"key_type": "USR"}, ["b"]),
            ({"key_type": "INT"}, ["c.d"]),
            ({"profile": "server"}, ["a"]),
            ({"profile": "ci"}, ["c.d"]),
            ({"profile": "nosuch"}, []),
            ({"requester": "admin"}, ["c.d", "b", "a"]),
            ({"requester": "somebody"}, []),
            ({"issuer_id": "0123456789abcdef"}, []),
            ({"profile": "server", "status": "revoked"}, []),
            ({"status": "valid", "key_type": "SVC", "profile": "server"}, ["a"]),
        ],
        ids=str,
    )
    def test_filters(self, api: httpx.Client, zone: str, filters: dict[str, str], hosts: list[str]) -> None:
        """Every filter that is given must match."""
        assert [f"{host}.{zone}" for host in hosts] == _names(api, san=f"*.{zone}", **filters)

    def test_names(self, api: httpx.Client, zone: str) -> None:
        """``common_name`` and ``san`` are exact, or a suffix of whole labels; letters fold."""
        assert _names(api, common_name=f"a.{zone}") == [f"a.{zone}"]
        assert _names(api, common_name=f"*.d.{zone}") == [f"c.d.{zone}"]
        assert _names(api, san=f"b.{zone}".upper()) == [f"b.{zone}"]
        assert _names(api, san=f"*.d.{zone}") == [f"c.d.{zone}"]
        assert _names(api, san=f"*.{zone[1:]}") == []
        assert _names(api, san=zone) == []
        assert _names(api, common_name="%") == _names(api, san="*.%") == _names(api, san="' OR 1=1 --") == []

    def test_issuer_and_key(self, api: httpx.Client, zone: str) -> None:
        """By issuer, and by the hash of the public key."""
        (item,) = api.get(CERTIFICATES, params={"common_name": f"a.{zone}"}).json()["items"]
        everything = [f"c.d.{zone}", f"b.{zone}", f"a.{zone}"]
        assert _names(api, san=f"*.{zone}", issuer_id=item["issuer_id"]) == everything
        assert _names(api, spki_sha256=item["spki_sha256"]) == everything
        assert _names(api, spki_sha256="0" * 64) == []

    def test_expiry(self, api: httpx.Client, zone: str) -> None:
        """``expires_before`` and ``expires_after`` make a window; offsets of RFC 3339 are understood."""
        in_a_day = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        in_15_days = (datetime.now(UTC) + timedelta(days=15)).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert _names(api, san=f"*.{zone}", expires_before=in_a_day) == [f"c.d.{zone}"]
        assert _names(api, san=f"*.{zone}", expires_after=in_15_days) == [f"b.{zone}"]
        assert _names(api, san=f"*.{zone}", expires_after=in_a_day, expires_before=in_15_days) == [f"a.{zone}"]

    @pytest.mark.parametrize("limit", [1, 2, 3, 4])
    def test_pages(self, api: httpx.Client, zone: str, limit: int) -> None:
        """Pages follow each other by ``next_cursor``, without gap or repeat; the last one has none."""
        params: dict[str, str | int] = {"san": f"*.{zone}", "limit": limit}
        names: list[str] = []
        sizes = []
        while True:
            page = api.get(CERTIFICATES, params=params).json()
            assert set(page) == {"items", "next_cursor"}
            names += [item["common_name"] for item in page["items"]]
            sizes.append(len(page["items"]))
            if page["next_cursor"] is None:
                break
            params["cursor"] = page["next_cursor"]
        assert names == [f"c.d.{zone}", f"b.{zone}", f"a.{zone}"]
        assert [min(limit, 3 - done) for done in range(0, 3, limit)] == sizes

    def test_a_page_does_not_shift(self, api: httpx.Client) -> None:
        """What is issued between two pages moves nothing."""
        zone = fresh_name()
        for host in ("a", "b", "c"):
            issued(api.post(CERTIFICATES, content=csr(f"{host}.{zone}"), headers=JSON))
        params: dict[str, str | int] = {"san": f"*.{zone}", "limit": 2}
        first = api.get(CERTIFICATES, params=params).json()
        issued(api.post(CERTIFICATES, content=csr(f"d.{zone}"), headers=JSON))
        assert _names(api, **params, cursor=first["next_cursor"]) == [f"a.{zone}"]

    def test_the_authorities_are_on_record(self, api: httpx.Client) -> None:
        """Root and intermediate are certificates like any other."""
        authorities = api.get(CERTIFICATES, params={"key_type": "CA"}).json()["items"]
        made = [item for item in authorities if item["profile"] is not None]  # other tests import some
        assert len([item for item in made if item["common_name"].startswith("tiny-ca ")]) == 2

    @pytest.mark.parametrize(
        "params,field",
        [
            ({"limit": "0"}, "limit"),
            ({"limit": "1001"}, "limit"),
            ({"limit": "-1"}, "limit"),
            ({"limit": "many"}, "limit"),
            ({"cursor": "nonsense"}, "cursor"),
            ({"cursor": "!"}, "cursor"),
            ({"cursor": base64.urlsafe_b64encode(b"-1").decode()}, "cursor"),
            ({"cursor": base64.urlsafe_b64encode(b"1 OR 1=1").decode()}, "cursor"),
            ({"status": "fine"}, "status"),
            ({"key_type": "XYZ"}, "key_type"),
            ({"expires_before": "tomorrow"}, "expires_before"),
            ({"expires_before": "2026-01-01T00:00:00"}, "expires_before"),
            ({"spki_sha256": "abc"}, "spki_sha256"),
            ({"san": "a" * 3000}, "san"),
            ({"offset": "10"}, "offset"),
            ({"Status": "valid"}, "Status"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_wrong_parameters(self, api: httpx.Client, params: dict[str, str], field: str) -> None:
        """A filter that is wrong or not known is 422, not an empty list."""
        problem(api.get(CERTIFICATES, params=params), 422, field=field)

    def test_the_largest_page(self, api: httpx.Client) -> None:
        """A thousand items may be asked for."""
        assert api.get(CERTIFICATES, params={"limit": 1000}).status_code == 200
