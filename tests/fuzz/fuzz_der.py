"""Feeds damaged CSRs, certificates, CRLs and CA files to whatever reads, judges and signs them. Not run by pytest.

    make fuzz ARGS="--seconds 300"
    .venv/bin/python tests/fuzz/fuzz_der.py --seconds 120 --seed 7
    .venv/bin/python tests/fuzz/fuzz_der.py --replay csr 308201…

An input is taken, or refused with an error of ours. Anything else is printed, at the end with its smallest input as
hex, and the exit status is then 1; a LintError too, for policy should have refused before. The keys are the same in
every run, so that what was printed replays. ``python -W error`` makes warnings errors, as the tests do.
"""

from __future__ import annotations

import argparse
import base64
import random
import re
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Final, TypeVar

import cryptography_vectors
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

import tiny_ca
from tests.unit.ca_factory.authorities import URLS, ask
from tiny_ca.ca_factory import der
from tiny_ca.ca_factory.csr import parse_csr
from tiny_ca.ca_factory.factory import CertificateFactory
from tiny_ca.ca_factory.issuer import Issuer
from tiny_ca.ca_factory.keys import public_key_der
from tiny_ca.ca_factory.names import AlternativeNames
from tiny_ca.ca_factory.plan import plan
from tiny_ca.ca_factory.profiles import BUILT_IN_PROFILES, NO_LIMITS, ROOT_PROFILE, Profile
from tiny_ca.ca_factory.request import CertificateRequest
from tiny_ca.ca_factory.signer import SoftwareSigner
from tiny_ca.ca_factory.signing import sign_certificate
from tiny_ca.ca_factory.tbs import signed
from tiny_ca.ca_factory.utils.file_loader import CAFileLoader
from tiny_ca.exc import LintError, TinyCAError
from tiny_ca.models.certificate import CertificateInfo
from tiny_ca.models.key_spec import KeySpec

_T = TypeVar("_T")

_LIBRARY: Final = Path(tiny_ca.__file__).parent

_ED25519: Final = KeySpec.ed25519()
_CA_KEY: Final = ed25519.Ed25519PrivateKey.from_private_bytes(b"the key of the CA that is fuzzed")
_LEAF_KEY: Final = ed25519.Ed25519PrivateKey.from_private_bytes(b"the key of those who ask this CA")
_EC_KEY: Final = ec.derive_private_key(0x5EED << 200, ec.SECP256R1())
_CA: Final = SoftwareSigner(_CA_KEY)
_HOLDERS: Final = (SoftwareSigner(_LEAF_KEY), SoftwareSigner(_EC_KEY))


# What damages.

_TAGS: Final = bytes((*range(1, 32), *range(0x80, 0x89), *range(0xA0, 0xA9), 0x30, 0x31))
_NASTY: Final = (
    *(b"", b"\0", b"\xff", b"\x80", b"\0\0", b"\xff\xff\xff\xff", b"\x7f" + b"\xff" * 19, b"\x80" + b"\0" * 30),
    *(b"*", b"*.", b".", b"a..b", b"\r\n", b"a\0b", b"xn--", b"xn--\xff", b"@", b"a@", b"http://[", b"://", b"::1"),
    *(b"\xc3\xa4", b"\xe4", b"\xe2\x80\xae", b"\0a", b"a" * 65, b"a" * 300, b"DE", b"D", b" ", b"+,=\\"),
    *(b"49123123595", b"500101000000Z", b"99991231235959Z", b"00000000000000Z", b"2026-01-01"),
    *(b"\x2a\x03\x04", b"\x55\x1d\x13", b"\x55\x1d\x25\x00", b"\x30\x80\0\0", b"\x05\0", b"\x01\x01\xff"),
)


