"""Issuers over a socket: made, imported, listed, changed, revoked; openssl and pkilint as judges."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.api.answers import certificate_of, detail_of_refusal, issued, problem
from tests.conftest import NewEnvironment
from tests.made_elsewhere import ForeignCA, foreign_ca
from tests.pkilint_check import certificate_findings, crl_findings
from tests.running import CERTIFICATES, RunningService, openssl
from tiny_ca.ca_factory import der

ISSUERS = "/api/v1/issuers"
_DOCUMENT = Path(__file__).parents[2] / "docs" / "issuers.md"
FIELDS = {
    *(
        "id",
        "common_name",
        "subject",
        "serial_number",
        "is_root",
        "enabled",
        "default",
        "parent_id",
        "has_key",
        "revoked",
    ),
    *("revocation_date", "revocation_reason", "not_valid_before", "not_valid_after", "path_length", "name_constraints"),
    *("public_key", "fingerprint_sha256", "created_at", "crl", "certificate", "chain"),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, new_environment: NewEnvironment) -> Iterator[RunningService]:
    """A service that these tests may turn upside down."""
    with (
        new_environment() as environment,
        RunningService(tmp_path_factory.mktemp("issuers"), environment=environment) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def admin(own: RunningService) -> Iterator[httpx.Client]:
    """Its admin."""
    with own.client() as client:
        yield client


def made(response: httpx.Response) -> dict[str, Any]:
    """Assert a new issuer; return it."""
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    assert set(body) == FIELDS
    assert response.headers["location"] == f"{ISSUERS}/{body['id']}"
    assert "PRIVATE" not in response.text
    return body


def refused(response: httpx.Response, field: str, status: int = 422, kind: str | None = None) -> str:
    """Assert a refusal of one field; return what it says of it."""
    body = problem(response, status, field=field, kind=kind)
    return " ".join(error["message"] for error in body["errors"])


def default_of(client: httpx.Client) -> dict[str, Any]:
    """The default issuer."""
    (found,) = [one for one in client.get(ISSUERS).json()["items"] if one["default"]]
    return dict(found)


def first_two(client: httpx.Client) -> tuple[dict[str, Any], dict[str, Any]]:
    """The root and the issuing CA of a first run."""
    issuing = default_of(client)
    return client.get(f"{ISSUERS}/{issuing['parent_id']}").json(), issuing


def verify(folder: Path, leaf: dict[str, Any], *options: str) -> str:
    """What ``openssl verify`` says of a certificate of ours, with its chain."""
    (folder / "leaf.pem").write_text(leaf["certificate"])
    (folder / "above.pem").write_text("".join(leaf["chain"][:-1]) or leaf["chain"][-1])
    (folder / "root.pem").write_text(leaf["chain"][-1])
    files = ("-CAfile", str(folder / "root.pem"), "-untrusted", str(folder / "above.pem"))
    return openssl("verify", "-x509_strict", *options, *files, folder / "leaf.pem", check=False)


def token(client: httpx.Client, **grant: Any) -> dict[str, str]:  # noqa: ANN401  # JSON
    """The header of a new token."""
    answer = client.post("/api/v1/tokens", json={"name": "t", **grant})
    assert answer.status_code == 201, answer.text
    return {"Authorization": f"Bearer {answer.json()['token']}"}


def crl_of(client: httpx.Client, issuer_id: str) -> x509.CertificateRevocationList:
    """The CRL that is served of an issuer."""
    return x509.load_der_x509_crl(client.get(f"/issuers/{issuer_id}/crl.der").content)


class TestReading:
    def test_the_first_two(self, api: httpx.Client) -> None:
        """The root and the issuing CA of a first run, with all that there is to say of them."""
        root, issuing = first_two(api)
        assert set(root) == set(issuing) == FIELDS
        assert (root["is_root"], root["default"], root["parent_id"], root["chain"]) == (True, False, None, [])
        assert (issuing["is_root"], issuing["default"], issuing["parent_id"]) == (False, True, root["id"])
        assert issuing["chain"] == [root["certificate"]]
        assert (root["path_length"], issuing["path_length"]) == (None, 0)
        assert (issuing["has_key"], issuing["enabled"], issuing["revoked"]) == (True, True, False)
        assert issuing["crl"]["number"] >= 1
        assert issuing["public_key"] == {"algorithm": "ec", "size": None, "curve": "P-256", "parameter_set": None}
        assert api.get(f"{ISSUERS}/{root['id']}").json() == root

    def test_unknown(self, api: httpx.Client) -> None:
        """Of no issuer there is nothing to tell, to change or to revoke."""
        for method, path, body in (
            ("GET", "", None),
            ("PATCH", "", {"enabled": True}),
            ("POST", "/crl", None),
            ("POST", "/revoke", None),
        ):
            problem(api.request(method, f"{ISSUERS}/0123456789abcdef{path}", json=body), 404)

    def test_permissions(self, api: httpx.Client) -> None:
        """Reading needs issuers:read, everything else issuers:manage."""
        reader, manager = token(api, permissions=["issuers:read"]), token(api, permissions=["issuers:manage"])
        known = default_of(api)["id"]
        for method, path, body in (
            ("POST", "", {"common_name": "No"}),
            ("PATCH", f"/{known}", {"enabled": True}),
            ("POST", f"/{known}/crl", None),
            ("POST", f"/{known}/revoke", None),
        ):
            problem(api.request(method, ISSUERS + path, json=body, headers=reader), 403, rule="permission")
        assert api.get(ISSUERS, headers=reader).status_code == 200
        for path in ("", f"/{known}"):
            problem(api.get(ISSUERS + path, headers=manager), 403, rule="permission")

    def test_limits(self, api: httpx.Client) -> None:
        """A token for some issuers sees and manages those alone."""
        root, issuing = first_two(api)
        narrow = token(api, permissions=["issuers:read", "issuers:manage"], issuers=[issuing["id"]])
        assert [one["id"] for one in api.get(ISSUERS, headers=narrow).json()["items"]] == [issuing["id"]]
        assert api.get(f"{ISSUERS}/{issuing['id']}", headers=narrow).status_code == 200
        for method, path, body in (
            ("GET", f"/{root['id']}", None),
            ("PATCH", f"/{root['id']}", {"default": True}),
            ("POST", f"/{root['id']}/crl", None),
            ("POST", f"/{root['id']}/revoke", None),
            ("POST", "", {"common_name": "Below the root"}),
            ("POST", "", foreign_ca().body()),
        ):
            problem(api.request(method, ISSUERS + path, json=body, headers=narrow), 403, rule="issuer")

    def test_limited_in_names(self, api: httpx.Client) -> None:
        """Who may have only some names makes and imports no CA, which would not be held to them."""
        narrow = token(api, permissions=["issuers:manage"], names=["*.example.org"])
        problem(api.post(ISSUERS, json={"common_name": "a.example.org"}, headers=narrow), 403, rule="limits.names")
        problem(api.post(ISSUERS, json=foreign_ca().body(), headers=narrow), 403, rule="limits.names")


class TestMaking:
    def test_name_constraints(self, api: httpx.Client, tmp_path: Path) -> None:
        """A CA for one domain signs there and nowhere else, and openssl and pkilint find nothing wrong with it."""
        body = made(
            api.post(
                ISSUERS,
                json={
                    "common_name": "Constrained CA",
                    "organization": "Example",
                    "country": "de",
                    "key": {"algorithm": "ec", "curve": "P-384"},
                    "lifetime": "365d",
                    "permitted_dns": ["ci.example.org"],
                    "permitted_ip_ranges": ["10.0.0.0/8", "2001:db8::/32"],
                    "permitted_emails": [".example.org"],
                    "permitted_uris": ["spiffe.example.org"],
                    "excluded_dns": ["secret.ci.example.org"],
                },
            )
        )
        assert body["subject"] == "CN=Constrained CA,O=Example,C=DE"
        assert body["name_constraints"] == {
            "permitted": [
                *("dns:ci.example.org", "ip:10.0.0.0/8", "ip:2001:db8::/32"),
                *("email:.example.org", "uri:spiffe.example.org"),
            ],
            "excluded": ["dns:secret.ci.example.org"],
        }
        authority = certificate_of(body)
        assert certificate_findings(authority) == []
        assert authority.extensions.get_extension_for_class(x509.NameConstraints).critical
        crl = crl_of(api, body["id"])
        assert (crl.issuer, list(crl), crl_findings(crl)) == (authority.subject, [], [])
        leaf = issued(
            api.post(
                CERTIFICATES,
                json={"common_name": "app.ci.example.org", "san_ip": ["10.1.2.3"], "issuer_id": body["id"]},
            )
        )
        assert verify(tmp_path, leaf).endswith(": OK\n")
        for names in (
            {"common_name": "app.example.org"},
            {"common_name": "a.secret.ci.example.org"},
            {"san_dns": ["app.ci.example.org"], "san_ip": ["192.0.2.1"]},
            {"san_dns": ["app.ci.example.org"], "san_email": ["a@example.org"]},
            {"san_dns": ["app.ci.example.org"], "san_uri": ["spiffe://other.example.org/a"]},
            {"san_dns": ["app.ci.example.org"], "san_uri": ["spiffe://10.1.2.3/a"]},
        ):
            answer = api.post(CERTIFICATES, json={**names, "issuer_id": body["id"]})
            problem(answer, 403, rule="name_constraints")

    def test_path_length(self, api: httpx.Client, tmp_path: Path) -> None:
        """As many CAs stand below as was asked, each with less room and within the constraints of those above."""
        top = made(api.post(ISSUERS, json={"common_name": "Top", "path_length": 1, "permitted_dns": ["example.org"]}))
        problem(
            api.post(ISSUERS, json={"common_name": "Deep", "parent_id": top["id"], "path_length": 1}),
            403,
            rule="path_length",
        )
        outside = {"common_name": "Out", "parent_id": top["id"], "permitted_dns": ["example.com"]}
        problem(api.post(ISSUERS, json=outside), 403, rule="name_constraints")
        below = made(
            api.post(ISSUERS, json={"common_name": "Below", "parent_id": top["id"], "permitted_dns": ["a.example.org"]})
        )
        assert (below["parent_id"], below["path_length"], len(below["chain"])) == (top["id"], 0, 2)
        assert certificate_findings(certificate_of(below)) == []
        problem(api.post(ISSUERS, json={"common_name": "Deeper", "parent_id": below["id"]}), 403, rule="path_length")
        leaf = issued(api.post(CERTIFICATES, json={"common_name": "a.example.org", "issuer_id": below["id"]}))
        assert len(leaf["chain"]) == 3
        assert verify(tmp_path, leaf).endswith(": OK\n")
        asked = {"common_name": "b.example.org", "issuer_id": below["id"]}
        problem(api.post(CERTIFICATES, json=asked), 403, rule="name_constraints")

    @pytest.mark.parametrize(
        "key", [{"algorithm": "rsa", "size": 2048}, {"algorithm": "ed25519"}, {"algorithm": "mldsa"}], ids=str
    )
    def test_kinds_of_keys(self, api: httpx.Client, key: dict[str, Any]) -> None:
        """A CA may have any kind of key that certificates have."""
        body = made(api.post(ISSUERS, json={"common_name": f"CA {key['algorithm']}", "key": key}))
        assert body["public_key"]["algorithm"] == key["algorithm"]
        assert certificate_findings(certificate_of(body)) == []
        issued(api.post(CERTIFICATES, json={"common_name": "app.example.org", "issuer_id": body["id"]}))

    @pytest.mark.parametrize(
        "body,field",
        [
            ({}, "common_name"),
            ({"common_name": ""}, "common_name"),
            ({"common_name": "x" * 65}, "common_name"),
            ({"common_name": "a\nb"}, "common_name"),
            ({"common_name": "CA", "country": "12"}, "country"),
            ({"common_name": "CA", "parent_id": "0123456789abcdef"}, "parent_id"),
            ({"common_name": "CA", "path_length": -1}, "path_length"),
            ({"common_name": "CA", "path_length": True}, "path_length"),
            ({"common_name": "CA", "key": {"algorithm": "dsa"}}, "key.algorithm"),
            ({"common_name": "CA", "lifetime": "soon"}, "lifetime"),
            ({"common_name": "CA", "permited_dns": ["example.org"]}, "permited_dns"),
            ({"common_name": "CA", "permitted_dns": []}, "permitted_dns"),
            ({"common_name": "CA", "permitted_dns": "example.org"}, "permitted_dns"),
            ({"common_name": "CA", "permitted_dns": [".example.org"]}, "permitted_dns"),
            ({"common_name": "CA", "permitted_dns": ["*.example.org"]}, "permitted_dns"),
            ({"common_name": "CA", "permitted_dns": ["exa mple.org"]}, "permitted_dns"),
            ({"common_name": "CA", "permitted_dns": ["münchen.example"]}, "permitted_dns"),
            ({"common_name": "CA", "permitted_ip_ranges": ["10.0.0.1/8"]}, "permitted_ip_ranges"),
            ({"common_name": "CA", "permitted_ip_ranges": ["fe80::%1/64"]}, "permitted_ip_ranges"),
            ({"common_name": "CA", "permitted_emails": ["@example.org"]}, "permitted_emails"),
            ({"common_name": "CA", "permitted_emails": ["a b@example.org"]}, "permitted_emails"),
            ({"common_name": "CA", "permitted_uris": ["https://example.org/"]}, "permitted_uris"),
            ({"common_name": "CA", "permitted_uris": ["*.example.org"]}, "permitted_uris"),
            ({"common_name": "CA", "excluded_dns": ["a..b"]}, "excluded_dns"),
        ],
        ids=str,
    )
    def test_bad_fields(self, api: httpx.Client, body: dict[str, Any], field: str) -> None:
        """What is wrong is named, and no CA is made."""
        before = len(api.get(ISSUERS).json()["items"])
        # A field inside a list is named with its place.
        answer = problem(api.post(ISSUERS, json=body), 422)
        assert any(error["field"].startswith(field) for error in answer["errors"]), answer
        assert len(api.get(ISSUERS).json()["items"]) == before

    def test_too_many_subtrees(self, api: httpx.Client) -> None:
        """A CA has 100 subtrees at most, of all kinds together."""
        some = [f"a{number}.example.org" for number in range(60)]
        body = {"common_name": "CA", "permitted_dns": some, "excluded_dns": some}
        assert "100" in refused(api.post(ISSUERS, json=body), "permitted_dns", kind="too-large")

    def test_policy(self, api: httpx.Client) -> None:
        """A name that a CA has already, and a lifetime beyond the parent's, are refused by their rules."""
        known = default_of(api)
        again = {"common_name": known["common_name"], "organization": "tiny-ca"}
        problem(api.post(ISSUERS, json=again), 403, rule="subject")
        problem(api.post(ISSUERS, json={"common_name": "Long", "lifetime": "3651d"}), 403, rule="max_lifetime")
        problem(api.post(ISSUERS, json={"common_name": "Long", "lifetime": "3650d"}), 403, rule="issuer_validity")
        problem(api.post(ISSUERS, json={"common_name": "Low", "parent_id": known["id"]}), 403, rule="path_length")

    def test_idempotency(self, api: httpx.Client) -> None:
        """The same request with the same key makes one CA, also when it comes many times at once."""
        headers = {"Idempotency-Key": "one-ca"}
        body = {"common_name": "Once"}
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: api.post(ISSUERS, json=body, headers=headers), range(8)))
        assert {answer.status_code for answer in answers} == {201}
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert [one["common_name"] for one in api.get(ISSUERS).json()["items"]].count("Once") == 1
        problem(api.post(ISSUERS, json={"common_name": "Twice"}, headers=headers), 409)

    def test_audit(self, api: httpx.Client) -> None:
        """The intent is written before the key signs, the success with the CA."""
        body = made(api.post(ISSUERS, json={"common_name": "Audited"}, headers={"X-Request-Id": "make-audited"}))
        rows = api.get("/api/v1/audit", params={"request_id": "make-audited"}).json()["items"]
        assert [(row["action"], row["outcome"]) for row in rows] == [
            ("issuer.create", "success"),
            ("issuer.create", "intended"),
        ]
        assert (rows[0]["serial_number"], rows[0]["issuer_id"]) == (body["serial_number"], body["id"])

    def test_the_example(self, api: httpx.Client) -> None:
        """The example of the OpenAPI document makes a CA."""
        content = api.get("/openapi.json").json()["paths"][ISSUERS]["post"]["requestBody"]["content"]
        made(api.post(ISSUERS, json=content["application/json"]["examples"]["make"]["value"]))


