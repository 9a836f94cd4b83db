"""The library's only setting: where it logs to. Nobody's handlers are touched."""

from __future__ import annotations

import logging

__all__ = ["DEFAULT_LOGGER"]

DEFAULT_LOGGER = logging.getLogger("tiny_ca")
