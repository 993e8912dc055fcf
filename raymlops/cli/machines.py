"""Verbs of the cluster: up, status, down, doctor, submit."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import EnvOption, HomeOption, JsonOption, SetOption, open_workspace
from raymlops.cli.output import emit_json, emit_lines, emit_table
from raymlops.errors import ClusterError

if TYPE_CHECKING:
    from raymlops.cluster import Node
    from raymlops.operate import ModelHealth, MonitorHealth


def add_to(app: typer.Typer) -> None:
    for verb in (up, status, down, doctor):
        app.command()(verb)
    app.command(context_settings={"ignore_unknown_options": True})(submit)  # the script's


def up(
    cluster_file: Annotated[
        Path | None, typer.Argument(help="A Ray cluster file; without one, this machine alone.")
    ] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Start Ray on this machine, or on those of a cluster file, to outlive this command."""
    from raymlops import operate

    with open_workspace(home=home, env=env, overrides=overrides) as workspace:
        started = operate.up(workspace, cluster_file)
    record = started.cluster
    if json:
        emit_json({**vars(record), "prometheus_url": started.prometheus_url})
        return
    emit_lines(
        (
            ("address", record.address),
            ("dashboard", record.dashboard_url or "none"),
            *((("prometheus", started.prometheus_url),) if started.prometheus_url else ()),
        )
    )


def status(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """Show how cluster, models, releases and monitor are, and what was decided last."""
    from raymlops import operate

    with open_workspace(home=home, env=env) as workspace:
        found, ledger = operate.status(workspace), workspace.shown_ledger
        home = workspace.home
    if json:
        emit_json(found)
        return
    there = found.cluster
    emit_lines(
        (
            ("health", found.health),
            *(("problem", problem) for problem in found.problems),
            ("home", str(home)),
            ("cluster", "running" if there.running else "not running"),
            *((("address", there.address),) if there.address else ()),
            *((("dashboard", there.dashboard_url),) if there.dashboard_url else ()),
            *(("node", _shown(node)) for node in there.nodes),
            *(("application", f"{app.name} {app.status}") for app in there.applications),
            *_monitor_lines(found.monitor),
            *(line for model in found.models for line in _model_lines(model)),
            *(
                ()
                if found.models
                else (("models", f"none in {ledger}: `raymlops train` makes one"),)
            ),
            *(
                ("decided", f"{each.at:%Y-%m-%d %H:%M} {each.model} {each.kind}: {each.outcome}")
                for each in found.decisions
            ),
        )
    )


def down(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """End the cluster `raymlops up` started, and nothing else."""
    from raymlops import operate

    with open_workspace(home=home, env=env) as workspace:
        ended = operate.down(workspace)
    if json:
        emit_json({"ended": ended})
        return
    emit_lines((("cluster", "ended" if ended else "none was started from this home"),))


def doctor(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """Look at Python, packages, machine and cluster for what may go wrong."""
    from raymlops import cluster

    with open_workspace(home=home, env=env) as workspace:
        findings = cluster.diagnose(workspace.home, workspace.copies)
    if json:
        emit_json(findings)
    else:
        emit_table(("", "subject", "finding"), ((f.level, f.subject, f.text) for f in findings))
    if any(finding.level == "error" for finding in findings):
        raise ClusterError("the doctor found errors")


def submit(
    script: Annotated[Path, typer.Argument(help="A driver script, e.g. jobs/train.py")],
    args: Annotated[
        list[str] | None,
        typer.Argument(help="Its arguments; behind -- also options that submit has itself."),
    ] = None,
    working_dir: Annotated[Path, typer.Option(help="The folder to upload.")] = Path(),
    include: Annotated[
        list[str],
        typer.Option(help="Upload this too, though it is data or a model; may be repeated."),
    ] = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Run a driver script as a Ray job and follow its output, which goes to stderr with --json.

    The job has this command's home and --env, unless its own arguments name others:
    `raymlops submit jobs/train.py -- configs/flights.yaml --data /shared/flights.parquet`.
    """
    from raymlops import operate

    log = sys.stderr if json else sys.stdout
    home = home.resolve() if home is not None else None  # the job has another working directory

    with open_workspace(home=home, env=env, overrides=["cluster.address=auto"]) as workspace:
        result = operate.submit(
            workspace,
            script,
            args or [],
            working_dir=working_dir,
            include=include,
            environment=env,
            on_log=lambda text: print(text, end="", flush=True, file=log),
        )
    if json:
        emit_json(result)


def _shown(node: Node) -> str:
    """Host and use, e.g. "10.0.0.2: 3 of 8 CPU, 1.5 of 31.2 GiB"; a dead node says so."""
    if not node.alive:
        return f"{node.host}: dead"
    used, total = node.used, node.total
    parts = [f"{used.get('CPU', 0):g} of {total.get('CPU', 0):g} CPU"]
    if "GPU" in total:
        parts.append(f"{used.get('GPU', 0):g} of {total['GPU']:g} GPU")
    memory = (amounts.get("memory", 0) / 2**30 for amounts in (used, total))
    parts.append("{:.1f} of {:.1f} GiB reserved".format(*memory))
    return f"{node.host}: {', '.join(parts)}"


def _monitor_lines(monitor: MonitorHealth) -> Iterator[tuple[str, str]]:
    if monitor.exporter:
        yield "metrics", monitor.exporter
    if monitor.prometheus:
        yield "prometheus", monitor.prometheus
    told = f"{monitor.num_open} open, {monitor.num_waiting} waiting, {monitor.num_dead} dead"
    yield "alerts", f"{told}, {monitor.num_silences} silences"


def _told(performance: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """What people look for; all of it is in `--json`."""
    usual = {"scored_share": 1.0, "wild_labels": 0.0, "absurd_predictions": 0.0}
    has_wild = performance.get("wild_labels", 0.0) > 0.0
    for name, value in performance.items():
        is_reference = name.startswith("baseline_") or name.endswith("_over_baseline")
        is_of_wild = name in ("capped_rmse", "error_cap") and not has_wild
        if not (is_reference or is_of_wild or usual.get(name) == value):
            yield name, value


def _model_lines(model: ModelHealth) -> Iterator[tuple[str, str]]:
    from raymlops.ledger.figures import shown_figure
    from raymlops.ledger.joins import LOST

    versions = f"{model.num_versions} versions"
    yield "model", f"{model.model} {model.health}: champion {model.champion or 'none'}, {versions}"
    if model.traffic:
        shares = (f"{version} {share:.0%}" for version, share in model.traffic.items())
        yield "traffic", ", ".join(shares)
    if model.release:
        yield "release", model.release
    for run in model.training:
        yield "running", run
    if model.window_end is not None:
        figures = [f"{name} {shown_figure(value, 3)}" for name, value in _told(model.performance)]
        drifted = f"{model.num_drifted} of {model.num_features} features drifted"
        if model.num_unjudged:
            drifted = f"drift not judged in {model.num_unjudged:,} rows (monitor.drift.min_rows)"
        yield "window", f"to {model.window_end:%Y-%m-%d}: {', '.join([drifted, *figures])}"
    if model.num_late:
        yield "late", f"{model.num_late:,} rows came after this window was judged"
    if lost := [f"{model.labels[fate]:,} {fate}" for fate in LOST if model.labels.get(fate)]:
        joined = f"{model.labels.get('joined', 0):,} joined"
        yield "labels", f"{joined}; nothing is judged by {', '.join(lost)}".replace("_", " ")
    for alert in model.alerts:
        yield "alert", alert
