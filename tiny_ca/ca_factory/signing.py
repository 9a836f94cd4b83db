"""Plan in, certificate out: encode, lint, sign. The only place where a CA key touches a certificate."""

from __future__ import annotations

from cryptography import x509

from tiny_ca.ca_factory.lint import lint
from tiny_ca.ca_factory.plan import Plan
from tiny_ca.ca_factory.signer import Signer
from tiny_ca.ca_factory.tbs import encode_tbs, signed
from tiny_ca.exc import LintError

__all__ = ["sign_certificate"]

# A BIT STRING that no key makes; it lets a parser read what is about to be signed.
_NO_SIGNATURE = b"\0"


def sign_certificate(plan: Plan, signer: Signer | None = None) -> x509.Certificate:
    """Sign with the plan's issuer, or with ``signer`` where the certificate signs itself.

    Raises
    ------
    LintError
        The result would be unfit. The key was not used.
    """
    key = plan.issuer.signer if plan.issuer else signer
    if key is None:
        raise TypeError("a plan without an issuer needs the signer of its own key")
    # 1. The octets to be signed, and a parser's view of them.
    tbs = encode_tbs(plan, key)
    preview = _preview(signed(tbs, key, _NO_SIGNATURE))
    # 2. Nothing unfit reaches the key.
    lint(preview, plan)
    # 3. Sign exactly those octets.
    return x509.load_der_x509_certificate(signed(tbs, key, key.sign(tbs)))


def _preview(encoded: bytes) -> x509.Certificate:
    try:
        return x509.load_der_x509_certificate(encoded)
    except ValueError as error:
        message = f"the certificate about to be signed cannot be read: {error}"
        raise LintError(message, findings=(message,)) from error
