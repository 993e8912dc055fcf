"""The demo: a model's whole life on real data."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymlops.cli.options import JsonOption, parse_time
from raymlops.cli.output import emit_json
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
    json: JsonOption = False,
) -> None:
    """Live a model's whole life on the flights of 2013: train, serve, watch, retrain, release.

    With --json the story goes to stderr.
    """
    from rich.console import Console

    from raymlops.demo.memory import PeakMemory
    from raymlops.demo.narrator import Narrator
    from raymlops.demo.story import DemoPlan, run_demo

    # Ray Serve sets its logger's level when it is imported; a filter stays.
    logging.getLogger("ray.serve").addFilter(lambda record: record.levelno >= logging.WARNING)
    console = Console(stderr=json)
    started = time.monotonic()
    with PeakMemory() as memory:
        result = run_demo(
            Narrator(console),
            home=(home or _new_home()).resolve(),
            plan=DemoPlan(live_until=parse_time(until)),
            keep=keep,
        )
    summary = _summary(result, time.monotonic() - started, memory.peak_bytes)
    _conclude(console, result, summary, keep=keep)
    if json:
        emit_json(summary)
    if result.tally.failures:
        raise RaymlopsError(f"requests failed: {result.tally.failures[:3]}")


def _new_home() -> Path:
    _DEFAULT_PARENT.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=time.strftime("%Y%m%d-%H%M%S-"), dir=_DEFAULT_PARENT))


def _summary(result: DemoResult, wall_s: float, peak_bytes: int) -> dict[str, Any]:
    import numpy as np

    tally = result.tally
    p50, p99 = (float(value) * 1e3 for value in np.percentile(tally.latencies_s, [50, 99]))
    return {
        "num_requests": tally.num_sent,
        "num_rows": tally.num_rows,
        "num_failed": len(tally.failures),
        "requests_by_arm": dict(sorted(tally.by_arm.items())),
        "p50_ms": p50,
        "p99_ms": p99,
        "wall_s": wall_s,
        "peak_memory_bytes": peak_bytes,
        "home": result.home,
        "report": result.report,
        "url": result.url,
        "dashboard_url": result.dashboard_url,
    }


def _conclude(console: Console, result: DemoResult, summary: dict[str, Any], *, keep: bool) -> None:
    arms = ", ".join(f"{count:,} by {arm}" for arm, count in summary["requests_by_arm"].items())
    console.print()
    console.rule("[bold]Result", align="left", style="cyan")
    for line in (
        f"requests: {summary['num_requests']:,} sent ({summary['num_rows']:,} rows; {arms}), "
        f"{summary['num_failed']} failed; p50 {summary['p50_ms']:.1f} ms, "
        f"p99 {summary['p99_ms']:.1f} ms at the client",
        f"took {summary['wall_s']:.0f} s, peak memory "
        f"{summary['peak_memory_bytes'] / 2**30:.2f} GiB with every process",
        f"ask it yourself: raymlops decisions flights --home {result.home}",
    ):
        console.print(f"  {line}", highlight=False, soft_wrap=True)
    if keep:
        console.print(f"  model:     {result.url}/v2/models/flights", soft_wrap=True)
        console.print(f"  dashboard: {result.dashboard_url}", soft_wrap=True)
        console.print(f"  end it:    raymlops down --home {result.home}", soft_wrap=True)
    console.print(f"  report:    {result.report}", highlight=False, soft_wrap=True)
