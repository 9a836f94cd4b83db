"""What lint looks at: a certificate, whose signature need not be there yet, beside its plan, taken apart in octets.

``alike`` is what certificates of one profile, issuer and kind of key have in common; ``own`` is what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.keys import PublicKey, key_identifier, key_spec, public_key_der
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.tbs import VERSION_3, encode_validity, tbs_fields
from tiny_ca.utils.remembered import lazy

__all__ = ["Case"]

_E = TypeVar("_E", bound=x509.ExtensionType)

_SUBJECT_ALTERNATIVE_NAME: Final = der.object_identifier(ExtensionOID.SUBJECT_ALTERNATIVE_NAME.dotted_string)
_SUBJECT_KEY_IDENTIFIER: Final = der.object_identifier(ExtensionOID.SUBJECT_KEY_IDENTIFIER.dotted_string)
# The extensions of which each certificate has its own value; their OIDs are of one length.
_OF_ONE: Final = frozenset({_SUBJECT_ALTERNATIVE_NAME, _SUBJECT_KEY_IDENTIFIER})
_OID_LENGTH: Final = len(_SUBJECT_KEY_IDENTIFIER)
_EMPTY: Final = der.sequence()
_EXTENSIONS_TAG: Final = 0xA3
_FIELDS: Final = 7  # of a TBSCertificate behind its version, without unique identifiers (RFC 5280 §4.1)

# RFC 5280 §4.2.1.6: the context tags of GeneralName.
_EMAIL, _DNS, _URI, _IP = 1, 2, 6, 7


@dataclass(frozen=True)
class Case:
    """A certificate, its plan, and its extensions by kind."""

    certificate: x509.Certificate
    plan: Plan

    @lazy
    def parts(self) -> tuple[bytes, ...]:
        """DER of what is signed, of the signature algorithm outside of it, and of the signature (RFC 5280 §4.1)."""
        return tuple(der.contents(self.certificate.public_bytes(Encoding.DER)))

    @property
    def outer_algorithm(self) -> bytes:
        """DER of the signature algorithm outside of what is signed; a parser may show one of the two only."""
        return self.parts[1]

    @lazy
    def fields(self) -> tuple[bytes, ...]:
        """DER of each field of the TBSCertificate after the version, in order."""
        return tbs_fields(self.parts[0])

    @lazy
    def anonymous(self) -> bool:
        """Whether the subject is empty."""
        return self.fields[4] == _EMPTY

    @lazy
    def signing_key(self) -> PublicKey:
        """Whose signature it will be."""
        return self.plan.issuer.signer.public_key if self.plan.issuer else self.plan.public_key

    @lazy
    def values(self) -> dict[type[x509.ExtensionType], x509.ExtensionType]:
        """The extensions by kind; of those that the parser does not know, the last."""
        return {type(extension.value): extension.value for extension in self.certificate.extensions}

    def value(self, kind: type[_E]) -> _E | None:
        """The extension of this kind."""
        return cast("_E | None", self.values.get(kind))

    @lazy
    def alike(self) -> tuple[object, ...] | None:
        """All that the rules for what is alike read; None for a CA's certificate: those are few."""
        plan = self.plan
        if plan.issuer is None or plan.profile.ca:
            return None
        return (
            id(plan.profile),
            key_spec(plan.public_key),
            plan.key_spec,
            bool(plan.subject.rdns),
            self.anonymous,
            # No DER is the beginning of another one: joined, they are still told apart.
            b"".join((self.outer_algorithm, *self.fields[1:3], *self._split[0])),
        )

    @lazy
    def is_as_planned(self) -> bool:
        """Whether what it has of its own is, octet by octet, what the plan says; no parser is asked."""
        plan, fields = self.plan, self.fields
        own = self._split[1]
        return (
            len(fields) == _FIELDS
            and fields[-1][0] == _EXTENSIONS_TAG
            and next(der.contents(self.parts[0])) == VERSION_3
            and fields[0] == der.integer(plan.serial_number)
            and fields[3] == encode_validity(plan.not_valid_before, plan.not_valid_after)
            and fields[4] == plan.subject.public_bytes()
            and fields[5] == public_key_der(plan.public_key)
            and own.get(_SUBJECT_KEY_IDENTIFIER) == der.octet_string(key_identifier(fields[5]))
            and own.get(_SUBJECT_ALTERNATIVE_NAME) == (_general_names(plan.names) if len(plan.names) else None)
        )

    @lazy
    def _split(self) -> tuple[list[bytes], dict[bytes, bytes]]:
        """The extensions without what each certificate has of its own, and that, by its OID."""
        alike: list[bytes] = []
        own: dict[bytes, bytes] = {}
        (extensions,) = der.contents(self.fields[-1])
        for extension in der.contents(extensions):
            start = 2 if extension[1] < 0x80 else 2 + (extension[1] & 0x7F)
            if extension[start : start + _OID_LENGTH] in _OF_ONE:
                oid, *critical, value = der.contents(extension)
                own[oid] = der.content(value)
                alike += (oid, *critical)
            else:
                alike.append(extension)
        return alike, own


def _general_names(names: AlternativeNames) -> bytes:
    """DER of the SubjectAltName that holds these, put together apart from what encodes certificates."""
    return der.sequence(
        *(der.implicit(_DNS, name.encode()) for name in names.dns),
        *(der.implicit(_IP, address.packed) for address in names.ip),
        *(der.implicit(_URI, uri.encode()) for uri in names.uri),
        *(der.implicit(_EMAIL, mailbox.encode()) for mailbox in names.email),
    )
