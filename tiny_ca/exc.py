"""Everything this library raises on purpose. Kinds only: how one looks over HTTP or on a terminal is not said here.

TinyCAError
├── Malformed                        the bytes are not what they claim to be (PEM, DER, JSON)
├── Invalid                          readable, but a field is wrong: ``field``, ``value``
│   ├── TooLarge                     past a bound: ``limit``
│   ├── InvalidRangeTimeCertificate  a validity window that ends too early or outlives its issuer
│   ├── ValidationCertError          a certificate or CRL does not verify
│   ├── WrongType                    a file of a kind that is not taken here
│   ├── IsNotFile                    a path that is no regular file
│   └── ErrorLoadCert                CA material that cannot be loaded or does not fit together
├── Unauthenticated                  nobody, or not who they say
├── Forbidden                        policy says no: ``rule``, ``value``
├── NotFound
│   ├── CertNotFound
│   └── NotExistCertFile
├── Conflict                         the state says no
│   ├── NotUniqueCertOwner           a valid certificate already holds that common name
│   └── FileAlreadyExists
├── RateLimited                      ``retry_after`` seconds
├── Unavailable                      try again later: ``retry_after`` seconds
│   └── RegistryUnavailable          the database did not answer, or did not keep what it was given
├── DBNotInitedError                 a manager was asked for what needs a database, and has none
└── LintError                        we were about to sign something unfit: our fault, never the caller's; ``findings``
"""

from __future__ import annotations

__all__ = [
    "CertNotFound",
    "Conflict",
    "DBNotInitedError",
    "ErrorLoadCert",
    "FileAlreadyExists",
    "Forbidden",
    "Invalid",
    "InvalidRangeTimeCertificate",
    "IsNotFile",
    "LintError",
    "Malformed",
    "NotExistCertFile",
    "NotFound",
    "NotUniqueCertOwner",
    "RateLimited",
    "RegistryUnavailable",
    "TinyCAError",
    "TooLarge",
    "Unauthenticated",
    "Unavailable",
    "ValidationCertError",
    "WrongType",
]


class TinyCAError(Exception):
    """Base of all: ``message`` says what was wrong, with the value, and what would have been right."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.message = message


class Malformed(TinyCAError):
    """The bytes cannot be read as what they claim to be."""


class Invalid(TinyCAError):
    """Readable, but ``field`` holds a ``value`` that can never be right, whoever asks."""

    def __init__(self, message: str = "", *, field: str | None = None, value: object = None) -> None:
        super().__init__(message)
        self.field = field
        self.value = value


class TooLarge(Invalid):
    """Past a bound that protects the service; ``limit`` is the most that is taken."""

    def __init__(self, message: str = "", *, limit: int, field: str | None = None, value: object = None) -> None:
        super().__init__(message, field=field, value=value)
        self.limit = limit


class InvalidRangeTimeCertificate(Invalid):
    """The validity window would end in the past, be empty, or outlive the issuer."""


class ValidationCertError(Invalid):
    """A certificate or CRL does not verify: issuer, window, signature or revocation."""


class WrongType(Invalid):
    """A file whose extension is not one of ``ALLOWED_CERT_EXTENSIONS``."""


class IsNotFile(Invalid):
    """The path exists and is not a regular file."""


class ErrorLoadCert(Invalid):
    """CA material that cannot be read, decrypted, or whose key and certificate do not belong together."""


class Unauthenticated(TinyCAError):
    """No credentials, or wrong ones."""


class Forbidden(TinyCAError):
    """Policy says no: ``rule`` is the name of the constraint, ``value`` what offended it."""

    def __init__(self, message: str = "", *, rule: str, value: object = None) -> None:
        super().__init__(message)
        self.rule = rule
        self.value = value


class NotFound(TinyCAError):
    """It does not exist; never said when the place to look could not be reached."""


class CertNotFound(NotFound):
    """No certificate with that serial number."""


class NotExistCertFile(NotFound):
    """No file at that path."""


class Conflict(TinyCAError):
    """Right in itself, but the present state does not allow it."""


class NotUniqueCertOwner(Conflict):
    """A valid certificate already holds the common name."""


class FileAlreadyExists(Conflict):
    """The file is there and was not to be overwritten."""


class RateLimited(TinyCAError):
    """Too often; ask again in ``retry_after`` seconds."""

    def __init__(self, message: str = "", *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(TinyCAError):
    """A failure of ours that may pass; ask again in ``retry_after`` seconds."""

    def __init__(self, message: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RegistryUnavailable(Unavailable):
    """The database did not answer, or did not keep what it was given."""


class DBNotInitedError(TinyCAError):
    """The operation needs a database and the manager was made without one."""


class LintError(TinyCAError):
    """What was about to be signed breaks a rule; nothing was signed. ``findings`` lists each."""

    def __init__(self, message: str = "", *, findings: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.findings = findings
