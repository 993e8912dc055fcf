"""Verbs of runs: list, show, watch, compare, best, forget-checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from raymlops.cli.options import (
    EnvOption,
    HomeOption,
    JsonOption,
    WhyOption,
    open_workspace,
    refuse,
)
from raymlops.cli.output import emit_json, emit_lines, emit_table, person
from raymlops.config import MOST_DAYS
from raymlops.errors import TrainingError

_runs = typer.Typer(
    help="Trainings, searches, trials: list, watch, compare.",
    no_args_is_help=True,
)

_logger = logging.getLogger(__name__)

_LOSSES = ("log_loss", "rmse", "ndcg_loss", "validation_loss", "loss")

ModelOption = Annotated[str | None, typer.Option("--model", help="Only runs of this model.")]
KindOption = Annotated[
    str | None, typer.Option("--kind", help="Only train, tune, trial, reference, ...")
]
WhereOption = Annotated[
    str | None,
    typer.Option(
        "--where",
        help="E.g. \"params.epochs >= 3 and metrics.log_loss < 0.5 and tags.team = 'a'\"",
    ),
]


def add_to(app: typer.Typer) -> None:
    app.add_typer(_runs, name="runs")


@_runs.callback()
def runs() -> None:
    """Trainings, searches, trials: list, watch, compare."""


@_runs.command("list")
def list_(
    model: ModelOption = None,
    kind: KindOption = None,
    status: Annotated[
        str | None, typer.Option(help="Only running, finished, failed, interrupted or lost ones.")
    ] = None,
    parent: Annotated[str | None, typer.Option(help="Only runs nested in this one.")] = None,
    where: WhereOption = None,
    sort: Annotated[str | None, typer.Option(help="A field, e.g. 'metrics.log_loss desc'.")] = None,
    limit: Annotated[int | None, typer.Option(help="At most so many.", min=1)] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """List runs with the latest loss of each, oldest first unless sorted."""
    known = ("running", "finished", "failed", "interrupted", "lost")
    if status is not None and status not in known:
        raise typer.BadParameter(f"'{status}' is none of {', '.join(known)}")
    with open_workspace(home=home, env=env) as workspace:
        found = workspace.ledger.runs.list(
            model=model,
            status=status,  # type: ignore[arg-type]  # checked above
            kind=kind,
            parent_id=parent,
            where=where,
            order_by=sort,
            limit=limit,
        )
        last = workspace.ledger.runs.last_metrics_of([run.id for run in found])
        # What sorts nothing is as wrong as what finds nothing, and shows less.
        for unknown in workspace.ledger.runs.unknown(where=None if found else where, order_by=sort):
            _logger.warning("%s", unknown)
        ledger = workspace.shown_ledger
    if json:
        emit_json([{"run": run, "metrics": last.get(run.id, {})} for run in found])
        return
    emit_table(
        ("run", "kind", "status", "started", "result"),
        (
            (
                run.id,
                run.kind,
                run.status,
                f"{run.started_at:%Y-%m-%d %H:%M:%S}",
                _result(last.get(run.id, {})),
            )
            for run in found
        ),
        if_none=(
            f"no run of {ledger} is one like that"
            if any((model, kind, status, parent, where))
            else f"no run is in {ledger}: `raymlops train CONFIG --data FILE` begins one"
        ),
    )


@_runs.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show everything the ledger holds of one run."""
    with open_workspace(home=home, env=env) as workspace:
        ledger = workspace.ledger
        run = ledger.runs.get(run_id)
        metrics, tags = ledger.runs.last_metrics(run_id), ledger.runs.tags(run_id)
        inputs, artifacts = ledger.runs.inputs(run_id), ledger.runs.artifacts(run_id)
        nested = ledger.runs.list(parent_id=run_id)
        versions = ledger.registry.of_runs([run_id])
    if json:
        emit_json(
            {
                "run": run,
                "metrics": metrics,
                "tags": tags,
                "inputs": inputs,
                "artifacts": artifacts,
                "nested": [each.id for each in nested],
                "versions": [str(version) for version in versions],
            }
        )
        return
    emit_lines(
        (
            ("run", f"{run.id}, {run.kind} of {run.model}, {run.status}"),
            *((("error", run.error),) if run.error else ()),
            *((("inside", run.parent_id),) if run.parent_id else ()),
            *(("input", f"{role}: {name} {version}") for role, (name, version) in inputs.items()),
            *(("param", f"{name} = {value}") for name, value in run.params.items()),
            *(("metric", f"{name} = {_shown(value)}") for name, value in metrics.items()),
            *(("tag", f"{name} = {value}") for name, value in tags.items()),
            *(
                ("artifact", f"{each.name}: {each.digest[:12]}, {each.size_bytes:,} bytes")
                for each in artifacts
            ),
            *(("nested", f"{each.id}, {each.kind}, {each.status}") for each in nested),
            *(("version", str(version)) for version in versions),
        )
    )


