"""The keys of a provider: a real one, in every way that it can fail, and the bounds that hold whatever it does."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey

from app.auth import oidc_sources
from app.auth.oidc_keys import FRESH, KEPT, KeyCache, parse_key_set
from app.auth.oidc_sources import DiscoveredKeys, KeysAt, KeysInFile, KeySource, SourceError, checked_url, tls_context
from app.auth.oidc_tokens import IdentityToken, read_token
from tests.oidc_provider import RunningProvider
from tests.running import openssl
from tiny_ca.exc import Unauthenticated, Unavailable

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def process() -> Iterator[RunningProvider]:
    """A provider for all tests of this file."""
    with RunningProvider() as running:
        yield running


@pytest.fixture
def provider(process: RunningProvider) -> RunningProvider:
    """The provider, behaving well."""
    process.behave()
    return process


class _Time:
    """A monotonic clock that stands until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def passing() -> _Time:
    """Time, as the cache sees it."""
    return _Time()


def _cache(source: KeySource, passing: _Time) -> KeyCache:
    return KeyCache(source, issuer="x", monotonic=passing)


def _token(provider: RunningProvider, **header: Any) -> IdentityToken:  # noqa: ANN401  # JSON
    return read_token(provider.token(audience="x", header=header))


def _discovered(provider: RunningProvider) -> DiscoveredKeys:
    return DiscoveredKeys(provider.issuer, None)


async def test_keys_are_fetched_once(provider: RunningProvider, passing: _Time) -> None:
    """Discovery leads to the keys; the next token needs no fetch."""
    cache = _cache(_discovered(provider), passing)
    token = _token(provider)
    assert [key.kid for key in await cache.find(token)] == [token.kid]
    assert await cache.find(token)
    assert provider.seen() == {"discovery": 1, "keys": 1}


async def test_the_first_tokens_share_a_fetch(provider: RunningProvider, passing: _Time) -> None:
    """A hundred at once, when nothing is known: one fetch, and each gets its key."""
    cache = _cache(_discovered(provider), passing)
    found = await asyncio.gather(*(cache.find(_token(provider)) for _ in range(100)))
    assert all(len(keys) == 1 for keys in found)
    assert provider.seen() == {"discovery": 1, "keys": 1}


async def test_a_flood_of_unknown_kids(provider: RunningProvider, passing: _Time) -> None:
    """Tokens that each name another key make one fetch in a floor, not one each."""
    cache = _cache(KeysAt(f"{provider.issuer}/keys", None), passing)
    await cache.find(_token(provider))
    for floor in (1, 2, 3):
        tokens = [_token(provider, kid=f"unknown-{floor}-{number}") for number in range(50)]
        answers = await asyncio.gather(*map(cache.find, tokens), return_exceptions=True)
        assert all(isinstance(answer, Unauthenticated) for answer in answers)
        assert provider.seen()["keys"] == floor  # the first fetch was of this floor
        passing.now += 30


async def test_rollover(provider: RunningProvider, passing: _Time) -> None:
    """A key that is new is found once the floor has passed; one that is gone is refused from then on."""
    cache = _cache(_discovered(provider), passing)
    old = _token(provider)
    await cache.find(old)
    provider.behave(roll=True)
    new = _token(provider)
    with pytest.raises(Unauthenticated, match="does not publish"):
        await cache.find(new)
    passing.now += 30
    assert await cache.find(new)
    with pytest.raises(Unauthenticated, match="does not publish"):
        await cache.find(old)


async def test_a_withdrawn_key(provider: RunningProvider, passing: _Time) -> None:
    """Also when nobody sends a token of the new one: the keys are looked at again after some minutes."""
    cache = _cache(_discovered(provider), passing)
    old = _token(provider)
    await cache.find(old)
    provider.behave(roll=True)
    passing.now += FRESH.total_seconds() - 1
    assert await cache.find(old)
    passing.now += 2
    with pytest.raises(Unauthenticated, match="does not publish"):
        await cache.find(old)


WRONG = {
    "huge": "answers more than 1048576 bytes",
    "html": "no JWK Set",
    "deep": "no JWK Set",
    "number": "no JWK Set",
    "broken": "answers 500",
    "elsewhere": "answers 307",
}