class _Damage:
    """Changes inside DER, around which the lengths are mended, and changes of octets, around which nothing is."""

    def __init__(self, chance: random.Random, donors: Sequence[bytes]) -> None:
        self._chance = chance
        self._donors = donors

    def done_to(self, encoded: bytes) -> bytes:
        """One to three changes."""
        for _ in range(self._chance.randint(1, 3)):
            encoded = self._inside(encoded) if self._chance.random() < 0.9 else self.done_to_octets(encoded)
        return encoded

    def done_to_octets(self, octets: bytes) -> bytes:
        """Some octets cut out, some put in; mostly one for one."""
        chance = self._chance
        at, cut, put = chance.randint(0, len(octets)), chance.choice((1, 1, 0, 9)), chance.choice((1, 1, 0, 9))
        return octets[:at] + chance.randbytes(put) + octets[at + cut :]

    def _inside(self, value: bytes) -> bytes:
        parts = _parts(value)
        if not parts or self._chance.random() < 0.1:
            return self._changed(value)
        at = self._chance.randrange(len(parts))
        parts[at] = self._inside(parts[at])
        return _value(value[0], b"".join(parts))

    def _changed(self, value: bytes) -> bytes:
        chance, tag = self._chance, value[0] if value else 0x0C
        changes: tuple[Callable[[], bytes], ...] = (
            lambda: b"",
            lambda: value + value,
            lambda: bytes((chance.choice(_TAGS),)) + value[1:],
            lambda: _value(chance.choice(_TAGS), chance.choice(_NASTY)),
            lambda: _value(tag, chance.choice(_NASTY)),
            lambda: value + self._lent(),
            self._lent,
            lambda: self.done_to_octets(value),
        )
        return chance.choice(changes)()

    def _lent(self) -> bytes:
        """A value from inside another input."""
        value = self._chance.choice(self._donors)
        while (parts := _parts(value)) and self._chance.random() < 0.9:
            value = self._chance.choice(parts)
        return value


def _value(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + der.octet_string(content)[1:]


def _parts(value: bytes) -> list[bytes]:
    """The values in a constructed one, or in an OCTET STRING that holds some; none where it is not DER."""
    if not value or not (value[0] & 0x20 or value[0] == 0x04):
        return []
    try:
        parts = list(der.contents(value))
    except IndexError:
        return []
    return parts if _value(value[0], b"".join(parts)) == value else []


# What is damaged.

_MAX_SIZE: Final = 6000
_BLOCK: Final = re.compile(rb"-----BEGIN [A-Z0-9 ]+-----([A-Za-z0-9+/=\s]+)-----END ")
_PARSERS: Final[dict[str, Callable[[bytes], object]]] = {
    "csr": x509.load_der_x509_csr,
    "certificate": x509.load_der_x509_certificate,
    "crl": x509.load_der_x509_crl,
}


class _Inputs:
    """Damaged things of each kind, from the crypto library's vectors and from what this library makes."""

    def __init__(self, chance: random.Random, factory: CertificateFactory, issuer: Issuer) -> None:
        self._chance = chance
        self._seeds = _own(factory, issuer)
        for encoded in _vectors():
            for kind, parser in _PARSERS.items():
                if len(encoded) <= _MAX_SIZE and _is_read(parser, encoded):
                    self._seeds[kind].append(encoded)
        self._ca = issuer.certificate
        self._damage = _Damage(chance, [seed for seeds in self._seeds.values() for seed in seeds])

    def draw(self) -> tuple[str, bytes]:
        """``(kind, input)``; a kind is the name of a method of _Targets."""
        match self._chance.choice(("csr", "csr", "certificate", "certificate", "crl", "ca", "pem")):
            case "csr":
                return "csr", self._signed_again("csr", _as_holders, self._chance.choice(_HOLDERS))
            case "certificate":
                return "certificate", self._signed_again("certificate", self._as_ours, _CA)
            case "crl":
                return "crl", self._signed_again("crl", self._as_our_crl, _CA)
            case "ca":
                cert = self._damage.done_to(self._ca.public_bytes(Encoding.DER))
                return "ca", _pem("CERTIFICATE", cert) + _CA_KEY_PEM
            case _:
                return self._damaged_text()

    def _damaged_text(self) -> tuple[str, bytes]:
        kind = self._chance.choice(("csr", "ca"))
        if kind == "csr":
            text = _pem("CERTIFICATE REQUEST", self._chance.choice(self._seeds["csr"]))
        else:
            text = self._ca.public_bytes(Encoding.PEM) + _CA_KEY_PEM
        for _ in range(self._chance.randint(1, 3)):
            text = self._damage.done_to_octets(text)
        return kind, text

    def _signed_again(
        self, kind: str, mend: Callable[[list[bytes], SoftwareSigner], None], key: SoftwareSigner
    ) -> bytes:
        """One damaged; every other with a sound signature, for what lies behind that check."""
        encoded = self._chance.choice(self._seeds[kind])
        if self._chance.random() < 0.5:
            return self._damage.done_to(encoded)
        fields = _parts(_parts(encoded)[0])
        mend(fields, key)
        content = der.sequence(*fields)
        if self._chance.random() < 0.9:
            content = self._damage.done_to(content)
        return signed(content, key, key.sign(content))

    def _as_ours(self, fields: list[bytes], key: SoftwareSigner) -> None:
        at = 2 if fields[0][0] == 0xA0 else 1  # behind the version, which version 1 leaves out, and the serial number
        fields[at : at + 2] = key.algorithm_identifier, self._ca.subject.public_bytes()

    def _as_our_crl(self, fields: list[bytes], key: SoftwareSigner) -> None:
        at = 1 if fields[0][0] == 0x02 else 0
        fields[at : at + 2] = key.algorithm_identifier, self._ca.subject.public_bytes()


def _as_holders(fields: list[bytes], key: SoftwareSigner) -> None:
    fields[2] = public_key_der(key.public_key)


def _vectors() -> Iterator[bytes]:
    """DER of whatever lies below ``x509`` among the vectors."""
    for path in sorted((Path(cryptography_vectors.__file__).parent / "x509").rglob("*.*")):
        octets = path.read_bytes()
        blocks = [base64.b64decode(block[1]) for block in _BLOCK.finditer(octets)]
        yield from blocks or [octets]


def _is_read(parser: Callable[[bytes], object], encoded: bytes) -> bool:
    try:
        parser(encoded)
    except Exception:  # noqa: BLE001  # some vectors are there to be refused, each in its way
        return False
    return True


def _own(factory: CertificateFactory, issuer: Issuer) -> dict[str, list[bytes]]:
    names = AlternativeNames.parse(
        dns=["app.example.org", "*.example.org", "xn--bcher-kva.example"],
        ip=["192.0.2.1", "2001:db8::1"],
        uris=["spiffe://a.example/x"],
        emails=["a@b.example"],
    )
    common_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "app.example.org")])
    usages = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    request = x509.CertificateSigningRequestBuilder(common_name)
    full = request.add_extension(x509.SubjectAlternativeName(names.general_names()), critical=False)
    full = full.add_extension(usages, critical=False)
    leaf, _, csr = factory.issue_certificate("a.example", email="a@b.example", is_server_cert=True, key=_ED25519)
    below, _ = factory.issue_intermediate_ca("Issuing", key=_ED25519)
    revoked = [(number, datetime.now(UTC), reason) for number, reason in enumerate(x509.ReasonFlags, 1)]
    certificates = [leaf, below, issuer.certificate]
    certificates += [_sign(ask(), profile, issuer) for profile in BUILT_IN_PROFILES.values()]
    return {
        "csr": [_der(made) for made in (csr, request.sign(_LEAF_KEY, None), full.sign(_LEAF_KEY, None))],
        "certificate": [_der(made) for made in certificates],
        "crl": [_der(factory.build_crl(rows)) for rows in ((), revoked)],
    }


