"""What the driver scripts in jobs/layouts/ share: a spec trained under a plan, and its figures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from raymlops import operate
from raymlops.cli.following import Lines, following
from raymlops.cli.job import open_job
from raymlops.cli.options import find_functions_here
from raymlops.cli.output import emit_lines
from raymlops.cli.specs import beginning_lines, ending_lines, part
from raymlops.ledger import Run
from raymlops.train import ParallelPlan, TrainResult, TrainSpec


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a script may tell more about; `metrics` are the last of the run."""

    result: TrainResult
    metrics: Mapping[str, float]


def layout_parser(description: str | None) -> argparse.ArgumentParser:
    """Takes a spec, --home and --set; a script adds the sizes of its layout."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "spec", nargs="?", type=Path, default=Path("configs/digits.yaml"), help="a YAML spec"
    )
    parser.add_argument("--home", type=Path, help="where ledger and checkpoints lie")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="of the spec or the site"
    )
    return parser


def plan_of(parser: argparse.ArgumentParser, **settings: Any) -> ParallelPlan:
    """The plan of these settings; what is wrong with them ends the script in a line."""
    try:
        return ParallelPlan(**settings)
    except ValueError as error:
        parser.error(str(error))


def plan_argument(text: str) -> ParallelPlan:
    """The plan that an argument names; argparse tells no other error's own words."""
    try:
        return ParallelPlan.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def train_layout(
    arguments: argparse.Namespace,
    plan: ParallelPlan,
    *changes: str,
    when: Callable[[TrainSpec], bool] = lambda spec: True,
) -> Trained:
    """Trains what the arguments name under `plan`, and prints how it went.

    `changes` of the spec, written key=value, are the script's own, made `when` the spec without
    them is one for them: --set wins. What goes wrong ends the script, as in `open_job`.
    """
    find_functions_here()
    of_site, of_spec = part(arguments.set)
    site = argparse.Namespace(configs=[], home=arguments.home, set=of_site)
    with (
        open_job(site) as workspace,
        following(workspace.ledger, Lines(Console())) as follow,
    ):

        def begin(run: Run) -> None:
            emit_lines(beginning_lines(run, workspace.home))
            follow(run)

        spec = TrainSpec.read(arguments.spec, overrides=of_spec)
        if changes and when(spec):
            spec = TrainSpec.read(arguments.spec, overrides=[*changes, *of_spec])
        result = operate.fit(workspace, spec, plan, on_start=begin)
        run = workspace.ledger.runs.get(result.run_id)
        metrics = workspace.ledger.runs.last_metrics(result.run_id)
    emit_lines(ending_lines(result, run, metrics))
    return Trained(result=result, metrics=metrics)
