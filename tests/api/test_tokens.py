"""API tokens: made, shown once, held to what they grant, never more than their maker has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509

from app.auth.token_format import is_mistyped, make_token
from tests.api.answers import issued, problem
from tests.api.asking import csr, fresh_key, fresh_name
from tests.running import CERTIFICATES, RunningService
from tests.stored import everything

TOKENS = "/api/v1/tokens"
JSON = {"Accept": "application/json"}
ALL = ["certificates:issue", "certificates:read", "certificates:revoke", "tokens:manage"]


def _make(api: httpx.Client, **fields: Any) -> dict[str, Any]:  # noqa: ANN401  # the body
    response = api.post(TOKENS, json={"name": "a test's", "permissions": ALL, **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    assert response.headers["location"] == f"{TOKENS}/{body['id']}"
    assert response.headers["cache-control"] == "no-store"
    return body


@contextmanager
def _as(service: RunningService, token: dict[str, Any]) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {token['token']}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=30) as client:
        yield client


def _in_a_day() -> str:
    return (datetime.now(UTC) + timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


class TestMaking:
    def test_shown_once(self, api: httpx.Client, service: RunningService) -> None:
        """The token is in the answer that makes it and nowhere else: not in the list, the database or the log."""
        made = _make(api, names=["*.ci.example.org"], profiles=["ci"], max_lifetime="1h", expires_at=_in_a_day())
        assert re.fullmatch(r"tcat_[0-9A-Za-z]{49}", made["token"])
        (listed,) = [one for one in api.get(TOKENS).json()["items"] if one["id"] == made["id"]]
        assert {name: value for name, value in made.items() if name != "token"} == listed
        assert listed["max_lifetime"] == "1h"
        secret = made["token"].removeprefix("tcat_")
        stored = everything(service.database_url)
        assert made["id"] in stored
        assert secret not in stored
        assert secret not in service.log

    @pytest.mark.parametrize(
        "fields, field",
        [
            ({"permissions": ["certificates:own"]}, "permissions"),
            ({"permissions": ["certificates:issue", 7]}, "permissions"),
            ({"permissions": None}, "body"),
            ({"role": "admin"}, "body"),
            ({"permissions": None, "role": "king"}, "role"),
            ({"name": ""}, "name"),
            ({"name": "a\nb"}, "name"),
            ({"names": ["a.*.b"]}, "names"),
            ({"names": ["*"]}, None),
            ({"names": ["bücher.example.org"]}, "names"),
            ({"ip_ranges": ["10.0.0.1/8"]}, "ip_ranges"),
            ({"uris": ["no uri"]}, "uris"),
            ({"emails": ["nobody"]}, "emails"),
            ({"subject": ["Example"]}, "subject"),
            ({"subject": ["common_name=a"]}, "subject"),
            ({"subject": ["email=a@example.org"]}, "subject"),
            ({"subject": ["country=Germany"]}, "subject"),
            ({"subject": ["organization="]}, "subject"),
            ({"max_lifetime": "15 parsecs"}, "max_lifetime"),
            ({"expires_at": "tomorrow"}, "expires_at"),
            ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
            ({"lifetme": "1h"}, "lifetme"),
        ],
        ids=str,
    )
    def test_wrong_fields(self, api: httpx.Client, fields: dict[str, Any], field: str | None) -> None:
        """A field that is wrong is named, an unknown permission with those that there are."""
        response = api.post(TOKENS, json={"name": "a test's", "permissions": ALL, **fields})
        if field is None:
            assert response.status_code == 201
        else:
            body = problem(response, 422, field=field)
            assert field != "permissions" or "certificates:issue" in body["detail"]

    @pytest.mark.parametrize("role", ["admin", "operator", "auditor", "issuer"])
    def test_roles(self, api: httpx.Client, role: str) -> None:
        """A role is a bundle of permissions; only an admin's makes tokens and issuers."""
        made = _make(api, permissions=None, role=role)
        assert ("tokens:manage" in made["permissions"]) is (role == "admin")
        assert ("issuers:manage" in made["permissions"]) is (role == "admin")
        assert ("audit:read" in made["permissions"]) is (role != "issuer")
        assert ("certificates:issue" in made["permissions"]) is (role != "auditor")

    def test_again_with_its_key(self, api: httpx.Client) -> None:
        """A token is not made twice for one idempotency key, nor shown twice: 409 names it."""
        key = {"Idempotency-Key": fresh_name()}
        body = {"name": "once", "role": "issuer"}
        made = api.post(TOKENS, json=body, headers=key).json()
        again = problem(api.post(TOKENS, json=body, headers=key), 409)
        assert made["id"] in again["detail"]
        assert made["token"] not in str(again)
        problem(api.post(TOKENS, json={**body, "name": "twice"}, headers=key), 409)
        assert [one["name"] for one in api.get(TOKENS).json()["items"]].count("once") == 1


