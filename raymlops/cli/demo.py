"""The demo: a model's whole life on real data."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import parse_time
from raymlops.errors import RaymlopsError

if TYPE_CHECKING:
    from rich.console import Console

    from raymlops.demo.story import DemoResult

_DEFAULT_PARENT = Path(".raymlops") / "demo"


def add_to(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave cluster, model and dashboard up.")
    ] = False,
    home: Annotated[
        Path | None, typer.Option(help="Where everything is kept; a new folder by default.")
    ] = None,
    until: Annotated[str, typer.Option(help="The date the replay ends.")] = "2014-01-01",
) -> None:
    """Live a model's whole life on the flights of 2013: train, serve, watch, retrain, release."""
    from rich.console import Console

    from raymlops.demo.memory import PeakMemory
    from raymlops.demo.narrator import Narrator
    from raymlops.demo.story import DemoPlan, run_demo

    # Ray Serve sets its logger's level when it is imported; a filter stays.
    logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.WARNING)
    console = Console()
    started = time.monotonic()
    with PeakMemory() as memory:
        result = run_demo(
            Narrator(console),
            home=(home or _new_home()).resolve(),
            plan=DemoPlan(live_until=parse_time(until)),
            keep=keep,
        )
    _conclude(console, result, time.monotonic() - started, memory.peak_bytes, keep=keep)
    if result.tally.failures:
        raise RaymlopsError(f"requests failed: {result.tally.failures[:3]}")


def _new_home() -> Path:
    _DEFAULT_PARENT.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=_DEFAULT_PARENT))


def _conclude(
    console: Console, result: DemoResult, wall_s: float, peak_bytes: int, *, keep: bool
) -> None:
    import numpy as np

    tally = result.tally
    p50, p99 = (float(value) * 1e3 for value in np.percentile(tally.latencies_s, [50, 99]))
    arms = ", ".join(f"{count:,} by {arm}" for arm, count in sorted(tally.by_arm.items()))
    console.print()
    console.rule("[bold]Result", align="left", style="cyan")
    for line in (
        f"requests: {tally.num_sent:,} sent ({tally.num_rows:,} rows; {arms}), "
        f"{len(tally.failures)} failed; p50 {p50:.1f} ms, p99 {p99:.1f} ms at the client",
        f"took {wall_s:.0f} s, peak memory {peak_bytes / 2**30:.2f} GiB with every process",
        f"ask it yourself: raymlops decisions flights --home {result.home}",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if keep:
        console.print(f"  model:     {result.url}/v2/models/flights", soft_wrap=True)
        console.print(f"  dashboard: {result.dashboard_url}", soft_wrap=True)
        console.print(f"  end it:    raymlops down --home {result.home}", soft_wrap=True)
    console.print(f"  report:    {result.report}", highlight=False, soft_wrap=True)
