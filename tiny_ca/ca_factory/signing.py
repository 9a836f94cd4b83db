"""Encode, lint, sign: a Plan in, a certificate out. The only place where a CA key touches a certificate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cryptography import x509

from tiny_ca.ca_factory.lint import lint
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.signer import Signer
from tiny_ca.ca_factory.tbs import encode_tbs, signed
from tiny_ca.exc import LintError
from tiny_ca.utils.stages import attempt_each

__all__ = ["sign_certificate", "sign_certificates", "sign_tbs"]

# A BIT STRING that no key makes; it lets a parser read what is about to be signed.
_NO_SIGNATURE = b"\0"


def sign_certificate(plan: Plan, signer: Signer | None = None) -> x509.Certificate:
    """Sign with the plan's issuer, or with ``signer`` where the certificate signs itself.

    Raises
    ------
    LintError
        The result would be unfit. The key was not used.
    """
    key = _key(plan, signer)
    return sign_tbs(encode_tbs(plan, key), key, lambda preview: lint(preview, plan))


def sign_certificates(plans: Sequence[Plan | Exception]) -> list[x509.Certificate | Exception]:
    """Do the same for many, each with its issuer's key; an exception stands where there is one, or would be one."""
    keys = attempt_each(_key, plans)
    encoded = attempt_each(lambda key, plan: encode_tbs(plan, key), keys, plans)
    previews = attempt_each(lambda tbs, key: _preview(signed(tbs, key, _NO_SIGNATURE)), encoded, keys)
    checked = attempt_each(lint, previews, plans)
    return attempt_each(lambda _, tbs, key: _sign(tbs, key), checked, encoded, keys)


def sign_tbs(tbs: bytes, key: Signer, check: Callable[[x509.Certificate], None]) -> x509.Certificate:
    """Sign a TBSCertificate, once ``check`` has raised nothing about it.

    Raises
    ------
    LintError
        It cannot be read, or ``check`` raised it. The key was not used.
    """
    # 1. A parser's view of the octets to be signed.
    preview = _preview(signed(tbs, key, _NO_SIGNATURE))
    # 2. Nothing unfit reaches the key.
    check(preview)
    # 3. Sign exactly those octets.
    return _sign(tbs, key)


def _key(plan: Plan, signer: Signer | None = None) -> Signer:
    key = plan.issuer.signer if plan.issuer else signer
    if key is None:
        raise TypeError("a plan without an issuer needs the signer of its own key")
    return key


def _sign(tbs: bytes, key: Signer) -> x509.Certificate:
    return x509.load_der_x509_certificate(signed(tbs, key, key.sign(tbs)))


def _preview(encoded: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(encoded)
    except ValueError as error:
        message = f"the certificate about to be signed cannot be read: {error}"
        raise LintError(message, findings=(message,)) from error
