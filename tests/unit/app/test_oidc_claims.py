"""Claims: which value a path means, what a rule matches, and which value may become part of a name."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.oidc_claims import ClaimRule, NameTemplate, UnfitClaim, find_claim, flat_claims

POD = {
    "sub": "system:serviceaccount:ci:builder",
    "kubernetes.io": {"namespace": "ci", "serviceaccount": {"name": "builder"}},
    "https://example.org/team": "red",
    "groups": ["a", "b"],
    "nothing": None,
    "a.b": 1,
    "a": {"b": 2},
}


@pytest.mark.parametrize(
    "path, value",
    [
        ("sub", "system:serviceaccount:ci:builder"),
        ("kubernetes.io.namespace", "ci"),
        ("kubernetes.io.serviceaccount.name", "builder"),
        ("https://example.org/team", "red"),
        ("kubernetes", None),
        ("kubernetes.io.namespace.x", None),
        ("sub.x", None),
        ("nothing", None),
        ("a.b", None),
    ],
)
def test_a_path(path: str, value: object) -> None:
    """Dots part levels or belong to a name, whichever is there; where both are, there is no such claim."""
    assert find_claim(POD, path) == value


def test_rules_as_toml_nests_them() -> None:
    """An unquoted path with dots, which TOML reads as tables, is the same rule."""
    assert flat_claims({"kubernetes": {"io": {"namespace": "ci"}}}) == flat_claims({"kubernetes.io.namespace": "ci"})


def test_two_rules_for_one_claim() -> None:
    """Written in both ways, it is refused: one of them would be lost."""
    with pytest.raises(ValueError, match="has two rules"):
        flat_claims({"a.b": "x", "a": {"b": "y"}})


@pytest.mark.parametrize(
    "wanted, value, matches",
    [
        ("octo-org/app", "octo-org/app", True),
        ("octo-org/app", "octo-org/app2", False),
        ("octo-org/app", "Octo-Org/app", False),
        ("octo-org/*", "octo-org/app", True),
        ("octo-org/*", "octo-org", False),
        ("octo-org/*", "evil/octo-org/app", False),
        ("refs/heads/*", "refs/heads/a/b\n", True),
        ("*", "", True),
        ("a*a", "a", False),
        ("[ab]", "a", False),
        ("a?c", "abc", False),
        ("a.c", "abc", False),
        (["main", "release"], "release", True),
        (["main", "release"], "master", False),
        ("b", ["a", "b"], True),
        ("c", ["a", "b"], False),
        ("x", [], False),
        (True, True, True),
        (True, "true", False),
        (True, 1, False),
        (1, True, False),
        (7, 7, True),
        ("7", 7, False),
        ("x", {"x": 1}, False),
        ("*", None, False),
    ],
)  # fmt: skip
def test_a_rule(wanted: object, value: object, matches: bool) -> None:  # noqa: FBT001  # a case
    """Exact, glob or list; the whole value, in its own case and type; of a list, one element."""
    assert ClaimRule.parse("claim", wanted).matches({"claim": value}) is matches


def test_a_rule_for_a_claim_that_is_missing() -> None:
    """Even ``*`` wants the claim to be there."""
    assert not ClaimRule.parse("claim", "*").matches({})


@pytest.mark.parametrize("wanted", [[], "", [""], None, 1.5, {"a": 1}, [["a"]], [None]])
def test_no_rule(wanted: object) -> None:
    """An empty list, an empty text and other types are refused: they would match nothing, or who knows what."""
    with pytest.raises(ValueError, match="claim 'c' must be"):
        ClaimRule.parse("c", wanted)


@given(st.text("ab*", max_size=8), st.text("ab", max_size=12))
def test_globs_are_what_fnmatch_says(pattern: str, text: str) -> None:
    """For patterns of stars and letters, the linear matcher and the standard library's agree."""
    expected = re.fullmatch(fnmatch.translate(pattern), text) is not None
    assert ClaimRule("c", (pattern,)).matches({"c": text}) is expected


def test_a_glob_takes_no_time() -> None:
    """A pattern that makes a regular expression backtrack is matched at once."""
    assert not ClaimRule("c", ("*a" * 50 + "b",)).matches({"c": "a" * 16_000})


@pytest.mark.parametrize("value", ["octo-org", "a", "7", "x" * 63, "a-b-c"])
def test_a_label_becomes_part_of_a_name(value: str) -> None:
    """What is one DNS label stands in the pattern as it is."""
    assert NameTemplate.parse("*.{c}.ci.example.org").fill({"c": value}) == f"*.{value}.ci.example.org"


UNFIT: list[Any] = [
    "a.b", "*", "", "x" * 64, "Octo-Org", "bücher", "\u212a", "a b", "a\n", "\n", "-a", "a-", "xn--bcher-kva", "ab--c",
    "a_b", "a/b", "a@b", "{c}", "..", "a\x00", "\ud800", None, 7, True, ["a"], {"a": "b"},
]  # fmt: skip


@pytest.mark.parametrize("value", UNFIT, ids=ascii)
@pytest.mark.parametrize("template", ["{c}.ci.example.org", "spiffe://ci.example.org/{c}", "{c}@example.org"])
def test_what_is_no_label_does_not(template: str, value: object) -> None:
    """A dot, a star, nothing, 64 letters, upper case, Unicode, an A-label, another type: refused, naming the claim."""
    with pytest.raises(UnfitClaim, match="claim 'c' is") as refusal:
        NameTemplate.parse(template).fill({"c": value})
    assert refusal.value.path == "c"


def test_case_is_folded_where_the_operator_says_so() -> None:
    """``|lower`` takes ASCII capitals; a Kelvin sign, which folds to a k too, stays what it is."""
    template = NameTemplate.parse("{c|lower}.ci.example.org")
    assert template.fill({"c": "Octo-Org"}) == "octo-org.ci.example.org"
    with pytest.raises(UnfitClaim):
        template.fill({"c": "\u212aelvin"})


def test_a_claim_that_brings_a_placeholder() -> None:
    """What a claim holds is not read as a template."""
    with pytest.raises(UnfitClaim, match="'a'"):
        NameTemplate.parse("{a}.{b}.example.org").fill({"a": "{b}", "b": "x"})


@pytest.mark.parametrize(
    "text", ["{a}-{b}.example.org", "x{a}.example.org", "{a}x.example.org", "*{a}.example.org", "spiffe://h/{a}*"]
)
def test_a_placeholder_that_is_a_part_of_a_label(text: str) -> None:
    """Two claims in a label could be split in two ways, and a star after one covers the names of others: refused."""
    with pytest.raises(ValueError, match="must be a whole label"):
        NameTemplate.parse(text)


@pytest.mark.parametrize(
    "text", ["{.example.org", "}.example.org", "{}.example.org", "{{a}}.x", "{a|upper}.x.org", "{a|lower|lower}.x"]
)
def test_braces_that_are_no_placeholder(text: str) -> None:
    """They are a mistake of the operator's, not a part of a name."""
    with pytest.raises(ValueError, match=r"claim in a name is written|must be a whole label"):
        NameTemplate.parse(text)
