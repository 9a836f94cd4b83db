"""Measures what latency.py and crl.py do, and draws it: docs/images/*.svg, each with its figures beside it as JSON.

Issuing against connections, by the clock and as a ratio to the crypto library's own loop; a CRL against its entries.
With --redraw nothing is measured: the JSON that is there is drawn again, and comes out the same, octet by octet.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks import crl, latency
from benchmarks.harness import arguments, machine, scratch

_IMAGES: Final = Path(__file__).resolve().parent.parent / "docs" / "images"
_CONNECTIONS: Final = (1, 2, 4, 8, 16, 32, 64)
_GOAL: Final = 0.60  # of the bare loop, by CPU seconds
# The date and the version of what drew it would make each drawing differ.
_METADATA: Final = {"Date": None, "Creator": None}

Figures = Mapping[str, Any]


def main() -> None:
    """Measure, unless it is only to be drawn again, and draw."""
    asked = arguments(
        __doc__,
        rounds=crl.ROUNDS,
        seconds=2.0,
        connections=32,
        also={"--steps": _CONNECTIONS, "--entries": crl.ENTRIES},
        flags={"--redraw": "draw what was measured before"},
    )
    if not asked.redraw:
        _IMAGES.mkdir(parents=True, exist_ok=True)
        with scratch(asked.folder) as folder:
            _measure_issuing(folder, steps=asked.steps, rounds=asked.rounds, seconds=asked.seconds)
            _measure_crl(folder, entries=asked.entries, rounds=asked.rounds)
    for name, draw in _DRAWINGS.items():
        _save(name, draw)


def _measure_issuing(folder: Path, *, steps: Sequence[int], rounds: int, seconds: float) -> None:
    before = machine(folder)
    print(f"{before}; {rounds} rounds of {seconds:g} s each")
    found = latency.measure(folder / "issuing", connections=steps, rounds=rounds, seconds=seconds)
    latency.report(found)
    _keep("issuing", {"machine": before, "rounds": rounds, "seconds": seconds, "steps": [asdict(one) for one in found]})


def _measure_crl(folder: Path, *, entries: Sequence[int], rounds: int) -> None:
    before = machine(folder)
    print(f"\n{before}; {rounds} rounds")
    found = [crl.measure(folder / f"crl-{count}", entries=count, rounds=rounds) for count in entries]
    crl.report(found)
    _keep("crl", {"machine": before, "rounds": rounds, "steps": [asdict(one) for one in found]})


def _keep(name: str, figures: Figures) -> None:
    (_IMAGES / f"{name}.json").write_text(json.dumps(_rounded(figures), indent=2) + "\n")


def _rounded(value: Any) -> Any:  # noqa: ANN401  # whatever JSON holds
    """Leave out the digits that were not measured."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value


def _save(name: str, draw: Callable[[Figure, Figures], None]) -> None:
    figures = json.loads((_IMAGES / f"{name}.json").read_text())
    # Ids that are the same in every run; text stays text, so that a change of a label shows as one.
    with rc_context({"svg.hashsalt": "tiny-ca", "svg.fonttype": "none", "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        draw(figure, figures)
        figure.savefig(_IMAGES / f"{name}.svg", metadata=_METADATA)
    print(f"docs/images/{name}.svg")


def _draw_issuing(figure: Figure, figures: Figures) -> None:
    rate, ratio = figure.subplots(1, 2)
    connections = _column(figures, "connections")
    rate.plot(connections, _column(figures, "per_second"), marker="o", label="each second")
    rate.plot(connections, _column(figures, "per_cpu_second"), marker="s", label="each CPU second")
    rate.set_title("Certificates from CSRs, SQLite")
    ratio.plot(connections, _column(figures, "ratio"), marker="o", label="each second")
    ratio.plot(connections, _column(figures, "cpu_ratio"), marker="s", label="each CPU second")
    ratio.axhline(_GOAL, linestyle="--", color="grey", label="goal, each CPU second")
    ratio.set_title("The same, to the bare loop on one core")
    for axes in (rate, ratio):
        axes.set_xscale("log", base=2)
        axes.set_xticks(connections, [str(number) for number in connections])
        axes.set_ylim(bottom=0)
        _finish(axes, "connections")


def _draw_crl(figure: Figure, figures: Figures) -> None:
    axes = figure.subplots()
    entries = _column(figures, "entries")
    axes.loglog(entries, _column(figures, "seconds"), marker="o", label="until the answer")
    axes.loglog(entries, _column(figures, "cpu_seconds"), marker="s", label="CPU")
    axes.set_ylabel("seconds")
    axes.set_title("A revocation with its CRL, SQLite")
    _finish(axes, "entries of the CRL")


def _finish(axes: Axes, of_x: str) -> None:
    axes.set_xlabel(of_x)
    axes.legend()


def _column(figures: Figures, name: str) -> list[float]:
    return [step[name] for step in figures["steps"]]


_DRAWINGS: Final = {"issuing": _draw_issuing, "crl": _draw_crl}


if __name__ == "__main__":
    main()
