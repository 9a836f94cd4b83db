"""Every documented name, signature, default, field and value is there, and is what the specification says."""

from __future__ import annotations

import inspect
from enum import Enum
from importlib import import_module
from inspect import Parameter
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import NoEncryption

import tiny_ca
from tests.unit.public_api import (
    ABSTRACT_METHODS,
    ASYNC_GENERATORS,
    CLASS_METHODS,
    COLUMNS,
    CONSTANTS,
    COROUTINES,
    ENUMERATIONS,
    EXCEPTIONS,
    FIELDS,
    GENERATORS,
    KEYWORDS,
    NAMES,
    NO_DEFAULT,
    OF_OUR_CHOICE,
    PROPERTIES,
    SETTABLE,
    SIGNATURES,
    STATIC_METHODS,
)
from tiny_ca import exc
from tiny_ca.db.models import CertificateRecord


class _Written:
    """A default value whose repr is what the table has for it."""

    def __init__(self, value: object) -> None:
        self._value = value

    def __repr__(self) -> str:
        if isinstance(self._value, Enum):
            return f"{type(self._value).__name__}.{self._value.name}"
        return "NoEncryption()" if isinstance(self._value, NoEncryption) else repr(self._value)


def _find(address: str) -> Any:  # noqa: ANN401  # a class, a function, a constant
    module, _, path = address.partition(":")
    found: Any = import_module(module)
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _find_static(address: str) -> object:
    """What stands in the body of the class, its decorator still around it."""
    owner, _, name = address.rpartition(".")
    return inspect.getattr_static(_find(owner), name)


def _parameters(address: str) -> list[Parameter]:
    return list(inspect.signature(_find(address)).parameters.values())


def _bare(parameter: Parameter) -> Parameter:
    default = parameter.default if parameter.default is Parameter.empty else _Written(parameter.default)
    return parameter.replace(annotation=Parameter.empty, default=default)


@pytest.mark.parametrize("module, names", NAMES.items(), ids=list(NAMES))
def test_names(module: str, names: tuple[str, ...]) -> None:
    """Each documented name can be imported from its module, whose ``__all__`` has it."""
    imported = import_module(module)
    assert [name for name in names if not hasattr(imported, name)] == []
    assert [name for name in names if name not in imported.__all__] == []


def test_no_name_of_the_package_is_undocumented() -> None:
    """``tiny_ca`` hands on the names that the specification marks, and no other."""
    assert sorted(tiny_ca.__all__) == sorted(NAMES["tiny_ca"])


@pytest.mark.parametrize("address, documented", SIGNATURES.items(), ids=list(SIGNATURES))
def test_signature(address: str, documented: str) -> None:
    """Parameters, their order and defaults are the documented ones; what comes beyond is keyword-only and optional."""
    parameters = _parameters(address)
    beyond = [parameter for parameter in parameters if parameter.kind is Parameter.KEYWORD_ONLY]
    actual = inspect.Signature([_bare(parameter) for parameter in parameters if parameter not in beyond])
    assert documented == str(actual)
    assert [parameter.name for parameter in beyond if parameter.default is Parameter.empty] == []


@pytest.mark.parametrize("address, demanded", KEYWORDS.items(), ids=list(KEYWORDS))
def test_keywords(address: str, demanded: dict[str, object]) -> None:
    """Options that are demanded by name have that name and default."""
    defaults = {parameter.name: parameter.default for parameter in _parameters(address)}
    assert demanded.items() <= defaults.items()


@pytest.mark.parametrize("address", OF_OUR_CHOICE)
def test_repair_needs_no_argument(address: str) -> None:
    """Repairing is called without arguments."""
    _, *parameters = _parameters(address)
    assert [parameter.name for parameter in parameters if parameter.default is Parameter.empty] == []


def test_what_needs_no_instance() -> None:
    """Static and class methods are called on the class."""
    assert [address for address in STATIC_METHODS if not isinstance(_find_static(address), staticmethod)] == []
    assert [address for address in CLASS_METHODS if not isinstance(_find_static(address), classmethod)] == []


def test_what_is_awaited() -> None:
    """What the document awaits is a coroutine function, and nothing else is one."""
    found = [address for address in (*SIGNATURES, *OF_OUR_CHOICE) if inspect.iscoroutinefunction(_find(address))]
    assert sorted(set(COROUTINES)) == sorted(found)


def test_what_is_iterated() -> None:
    """Revoked certificates come one by one, from the asynchronous handler asynchronously."""
    assert [address for address in SIGNATURES if inspect.isgeneratorfunction(_find(address))] == list(GENERATORS)
    assert [address for address in SIGNATURES if inspect.isasyncgenfunction(_find(address))] == list(ASYNC_GENERATORS)


def test_what_an_implementation_must_have() -> None:
    """A registry or a storage of somebody's own needs the documented methods and no other."""
    assert {address: _find(address).__abstractmethods__ for address in ABSTRACT_METHODS} == ABSTRACT_METHODS


def test_properties() -> None:
    """What the document reads without calling is a property; a manager's factory can be set."""
    found = {address: _find_static(address) for address in PROPERTIES}
    assert [address for address, value in found.items() if not isinstance(value, property)] == []
    settable = [address for address, value in found.items() if isinstance(value, property) and value.fset is not None]
    assert settable == list(SETTABLE)


@pytest.mark.parametrize("address, documented", FIELDS.items(), ids=list(FIELDS))
def test_fields(address: str, documented: dict[str, object]) -> None:
    """A model has the documented fields and defaults; what comes beyond need not be given."""
    defaults = {parameter.name: parameter.default for parameter in _parameters(address)}
    assert documented.keys() <= defaults.keys()
    assert {name: defaults[name] for name, value in documented.items() if value is not NO_DEFAULT} == {
        name: value for name, value in documented.items() if value is not NO_DEFAULT
    }
    assert [name for name in defaults.keys() - documented.keys() if defaults[name] is Parameter.empty] == []


def test_columns() -> None:
    """A record has the documented columns."""
    assert set(COLUMNS) <= set(CertificateRecord.__table__.columns.keys())


def test_constants() -> None:
    """Constants have the documented values."""
    assert {address: _find(address) for address in CONSTANTS} == CONSTANTS


def test_enumerations() -> None:
    """Enumerations have the documented members and values, and no other."""
    found = {address: {member.name: member.value for member in _find(address)} for address in ENUMERATIONS}
    assert found == ENUMERATIONS


@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exceptions(name: str) -> None:
    """Each documented exception is below the one base class and carries its message."""
    error = getattr(exc, name)("what was wrong")
    assert isinstance(error, exc.TinyCAError)
    assert error.message == str(error) == "what was wrong"
