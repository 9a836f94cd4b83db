"""What schemathesis must know to send the media types of X.509; it loads this file by name."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.serializer("application/x-pem-file", "application/pkcs10", "application/octet-stream")
def serialize(ctx: schemathesis.SerializationContext, value: Any) -> bytes:  # noqa: ANN401  # its signature
    """Send strings and octets as they are, and nothing in place of the rest: JSON's other types have no octets."""
    if isinstance(value, str):
        return value.encode("utf-8", errors="replace")
    return value if isinstance(value, bytes) else b""
