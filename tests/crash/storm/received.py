"""What the clients hold in their hands at the end, and when they got it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["CRLSeen", "Received", "Revocation"]


@dataclass(frozen=True, slots=True)
class Revocation:
    """An acknowledged one; ``at`` is by the monotonic clock of the clients."""

    serial_number: int
    at: float


@dataclass(frozen=True, slots=True)
class CRLSeen:
    """A CRL as a replica served it to a request that began at ``began``."""

    der: bytes
    began: float
    replica: int
    start: int


@dataclass(slots=True)
class Received:
    """``certificates``: for each idempotency key, the distinct certificates (DER) that came back for it."""

    certificates: dict[str, set[bytes]] = field(default_factory=dict)
    revocations: list[Revocation] = field(default_factory=list)
    crls: list[CRLSeen] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lost: int = 0
    unexpected: list[str] = field(default_factory=list)
