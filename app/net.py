"""Addresses: which are this machine's own."""

from __future__ import annotations

import ipaddress

__all__ = ["is_loopback", "is_unspecified"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on ``host``; a name other than localhost is taken as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_unspecified(host: str) -> bool:
    """Whether a server on ``host`` listens on every address of this machine."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
