"""Attributes of a subject: what each may hold, and in which form it is signed (RFC 5280 §4.1.2.6, Appendix A.1)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tiny_ca.exc import Invalid

__all__ = ["SUBJECT_ATTRIBUTES", "UPPER_BOUNDS", "checked_subject", "is_visible"]

SUBJECT_ATTRIBUTES: Final[dict[str, ObjectIdentifier]] = {
    "country": NameOID.COUNTRY_NAME,
    "state": NameOID.STATE_OR_PROVINCE_NAME,
    "locality": NameOID.LOCALITY_NAME,
    "organization": NameOID.ORGANIZATION_NAME,
    "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME,
    "common_name": NameOID.COMMON_NAME,
    "email": NameOID.EMAIL_ADDRESS,
}

# RFC 5280 Appendix A.1; 255 for the rest. cryptography counts a common name in bytes of UTF-8, and so do we.
UPPER_BOUNDS: Final = {
    NameOID.COMMON_NAME: 64,
    NameOID.ORGANIZATION_NAME: 64,
    NameOID.ORGANIZATIONAL_UNIT_NAME: 64,
    NameOID.TITLE: 64,
    NameOID.SERIAL_NUMBER: 64,
    NameOID.STATE_OR_PROVINCE_NAME: 128,
    NameOID.LOCALITY_NAME: 128,
    NameOID.STREET_ADDRESS: 128,
    NameOID.PSEUDONYM: 128,
    NameOID.EMAIL_ADDRESS: 255,
}
_OTHER_UPPER_BOUND: Final = 255
_KINDS: Final = {NameOID.SERIAL_NUMBER: "serialNumber", NameOID.EMAIL_ADDRESS: "emailAddress"}  # RFC 4514 has no word
_COUNTRIES: Final = (NameOID.COUNTRY_NAME, NameOID.JURISDICTION_COUNTRY_NAME)
_PRINTABLE: Final = re.compile(r"[A-Za-z0-9 '()+,./:=?-]+")  # ITU-T X.680 §41.4
_PRINTABLE_ONLY: Final = (NameOID.SERIAL_NUMBER, NameOID.DN_QUALIFIER)
_IA5_ONLY: Final = (NameOID.EMAIL_ADDRESS, NameOID.DOMAIN_COMPONENT)
# Two of these and nobody knows which one was meant. O, OU and DC may come more than once.
_ONLY_ONCE: Final = (
    NameOID.COMMON_NAME,
    NameOID.COUNTRY_NAME,
    NameOID.STATE_OR_PROVINCE_NAME,
    NameOID.LOCALITY_NAME,
    NameOID.SERIAL_NUMBER,
)
# Control, format (zero-width, right-to-left …), surrogate, private, unassigned; line and paragraph separators.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def checked_subject(
    attributes: Iterable[tuple[ObjectIdentifier, str | bytes]], *, field: str | None = None
) -> tuple[tuple[ObjectIdentifier, str], ...]:
    """Check each ``(attribute, value)`` and return them as they are signed: a country in upper case, else unchanged.

    ``field`` is what an error calls the place; None calls it by the attribute, as in ``common_name``.

    Raises
    ------
    Invalid
        A value is empty, too long, holds what nobody can see, or comes twice where one is meant.
    """
    checked = tuple((oid, _checked(oid, value, field or _field(oid))) for oid, value in attributes)
    for oid in _ONLY_ONCE:
        values = [value for attribute, value in checked if attribute == oid]
        if len(values) > 1:
            message = f"the subject has {len(values)} of {_kind(oid)}; send one"
            raise Invalid(message, field=field or _field(oid), value=values)
    return checked


def is_visible(text: str) -> bool:
    """Whether a reader sees every character, or at least the blank that it makes."""
    if text.isascii():
        return text.isprintable()
    return not any(unicodedata.category(char) in _INVISIBLE for char in text)


def _checked(oid: ObjectIdentifier, value: str | bytes, field: str) -> str:
    fault = "is not text" if isinstance(value, bytes) else _fault(oid, value)
    if fault:
        raise Invalid(f"the subject's {_kind(oid)} {_shown(value)} {fault}", field=field, value=value)
    text = str(value)
    return text.upper() if oid in _COUNTRIES else text


def _fault(oid: ObjectIdentifier, value: str) -> str | None:
    """Tell what is wrong with a value of the subject."""
    if not value.strip():
        return "is empty; leave the attribute out"
    if not is_visible(value):
        return "holds a control, line-breaking or invisible character; remove it"
    if oid in _COUNTRIES:
        fits = len(value) == 2 and value.isascii() and value.isalpha()
        return None if fits else "is no country code of two letters (ISO 3166-1), such as DE"
    if oid in _PRINTABLE_ONLY and not _PRINTABLE.fullmatch(value):
        return "has a character other than letters, digits, blanks and '()+,-./:=?"
    if oid in _IA5_ONLY and not value.isascii():
        return "is not ASCII"
    length, unit = (len(value.encode()), "bytes of UTF-8") if oid == NameOID.COMMON_NAME else (len(value), "characters")
    bound = UPPER_BOUNDS.get(oid, _OTHER_UPPER_BOUND)
    return f"is {length} {unit} long; at most {bound} are allowed" if length > bound else None


def _field(oid: ObjectIdentifier) -> str:
    return _FIELDS.get(oid, "subject")


def _kind(oid: ObjectIdentifier) -> str:
    return _KINDS.get(oid) or x509.NameAttribute(oid, "??").rfc4514_attribute_name


def _shown(value: str | bytes) -> str:
    return repr(value if len(value) <= 80 else value[:77]) + ("" if len(value) <= 80 else "...")


_FIELDS: Final = {oid: name for name, oid in SUBJECT_ATTRIBUTES.items()}