class TestForm:
    def test_checksum(self) -> None:
        """A token's own checksum fits; any other character in its place does not."""
        token = make_token()
        assert not is_mistyped(token)
        for at in range(5, len(token)):
            other = "0" if token[at] != "0" else "1"
            assert is_mistyped(token[:at] + other + token[at + 1 :])

    def test_a_typo_is_told(self, api: httpx.Client, anybody: httpx.Client) -> None:
        """A token with a typo, or cut, is told apart from one that is unknown; nothing of those that exist is told."""
        token = _make(api)["token"]
        typo = token[:-1] + ("0" if token[-1] != "0" else "1")
        faulty = "this is no token of ours: its checksum is wrong; check for typing or cutting"
        said = [(typo, faulty), (token[:-1], faulty), (token + "0", faulty), ("tcat_", faulty)]
        for wrong, says in (*said, (make_token(), "the token is not known"), ("x" * 54, "the token is not known")):
            response = anybody.get(CERTIFICATES, headers={"Authorization": f"Bearer {wrong}"})
            assert problem(response, 401)["detail"] == says


class TestLimits:
    def test_what_is_asked_must_be_granted(self, api: httpx.Client, service: RunningService) -> None:
        """Names, profile, lifetime and permission outside the token's are refused with the rule; inside, issued."""
        token = _make(
            api,
            permissions=["certificates:issue"],
            profiles=["ci"],
            names=["*.ci.example.org"],
            max_lifetime="30m",
        )
        with _as(service, token) as caller:
            good = {"profile": "ci", "lifetime": "15m"}
            inside, outside = csr("a.ci.example.org"), csr("a.example.org")
            assert (
                issued(caller.post(CERTIFICATES, content=inside, params=good, headers=JSON))["requester"] == token["id"]
            )
            problem(caller.post(CERTIFICATES, content=outside, params=good), 403, rule="limits.names")
            problem(caller.post(CERTIFICATES, content=csr("ci.example.org"), params=good), 403, rule="limits.names")
            problem(caller.post(CERTIFICATES, content=inside, params={"profile": "server"}), 403, rule="profile")
            long = {"profile": "ci", "lifetime": "31m"}
            problem(caller.post(CERTIFICATES, content=inside, params=long), 403, rule="limits.max_lifetime")
            address = csr("a.ci.example.org", x509.DNSName("a.ci.example.org"), x509.RFC822Name("a@ci.example.org"))
            problem(caller.post(CERTIFICATES, content=address, params=good), 403, rule="limits.names")
            problem(caller.get(CERTIFICATES), 403, rule="permission")
            problem(caller.get(TOKENS), 403, rule="permission")

    def test_acts_on_what_it_could_have(self, api: httpx.Client, service: RunningService) -> None:
        """Renewing, rotating, revoking and lifting a hold need every name of the certificate."""
        token = _make(api, names=["*.team.example.org"])
        mine = issued(api.post(CERTIFICATES, content=csr("a.team.example.org", key=fresh_key()), headers=JSON))
        other = issued(api.post(CERTIFICATES, content=csr("a.example.org", key=fresh_key()), headers=JSON))
        with _as(service, token) as caller:
            for act in ("renew", "rotate", "revoke", "unhold"):
                path = f"{CERTIFICATES}/{other['serial_number']}/{act}"
                problem(caller.post(path), 403, rule="limits.names")
            assert caller.post(f"{CERTIFICATES}/{mine['serial_number']}/renew").status_code == 201
            assert caller.post(f"{CERTIFICATES}/{mine['serial_number']}/revoke").status_code == 200
            assert caller.get(f"{CERTIFICATES}/{other['serial_number']}").status_code == 200

    def test_its_own_only(self, api: httpx.Client, service: RunningService) -> None:
        """``own_only`` narrows reading and acting to what the token issued."""
        token = _make(api, own_only=True)
        other = issued(api.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))
        with _as(service, token) as caller:
            own = issued(caller.post(CERTIFICATES, content=csr(key=fresh_key()), headers=JSON))
            listed = caller.get(CERTIFICATES).json()["items"]
            assert [one["serial_number"] for one in listed] == [own["serial_number"]]
            assert caller.get(CERTIFICATES, params={"requester": "admin"}).json()["items"] == []
            for path, method in (
                ("", "GET"),
                ("/status", "GET"),
                ("/chain", "GET"),
                ("/revoke", "POST"),
                ("/renew", "POST"),
            ):
                response = caller.request(method, f"{CERTIFICATES}/{other['serial_number']}{path}")
                problem(response, 403, rule="own_only")
            assert caller.get(f"{CERTIFICATES}/{own['serial_number']}").status_code == 200