@_runs.command()
def watch(
    run_id: Annotated[str, typer.Argument(metavar="RUN")],
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show how a run goes until it ends; exit status 1 when it has not finished.

    With --json one document a line.
    """
    from rich.console import Console

    from raymlops.cli.following import JsonLines, follow, screen_for

    screen = JsonLines() if json else screen_for(Console())
    with open_workspace(home=home, env=env) as workspace:
        run = follow(workspace.ledger, run_id, screen).run
    if run.status != "finished":
        raise TrainingError(f"run {run.id} is {run.status}: {run.error or 'its process has died'}")


@_runs.command()
def compare(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN...")],
    differing: Annotated[bool, typer.Option("--differing", help="Only what differs.")] = False,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show parameters, last metrics, tags and inputs of runs side by side."""
    with open_workspace(home=home, env=env) as workspace:
        comparison = workspace.ledger.runs.compare(run_ids)
    rows = comparison.differing if differing else comparison.rows
    if json:
        emit_json({"run_ids": comparison.run_ids, "rows": rows})
        return
    emit_table(
        ("", *run_ids), ((f"{row.group}.{row.name}", *map(_shown, row.values)) for row in rows)
    )


@_runs.command()
def best(
    metric: str,
    maximize: Annotated[bool, typer.Option("--maximize", help="The largest wins.")] = False,
    minimize: Annotated[bool, typer.Option("--minimize", help="The smallest wins.")] = False,
    model: ModelOption = None,
    kind: KindOption = None,
    where: WhereOption = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show the finished run whose last value of a metric is the best."""
    if maximize == minimize:
        raise typer.BadParameter("say which is better: --maximize or --minimize, one of them")
    with open_workspace(home=home, env=env) as workspace:
        run = workspace.ledger.runs.best(
            metric, maximize=maximize, minimize=minimize, model=model, kind=kind, where=where
        )
        value = workspace.ledger.runs.last_metrics(run.id)[metric]
    if json:
        emit_json({"run": run, metric: value})
    else:
        emit_lines((("run", run.id), (metric, _shown(value))))


def _result(metrics: Mapping[str, float]) -> str:
    """The loss by which a run of its kind is judged, with its name: trials and specs have others
    than models of tables."""
    name = next((name for name in _LOSSES if name in metrics), None)
    return "" if name is None else f"{name} {_shown(metrics[name])}"


def _shown(value: Any) -> str:
    from raymlops.ledger.figures import shown_figure

    match value:
        case None:
            return ""
        case float():
            return shown_figure(value)
        case _:
            return str(value)


@_runs.command("forget-checkpoints")
def forget_checkpoints(
    keep_days: Annotated[float, typer.Option(help="What was written since then stays.")],
    why: WhyOption,
    model: ModelOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell which, change nothing.")] = False,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Remove old checkpoints of runs that have ended, which then are resumed no more.

    Weights stay, and so do the checkpoints of what is running.
    """
    from raymlops import operate

    refuse(not 0 <= keep_days <= MOST_DAYS, f"--keep-days is {keep_days:g}, 0 to {MOST_DAYS}")
    with open_workspace(home=home, env=env) as workspace:
        found = operate.forget_checkpoints(
            workspace,
            keep_days=keep_days,
            now=datetime.now(UTC),
            who=person(),
            why=why,
            model=model,
            dry_run=dry_run,
        )
    if json:
        emit_json(found)
        return
    emit_table(
        ("run", "model", "size", "folder"),
        (
            (each.runs[0], each.model, f"{each.size_bytes / 2**20:,.1f} MiB", each.folder)
            for each in found
        ),
        if_none=f"no checkpoint of a run that has ended is older than {keep_days:g} days",
    )
