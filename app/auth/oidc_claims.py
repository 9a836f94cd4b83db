"""Claims of an identity token: found by their path, matched by rules, and put into names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

__all__ = ["ClaimRule", "Claims", "NameTemplate", "UnfitClaim", "find_claim", "flat_claims"]

Claims: TypeAlias = Mapping[str, Any]
Wanted: TypeAlias = str | bool | int

_MAX_PARTS: Final = 16
_PLACEHOLDER: Final = re.compile(r"\{([^{}|]+)(\|lower)?\}")
# RFC 1034 §3.5 with RFC 1123 §2.1, in lower case. Two hyphens in the third place would make it an A-label (RFC 5890
# §2.3.1), which shows as another name than the claim's.
_LABEL: Final = re.compile(r"(?!..--)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_BESIDE: Final = frozenset("./@")


class UnfitClaim(Exception):
    """A claim that is to be part of a name is missing, or is no DNS label: ``path``, ``value``."""

    def __init__(self, path: str, value: object) -> None:
        shown = "missing" if value is None else f"{ascii(value)[:80]}, which is not one DNS label in lower case"
        super().__init__(f"claim {path!r} is {shown}; it cannot be part of a name")
        self.path = path
        self.value = value


def find_claim(claims: Claims, path: str) -> Any:  # noqa: ANN401  # a claim may be anything
    """The value at a dotted path; None where there is none, or more than one.

    A dot may also belong to a claim's own name: ``kubernetes.io.namespace`` is ``namespace`` within ``kubernetes.io``.
    Where a path can be read in two ways that both exist, neither is taken: they might contradict each other.
    """
    found = list(_readings(claims, path.split(".")))
    return found[0] if len(found) == 1 else None


def _readings(node: Any, parts: list[str]) -> Iterator[Any]:  # noqa: ANN401
    if not parts:
        yield node
    elif isinstance(node, dict):
        for end in range(1, len(parts) + 1):
            name = ".".join(parts[:end])
            if name in node:
                yield from _readings(node[name], parts[end:])


def flat_claims(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Rules by path: TOML reads an unquoted ``kubernetes.io.namespace`` as tables within tables.

    Raises
    ------
    ValueError
        A path is written twice, or is no path.
    """
    rules: dict[str, Any] = {}
    for name, value in table.items():
        path = f"{prefix}{name}"
        inner = flat_claims(value, f"{path}.") if isinstance(value, dict) else {path: value}
        for one, wanted in inner.items():
            if one in rules:
                raise ValueError(f"claim {one!r} has two rules; list the values in one")
            rules[check_path(one)] = wanted
    return rules


def check_path(path: str) -> str:
    """Return the path of a claim.

    Raises
    ------
    ValueError
        It is empty, or has more than 16 parts.
    """
    if not path or path.count(".") >= _MAX_PARTS:
        raise ValueError(f"{path[:80]!r} is no path to a claim such as 'repository' or 'kubernetes.io.namespace'")
    return path


@dataclass(frozen=True, slots=True)
class ClaimRule:
    """What one claim must be: one of ``wanted``. A ``*`` in a text stands for any characters, slashes too.

    Of a claim that is a list, one element must match.
    """

    path: str
    wanted: tuple[Wanted, ...]

    @classmethod
    def parse(cls, path: str, given: object) -> ClaimRule:
        """Read a rule from a file: a value, or a list of values.

        Raises
        ------
        ValueError
            It is another thing, or an empty list.
        """
        wanted: list[Any] = given if isinstance(given, list) else [given]
        if not wanted or not all(isinstance(one, str | bool | int) for one in wanted) or "" in wanted:
            raise ValueError(f"claim {path!r} must be a text, a number, true, false, or a list of these, and not empty")
        return cls(path, tuple(wanted))

    @property
    def is_anchored(self) -> bool:
        """Whether every value it takes begins as the operator wrote it."""
        return all(not isinstance(one, str) or not one.startswith("*") for one in self.wanted)

    def matches(self, claims: Claims) -> bool:
        """Whether the token has such a claim."""
        found = find_claim(claims, self.path)
        values = found if isinstance(found, list) else [found]
        return any(_fits(one, value) for one in self.wanted for value in values)


def _fits(wanted: Wanted, value: object) -> bool:
    if isinstance(wanted, str) and isinstance(value, str):
        return _glob(wanted, value)
    return type(wanted) is type(value) and wanted == value  # JSON's true is not its 1


def _glob(pattern: str, text: str) -> bool:
    """Match from left to right, each part at its first place: linear, where a regular expression could backtrack."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *inner, last = rest
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in inner:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """A name pattern with ``{claim}`` in it, each a whole label: within one, two claims could be split in two ways.

    The claim must be one DNS label. ``{claim|lower}`` folds it to lower case, for claims whose case means nothing:
    where it does, ``Prod`` would get the names of ``prod``.
    """

    text: str

    @classmethod
    def parse(cls, text: str) -> NameTemplate:
        """Check the placeholders; what is around them is a pattern's affair.

        Raises
        ------
        ValueError
            A brace that belongs to none, or a placeholder that is only a part of a label.
        """
        for found in _PLACEHOLDER.finditer(text):
            check_path(found[1])
            before, after = text[: found.start()][-1:], text[found.end() :][:1]
            if not {before, after} - {""} <= _BESIDE:
                raise ValueError(f"{text!r}: {found[0]} must be a whole label, between dots or slashes")
        if {"{", "}"} & set(_PLACEHOLDER.sub("", text)):
            raise ValueError(f"{text!r}: a claim in a name is written {{claim}} or {{claim|lower}}")
        return cls(text)

    @property
    def example(self) -> str:
        """The pattern as it would be for claims of one letter."""
        return _PLACEHOLDER.sub("x", self.text)

    @property
    def ends_in_claim(self) -> bool:
        """Whether the last label, the top-level domain, comes from a claim."""
        return self.text.endswith("}")

    def fill(self, claims: Claims) -> str:
        """The pattern for these claims.

        Raises
        ------
        UnfitClaim
            One of them is missing, or is no DNS label.
        """
        return _PLACEHOLDER.sub(lambda found: _label(claims, found[1], lower=bool(found[2])), self.text)


def _label(claims: Claims, path: str, *, lower: bool) -> str:
    value = find_claim(claims, path)
    # Only ASCII is folded: str.lower would turn a Kelvin sign into a k.
    label = value.lower() if lower and isinstance(value, str) and value.isascii() else value
    if not isinstance(label, str) or not _LABEL.fullmatch(label):
        raise UnfitClaim(path, value)
    return label
