"""``Accept`` (RFC 9110 §12.5.1)."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.negotiation import choose
from app.problems import NotAcceptable

_OFFERED = ("application/json", "application/pem-certificate-chain", "application/pkix-cert")


@pytest.mark.parametrize(
    "accept, chosen",
    [
        (None, 0),
        ("", 0),
        ("*/*", 0),
        ("application/*", 0),
        ("application/pkix-cert", 2),
        ("APPLICATION/PKIX-CERT", 2),
        ("application/json;q=0.5, application/pem-certificate-chain", 1),
        ("text/html, application/pkix-cert;q=0.9, */*;q=0.1", 2),
        ("application/json;q=0, */*", 1),
        ("application/pem-certificate-chain; q=0.2, application/pkix-cert; q=0.3", 2),
    ],
)
def test_the_best_form_is_chosen(accept: str | None, chosen: int) -> None:
    """The most specific range decides each form's quality, the order offered decides between equals."""
    assert choose(accept, _OFFERED) == _OFFERED[chosen]


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "*/*;q=0", "application/json;q=x", ",,;"])
def test_what_cannot_be_met_is_refused(accept: str) -> None:
    """No suitable form is 406, never a form that was not asked for."""
    with pytest.raises(NotAcceptable):
        choose(accept, _OFFERED)


@given(st.text(max_size=200))
def test_no_header_breaks_it(accept: str) -> None:
    """Any text is a choice or a refusal."""
    with suppress(NotAcceptable):
        assert choose(accept, _OFFERED) in _OFFERED