@pytest.mark.parametrize("how", WRONG)
async def test_a_wrong_answer(
    provider: RunningProvider, passing: _Time, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """10 MB, HTML, nesting, an error, a redirect: no keys, which is our trouble (503) and not the caller's (401)."""
    provider.behave(keys=how)
    cache = _cache(_discovered(provider), passing)
    with pytest.raises(Unavailable) as refusal:
        await cache.find(_token(provider))
    assert refusal.value.retry_after == 30
    assert any(WRONG[how] in str(vars(record).get("error")) for record in caplog.records)
    assert "elsewhere" not in provider.seen()


@pytest.mark.parametrize("how", ["silent", "drip"])
async def test_no_answer(provider: RunningProvider, passing: _Time, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider that never answers, or never ends, holds nobody up for longer than the bound, and a floor goes by."""
    monkeypatch.setattr(oidc_sources, "SECONDS", 0.5)
    provider.behave(keys=how)
    cache = _cache(_discovered(provider), passing)
    began = time.monotonic()
    for _ in range(10):
        with pytest.raises(Unavailable):
            await cache.find(_token(provider))
    assert 0.5 <= time.monotonic() - began < 3
    assert provider.seen()["keys"] == 1


@pytest.mark.parametrize(
    "says",
    [
        {"issuer": "http://127.0.0.1:1"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://keys.example.org/keys"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": ["https://keys.example.org"]},
    ],
    ids=str,
)
async def test_a_wrong_discovery(provider: RunningProvider, says: dict[str, object]) -> None:
    """Another issuer's document, or one that leads to no https, gives no keys, and none are asked for."""
    provider.behave(says=says)
    with pytest.raises(SourceError):
        await _discovered(provider).load()
    assert provider.seen() == {"discovery": 1}


@pytest.mark.parametrize("document", ["[]", "", "no", "[" * 200_000], ids=lambda text: text[:5])
async def test_a_discovery_that_is_none(provider: RunningProvider, document: str) -> None:
    """What is no JSON object says nothing."""
    provider.behave(document=document)
    with pytest.raises(SourceError, match="is no JSON object"):
        await _discovered(provider).load()


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for this machine that only its own file vouches for, and its key."""
    pem, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"),
        *("-subj", "/CN=provider", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", pem),
    )
    return pem, key


async def test_https(certificate: tuple[Path, Path], passing: _Time) -> None:
    """Over TLS, keys come from whom ``ca_file`` vouches for; without it, a provider that nobody knows is not asked."""
    with RunningProvider(tls=certificate) as provider:
        token = _token(provider)
        provider.behave()
        assert await _cache(DiscoveredKeys(provider.issuer, tls_context(certificate[0])), passing).find(token)
        assert provider.seen() == {"discovery": 1, "keys": 1}
        with pytest.raises(SourceError, match="certificate verify failed"):
            await DiscoveredKeys(provider.issuer, tls_context(None)).load()
        assert provider.seen() == {"discovery": 1, "keys": 1}


async def test_old_keys_while_the_provider_is_down(passing: _Time) -> None:
    """Known keys are taken for a day, and then it is 503; once the provider is back, it is found within a floor."""
    with RunningProvider() as provider:
        cache = _cache(_discovered(provider), passing)
        token = _token(provider)
        await cache.find(token)
        unknown = _token(provider, kid="unknown")
        provider.stop()
        passing.now += FRESH.total_seconds() + 1
        assert await cache.find(token)
        with pytest.raises(Unavailable):  # it may be a new key, or nobody's: that cannot be told
            await cache.find(unknown)
        passing.now += KEPT.total_seconds()
        with pytest.raises(Unavailable):
            await cache.find(token)
        provider.start()
        passing.now += 31
        with pytest.raises(Unauthenticated):  # it came back with other keys
            await cache.find(token)
        assert await cache.find(_token(provider))


async def test_a_caller_who_goes_away(provider: RunningProvider, passing: _Time) -> None:
    """Ends the fetch for nobody else."""
    cache = _cache(_discovered(provider), passing)
    first, second = (asyncio.create_task(cache.find(_token(provider))) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert first.cancelled()


async def test_the_end(provider: RunningProvider, passing: _Time) -> None:
    """A fetch that is under way when the service stops is not waited for."""
    provider.behave(keys="silent")
    cache = _cache(_discovered(provider), passing)
    waiting = asyncio.create_task(cache.find(_token(provider)))
    await asyncio.sleep(0.2)
    began = time.monotonic()
    await cache.close()
    assert time.monotonic() - began < 1
    with pytest.raises(Unavailable):
        await waiting


async def test_a_file(provider: RunningProvider, passing: _Time, tmp_path: Path) -> None:
    """Keys in a file; put anew, it is read again when a token needs it."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": provider.published()}))
    cache = _cache(KeysInFile(path), passing)
    assert await cache.find(_token(provider))
    provider.behave(roll=True)
    path.write_text(json.dumps({"keys": provider.published()}))
    passing.now += 31
    assert await cache.find(_token(provider))


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """One that is not there, or larger than a megabyte, is named."""
    with pytest.raises(SourceError, match="cannot be read"):
        KeysInFile(tmp_path / "none").read()
    (tmp_path / "large").write_bytes(b" " * (1024 * 1024 + 1))
    with pytest.raises(SourceError, match="larger than 1048576 bytes"):
        KeysInFile(tmp_path / "large").read()


