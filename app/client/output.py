"""What a command prints: tables for people, JSON for programs. Never a secret but a token that was just made."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from app.client.errors import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["Output", "progress", "say"]

# What is copied from the terminal stays in one piece.
_WHOLE: Final = frozenset({"at", "common_name", "id", "name", "not_valid_after", "serial_number", "status"})
_WIDEST: Final = 40
_ANY_WIDTH: Final = 100_000
_MOMENT: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.\d+Z")


@dataclass(frozen=True, slots=True)
class Output:
    """Standard output, in the one form or the other. ``is_asked``: somebody said which."""

    as_json: bool
    is_asked: bool = False

    def record(self, value: Mapping[str, Any], shown: Sequence[str] | None = None) -> None:
        """One object; for people, the ``shown`` fields of it."""
        if self.as_json:
            print(json.dumps(value, indent=2))  # noqa: T201  # this is where things are printed
            return
        cells = {name: cell for name in shown or value if (cell := _cell(value.get(name)))}
        width = max(map(len, cells), default=0) + 2
        for name, cell in cells.items():
            _print(_text(f"{name.replace('_', ' '):<{width}}{cell}"))

    def listing(self, items: Iterable[Mapping[str, Any]], shown: Sequence[str]) -> None:
        """Many objects: one JSON array, written as they come; for people, a table of the ``shown`` fields."""
        if self.as_json:
            before = "[\n"
            for item in items:
                sys.stdout.write(before + json.dumps(item))
                before = ",\n"
            sys.stdout.write("[]\n" if before == "[\n" else "\n]\n")
            return
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in shown:
            widest = None if name in _WHOLE else _WIDEST
            table.add_column(name.replace("_", " "), overflow="fold", no_wrap=name in _WHOLE, max_width=widest)
        for item in items:
            table.add_row(*(_text(_cell(item.get(name))) for name in shown))
        _print(table)

    def counted(self, items: Iterable[Mapping[str, Any]], label: str, total: int | None) -> Iterator[Mapping[str, Any]]:
        """The items, with progress while they are fetched, unless that would stand in the middle of them."""
        if self.as_json and sys.stdout.isatty():
            yield from items
            return
        with progress(label, total) as advance:
            for item in items:
                yield item
                advance(1)


def say(message: str) -> None:
    """One line on standard error."""
    sys.stderr.write(f"tiny-ca: {one_line(message)}\n")
    sys.stderr.flush()


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere nothing. What it yields is told how many more are done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total)
        yield lambda more: bar.advance(task, more)


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case list():
            return ", ".join(_cell(one) for one in value)
        case dict():
            return " ".join(f"{name}={_cell(one)}" for name, one in value.items() if one is not None)
        case _:
            return _MOMENT.sub(r"\1Z", one_line(str(value)))


def _text(cell: str) -> Text:
    from rich.text import Text

    return Text(cell)  # brackets in it are no markup


def _print(shown: RenderableType) -> None:
    from rich.console import Console
    from rich.measure import Measurement

    console = Console(highlight=False)
    # Wider than the terminal, it is for the terminal to wrap; rich would cut serial numbers short.
    needed = Measurement.get(console, console.options.update(max_width=_ANY_WIDTH), shown).maximum
    Console(highlight=False, width=max(console.width, needed)).print(shown, crop=False)