class TestHandingOn:
    NARROW: dict[str, Any] = {  # noqa: RUF012  # never changed
        "permissions": ["certificates:issue", "tokens:manage"],
        "profiles": ["server", "ci"],
        "names": ["*.a.example.org", "b.example.org"],
        "ip_ranges": ["10.1.0.0/16"],
        "uris": ["spiffe://a.example.org/ns/*"],
        "emails": ["@a.example.org"],
        "subject": ["organization=Example", "country=*"],
        "max_lifetime": "2h",
    }

    @pytest.fixture
    def holder(self, api: httpx.Client, service: RunningService) -> Iterator[httpx.Client]:
        """Somebody who may make tokens, and has limits."""
        with _as(service, _make(api, **self.NARROW, expires_at=_in_a_day())) as caller:
            yield caller

    @pytest.mark.parametrize(
        "change, rule",
        [
            ({"permissions": ["certificates:read"]}, "permissions"),
            ({"permissions": None, "role": "admin"}, "permissions"),
            ({"profiles": None}, "profiles"),
            ({"profiles": ["server", "client"]}, "profiles"),
            ({"names": None}, "names"),
            ({"names": ["*"]}, "names"),
            ({"names": ["*.example.org"]}, "names"),
            ({"names": ["a.example.org"]}, "names"),
            ({"names": ["*.b.example.org"]}, "names"),
            ({"ip_ranges": ["10.0.0.0/8"]}, "ip_ranges"),
            ({"ip_ranges": ["fd00::/8"]}, "ip_ranges"),
            ({"uris": ["spiffe://a.example.org/*"]}, "uris"),
            ({"uris": ["*"]}, "uris"),
            ({"emails": ["@*.example.org"]}, "emails"),
            ({"subject": ["organization=Other"]}, "subject"),
            ({"subject": ["organization=*"]}, "subject"),
            ({"subject": ["organizational_unit=Example"]}, "subject"),
            ({"max_lifetime": None}, "max_lifetime"),
            ({"max_lifetime": "3h"}, "max_lifetime"),
            ({"expires_at": None}, "expires_at"),
            ({"expires_at": "2099-01-01T00:00:00Z"}, "expires_at"),
        ],
        ids=str,
    )
    def test_never_more(self, holder: httpx.Client, change: dict[str, Any], rule: str) -> None:
        """Whatever goes beyond the maker's own rights is refused with what it was, and audited."""
        body = {"name": "x", **self.NARROW, "expires_at": _soon(), **change}
        problem(holder.post(TOKENS, json=body), 403, rule=rule)

    def test_less(self, holder: httpx.Client) -> None:
        """Narrower in every way is granted, and seen by its maker, who sees no token that has more."""
        body = {
            "name": "narrower",
            "permissions": ["certificates:issue"],
            "profiles": ["ci"],
            "names": ["*.x.a.example.org", "y.a.example.org", "b.example.org"],
            "ip_ranges": ["10.1.2.0/24"],
            "uris": ["spiffe://a.example.org/ns/one", "spiffe://a.example.org/ns/two/*"],
            "emails": ["me@a.example.org"],
            "subject": ["country=de"],
            "max_lifetime": "1h",
            "expires_at": _soon(),
        }
        made = holder.post(TOKENS, json=body)
        assert made.status_code == 201, made.text
        assert made.json()["subject"] == ["country=DE"]
        ids = {one["id"] for one in holder.get(TOKENS).json()["items"]}
        assert made.json()["id"] in ids
        assert "admin" not in ids
        problem(holder.delete(f"{TOKENS}/admin"), 404)
        assert holder.delete(f"{TOKENS}/{made.json()['id']}").status_code == 200