def _der(made: x509.Certificate | x509.CertificateSigningRequest | x509.CertificateRevocationList) -> bytes:
    return made.public_bytes(Encoding.DER)


def _pem(label: str, encoded: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + base64.encodebytes(encoded) + f"-----END {label}-----\n".encode()


_CA_KEY_PEM: Final = _CA_KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


# What must hold.


class _Targets:
    """A CA, and for each kind of input what is done with it. Whatever is raised here is a finding."""

    def __init__(self, folder: Path) -> None:
        request = ask("Fuzz", dns=(), spec=_ED25519, public_key=_CA.public_key)
        made = plan(request, profile=ROOT_PROFILE, limits=NO_LIMITS, issuer=None, now=datetime.now(UTC))
        root = sign_certificate(made, _CA)
        self.issuer = Issuer(root, _CA, urls=URLS)
        info = CertificateInfo(organization="Fuzz", country="DE")
        self.factory = CertificateFactory(SimpleNamespace(ca_cert=root, ca_key=_CA_KEY, base_info=info))
        self.signatures = 0
        self._file = folder / "ca.pem"

    def csr(self, data: bytes) -> None:
        """Parse; under every profile, and without one, plan, lint and sign."""
        parsed = _answer(partial(parse_csr, data))
        if parsed is None:
            return
        request = CertificateRequest.from_csr(parsed, lifetime=timedelta(hours=1))
        for profile in BUILT_IN_PROFILES.values():
            self._check(_answer(partial(_sign, request, profile, self.issuer)))
        self._check(_answer(partial(self.factory.issue_from_csr, parsed)))

    def certificate(self, data: bytes) -> None:
        """Inspect, validate, export, renew, co-sign."""
        cert = _parsed(x509.load_der_x509_certificate, data)
        if cert is None:
            return
        factory = self.factory
        _answer(partial(factory.inspect_certificate, cert))
        _answer(partial(factory.validate_cert, cert))
        _answer(partial(factory.export_pkcs12, cert, _LEAF_KEY))
        self._check(_answer(partial(factory.renew_certificate, cert, days_valid=10)))
        for allow_ca in (False, True):
            self._check(_answer(partial(factory.cosign_certificate, cert, allow_ca=allow_ca)))
            self._check(_answer(partial(factory.cosign_certificate, cert, days_valid=10, allow_ca=allow_ca)))

    def crl(self, data: bytes) -> None:
        """Verify."""
        crl = _parsed(x509.load_der_x509_crl, data)
        if crl is not None:
            _answer(partial(self.factory.verify_crl, crl))

    def ca(self, data: bytes) -> None:
        """Load the CA, its certificate and key in one file; and issue with it."""
        self._file.write_bytes(data)
        loader = _answer(partial(CAFileLoader, self._file, self._file))
        factory = _answer(partial(CertificateFactory, loader)) if loader else None
        if factory is None:
            return
        issued = _answer(partial(factory.issue_certificate, "a.example", days_valid=1, key=_ED25519))
        if issued:
            issued[0].verify_directly_issued_by(factory.issuer.certificate)
        _answer(partial(factory.issue_intermediate_ca, "Issuing", days_valid=1, key=_ED25519))
        crl = _answer(partial(factory.build_crl, ()))
        if crl:
            _answer(partial(factory.verify_crl, crl))

    def _check(self, made: x509.Certificate | None) -> None:
        """What was signed is ours, and can be read."""
        if made is not None:
            self.signatures += 1
            made.verify_directly_issued_by(self.issuer.certificate)
            self.factory.inspect_certificate(made)


def _sign(request: CertificateRequest, profile: Profile, issuer: Issuer) -> x509.Certificate:
    now = datetime.now(UTC)
    return sign_certificate(plan(request, profile=profile, limits=NO_LIMITS, issuer=issuer, now=now))


def _answer(ask: Callable[[], _T]) -> _T | None:
    """The answer, None for a refusal."""
    try:
        return ask()
    except LintError:
        raise
    except TinyCAError:
        return None


def _parsed(parser: Callable[[bytes], _T], data: bytes) -> _T | None:
    try:
        return parser(data)
    except Exception:  # noqa: BLE001  # the library is given objects; what is none is the crypto library's to refuse
        return None


# The run.


def main() -> int:
    """Run for as long as asked; 1 where something was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32, help="of the damage")
    parser.add_argument("--replay", nargs=2, metavar=("KIND", "HEX"), help="one input, as it was printed")
    asked = parser.parse_args()
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory(prefix="tiny-ca-fuzz-") as folder:
        targets = _Targets(Path(folder))
        if asked.replay is None:
            return _run(targets, seconds=asked.seconds, seed=asked.seed)
        kind, text = asked.replay
        error = _error(targets, kind, bytes.fromhex(text))
        traceback.print_exception(error)
        return int(error is not None)


def _run(targets: _Targets, *, seconds: float, seed: int) -> int:
    inputs = _Inputs(random.Random(seed), targets.factory, targets.issuer)  # noqa: S311  # to be had again
    counts: Counter[str] = Counter()
    found: dict[str, tuple[str, bytes]] = {}
    end = time.monotonic() + seconds
    with suppress(KeyboardInterrupt):
        while time.monotonic() < end:
            kind, data = inputs.draw()
            counts[kind] += 1
            error = _error(targets, kind, data)
            if error is None:
                continue
            what = f"{type(error).__name__} at {_place(error)}"
            if what not in found:
                _say(f"{what}: {error}")
            if what not in found or len(data) < len(found[what][1]):
                found[what] = kind, data
    for what, (kind, data) in found.items():
        _say(f"\n{what}\n--replay {kind} {data.hex()}")
    _say(f"seed {seed}: {dict(sorted(counts.items()))}, {targets.signatures} signatures, {len(found)} findings")
    return int(bool(found))


def _error(targets: _Targets, kind: str, data: bytes) -> BaseException | None:
    try:
        getattr(targets, kind)(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # a panic of the crypto library is no Exception
        return error
    return None


def _place(error: BaseException) -> str:
    """The innermost line of the library, for one finding each."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_LIBRARY)] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
