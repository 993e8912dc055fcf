"""Verbs of runs: list."""

from __future__ import annotations

from typing import Annotated

import typer

from raymlops.cli.options import EnvOption, HomeOption, JsonOption, open_workspace
from raymlops.cli.output import emit_json, emit_table

_runs = typer.Typer(help="Trainings, searches and their trials.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_runs, name="runs")


@_runs.callback()
def runs() -> None:
    """Trainings, searches and their trials."""


@_runs.command("list")
def list_(
    model: Annotated[str | None, typer.Option(help="Only runs of this model.")] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """List runs with the latest log loss of each."""
    with open_workspace(home=home, env=env) as workspace:
        found = workspace.ledger.runs.list(model=model)
        last = {run.id: workspace.ledger.runs.last_metrics(run.id) for run in found}
    if json:
        emit_json([{"run": run, "metrics": last[run.id]} for run in found])
        return
    emit_table(
        ("run", "kind", "status", "started", "log loss"),
        (
            (
                run.id,
                run.kind,
                run.status,
                f"{run.started_at:%Y-%m-%d %H:%M:%S}",
                f"{last[run.id]['log_loss']:.4f}" if "log_loss" in last[run.id] else "",
            )
            for run in found
        ),
    )