@pytest.mark.parametrize("kid", ["../../etc/passwd", "/keys", "http://127.0.0.1/keys", "' OR 1=1 --", "", "\x00", "é"])
async def test_a_kid_is_a_name_only(provider: RunningProvider, passing: _Time, kid: str) -> None:
    """Paths, URLs and SQL in a kid lead nowhere: it is compared, and no more."""
    cache = _cache(_discovered(provider), passing)
    with pytest.raises(Unauthenticated, match="does not publish"):
        await cache.find(_token(provider, kid=kid))
    assert provider.seen() == {"discovery": 1, "keys": 1}


async def test_without_a_kid(provider: RunningProvider, passing: _Time) -> None:
    """A token that names no key is of the only one that fits its algorithm; of two, it must say which."""
    cache = _cache(_discovered(provider), passing)
    assert len(await cache.find(_token(provider, kid=None))) == 1
    second = {**RSAKey.generate_key(2048).as_dict(private=False), "kid": "second"}
    provider.behave(keys=[*provider.published(), second])
    with pytest.raises(Unauthenticated, match="does not say by its kid"):
        await _cache(_discovered(provider), passing).find(_token(provider, kid=None))


def _public(key: RSAKey | ECKey | OKPKey, **more: object) -> dict[str, Any]:
    return {**key.as_dict(private=False), "kid": "k", **more}


RSA = RSAKey.generate_key(2048)
P256 = ECKey.generate_key("P-256")
_WEAK = (RSA.public_key.public_numbers().n >> 1024).to_bytes(128)


@pytest.mark.parametrize(
    "member",
    [
        OctKey.generate_key(256).as_dict(),
        {**RSA.as_dict(private=True), "kid": "k"},
        {**P256.as_dict(private=True), "kid": "k"},
        _public(RSA, use="enc"),
        _public(RSA, key_ops=["encrypt"]),
        _public(RSA, use="other"),
        _public(RSA, n=base64.urlsafe_b64encode(_WEAK).rstrip(b"=").decode()),
        _public(RSA, n=base64.urlsafe_b64encode(b"\0" * 128 + _WEAK).rstrip(b"=").decode()),
        _public(RSA, n="_" * 1_000_000),
        _public(RSA, e="_" * 300),
        _public(RSA, e="AQ"),
        _public(RSA, e="AA"),
        _public(RSA, e=65537),
        _public(RSA, n=None),
        _public(RSA, kid=7),
        _public(P256, x="AA"),
        _public(P256, crv="secp256k1"),
        _public(P256, crv=["P-256"]),
        _public(ECKey.generate_key("secp256k1")),
        _public(OKPKey.generate_key("X25519")),
        _public(OKPKey.generate_key("Ed448")),
        {"kty": "RSA"},
        {"kty": ["RSA"]},
        {"kty": "AKP", "alg": "ML-DSA-65"},
        {},
        None,
        7,
    ],
    ids=lambda member: type(member).__name__,
)  # fmt: skip
def test_what_is_no_key(member: object) -> None:
    """A shared secret, a private key, one not for signatures, weak, huge or broken: left out; the others are taken."""
    with pytest.raises(SourceError, match="without a public key"):
        parse_key_set(json.dumps({"keys": [member]}).encode())
    (key,) = parse_key_set(json.dumps({"keys": [member, _public(P256)]}).encode())
    assert isinstance(key, ECKey)


def test_too_many_keys() -> None:
    """A set has a hundred at most."""
    with pytest.raises(SourceError, match="at most 100 keys"):
        parse_key_set(json.dumps({"keys": [_public(P256)] * 101}).encode())


@pytest.mark.parametrize("url", ["https://127.0.0.1/keys", "http://localhost/keys", "http://[::1]/keys"])
def test_an_issuer_elsewhere_leads_not_here(url: str) -> None:
    """Where loopback is not let, whatever the scheme: discovery of a remote issuer must not reach this machine."""
    assert checked_url(url) == url
    with pytest.raises(ValueError, match="is on this machine"):
        checked_url(url, loopback=False)


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/keys", "ftp://x", "https://", "https://u@x.org", "https://x.org#f", "https://x.org:0",
        "https://x.org:99999", "https://x org", "https://x.org\\@y.org", "//x.org", "https://[::1", "", None, 7,
    ],
)  # fmt: skip
def test_no_url(url: object) -> None:
    """Not https, no host, a user, a fragment, a port that is none."""
    with pytest.raises(ValueError, match=r"."):
        checked_url(url)
