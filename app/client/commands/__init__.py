"""The commands as typer reads them: flags in, one call, output. What they do is in the modules beside this package.

Each imports what it needs when it runs: ``tiny-ca --help`` is asked for more often than anything else.
"""

from __future__ import annotations

import typer

from app.client.commands import certificates, operations, publication

__all__ = ["mount"]


def mount(cli: typer.Typer) -> None:
    """Add every command of the client."""
    certificates.mount(cli)
    publication.mount(cli)
    operations.mount(cli)
