r"""``index.txt``, the database of ``openssl ca``: one certificate a line, six columns between tabs.

    status      V valid, R revoked, E expired (only ``openssl ca -updatedb`` writes it)
    expiry      YYMMDDHHMMSSZ, or YYYYMMDDHHMMSSZ from 2050 on
    revocation  empty, or a time, then maybe a comma and a reason, then maybe a comma and its argument
    serial      hex
    file        "unknown"
    subject     /C=…/CN=…; a tab in it is written \<tab>

Nothing is known here of files but their names in messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from app.transfer.found import shown
from tiny_ca.exc import Invalid
from tiny_ca.models.revocation import reason_code

__all__ = ["MAX_LINE", "IndexEntry", "parse_index"]

MAX_LINE: Final = 16 * 1024
_COLUMNS: Final = 6
_SEPARATOR: Final = re.compile(rb"(?<!\\)\t")
_TIME: Final = re.compile(r"(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})Z", re.ASCII)
# RFC 5280 §4.1.2.2: positive, at most 20 octets.
_SERIAL: Final = re.compile(r"[0-9A-Fa-f]{1,40}", re.ASCII)
_Reason = x509.ReasonFlags
# What `openssl ca -crl_reason …` and its relatives write; it reads them whatever their case.
_REASONS: Final = {
    "unspecified": _Reason.unspecified,
    "keycompromise": _Reason.key_compromise,
    "cacompromise": _Reason.ca_compromise,
    "affiliationchanged": _Reason.affiliation_changed,
    "superseded": _Reason.superseded,
    "cessationofoperation": _Reason.cessation_of_operation,
    "certificatehold": _Reason.certificate_hold,
    "privilegewithdrawn": _Reason.privilege_withdrawn,
    "aacompromise": _Reason.aa_compromise,
    # RFC 5280 §5.3.1: for delta CRLs only; OpenSSL keeps such a certificate on the full one, so it is revoked.
    "removefromcrl": _Reason.unspecified,
    # These have an argument: an OID, or the time from which the key is doubted.
    "holdinstruction": _Reason.certificate_hold,
    "keytime": _Reason.key_compromise,
    "cakeytime": _Reason.ca_compromise,
}


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line. ``serial_hex`` is as it was written: the certificate's file is called so."""

    where: str
    status: str
    expires: datetime
    revoked_at: datetime | None
    reason: int
    serial_number: int
    serial_hex: str


def parse_index(lines: Iterable[bytes], name: str) -> Iterator[IndexEntry]:
    """Yield the entries; lines that begin with # are comments.

    Raises
    ------
    Invalid
        A line is none of this format: the message names the line, the value and what would be right.
    """
    seen: dict[int, int] = {}
    for number, line in enumerate(lines, start=1):
        where = f"{name}, line {number}"
        if len(line) > MAX_LINE:
            raise Invalid(f"{where} is longer than {MAX_LINE} octets", field="line")
        if line.startswith(b"#"):
            continue
        entry = _entry(line.rstrip(b"\r\n"), where)
        before = seen.setdefault(entry.serial_number, number)
        if before != number:
            raise Invalid(f"{where}: serial number {entry.serial_hex} is in line {before} already", field="serial")
        yield entry


def _entry(line: bytes, where: str) -> IndexEntry:
    columns = [column.decode("utf-8", "backslashreplace") for column in _SEPARATOR.split(line)]
    if len(columns) != _COLUMNS:
        raise Invalid(f"{where} has {len(columns)} columns between tabs, not {_COLUMNS}: {shown(line)}", field="line")
    status, expiry, revocation, serial, _, _ = columns
    if status not in {"V", "R", "E"}:
        raise Invalid(f"{where}: the status is {shown(status)}, which is none of V, R and E", field="status")
    if not _SERIAL.fullmatch(serial) or int(serial, 16) == 0:
        message = f"{where}: the serial number {shown(serial)} is no positive number in hex of at most 20 octets"
        raise Invalid(message, field="serial")
    # `openssl ca -updatedb` marks what expired, and keeps what it knew of a revocation.
    if (status == "R") != bool(revocation) and status != "E":
        what = "it is revoked, and has no date of it" if status == "R" else "it is valid, and has a date of revocation"
        raise Invalid(f"{where}: {what}: {shown(revocation)}", field="revocation")
    revoked_at, reason = _revocation(revocation, where) if revocation else (None, 0)
    return IndexEntry(
        where=where,
        status=status,
        expires=_time(expiry, where),
        revoked_at=revoked_at,
        reason=reason,
        serial_number=int(serial, 16),
        serial_hex=serial,
    )


def _revocation(text: str, where: str) -> tuple[datetime, int]:
    date, _, rest = text.partition(",")
    name = rest.partition(",")[0]
    reason = _REASONS.get(name.lower()) if rest else _Reason.unspecified
    if reason is None:
        known = "unspecified, keyCompromise, CACompromise, affiliationChanged, superseded, cessationOfOperation …"
        raise Invalid(f"{where}: {shown(name)} is no reason that openssl writes: {known}", field="reason")
    return _time(date, where), reason_code(reason)


def _time(text: str, where: str) -> datetime:
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError  # noqa: TRY301  # the same as a date off the calendar
        year = int(found[1])
        if len(found[1]) == 2:  # RFC 5280 §4.1.2.5.1: 50 is 1950, 49 is 2049
            year += 2000 if year < 50 else 1900
        month, day, hour, minute, second = (int(found[place]) for place in range(2, 7))
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        message = f"{where}: {shown(text)} is no time such as 261231235959Z or 20501231235959Z"
        raise Invalid(message, field="time") from None
