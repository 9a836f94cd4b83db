"""Fields that several models have: text as people write it, read by the rooms that know how."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Literal, ParamSpec, TypeVar

from pydantic import BeforeValidator, Field

from tiny_ca.const import CertType
from tiny_ca.exc import Invalid
from tiny_ca.utils.duration import parse_duration

__all__ = ["CertificateTypeName", "Lifetime", "or_value_error"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


def or_value_error(parse: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call ``parse``, whose refusal becomes a ValueError: pydantic adds the field's name to that, and only to that."""
    try:
        return parse(*args, **kwargs)
    except Invalid as error:
        raise ValueError(error.message) from None


def _lifetime(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise ValueError('write a lifetime as text, such as "24h"')  # noqa: TRY004  # pydantic takes ValueError
    return or_value_error(parse_duration, value, field="lifetime")


def _certificate_type(value: object) -> CertType:
    for kind in CertType:
        if isinstance(value, str) and value.upper() in {kind.value, kind.name}:
            return kind
    names = ", ".join(f"{kind.name.lower()} ({kind.value})" for kind in CertType)
    raise ValueError(f"{str(value)[:40]!r} is none of {names}")


Lifetime = Annotated[
    timedelta,
    BeforeValidator(_lifetime, json_schema_input_type=str),
    Field(description="A number with s, m, h, d or w.", examples=["24h"]),
]
CertificateTypeName = Annotated[
    CertType, BeforeValidator(_certificate_type, json_schema_input_type=Literal["CA", "USR", "SVC", "DEV", "INT"])
]
