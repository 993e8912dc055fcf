"""How benchmarks measure and report: medians of pairs, a table, and one JSON line."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number beside its references; `goal` says what it must reach, None nothing."""

    name: str
    unit: str
    ours: float
    references: Mapping[str, float]
    goal: str | None = None
    met: bool | None = None


def program(name: str, *, of: str) -> str:
    """Where a program of another package lies that a benchmark runs; ends this one without it."""
    found = shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: apt-get install {of}")
    return found


def seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def paired_medians(
    ours: Callable[[], object], reference: Callable[[], object], *, repeats: int
) -> tuple[float, float]:
    """Median seconds of both, run in turn, so that a noisy machine disturbs them alike."""
    pairs = [(seconds(ours), seconds(reference)) for _ in range(repeats)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def report(benchmark: str, figures: list[Figure]) -> None:
    """Prints the table for people and, as the last line, JSON for programs."""
    table = Table("figure", "unit", "ours", "references", "goal", "met", box=None)
    for figure in figures:
        references = ", ".join(f"{peer} {value:.4g}" for peer, value in figure.references.items())
        met = {None: "", True: "yes", False: "NO"}[figure.met]
        table.add_row(
            figure.name, figure.unit, f"{figure.ours:.4g}", references, figure.goal or "", met
        )
    Console(width=140).print(table)
    print(json.dumps({"benchmark": benchmark, "figures": [asdict(figure) for figure in figures]}))
