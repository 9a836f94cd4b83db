"""What relying parties fetch: CA certificates and CRLs, kept in memory as they go over the wire."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from functools import cached_property

__all__ = ["PublicFile"]


@dataclass(frozen=True)
class PublicFile:
    """One file with its validators (RFC 9110 §8.8), made once and served many times."""

    content: bytes
    media_type: str
    modified: datetime

    @cached_property
    def etag(self) -> str:
        """A strong validator: the hash of the content."""
        return f'"{hashlib.sha256(self.content).hexdigest()[:32]}"'

    @cached_property
    def gzip_etag(self) -> str:
        """The compressed form is another representation, so its strong validator differs (RFC 9110 §8.8.3)."""
        return f'{self.etag[:-1]}-gzip"'

    @cached_property
    def last_modified(self) -> str:
        """As an IMF-fixdate."""
        return format_datetime(self.modified.replace(microsecond=0), usegmt=True)

    @cached_property
    def gzipped(self) -> bytes:
        """The same content compressed, without a time in it, so that equal content stays equal."""
        return gzip.compress(self.content, mtime=0)
