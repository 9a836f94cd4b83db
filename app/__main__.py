"""``python -m app`` is ``tiny-ca``."""

from __future__ import annotations

from app.entry import main

main()
