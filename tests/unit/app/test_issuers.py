"""The CAs of the service: which may issue, which only sign CRLs, which are only known."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from sqlalchemy import update
from sqlalchemy.orm import Session

from app.services.secrets import key_passphrase
from app.settings import Settings
from tests.unit.app.conftest import OpenCA
from tiny_ca.db.models import IssuerRecord
from tiny_ca.db.queries.revocations import revoke
from tiny_ca.exc import Conflict, NotFound, Unavailable

pytestmark = pytest.mark.anyio


def _change(session: Session, issuer_id: str, /, **values: object) -> None:
    session.execute(update(IssuerRecord).where(IssuerRecord.id == issuer_id).values(**values))


async def _reload(ca: OpenCA, settings: Settings) -> None:
    await ca.issuers.load(key_passphrase(settings, create=False).value)


async def test_a_revoked_ca_issues_no_more(ca: OpenCA) -> None:
    """Once the issuing CA is revoked nothing is issued with it; its CRLs go on."""
    issuer = ca.issuers.default
    reason = x509.ReasonFlags.ca_compromise
    await ca.db.write(revoke, issuer.certificate.serial_number, reason, now=ca.clock())
    await ca.issuers.load_revoked()
    with pytest.raises(Conflict, match="revoked"):
        ca.issuers.for_issuing(issuer.id)
    crls = ca.publisher()
    await crls.load()
    assert (await crls.current(issuer.id)).number == 1


async def test_a_disabled_ca_is_still_known(ca: OpenCA, settings: Settings) -> None:
    """Disabled, it issues nothing; its certificate is served and its CRLs are signed."""
    issuer = ca.issuers.default
    await ca.db.write(_change, issuer.id, enabled=False)
    await _reload(ca, settings)
    with pytest.raises(Conflict, match="disabled"):
        ca.issuers.for_issuing(issuer.id)
    assert ca.issuers.file(issuer.id).content
    crls = ca.publisher()
    await crls.load()
    assert (await crls.current(issuer.id)).number == 1


async def test_an_offline_root_is_still_served(ca: OpenCA, settings: Settings) -> None:
    """With its key away, a root's certificate and last CRL are served; only a CRL that has ended cannot be renewed."""
    (root_id,) = set(ca.issuers.ids) - {ca.issuers.default.id}
    crls = ca.publisher()
    await crls.load()
    await ca.db.write(_change, root_id, private_key_pem=None)
    await _reload(ca, settings)
    with pytest.raises(Conflict, match="not here"):
        ca.issuers.get(root_id)
    assert ca.issuers.file(root_id).content
    again = ca.publisher()
    await again.load()
    assert (await again.current(root_id)).number == 1
    ca.clock.forward(timedelta(hours=25))
    with pytest.raises(Unavailable):
        await again.current(root_id)
    assert (await again.current(ca.issuers.default.id)).number == 2


async def test_an_ended_issuer_stops_nobody(ca: OpenCA) -> None:
    """When the issuing CA has ended, the service opens its CRLs all the same, and the root's go on."""
    (root_id,) = set(ca.issuers.ids) - {ca.issuers.default.id}
    ca.clock.forward(timedelta(days=1900))
    crls = ca.publisher()
    await crls.load()
    assert (await crls.current(root_id)).next_update > ca.clock()
    with pytest.raises(Unavailable):
        await crls.current(ca.issuers.default.id)


async def test_an_unknown_issuer(ca: OpenCA) -> None:
    """Nobody is not found, whatever is asked of them."""
    for ask in (ca.issuers.known, ca.issuers.get, ca.issuers.for_issuing, ca.issuers.file):
        with pytest.raises(NotFound):
            ask("0" * 16)
