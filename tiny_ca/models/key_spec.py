"""Which kind of key: the value that configurations, profiles and requests share."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KeySpec"]


@dataclass(frozen=True, slots=True)
class KeySpec:
    """``rsa`` with ``size`` in bits, ``ec`` with ``curve``, ``ed25519``, or ``mldsa`` with ``parameter_set``."""

    algorithm: str
    size: int | None = None
    curve: str | None = None
    parameter_set: str | None = None

    def __str__(self) -> str:
        match self.algorithm:
            case "rsa":
                return f"RSA-{self.size}"
            case "ec":
                return f"EC {self.curve}"
            case "mldsa":
                return str(self.parameter_set)
            case "ed25519":
                return "Ed25519"
            case _:
                return self.algorithm

    @classmethod
    def rsa(cls, size: int) -> KeySpec:
        """RSA with a modulus of ``size`` bits."""
        return cls("rsa", size=size)

    @classmethod
    def ec(cls, curve: str = "P-256") -> KeySpec:
        """ECDSA over the curve with this NIST name."""
        return cls("ec", curve=curve)

    @classmethod
    def ed25519(cls) -> KeySpec:
        """Ed25519 (RFC 8410)."""
        return cls("ed25519")

    @classmethod
    def mldsa(cls, parameter_set: str = "ML-DSA-65") -> KeySpec:
        """ML-DSA (FIPS 204, RFC 9881)."""
        return cls("mldsa", parameter_set=parameter_set)
