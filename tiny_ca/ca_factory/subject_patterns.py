"""Which attributes of a subject a caller may have, beside the common name and e-mail, which are names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.x509.oid import NameOID, ObjectIdentifier

from tiny_ca.ca_factory.subject import SUBJECT_ATTRIBUTES, checked_subject
from tiny_ca.exc import Invalid

__all__ = ["NAME_ATTRIBUTES", "SubjectPattern"]

# Patterns of names cover these.
NAME_ATTRIBUTES: Final = (NameOID.COMMON_NAME, NameOID.EMAIL_ADDRESS)
_LIMITED: Final = {name: oid for name, oid in SUBJECT_ATTRIBUTES.items() if oid not in NAME_ATTRIBUTES}
_ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class SubjectPattern:
    """``attribute=value``: this value to the letter, or any where it is ``*``. Case counts, as for who reads it."""

    attribute: str
    value: str

    @classmethod
    def parse(cls, text: str) -> SubjectPattern:
        """Read ``organization=Example``.

        Raises
        ------
        Invalid
            It is none: no such attribute, or no value that one could have.
        """
        attribute, equals, value = text.partition("=")
        if attribute not in _LIMITED or not equals:
            message = f"{text[:80]!r} is not ATTRIBUTE=VALUE with one of {', '.join(_LIMITED)}"
            raise Invalid(message, field="subject", value=text[:80])
        if value != _ANY:
            ((_, value),) = checked_subject([(_LIMITED[attribute], value)], field="subject")
        return cls(attribute, value)

    def allows(self, attribute: ObjectIdentifier, value: str) -> bool:
        """Whether a subject may have this."""
        return _LIMITED[self.attribute] == attribute and self.value in {_ANY, value}

    def covers(self, narrower: SubjectPattern) -> bool:
        """Whether all that the other allows is allowed by this one."""
        return self.attribute == narrower.attribute and self.value in {_ANY, narrower.value}

    def __str__(self) -> str:
        return f"{self.attribute}={self.value}"
