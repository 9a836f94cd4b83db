"""CertificateFactory: a loaded CA that issues, and CAs that make themselves. Objects in, objects out.

What may be issued is ``plan``'s to say, how it is signed ``signing``'s; here documented arguments become requests.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from logging import Logger
from types import NoneType
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tiny_ca.ca_factory.crl import RevokedCertificate, build_crl, verify_crl
from tiny_ca.ca_factory.csr import ParsedCSR, parse_csr
from tiny_ca.ca_factory.decoding import UNREADABLE
from tiny_ca.ca_factory.inspection import inspect_certificate
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.keys import PrivateKey, generate_private_key
from tiny_ca.ca_factory.names import AlternativeNames, IPAddress, dns_name, email_address, host_name
from tiny_ca.ca_factory.pkcs12 import export_pkcs12
from tiny_ca.ca_factory.plan import plan
from tiny_ca.ca_factory.profiles import NO_LIMITS, Profile
from tiny_ca.ca_factory.reissue import cosign, renew
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signer import Signer, SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.ca_factory.subject import SUBJECT_ATTRIBUTES, checked_subject
from tiny_ca.ca_factory.utils.file_loader import ICALoader
from tiny_ca.ca_factory.utils.life_time import CertLifetime
from tiny_ca.const import CertType
from tiny_ca.exc import ErrorLoadCert, Invalid, InvalidRangeTimeCertificate, ValidationCertError
from tiny_ca.models.certificate import CertificateDetails
from tiny_ca.models.key_spec import KeySpec
from tiny_ca.models.revocation import REASON_CODES
from tiny_ca.settings import DEFAULT_LOGGER
from tiny_ca.utils.arguments import check_kind
from tiny_ca.utils.rfc3339 import rfc3339

__all__ = ["CertificateFactory"]

_Name = TypeVar("_Name", bound=str | IPAddress)

# The library's callers are the CA's owners: its arguments are the policy. Windows are exact, so nothing is backdated.
_COLUMNS: Final = ("serial_number", "revocation_date", "revocation_reason")
_MAX_DIGITS: Final = 49  # of 20 octets (RFC 5280 §4.1.2.2)
_ALWAYS: Final = timedelta(days=365 * 10_000)
_LEAF: Final = Profile(
    name="library",
    default_lifetime=timedelta(days=365),
    max_lifetime=_ALWAYS,
    backdate=_ALWAYS,
    subject=tuple(SUBJECT_ATTRIBUTES),
    wildcards=True,
    nested=False,
)
_CA: Final = Profile(
    name="library-ca",
    default_lifetime=timedelta(days=3650),
    max_lifetime=_ALWAYS,
    backdate=_ALWAYS,
    certificate_type=CertType.CA,
    key_usage=("digital_signature", "key_cert_sign", "crl_sign"),
    ca=True,
    nested=False,
)


class CertificateFactory:
    """Issues with the CA that ``ca_loader`` holds. No files, no database, no rules about who may own a name.

    Raises
    ------
    TypeError
        ``ca_loader`` lacks one of the three properties of ICALoader.
    ErrorLoadCert
        Its certificate is no CA's or has expired, or its key is another's.
    """

    def __init__(self, ca_loader: ICALoader, logger: Logger | None = None) -> None:
        given: object = ca_loader
        if not isinstance(given, ICALoader):
            message = f"ca_loader must have ca_cert, ca_key and base_info (ICALoader), not be a {type(given).__name__}"
            raise TypeError(message)
        self._ca = ca_loader
        chain = tuple(getattr(ca_loader, "ca_chain", ()))
        self._issuer = Issuer(ca_loader.ca_cert, SoftwareSigner(ca_loader.ca_key), chain=chain)
        if self._issuer.not_valid_after <= datetime.now(UTC):
            name, ended = self._issuer.subject.rfc4514_string(), rfc3339(self._issuer.not_valid_after)
            message = f"the CA {name!r}, or one above it, expired at {ended}; nothing it signs would be believed"
            raise ErrorLoadCert(message, field="ca_cert", value=ended)
        self._logger = logger or DEFAULT_LOGGER

    @property
    def issuer(self) -> Issuer:
        """The CA as ``plan`` and ``build_crl`` take it."""
        return self._issuer

    @staticmethod
    def build_self_signed_ca(
        common_name: str = "Internal CA",
        organization: str = "My Company",
        country: str = "UA",
        key_size: int = 2048,
        days_valid: int = 3650,
        valid_from: datetime | None = None,
        logger: Logger | None = None,
        *,
        key: KeySpec | Mapping[str, Any] | None = None,
    ) -> tuple[x509.Certificate, PrivateKey]:
        """Make a root: ``(certificate, private_key)``. RSA of ``key_size`` bits unless ``key`` asks for another kind.

        Raises
        ------
        InvalidRangeTimeCertificate
            The validity is empty or past.
        """
        spec = _key_spec(key, key_size)
        private_key = generate_private_key(spec)
        subject = _subject(common_name, organization=organization, country=country)
        request = _request(subject, AlternativeNames(), private_key, spec, _window(valid_from, days_valid, None))
        certificate = _sign(request, profile=_CA, issuer=None, signer=SoftwareSigner(private_key))
        (logger or DEFAULT_LOGGER).info("made root CA %s", certificate.subject.rfc4514_string())
        return certificate, private_key

    def issue_certificate(  # noqa: PLR0913, PLR0917  # the documented signature
        self,
        common_name: str,
        serial_type: CertType = CertType.SERVICE,
        key_size: int = 2048,
        days_valid: int = 365,
        valid_from: datetime | None = None,
        email: str | None = None,
        is_server_cert: bool = False,  # noqa: FBT001, FBT002  # as documented
        is_client_cert: bool = False,  # noqa: FBT001, FBT002
        san_dns: list[str] | None = None,
        san_ip: list[str | IPAddress] | None = None,
        *,
        key: KeySpec | Mapping[str, Any] | None = None,
    ) -> tuple[x509.Certificate, PrivateKey, x509.CertificateSigningRequest]:
        """Make a key and a certificate for it: ``(certificate, private_key, csr)``.

        Raises
        ------
        InvalidRangeTimeCertificate
            The validity is empty, past, or outlives the CA.
        Invalid
            A name is none, or ``is_server_cert`` with a common name that is no host.
        """
        window = _window(valid_from, days_valid, self._issuer)
        kind = _certificate_type(serial_type)
        names = AlternativeNames.parse(dns=_listed(san_dns, "san_dns"), ip=_listed(san_ip, "san_ip"))
        if email is not None:
            names = names.merged(AlternativeNames(email=(email_address(email, field="email"),)))
        if is_server_cert:
            names = names.with_host(_host(common_name))
        usages = _usages(server=is_server_cert, client=is_client_cert)
        info = self._ca.base_info
        subject = _subject(common_name, organization=info.organization, country=info.country, email=email)
        spec = _key_spec(key, key_size)
        private_key = generate_private_key(spec)
        request = _request(subject, names, private_key, spec, window, usages=usages, kind=kind)
        certificate = _sign(request, profile=_leaf_profile(usages), issuer=self._issuer)
        return certificate, private_key, _make_csr(request, private_key)

    def issue_from_csr(
        self,
        csr: bytes | ParsedCSR,
        *,
        profile: Profile | None = None,
        lifetime: timedelta | None = None,
        serial_type: CertType | None = None,
        now: datetime | None = None,
    ) -> x509.Certificate:
        """Sign somebody's CSR (PEM or DER) under a profile; without one, whatever the CSR asks but a CA's powers.

        Without a profile the window begins now; a profile's begins its ``backdate`` earlier.

        Raises
        ------
        Malformed, Invalid
            The CSR cannot be read, or is unfit: its signature, its key, a name.
        Forbidden
            The profile refuses; ``rule`` says which of its constraints.
        """
        parsed = csr if isinstance(csr, ParsedCSR) else parse_csr(csr)
        moment = now or datetime.now(UTC)
        request = CertificateRequest.from_csr(
            parsed, lifetime=lifetime, valid_from=None if profile else moment, certificate_type=serial_type
        )
        # RFC 6960 §4.2.2.2: a certificate for OCSP signing speaks for its CA.
        usages = tuple(usage for usage in parsed.extended_key_usage or () if usage != ExtendedKeyUsageOID.OCSP_SIGNING)
        return _sign(request, profile=profile or _leaf_profile(usages), issuer=self._issuer, now=moment)

    def issue_intermediate_ca(
        self,
        common_name: str,
        key_size: int = 4096,
        days_valid: int = 1825,
        valid_from: datetime | None = None,
        path_length: int | None = 0,
        organization: str | None = None,
        country: str | None = None,
        *,
        key: KeySpec | Mapping[str, Any] | None = None,
    ) -> tuple[x509.Certificate, PrivateKey]:
        """Make a CA below this one: ``(certificate, private_key)``.

        Raises
        ------
        InvalidRangeTimeCertificate
            The validity is empty, past, or outlives this CA.
        Forbidden
            This CA's path length leaves no room for it.
        """
        check_kind(path_length, (int, NoneType), "path_length")
        window = _window(valid_from, days_valid, self._issuer)
        info = self._ca.base_info
        subject = _subject(common_name, organization=organization or info.organization, country=country or info.country)
        spec = _key_spec(key, key_size)
        private_key = generate_private_key(spec)
        request = _request(subject, AlternativeNames(), private_key, spec, window, path_length=path_length)
        return _sign(request, profile=_CA, issuer=self._issuer), private_key

    def renew_certificate(
        self, cert: x509.Certificate, days_valid: int = 365, valid_from: datetime | None = None
    ) -> x509.Certificate:
        """Sign a certificate of this CA again: subject, key and extensions as they are, a new window and serial number.

        Raises
        ------
        InvalidRangeTimeCertificate
            The validity is empty, past, or outlives the CA.
        ValidationCertError
            It was issued by another CA.
        """
        check_kind(cert, x509.Certificate, "cert")
        validity = CertLifetime.compute(valid_from=valid_from, days_valid=days_valid)
        return renew(cert, issuer=self._issuer, validity=validity)

    def cosign_certificate(
        self,
        cert: x509.Certificate,
        days_valid: int | None = None,
        valid_from: datetime | None = None,
        *,
        allow_ca: bool = False,
    ) -> x509.Certificate:
        """Sign somebody else's certificate as this CA's: its subject, key and extensions under our issuer and AKI.

        Left out is what spoke for its old issuer: AIA, CDP, freshestCRL, issuerAltName, SCTs, noRevAvail. Without
        ``days_valid`` its window stays, and ``valid_from`` is not looked at. Whether it was valid is not checked.

        Raises
        ------
        InvalidRangeTimeCertificate
            The validity is empty, past, or outlives the CA.
        Forbidden
            It is a CA's and ``allow_ca`` is False, may sign OCSP answers, or has this CA's name.
        Invalid
            Its key is unfit, or it holds a critical extension that is not known here.
        """
        check_kind(cert, x509.Certificate, "cert")
        validity = (
            (cert.not_valid_before_utc, cert.not_valid_after_utc)
            if days_valid is None
            else CertLifetime.compute(valid_from=valid_from, days_valid=days_valid)
        )
        return cosign(cert, issuer=self._issuer, validity=validity, allow_ca=allow_ca)

    def build_crl(
        self,
        revoked_certs: Iterable[Any],
        days_valid: int = 1,
        *,
        crl_number: int | None = None,
    ) -> x509.CertificateRevocationList:
        """Sign a CRL of records or ``(serial_number, revocation_date[, revocation_reason])`` rows.

        ``crl_number`` None takes the microseconds since 1970, which grow as long as the clock does.
        """
        check_kind(crl_number, (int, NoneType), "crl_number")
        start, end = CertLifetime.compute(days_valid=days_valid)
        number = crl_number if crl_number is not None else int(datetime.now(UTC).timestamp() * 1_000_000)
        encoded = build_crl(
            map(_revoked, revoked_certs), issuer=self._issuer, crl_number=number, this_update=start, next_update=end
        )
        return x509.load_der_x509_crl(encoded)

    async def abuild_crl(
        self,
        revoked_certs: AsyncIterable[Any],
        days_valid: int = 1,
        *,
        crl_number: int | None = None,
    ) -> x509.CertificateRevocationList:
        """``build_crl`` of an asynchronous iterable; the signing itself does not leave the caller's thread."""
        return self.build_crl([row async for row in revoked_certs], days_valid, crl_number=crl_number)

    def verify_crl(self, crl: x509.CertificateRevocationList) -> None:
        """Check that this CA signed the CRL and that it is current.

        Raises
        ------
        ValidationCertError
            See ``crl.verify_crl``.
        """
        check_kind(crl, x509.CertificateRevocationList, "crl")
        verify_crl(crl, self._ca.ca_cert)

    def validate_cert(self, cert: x509.Certificate) -> None:
        """Check issuer, window and signature, in this order. Revocation is not checked.

        Raises
        ------
        ValidationCertError
            Says which check failed, with the values.
        """
        check_kind(cert, x509.Certificate, "cert")
        ca_cert = self._ca.ca_cert
        issuer = _issuer_of(cert)
        if issuer != ca_cert.subject:
            named = issuer.rfc4514_string()
            message = f"issued by {named!r}, not by {ca_cert.subject.rfc4514_string()!r}"
            raise ValidationCertError(message, field="issuer", value=named)
        now = datetime.now(UTC)
        if not cert.not_valid_before_utc <= now <= cert.not_valid_after_utc:
            window = f"{rfc3339(cert.not_valid_before_utc)} to {rfc3339(cert.not_valid_after_utc)}"
            message = f"valid from {window}, which is not now ({rfc3339(now)})"
            raise ValidationCertError(message, field="validity", value=window)
        try:
            cert.verify_directly_issued_by(ca_cert)
        except (*UNREADABLE, InvalidSignature) as error:
            message = f"the signature is not by the key of {ca_cert.subject.rfc4514_string()!r}"
            raise ValidationCertError(message, field="signature") from error

    @staticmethod
    def inspect_certificate(cert: x509.Certificate) -> CertificateDetails:
        """Read a certificate of any issuer into plain values; nothing is verified.

        Raises
        ------
        Invalid
            Its names or extensions cannot be decoded.
        """
        check_kind(cert, x509.Certificate, "cert")
        return inspect_certificate(cert)

    def export_pkcs12(
        self,
        cert: x509.Certificate,
        private_key: PrivateKey,
        password: bytes | None = None,
        name: str | None = None,
        *,
        compatibility: bool = False,
    ) -> bytes:
        """DER of a PKCS #12 file with certificate, key and the chain up to the root; see ``pkcs12.export_pkcs12``.

        Raises
        ------
        Invalid
            The key is not the certificate's, or the password is empty.
        ValidationCertError
            The certificate is none of this CA, nor of one above it.
        """
        return export_pkcs12(
            cert,
            private_key,
            chain=self.get_cert_chain(cert)[1:],
            password=password,
            name=name,
            compatibility=compatibility,
        )

    def get_cert_chain(self, cert: x509.Certificate) -> list[x509.Certificate]:
        """The certificate, this CA, and this CA's issuers where they are known; root last, no certificate twice.

        Links are looked for by name; ``validate_cert`` checks signatures.

        Raises
        ------
        ValidationCertError
            It was issued by none of them.
        """
        check_kind(cert, x509.Certificate, "cert")
        above = (self._issuer.certificate, *self._issuer.chain)
        if cert in above:
            return list(above[above.index(cert) :])
        for position, ca in enumerate(above):
            if ca.subject == _issuer_of(cert):
                return [cert, *above[position:]]
        names = ", ".join(repr(ca.subject.rfc4514_string()) for ca in above)
        message = f"certificate {cert.serial_number:x} was issued by none of {names}"
        raise ValidationCertError(message, field="issuer")


