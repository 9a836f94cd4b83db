"""Revocation reasons: the integer, the flag and the camelCase name of each, from RFC 5280 §5.3.1."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cryptography import x509

from tiny_ca.exc import Invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COMPROMISED", "REASON_CODES", "reason_code", "reason_from_code", "reason_from_name", "reason_name"]

# RFC 5280 §5.3.1 CRLReason; the value 7 is not used.
REASON_CODES: Final[Mapping[x509.ReasonFlags, int]] = MappingProxyType(
    {
        x509.ReasonFlags.unspecified: 0,
        x509.ReasonFlags.key_compromise: 1,
        x509.ReasonFlags.ca_compromise: 2,
        x509.ReasonFlags.affiliation_changed: 3,
        x509.ReasonFlags.superseded: 4,
        x509.ReasonFlags.cessation_of_operation: 5,
        x509.ReasonFlags.certificate_hold: 6,
        x509.ReasonFlags.remove_from_crl: 8,
        x509.ReasonFlags.privilege_withdrawn: 9,
        x509.ReasonFlags.aa_compromise: 10,
    }
)
# The key itself is no longer its owner's alone: nobody gets a certificate for it any more.
COMPROMISED: Final = frozenset({x509.ReasonFlags.key_compromise, x509.ReasonFlags.ca_compromise})
_BY_CODE: Final = {code: reason for reason, code in REASON_CODES.items()}
_BY_NAME: Final = {str(reason.value): reason for reason in REASON_CODES}


def reason_code(reason: x509.ReasonFlags) -> int:
    """Return the integer that a CRL entry carries."""
    return REASON_CODES[reason]


def reason_from_code(code: int) -> x509.ReasonFlags:
    """Return the reason of a stored integer.

    Raises
    ------
    Invalid
        RFC 5280 has no reason with that integer.
    """
    if code not in _BY_CODE:
        message = f"{code} is no revocation reason; RFC 5280 has {', '.join(map(str, _BY_CODE))}"
        raise Invalid(message, field="reason", value=code)
    return _BY_CODE[code]


def reason_from_name(name: str) -> x509.ReasonFlags:
    """Return the reason that RFC 5280 calls so, as in ``keyCompromise``; case matters.

    Raises
    ------
    Invalid
        RFC 5280 has no reason with that name.
    """
    if name not in _BY_NAME:
        message = f"{name[:80]!r} is no revocation reason; RFC 5280 has {', '.join(_BY_NAME)}"
        raise Invalid(message, field="reason", value=name)
    return _BY_NAME[name]


def reason_name(code: int) -> str:
    """Return the RFC 5280 name of a stored integer."""
    return str(reason_from_code(code).value)
