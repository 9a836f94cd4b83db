"""What somebody asks for, already read and checked for form: the input of ``plan``, from a CSR or from a config."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import cast

from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier

from tiny_ca.ca_factory.csr import ParsedCSR
from tiny_ca.ca_factory.key_quality import check_public_key
from tiny_ca.ca_factory.keys import PublicKey
from tiny_ca.ca_factory.name_constraints import NameConstraints
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.subject import checked_subject
from tiny_ca.const import CertType
from tiny_ca.models.key_spec import KeySpec

__all__ = ["CertificateRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRequest:
    """A request whose possession of the key is proved, or whose key was made here.

    ``subject``: ``(attribute, value)`` pairs in the order asked. ``valid_from`` and ``lifetime``: None leaves them to
    the profile. ``public_key`` None: a key is to be made; such a request can be checked, not planned.
    ``name_constraints`` are a CA's; a CSR cannot ask for them.
    ``extended_key_usage``: None, or none, takes all that the profile gives. ``unknown_extensions`` are never copied.
    """

    subject: tuple[tuple[ObjectIdentifier, str], ...]
    names: AlternativeNames
    public_key: PublicKey | None
    key_spec: KeySpec
    lifetime: timedelta | None = None
    valid_from: datetime | None = None
    certificate_type: CertType | None = None
    extended_key_usage: tuple[ObjectIdentifier, ...] | None = None
    requests_ca: bool = False
    path_length: int | None = None
    name_constraints: NameConstraints | None = None
    unknown_extensions: tuple[ObjectIdentifier, ...] = ()

    @classmethod
    def from_csr(
        cls,
        csr: ParsedCSR,
        *,
        names: AlternativeNames | None = None,
        lifetime: timedelta | None = None,
        valid_from: datetime | None = None,
        certificate_type: CertType | None = None,
    ) -> CertificateRequest:
        """What a CSR asks for; ``names``, where given, replace those in it."""
        return cls(
            subject=csr.attributes,
            names=csr.names if names is None else names,
            public_key=csr.public_key,
            key_spec=csr.key_spec,
            lifetime=lifetime,
            valid_from=valid_from,
            certificate_type=certificate_type,
            extended_key_usage=csr.extended_key_usage,
            requests_ca=csr.requests_ca,
            unknown_extensions=csr.unknown_extensions,
        )

    @classmethod
    def from_certificate(
        cls, certificate: x509.Certificate, *, lifetime: timedelta | None = None, kind: CertType | None = None
    ) -> CertificateRequest:
        """What a certificate holds, asked for again; the possession of its key is not proved.

        Raises
        ------
        Invalid
            Its key is unfit, or it holds a name that nobody gets here; ``field`` begins with ``certificate``.
        """
        spec = check_public_key(certificate.public_key(), field="certificate.public_key")
        extensions = {type(extension.value): extension.value for extension in certificate.extensions}
        names, purposes = extensions.get(x509.SubjectAlternativeName), extensions.get(x509.ExtendedKeyUsage)
        constraints, subtrees = extensions.get(x509.BasicConstraints), extensions.get(x509.NameConstraints)
        subject = ((attribute.oid, attribute.value) for attribute in certificate.subject)
        return cls(
            subject=checked_subject(subject, field="certificate.subject"),
            names=AlternativeNames.from_extension(names, field="certificate")
            if isinstance(names, x509.SubjectAlternativeName)
            else AlternativeNames(),
            public_key=cast("PublicKey", certificate.public_key()),
            key_spec=spec,
            lifetime=lifetime,
            certificate_type=kind,
            extended_key_usage=tuple(purposes) if isinstance(purposes, x509.ExtendedKeyUsage) else None,
            requests_ca=isinstance(constraints, x509.BasicConstraints) and constraints.ca,
            # Left out, a CA would get out of its constraints by a renewal.
            name_constraints=NameConstraints.from_extension(subtrees, field="certificate.name_constraints")
            if isinstance(subtrees, x509.NameConstraints)
            else None,
            unknown_extensions=tuple(
                extension.oid
                for extension in certificate.extensions
                if isinstance(extension.value, x509.UnrecognizedExtension)
            ),
        )

    @property
    def common_name(self) -> str | None:
        """The first common name of the subject."""
        return next((value for attribute, value in self.subject if attribute == NameOID.COMMON_NAME), None)
