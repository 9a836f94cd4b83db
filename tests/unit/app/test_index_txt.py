"""``index.txt`` as openssl writes it, and as nobody should."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from hypothesis import example, given
from hypothesis import strategies as st

from app.transfer.index_txt import MAX_LINE, parse_index
from tiny_ca.exc import Invalid
from tiny_ca.models.revocation import reason_code

_GOOD = b"V\t261231235959Z\t\t1000\tunknown\t/CN=app.example.org\n"
_REASONS = {
    "unspecified": x509.ReasonFlags.unspecified,
    "keyCompromise": x509.ReasonFlags.key_compromise,
    "CACompromise": x509.ReasonFlags.ca_compromise,
    "affiliationChanged": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessationOfOperation": x509.ReasonFlags.cessation_of_operation,
    "certificateHold": x509.ReasonFlags.certificate_hold,
    "removeFromCRL": x509.ReasonFlags.unspecified,
    "holdInstruction,holdInstructionReject": x509.ReasonFlags.certificate_hold,
    "keyTime,20260101000000Z": x509.ReasonFlags.key_compromise,
    "CAkeyTime,20260101000000Z": x509.ReasonFlags.ca_compromise,
}

_times = st.datetimes(datetime(1950, 1, 1), datetime(9999, 12, 31)).map(  # noqa: DTZ001  # hypothesis wants them so
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
_subjects = st.text(st.characters(exclude_characters="\t\r\n", exclude_categories=["Cs"]), max_size=60).filter(
    lambda text: not text.startswith("\\")
)


def _written(moment: datetime) -> str:
    """As RFC 5280 §4.1.2.5 and openssl have it: two digits of the year until 2049."""
    stamp = moment.strftime("%m%d%H%M%SZ")
    return f"{moment.year % 100:02}{stamp}" if moment.year < 2050 else f"{moment.year:04}{stamp}"


@given(st.lists(st.binary(max_size=200) | st.just(_GOOD), max_size=5))
@example([_GOOD.replace(b"1000", b"0")])
@example([_GOOD.replace(b"261231", b"261331")])
@example([_GOOD.replace(b"261231", "٢٦1231".encode())])
def test_whatever_comes_is_entries_or_one_refusal(lines: list[bytes]) -> None:
    """Which names the file and the line, on one line."""
    entries, refusal = [], None
    try:
        entries = list(parse_index(lines, "index.txt"))
    except Invalid as error:
        refusal = error.message
    if refusal is None:
        assert len(entries) == sum(not line.startswith(b"#") for line in lines)
        assert all(0 < entry.serial_number < 1 << 160 for entry in entries)
    else:
        assert refusal.startswith("index.txt, line ")
        assert refusal.isprintable()


@given(
    expires=_times,
    revoked_at=_times | st.none(),
    reason=st.sampled_from(["", *_REASONS]),
    serial=st.integers(1, (1 << 160) - 1),
    subject=_subjects,
)
def test_what_is_written_is_read(
    expires: datetime, revoked_at: datetime | None, reason: str, serial: int, subject: str
) -> None:
    """Times, reasons and serial numbers come back as they were."""
    suffix = f",{reason}" if reason else ""
    revocation = "" if revoked_at is None else _written(revoked_at) + suffix
    status = "V" if revoked_at is None else "R"
    line = f"{status}\t{_written(expires)}\t{revocation}\t{serial:X}\tunknown\t{subject}\n".encode()
    (entry,) = parse_index([line], "index.txt")
    assert (entry.status, entry.expires, entry.revoked_at, entry.serial_number) == (status, expires, revoked_at, serial)
    if revoked_at is not None:
        assert entry.reason == reason_code(_REASONS.get(reason, x509.ReasonFlags.unspecified))


@pytest.mark.parametrize(
    "line, said",
    [
        (b"V\t261231235959Z\t\t1000\t/CN=app\n", r"has 5 columns between tabs, not 6"),
        (_GOOD.rstrip() + b"\tmore\n", r"has 7 columns"),
        (b"\n", r"has 1 columns"),
        (_GOOD.replace(b"V", b"X"), r"the status is 'X', which is none of V, R and E"),
        (_GOOD.replace(b"1000", b"10ZZ"), r"the serial number '10ZZ' is no positive number in hex"),
        (_GOOD.replace(b"1000", b"-1"), r"the serial number '-1'"),
        (_GOOD.replace(b"1000", b"1" * 41), r"at most 20 octets"),
        (_GOOD.replace(b"261231235959Z", b"26123123595Z"), r"'26123123595Z' is no time"),
        (_GOOD.replace(b"261231235959Z", b"260230000000Z"), r"'260230000000Z' is no time"),
        (b"R\t261231235959Z\t\t1000\tunknown\t/CN=app\n", r"it is revoked, and has no date"),
        (b"V\t261231235959Z\t260101000000Z\t1000\tunknown\t/CN=app\n", r"it is valid, and has a date"),
        (b"R\t261231235959Z\t260101000000Z,whim\t1000\tunknown\t/CN=app\n", r"'whim' is no reason"),
        (_GOOD.replace(b"app", b"a" * MAX_LINE), r"is longer than"),
    ],
)
def test_a_line_that_is_none(line: bytes, said: str) -> None:
    """The refusal names the file, the line, and the value with what would be right."""
    with pytest.raises(Invalid, match=rf"^index\.txt, line 3:? .*{said}|^index\.txt, line 3 {said}"):
        list(parse_index([b"# a comment\n", _GOOD.replace(b"1000", b"0FFF"), line], "index.txt"))


def test_a_serial_number_twice() -> None:
    """However it is written."""
    with pytest.raises(Invalid, match=r"line 2: serial number 0a is in line 1 already"):
        list(parse_index([_GOOD.replace(b"1000", b"0A"), _GOOD.replace(b"1000", b"0a")], "index.txt"))