class TestListing:
    def test_pages_of_what_one_may_see(self, api: httpx.Client, service: RunningService) -> None:
        """Pages are short where tokens are not the caller's to see, and whoever follows them sees all that are."""
        narrow = _make(api, permissions=["certificates:issue", "tokens:manage"], names=["*.pages.example.org"])
        with _as(service, narrow) as caller:
            mine = [
                _make(caller, permissions=["certificates:issue"], names=["a.pages.example.org"])["id"],
                _make(api, permissions=["certificates:issue"])["id"],
                _make(caller, permissions=["certificates:issue"], names=["a.pages.example.org"])["id"],
            ]
            pages: list[list[str]] = []
            params = {"limit": "1"}
            while len(pages) < 4:
                page = caller.get(TOKENS, params=params).json()
                pages.append([one["id"] for one in page["items"]])
                params["cursor"] = page["next_cursor"]
        assert pages == [[mine[2]], [], [mine[0]], [narrow["id"]]]

    def test_a_token_that_goes_between_two_pages(self, api: httpx.Client) -> None:
        """The next page begins where the last one ended, though the token at its end is gone."""
        older, newer = _make(api)["id"], _make(api)["id"]
        page = api.get(TOKENS, params={"limit": "1"}).json()
        assert [one["id"] for one in page["items"]] == [newer]
        api.delete(f"{TOKENS}/{newer}")
        rest = api.get(TOKENS, params={"limit": "1", "cursor": page["next_cursor"]}).json()
        assert [one["id"] for one in rest["items"]] == [older]


class TestEnding:
    def test_deleted(self, api: httpx.Client, service: RunningService) -> None:
        """The answer shows what was deleted. It opens nothing at once; deleting it again is 404, the admin's is 409."""
        token = _make(api)
        with _as(service, token) as caller:
            assert caller.get(CERTIFICATES).status_code == 200
            deleted = api.delete(f"{TOKENS}/{token['id']}")
            assert (deleted.status_code, deleted.json()["id"], "token" in deleted.json()) == (200, token["id"], False)
            problem(caller.get(CERTIFICATES), 401)
        problem(api.delete(f"{TOKENS}/{token['id']}"), 404)
        problem(api.delete(f"{TOKENS}/admin"), 409)

    def test_last_used(self, api: httpx.Client, service: RunningService) -> None:
        """The time of the last use is kept, without the caller waiting for it."""
        token = _make(api)
        with _as(service, token) as caller:
            caller.get(CERTIFICATES)
        until = datetime.now(UTC) + timedelta(seconds=10)
        while not _listed(api, token["id"])["last_used_at"]:
            assert datetime.now(UTC) < until

    def test_audited(self, api: httpx.Client) -> None:
        """Making, refusing and deleting a token each have a row that names it, with the peer and the request."""
        token = _make(api)
        api.delete(f"{TOKENS}/{token['id']}")
        rows = [
            row for row in api.get("/api/v1/audit").json()["items"] if (row["detail"] or {}).get("token") == token["id"]
        ]
        assert [(row["action"], row["outcome"]) for row in rows] == [
            ("token.delete", "success"),
            ("token.create", "success"),
        ]
        assert {row["peer"] for row in rows} == {"127.0.0.1"}
        assert all(row["request_id"] for row in rows)


def _soon() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def _listed(api: httpx.Client, token_id: str) -> dict[str, Any]:
    (found,) = [one for one in api.get(TOKENS).json()["items"] if one["id"] == token_id]
    return dict(found)


def test_the_location_of_a_token(api: httpx.Client) -> None:
    """Where a token was made it is found, without itself; an unknown one is not."""
    made = api.post("/api/v1/tokens", json={"name": "found", "permissions": ["certificates:read"]})
    found = api.get(made.headers["location"]).json()
    assert (found["id"], found["name"]) == (made.json()["id"], "found")
    assert "token" not in found
    problem(api.get("/api/v1/tokens/none"), 404)