def _sign(
    request: CertificateRequest,
    *,
    profile: Profile,
    issuer: Issuer | None,
    signer: Signer | None = None,
    now: datetime | None = None,
) -> x509.Certificate:
    moment = now or datetime.now(UTC)
    return sign_certificate(plan(request, profile=profile, limits=NO_LIMITS, issuer=issuer, now=moment), signer)


def _issuer_of(cert: x509.Certificate) -> x509.Name:
    try:
        return cert.issuer
    except UNREADABLE as error:
        raise ValidationCertError(f"its issuer cannot be read: {error}", field="issuer") from error


def _window(valid_from: datetime | None, days_valid: int, issuer: Issuer | None) -> tuple[datetime, datetime]:
    start, end = CertLifetime.compute(valid_from=valid_from, days_valid=days_valid)
    if issuer and end > issuer.not_valid_after:
        message = f"{days_valid} days end {rfc3339(end)}, after the CA itself ({rfc3339(issuer.not_valid_after)})"
        raise InvalidRangeTimeCertificate(message, field="days_valid", value=days_valid)
    return start, end


def _request(
    subject: tuple[tuple[ObjectIdentifier, str], ...],
    names: AlternativeNames,
    private_key: PrivateKey,
    spec: KeySpec,
    window: tuple[datetime, datetime],
    *,
    usages: tuple[ObjectIdentifier, ...] = (),
    kind: CertType | None = None,
    path_length: int | None = None,
) -> CertificateRequest:
    return CertificateRequest(
        subject=subject,
        names=names,
        public_key=private_key.public_key(),
        key_spec=spec,
        valid_from=window[0],
        lifetime=window[1] - window[0],
        extended_key_usage=usages,
        certificate_type=kind,
        path_length=path_length,
    )