class TestImport:
    def test_pem(self, api: httpx.Client, tmp_path: Path) -> None:
        """A CA with its chain signs here; its root joins the trust anchors; what is above it is known without a key."""
        root = foreign_ca()
        middle = foreign_ca(parent=root)
        issuing = foreign_ca(parent=middle, path_length=0)
        body = made(api.post(ISSUERS, json=issuing.body()))
        assert (body["is_root"], body["has_key"], body["chain"]) == (False, True, [middle.pem, root.pem])
        above = api.get(f"{ISSUERS}/{body['parent_id']}").json()
        assert (above["certificate"], above["has_key"], above["crl"]) == (middle.pem, False, None)
        assert root.pem in api.get("/roots.pem").text
        leaf = issued(api.post(CERTIFICATES, json={"common_name": "app.example.org", "issuer_id": body["id"]}))
        assert verify(tmp_path, leaf).endswith(": OK\n")
        crl = crl_of(api, body["id"])
        assert crl.is_signature_valid(issuing.key.public_key())
        # What it may have given out elsewhere is less.
        assert body["crl"]["number"] > time.time() * 1_000_000 - 3600 * 10**6
        revoked = api.post(f"{CERTIFICATES}/{leaf['serial_number']}/revoke")
        assert revoked.status_code == 200
        assert len(list(crl_of(api, body["id"]))) == 1

    def test_pkcs12(self, api: httpx.Client) -> None:
        """The same from one PKCS #12 file."""
        issuing = foreign_ca(parent=foreign_ca())
        body = made(api.post(ISSUERS, json={"pkcs12": issuing.pkcs12("secret"), "pkcs12_password": "secret"}))
        assert (body["certificate"], body["chain"]) == (issuing.pem, issuing.chain)
        issued(api.post(CERTIFICATES, json={"common_name": "app.example.org", "issuer_id": body["id"]}))

    def test_pkcs12_of_openssl(self, api: httpx.Client, tmp_path: Path) -> None:
        """A file that openssl wrote is read, its many rounds too."""
        root = foreign_ca()
        (tmp_path / "ca.pem").write_text(root.pem)
        (tmp_path / "ca.key").write_text(root.key_pem())
        openssl(
            *("pkcs12", "-export", "-inkey", tmp_path / "ca.key", "-in", tmp_path / "ca.pem", "-iter", "600000"),
            *("-out", tmp_path / "ca.p12", "-passout", "pass:secret"),
        )
        content = base64.b64encode((tmp_path / "ca.p12").read_bytes()).decode()
        assert made(api.post(ISSUERS, json={"pkcs12": content, "pkcs12_password": "secret"}))["is_root"]

    def test_pkcs12_by_curl(self, service: RunningService, tmp_path: Path) -> None:
        """As ``docs/issuers.md`` has it: a file, jq and curl."""
        root = foreign_ca()
        (tmp_path / "ca.p12").write_bytes(base64.b64decode(root.pkcs12("secret")))
        command = re.search(r"^jq .*ca\.p12.* \|\n.* -d @-$", _DOCUMENT.read_text(), re.MULTILINE)
        assert command is not None
        environment = {"CA": f"{service.url}/api/v1", "AUTH": f"Authorization: Bearer {service.token}"}
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command[0]],
            cwd=tmp_path,
            env={**os.environ, **environment, "PASSWORD": "secret"},
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["certificate"] == root.pem

    def test_the_chain_as_one_text(self, api: httpx.Client) -> None:
        """The chain may be one PEM text, in any order, with the CA itself in it."""
        issuing = foreign_ca(parent=foreign_ca(parent=foreign_ca()))
        text = "".join(reversed([issuing.pem, *issuing.chain]))
        assert made(api.post(ISSUERS, json=issuing.body(chain=text)))["chain"] == issuing.chain

    def test_a_known_chain(self, api: httpx.Client) -> None:
        """What is above it need not be sent where it is known here."""
        root = foreign_ca()
        made(api.post(ISSUERS, json=root.body()))
        below = foreign_ca(parent=root)
        body = below.body(None)
        del body["chain"]
        assert made(api.post(ISSUERS, json=body))["chain"] == [root.pem]
        # The key of its parent is here, so it can be revoked.
        revoked = api.post(f"{ISSUERS}/{body_id(below)}/revoke").json()
        assert revoked["revoked"] is True
        assert [one.serial_number for one in crl_of(api, body_id(root))] == [below.certificate.serial_number]

    def test_there_already(self, api: httpx.Client) -> None:
        """A CA that is here is not imported again, nor another one of its name."""
        root = foreign_ca()
        made(api.post(ISSUERS, json=root.body()))
        assert "already" in detail_of_refusal(api.post(ISSUERS, json=root.body()), 409)
        namesake = foreign_ca(root.certificate.subject.rfc4514_string().removeprefix("CN="))
        assert "name" in detail_of_refusal(api.post(ISSUERS, json=namesake.body()), 409)
        known = certificate_of(default_of(api))
        ours = foreign_ca(str(known.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value))
        made(api.post(ISSUERS, json=ours.body()))  # no organization: another name
        serial = foreign_ca(serial_number=root.certificate.serial_number)
        assert "serial number" in detail_of_refusal(api.post(ISSUERS, json=serial.body()), 409)

    def test_passwords(self, api: httpx.Client) -> None:
        """A wrong, a missing and a needless password are told apart from a wrong key."""
        root = foreign_ca()

        def post(body: dict[str, Any]) -> httpx.Response:
            return api.post(ISSUERS, json=body)

        assert "does not open" in refused(post(root.body(private_key_password="wrong")), "private_key_password")
        assert "send its password" in refused(
            post(_without(root.body(), "private_key_password")), "private_key_password"
        )
        assert "not encrypted" in refused(post(root.body(None, private_key_password="x")), "private_key_password")
        file = {"pkcs12": root.pkcs12("secret"), "pkcs12_password": "wrong"}
        assert "does not open" in refused(post(file), "pkcs12_password")
        made(post(root.body()))

    def test_another_key(self, api: httpx.Client) -> None:
        """The key of another certificate is refused."""
        root = foreign_ca()
        body = root.body(private_key=foreign_ca().key_pem("password"))
        assert "does not belong" in refused(api.post(ISSUERS, json=body), "private_key")

    @pytest.mark.parametrize(
        "how,text",
        [
            ({"ca": False, "usages": ["digital_signature"]}, "is no CA"),
            ({"usages": ["crl_sign"]}, "keyCertSign"),
            ({"usages": ["key_cert_sign"]}, "cRLSign"),
            ({"starts": timedelta(days=-10), "lasts": timedelta(days=9)}, "expired"),
            ({"starts": timedelta(days=1)}, "valid from"),
            ({"more": [(x509.PolicyConstraints(0, None), True)]}, "critical extension 2.5.29.36"),
        ],
        ids=str,
    )
    def test_unfit(self, api: httpx.Client, how: dict[str, Any], text: str) -> None:
        """What cannot work as a CA here is refused, whether it is the CA itself or one above it."""
        unfit = foreign_ca(**how)
        assert text in refused(api.post(ISSUERS, json=unfit.body()), "certificate")
        file = {"pkcs12": unfit.pkcs12("secret"), "pkcs12_password": "secret"}
        assert text in refused(api.post(ISSUERS, json=file), "pkcs12")
        assert text in refused(api.post(ISSUERS, json=foreign_ca(parent=unfit).body()), "chain")

    def test_broken_chains(self, api: httpx.Client) -> None:
        """A chain that ends nowhere, was signed by another, is too deep or breaks what is above it is refused."""
        root = foreign_ca()
        middle = foreign_ca(parent=root)
        issuing = foreign_ca(parent=middle)
        for chain in ([], [middle.pem], [root.pem]):
            assert "chain breaks" in refused(api.post(ISSUERS, json=issuing.body(chain=chain)), "chain")
        forged = foreign_ca(parent=root, signed_by=foreign_ca())
        assert "did not sign" in refused(api.post(ISSUERS, json=forged.body()), "chain")
        shallow = foreign_ca(parent=foreign_ca(parent=foreign_ca(path_length=0)))
        assert "0 CAs below" in refused(api.post(ISSUERS, json=shallow.body()), "chain")
        stranger = issuing.body(chain=[*issuing.chain, foreign_ca("Stranger").pem])
        assert "Stranger" in refused(api.post(ISSUERS, json=stranger), "chain")
        constrained = foreign_ca(more=[(x509.NameConstraints([x509.DNSName("example.org")], None), True)])
        named = foreign_ca(
            parent=constrained, more=[(x509.SubjectAlternativeName([x509.DNSName("ca.example.com")]), False)]
        )
        assert "name constraints" in refused(api.post(ISSUERS, json=named.body()), "chain")

    def test_constraints_of_an_imported_ca(self, api: httpx.Client) -> None:
        """What stands above an imported CA holds for what it signs here."""
        constraints = x509.NameConstraints([x509.DNSName("example.org")], [x509.DNSName("no.example.org")])
        issuing = foreign_ca(parent=foreign_ca(more=[(constraints, True)]))
        body = made(api.post(ISSUERS, json=issuing.body()))
        issued(api.post(CERTIFICATES, json={"common_name": "app.example.org", "issuer_id": body["id"]}))
        for name in ("app.example.com", "a.no.example.org"):
            asked = {"common_name": name, "issuer_id": body["id"]}
            problem(api.post(CERTIFICATES, json=asked), 403, rule="name_constraints")

    @pytest.mark.parametrize(
        "change,field",
        [
            ({"certificate": "no PEM"}, "certificate"),
            ({"certificate": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"}, "certificate"),
            ({"certificate": 1}, "certificate"),
            ({"chain": ["no PEM"]}, "chain"),
            ({"private_key": "no PEM"}, "private_key"),
            (
                {"private_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----"},
                "private_key",
            ),
            (
                {"private_key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA!A\n-----END ENCRYPTED PRIVATE KEY-----"},
                "private_key",
            ),
            (
                {"private_key": "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----"},
                "private_key",
            ),
            ({"private_key": "x" * 10_001}, "private_key"),
            ({"private_key_password": ""}, "private_key_password"),
            ({"lifetime": "90d"}, "lifetime"),
        ],
        ids=str,
    )
    def test_bad_pem(self, api: httpx.Client, change: dict[str, Any], field: str) -> None:
        """Text that is not what it should be is refused by its field's name, and nothing of a secret is shown."""
        answer = api.post(ISSUERS, json=foreign_ca().body(**change))
        refused(answer, field) if field != "chain" else problem(answer, 422)
        assert "password" not in answer.json()["detail"].replace("private_key_password", "")

    @pytest.mark.parametrize(
        "content,field",
        [("", "pkcs12"), ("é", "pkcs12"), ("AAAA", "pkcs12"), ("MIIB", "pkcs12"), ("MAA=", "pkcs12_password")],
    )
    def test_bad_pkcs12(self, api: httpx.Client, content: str, field: str) -> None:
        """What is no PKCS #12 is refused."""
        refused(api.post(ISSUERS, json={"pkcs12": content, "pkcs12_password": "x"}), field)

    def test_bombs(self, api: httpx.Client, tmp_path: Path) -> None:
        """A few octets that ask for hours of hashing are refused at once, wherever they ask for it."""
        root = foreign_ca()
        (tmp_path / "ca.pem").write_text(root.pem)
        (tmp_path / "ca.key").write_text(root.key_pem())
        good = base64.b64decode(root.pkcs12("secret"))
        bodies: list[dict[str, Any]] = []
        # The rounds of the MAC are the last value of the file.
        assert good[-4:-2] == b"\x02\x02"
        bodies.append(_p12(_grown(good, good[-4:], b"\x02\x04\x7f\xff\xff\xff")))
        openssl(
            *("pkcs12", "-export", "-inkey", tmp_path / "ca.key", "-in", tmp_path / "ca.pem", "-iter", "5000001"),
            *("-nomaciter", "-out", tmp_path / "ca.p12", "-passout", "pass:secret"),
        )
        bodies.append(_p12((tmp_path / "ca.p12").read_bytes()))
        bodies.extend(root.body(private_key=encrypted) for encrypted in (_pbkdf2(2**31 - 1), _scrypt(2**14, 8, 17)))
        began = time.monotonic()
        for body in bodies:
            answer = api.post(ISSUERS, json=body)
            refused(answer, "pkcs12" if "pkcs12" in body else "private_key", kind="too-large")
        assert time.monotonic() - began < 1

    def test_a_blocked_key(self, api: httpx.Client) -> None:
        """A CA whose key is known to be compromised stays out, under whatever certificate."""
        parent = foreign_ca()
        made(api.post(ISSUERS, json=parent.body()))
        issuing = foreign_ca(parent=parent)
        made(api.post(ISSUERS, json=issuing.body()))
        assert api.post(f"{ISSUERS}/{body_id(issuing)}/revoke", json={"reason": "keyCompromise"}).status_code == 200
        again = _same_key(issuing, parent)
        problem(api.post(ISSUERS, json=again.body()), 403, rule="key_blocked")

    def test_idempotency(self, api: httpx.Client) -> None:
        """An import that is sent again answers as the first time."""
        body, headers = foreign_ca().body(), {"Idempotency-Key": "import-once"}
        first, second = (made(api.post(ISSUERS, json=body, headers=headers)) for _ in range(2))
        assert first == second

    def test_nothing_secret_is_logged(self, own: RunningService, admin: httpx.Client) -> None:
        """Neither the key nor the password of an import is in the log or in the audit."""
        root = foreign_ca()
        made(admin.post(ISSUERS, json=root.body("a-very-secret-password")))
        refused(admin.post(ISSUERS, json=root.body("a-very-secret-password", chain="no")), "chain")
        audit = admin.get("/api/v1/audit").text
        for secret in ("a-very-secret-password", root.key_pem("x").splitlines()[1][:20], "PRIVATE KEY"):
            assert secret not in own.log
            assert secret not in audit


class TestChanging:
    @pytest.mark.parametrize(
        "body,field",
        [
            ({}, "body"),
            ({"default": False}, "default"),
            ({"enabled": "yes"}, "enabled"),
            ({"enabled": None}, "body"),
            ({"name": "x"}, "name"),
        ],
        ids=str,
    )
    def test_bad_fields(self, api: httpx.Client, body: dict[str, Any], field: str) -> None:
        """A change says what it changes."""
        refused(api.patch(f"{ISSUERS}/{default_of(api)['id']}", json=body), field)

    def test_disabled(self, admin: httpx.Client) -> None:
        """A disabled issuer issues nothing, and signs its CRLs all the same; enabled, it issues again."""
        issuer = made(admin.post(ISSUERS, json={"common_name": "Switched"}))["id"]
        path, asked = f"{ISSUERS}/{issuer}", {"common_name": "app.example.org", "issuer_id": issuer}
        changed = admin.patch(path, json={"enabled": False})
        assert (changed.status_code, changed.json()["enabled"]) == (200, False)
        assert "disabled" in detail_of_refusal(admin.post(CERTIFICATES, json=asked), 409)
        assert "disabled" in detail_of_refusal(admin.patch(path, json={"default": True}), 409)
        assert admin.post(f"{path}/crl").status_code == 200
        assert admin.get(f"/issuers/{issuer}.der").status_code == 200
        assert admin.patch(path, json={"enabled": True}).json()["enabled"] is True
        issued(admin.post(CERTIFICATES, json=asked))

    def test_default(self, admin: httpx.Client) -> None:
        """The default passes from one issuer to another, and with it ``/ca.pem`` and ``/crl.pem``."""
        before = default_of(admin)
        new = made(admin.post(ISSUERS, json={"common_name": "The new default"}))
        assert admin.patch(f"{ISSUERS}/{new['id']}", json={"default": True}).json()["default"] is True
        assert default_of(admin)["id"] == new["id"]
        assert admin.get("/ca.pem").text == new["certificate"] + "".join(new["chain"])
        crl = x509.load_pem_x509_crl(admin.get("/crl.pem").content)
        assert crl.issuer == certificate_of(new).subject
        assert issued(admin.post(CERTIFICATES, json={"common_name": "app.example.org"}))["issuer_id"] == new["id"]
        assert admin.patch(f"{ISSUERS}/{before['id']}", json={"default": True}).json()["default"] is True
        assert admin.get(f"{ISSUERS}/{new['id']}").json()["default"] is False
        rows = admin.get("/api/v1/audit", params={"action": "issuer.change"}).json()["items"]
        again = admin.patch(f"{ISSUERS}/{before['id']}", json={"default": True, "enabled": True})
        assert again.status_code == 200
        assert admin.get("/api/v1/audit", params={"action": "issuer.change"}).json()["items"] == rows

    def test_limited(self, admin: httpx.Client) -> None:
        """Who may manage some issuers takes the default from none of the others."""
        mine = made(admin.post(ISSUERS, json={"common_name": "Mine"}))["id"]
        narrow = token(admin, permissions=["issuers:manage"], issuers=[mine])
        assert admin.patch(f"{ISSUERS}/{mine}", json={"enabled": True}, headers=narrow).status_code == 200
        answer = admin.patch(f"{ISSUERS}/{mine}", json={"default": True}, headers=narrow)
        problem(answer, 403, rule="issuer")

    def test_without_a_key(self, api: httpx.Client) -> None:
        """A CA that is only known becomes no default, makes no CA and no CRL, and revokes nothing: 409 says why."""
        root = foreign_ca()
        issuing = made(api.post(ISSUERS, json=foreign_ca(parent=root).body()))
        parent = issuing["parent_id"]
        assert "key" in detail_of_refusal(api.patch(f"{ISSUERS}/{parent}", json={"default": True}), 409)
        below = {"common_name": "Below", "parent_id": parent}
        assert "tiny-ca root import" in detail_of_refusal(api.post(ISSUERS, json=below), 409)
        assert "not here" in detail_of_refusal(api.post(f"{ISSUERS}/{parent}/crl"), 409)
        assert "disable" in detail_of_refusal(api.post(f"{ISSUERS}/{issuing['id']}/revoke"), 409)
        assert api.get(f"{ISSUERS}/{issuing['id']}").json()["revoked"] is False


class TestCRL:
    def test_now(self, api: httpx.Client) -> None:
        """A new CRL has the next number, and is served before the answer comes."""
        issuer = default_of(api)
        answer = api.post(f"{ISSUERS}/{issuer['id']}/crl")
        assert answer.status_code == 200
        body = answer.json()
        assert set(body) == {"issuer_id", "number", "this_update", "next_update", "crl"}
        served = crl_of(api, issuer["id"])
        assert served.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number >= body["number"]
        assert body["number"] > issuer["crl"]["number"]
        assert crl_findings(x509.load_pem_x509_crl(body["crl"].encode())) == []


class TestRevoking:
    def test_an_intermediate(self, admin: httpx.Client, tmp_path: Path) -> None:
        """Its parent's CRL shows it before the answer comes; it and what stands below it issue nothing any more."""
        top = made(admin.post(ISSUERS, json={"common_name": "Doomed", "path_length": 1}))
        below = made(admin.post(ISSUERS, json={"common_name": "Doomed too", "parent_id": top["id"]}))
        leaf = issued(admin.post(CERTIFICATES, json={"common_name": "app.example.org", "issuer_id": below["id"]}))
        answer = admin.post(f"{ISSUERS}/{top['id']}/revoke", json={"reason": "cACompromise"})
        assert answer.status_code == 200
        body = answer.json()
        assert (body["revoked"], body["revocation_reason"]) == (True, "cACompromise")
        listed = crl_of(admin, top["parent_id"]).get_revoked_certificate_by_serial_number(int(top["serial_number"], 16))
        assert listed is not None
        for issuer in (top, below):
            asked = {"common_name": "app.example.org", "issuer_id": issuer["id"]}
            assert "revoked" in detail_of_refusal(admin.post(CERTIFICATES, json=asked), 409)
        default = admin.patch(f"{ISSUERS}/{below['id']}", json={"default": True})
        assert "revoked" in detail_of_refusal(default, 409)
        below_it = {"common_name": "Late", "parent_id": top["id"]}
        assert "revoked" in detail_of_refusal(admin.post(ISSUERS, json=below_it), 409)
        # openssl agrees, with the CRLs of every CA in the chain.
        crls = "".join(ssl_pem(admin, one) for one in (below["id"], top["id"], top["parent_id"]))
        (tmp_path / "crls.pem").write_text(crls)
        assert "certificate revoked" in verify(tmp_path, leaf, "-crl_check_all", "-CRLfile", str(tmp_path / "crls.pem"))
        assert admin.post(f"{ISSUERS}/{top['id']}/revoke", json={"reason": "cACompromise"}).status_code == 200
        problem(admin.post(f"{ISSUERS}/{top['id']}/revoke", json={"reason": "superseded"}), 409)

    def test_a_root(self, api: httpx.Client) -> None:
        """A root cannot be revoked, ours or an imported one."""
        root = made(api.post(ISSUERS, json=foreign_ca().body()))["id"]
        for one in (root, default_of(api)["parent_id"]):
            assert "root" in detail_of_refusal(api.post(f"{ISSUERS}/{one}/revoke"), 409)

    @pytest.mark.parametrize("reason", ["removeFromCRL", "because", ""])
    def test_bad_reasons(self, api: httpx.Client, reason: str) -> None:
        """A reason is one of RFC 5280's."""
        issuer = made(api.post(ISSUERS, json={"common_name": f"Kept {reason}"}))["id"]
        refused(api.post(f"{ISSUERS}/{issuer}/revoke", json={"reason": reason}), "reason")
        assert api.get(f"{ISSUERS}/{issuer}").json()["revoked"] is False


def test_other_processes_learn_of_it(tmp_path: Path, environment: dict[str, str]) -> None:
    """With several workers, what one of them changed holds in all within about a second."""
    with RunningService(tmp_path, "--workers", "2", environment=environment) as service:
        service.wait_until_ready()
        with service.client() as client:
            new = made(client.post(ISSUERS, json={"common_name": "Everywhere"}))["id"]
            time.sleep(1.5)
            client.patch(f"{ISSUERS}/{new}", json={"enabled": False})
        asked = {"common_name": "app.example.org", "issuer_id": new}
        for _ in range(8):  # each connection may meet the other worker
            with service.client() as client:
                assert "disabled" in detail_of_refusal(client.post(CERTIFICATES, json=asked), 409)
                assert client.get(f"/issuers/{new}.der").status_code == 200


def ssl_pem(client: httpx.Client, issuer_id: str) -> str:
    """The CRL of an issuer as PEM, by openssl."""
    der = client.get(f"/issuers/{issuer_id}/crl.der").content
    return subprocess.run(
        ["openssl", "crl", "-inform", "DER"], input=der, capture_output=True, check=True
    ).stdout.decode()


def body_id(authority: ForeignCA) -> str:
    """The id that an imported CA gets."""
    return authority.certificate.fingerprint(hashes.SHA256()).hex()[:16]


def _without(body: dict[str, Any], field: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if name != field}


def _p12(content: bytes) -> dict[str, str]:
    return {"pkcs12": base64.b64encode(content).decode(), "pkcs12_password": "secret"}


def _grown(content: bytes, old: bytes, new: bytes) -> bytes:
    """DER whose last value, in SEQUENCEs of two-octet lengths or shorter, was replaced by a longer one."""
    changed = bytearray(content[: -len(old)] + new)
    more = len(new) - len(old)
    changed[2:4] = (int.from_bytes(changed[2:4], "big") + more).to_bytes(2, "big")  # PFX
    for at in range(len(changed) - len(new) - 120, len(changed)):  # MacData: the SEQUENCE that reached to the end
        if changed[at] == 0x30 and changed[at + 1] == len(content) - at - 2:
            changed[at + 1] += more
            return bytes(changed)
    raise AssertionError("no MacData")


def _pbkdf2(rounds: int) -> str:
    """An encrypted key, as long as nobody tries to open it."""
    return _pbes2("1.2.840.113549.1.5.12", der.integer(rounds))


def _scrypt(*numbers: int) -> str:
    return _pbes2("1.3.6.1.4.1.11591.4.11", *map(der.integer, numbers))


def _pbes2(kdf: str, *numbers: bytes) -> str:
    derivation = der.sequence(der.object_identifier(kdf), der.sequence(der.octet_string(b"salt" * 4), *numbers))
    cipher = der.sequence(der.object_identifier("2.16.840.1.101.3.4.1.42"), der.octet_string(b"v" * 16))
    scheme = der.sequence(der.object_identifier("1.2.840.113549.1.5.13"), der.sequence(derivation, cipher))
    encoded = base64.b64encode(der.sequence(scheme, der.octet_string(b"c" * 160))).decode()
    return f"-----BEGIN ENCRYPTED PRIVATE KEY-----\n{encoded}\n-----END ENCRYPTED PRIVATE KEY-----\n"


def _same_key(authority: ForeignCA, parent: ForeignCA) -> ForeignCA:
    """Another certificate, by the same parent, for the key of a CA."""
    before = authority.certificate
    builder = x509.CertificateBuilder(
        issuer_name=before.issuer,
        subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Under another name")]),
        public_key=authority.key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=before.not_valid_before_utc,
        not_valid_after=before.not_valid_after_utc,
        extensions=list(before.extensions),
    )
    key = parent.key
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return ForeignCA(builder.sign(key, hashes.SHA256()), authority.key, authority.above)