def _subject(
    common_name: str, *, organization: str | None, country: str | None, email: str | None = None
) -> tuple[tuple[ObjectIdentifier, str], ...]:
    check_kind(common_name, str, "common_name")
    check_kind(email, (str, NoneType), "email")
    asked = (
        (NameOID.COUNTRY_NAME, country),
        (NameOID.ORGANIZATION_NAME, organization),
        (NameOID.COMMON_NAME, common_name),
        (NameOID.EMAIL_ADDRESS, email),
    )
    return checked_subject((oid, value) for oid, value in asked if value is not None)


def _host(common_name: str) -> str | IPAddress:
    host = host_name(common_name)
    if host is None:
        try:
            dns_name(common_name, field="common_name")
        except Invalid as error:
            message = f"a server certificate's common name is a DNS name or an address: {error.message}"
            raise Invalid(message, field="common_name", value=common_name) from error
    return host if host is not None else common_name


def _listed(names: Sequence[_Name] | None, field: str) -> Sequence[_Name]:
    """Return the names; one text is no list of names, though it can be walked through like one."""
    if isinstance(names, str):
        raise Invalid(f"{field} is a list of names; write [{names!r}]", field=field, value=names)
    for name in names or ():
        check_kind(name, (str, ipaddress.IPv4Address, ipaddress.IPv6Address), field)
    return names or ()


def _certificate_type(value: object) -> CertType:
    try:
        return CertType(value)
    except ValueError:
        known = ", ".join(str(kind) for kind in CertType)
        raise Invalid(f"serial_type is one of {known}, not {value!r}", field="serial_type", value=value) from None


def _usages(*, server: bool, client: bool) -> tuple[ObjectIdentifier, ...]:
    asked = ((server, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH))
    return tuple(usage for wanted, usage in asked if wanted)


def _leaf_profile(usages: tuple[ObjectIdentifier, ...]) -> Profile:
    return replace(_LEAF, extended_key_usage=usages)


def _key_spec(key: KeySpec | Mapping[str, Any] | None, key_size: int) -> KeySpec:
    if key is None:
        check_kind(key_size, int, "key_size")
        return KeySpec.rsa(key_size)
    if isinstance(key, KeySpec):
        return key
    check_kind(key, Mapping, "key")
    try:
        return KeySpec(**key)
    except TypeError as error:
        message = f"{dict(key)!r} names no key; the fields are algorithm, size, curve and parameter_set"
        raise Invalid(message, field="key") from error


def _make_csr(request: CertificateRequest, private_key: PrivateKey) -> x509.CertificateSigningRequest:
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in request.subject])
    builder = x509.CertificateSigningRequestBuilder().subject_name(name)
    if request.names:
        builder = builder.add_extension(x509.SubjectAlternativeName(request.names.general_names()), critical=False)
    spec = request.key_spec
    return builder.sign(private_key, hashes.SHA256() if spec.algorithm in {"rsa", "ec"} else None)


def _revoked(row: Any) -> RevokedCertificate:  # noqa: ANN401  # a record, a row of a query, or a tuple
    if isinstance(row, tuple) and not hasattr(row, "serial_number"):
        serial, moment, reason = (*row, None, None, None)[:3]
    else:
        serial, moment, reason = (getattr(row, name, None) for name in _COLUMNS)
    if not isinstance(moment, datetime):
        message = f"an entry of a CRL has a serial number and a revocation date, not {serial!r} and {moment!r}"
        raise Invalid(message, field="revocation_date", value=moment)
    return RevokedCertificate(_serial_number(serial), CertLifetime.normalize_dt(moment), _reason_code(reason))


def _serial_number(value: object) -> int:
    """An int, or what a record holds: decimal digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _MAX_DIGITS:
        return int(value)
    message = f"a serial number is an int, or as a record has it, not {value!r}"
    raise Invalid(message, field="serial_number", value=value)


def _reason_code(reason: object) -> int:
    """An unusable reason is unspecified: the entry matters more than why."""
    if isinstance(reason, x509.ReasonFlags):
        return REASON_CODES[reason]
    return reason if type(reason) is int and reason in REASON_CODES.values() else 0
