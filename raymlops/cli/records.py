"""Verbs that ask the ledger: decisions, why, at, lineage, diff, report, ledger."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import (
    ConfigArgument,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    WhyOption,
    open_workspace,
    parse_time,
    refuse,
)
from raymlops.cli.output import emit_json, emit_lines, person
from raymlops.config import MOST_DAYS
from raymlops.errors import IntegrityError

if TYPE_CHECKING:
    from raymlops.ledger import Decision

ModelArgument = Annotated[str, typer.Argument(help="The name of a model.")]

_ledger = typer.Typer(
    help="The ledger itself: verify, or forget, what was recorded.", no_args_is_help=True
)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_ledger, name="ledger")
    for verb in (decisions, why, at, lineage, diff, report):
        app.command()(verb)


@_ledger.callback()
def ledger() -> None:
    """The ledger itself: verify, or forget, what was recorded."""


@_ledger.command()
def verify(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """Check that no decision was tampered with and that every artifact is as it was recorded."""
    with open_workspace(home=home, env=env) as workspace:
        audit = workspace.ledger.verify(workspace.store)
    if json:
        emit_json(audit)
    else:
        emit_lines(
            (
                ("decisions", f"{audit.num_decisions:,} in the chain"),
                ("artifacts", f"{audit.num_artifacts:,} read"),
                ("last digest", audit.last_digest or "none"),
                *(("problem", problem) for problem in audit.problems),
            )
        )
    if audit.problems:
        raise IntegrityError(f"the ledger has {len(audit.problems)} problems")


@_ledger.command("forget-lock")
def forget_lock(
    name: Annotated[str, typer.Argument(help="The lock, such as operator-flights.")],
    why: WhyOption,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Let a lock's holders write again after the coordinator lost its memory."""
    with open_workspace(home=home, env=env) as workspace:
        decision = workspace.ledger.forget_lock(name, who=person(), why=why)
    if json:
        emit_json(decision)
        return
    emit_lines(
        (("decision", str(decision.id)), ("outcome", decision.outcome), ("by", decision.who))
    )


@_ledger.command("forget-predictions")
def forget_predictions(
    configs: ConfigArgument,
    keep_days: Annotated[float, typer.Option(help="What is younger stays.")],
    why: WhyOption,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell how many, change nothing.")] = (
        False
    ),
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Remove a model's old predictions and labels, by which nothing is judged any more.

    They are most of what fills a disk. What windows were worth, and every decision, stays.
    """
    from raymlops import operate

    refuse(not 0 < keep_days <= MOST_DAYS, f"--keep-days is {keep_days:g}, at most {MOST_DAYS}")
    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        found = operate.forget_predictions(
            workspace,
            keep_days=keep_days,
            now=datetime.now(UTC),
            who=person(),
            why=why,
            dry_run=dry_run,
        )
    if json:
        emit_json(found)
        return
    said = "would be forgotten" if dry_run else "forgotten"
    number = (
        f"{found.num_predictions:,} predictions of {found.model} before {found.before:%Y-%m-%d}"
    )
    kept = f"from {found.before:%Y-%m-%d} on: {found.because}"
    emit_lines(((said, number), *((("kept", kept),) if found.because else ())))


def decisions(
    model: ModelArgument, home: HomeOption = None, env: EnvOption = None, json: JsonOption = False
) -> None:
    """List what was decided about a model, oldest first; `status` tells of registrations."""
    with open_workspace(home=home, env=env) as workspace:
        found = workspace.ledger.decisions.list(model=model)
        if not found:
            workspace.ledger.registry.newest(model)  # of none there is, that is told
    if json:
        emit_json(found)
        return
    if not found:
        told = f"nothing was decided about {model}: `raymlops promote {model}@VERSION --why ...`"
        emit_lines((("none", told),))
    emit_lines(_decision_line(decision) for decision in found)


def _decision_line(decision: Decision) -> tuple[str, str]:
    """When it was made and what it was; also the day in the data's calendar, where another."""
    day, told = decision.event_time, f"{decision.outcome}: {decision.why}"
    if day is not None and day.date() != decision.at.date():
        told += f" (in the data's time {day:%Y-%m-%d})"
    return f"{decision.at:%Y-%m-%d %H:%M} {decision.kind}", told


def why(
    subject: Annotated[str, typer.Argument(help="A request id, MODEL@ALIAS or MODEL@1.2.3")],
    model: Annotated[
        str | None, typer.Option(help="Which answered, where several have a request of that id.")
    ] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show the chain from a prediction, or a version, down to run, data, code and config."""
    from raymlops import ledger as records
    from raymlops.ledger.describe import lineage_lines

    with open_workspace(home=home, env=env) as workspace:
        lineage = records.why(workspace.ledger, subject, model=model)
    emit_json(lineage) if json else emit_lines(lineage_lines(lineage))


def at(
    model: ModelArgument,
    time: Annotated[str | None, typer.Argument(help="Wall time; now by default.")] = None,
    event_time: Annotated[
        str | None, typer.Option(help="A time in the data's own calendar instead.")
    ] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show what was champion at a time, by whose decision and on what evidence."""
    from raymlops import ledger as records
    from raymlops.ledger.describe import reign_lines

    if time is not None and event_time is not None:
        raise typer.BadParameter("give a wall time or --event-time, not both")
    asked = event_time or time
    moment = parse_time(asked) if asked else datetime.now(UTC)
    with open_workspace(home=home, env=env) as workspace:
        reign = records.at(workspace.ledger, model, moment, event_time=event_time is not None)
    emit_json(reign) if json else emit_lines(reign_lines(reign))


def lineage(
    subject: Annotated[str, typer.Argument(help="DATASET, DATASET@2, MODEL@ALIAS or MODEL@1.2.3")],
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show what came from a dataset version, or the data a model version came from."""
    from raymlops import ledger as records
    from raymlops.ledger.describe import descent_lines

    with open_workspace(home=home, env=env) as workspace:
        found = records.lineage_of(workspace.ledger, subject)
    emit_json(found) if json else emit_lines(descent_lines(found))


def diff(
    first: Annotated[str, typer.Argument(help="MODEL@1.2.3, MODEL@ALIAS or a run")],
    second: Annotated[str, typer.Argument(help="The same, to compare it with")],
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show what changed between two versions or runs: settings, results, data, code, packages."""
    from raymlops import ledger as records
    from raymlops.ledger.describe import difference_lines

    with open_workspace(home=home, env=env) as workspace:
        found = records.diff(workspace.ledger, first, second)
    emit_json(found) if json else emit_lines(difference_lines(found))


def report(
    model: ModelArgument,
    path: Annotated[Path, typer.Option("--output", "-o", help="The HTML file to write.")] = Path(
        "report.html"
    ),
    since: Annotated[str | None, typer.Option(help="The beginning, in the data's time.")] = None,
    until: Annotated[str | None, typer.Option(help="The end, in the data's time.")] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Write a self-contained HTML report of a model, of a period or of all there is."""
    from raymlops.monitor import Period, write_report
    from raymlops.monitor.alerts import AlertBook

    period = Period(
        since=None if since is None else parse_time(since),
        until=None if until is None else parse_time(until),
    )
    with open_workspace(home=home, env=env) as workspace:
        workspace.ledger.registry.newest(model)
        alerts = AlertBook(workspace.home).read().told
        written = write_report(workspace.ledger, model, path, period=period, alerts=alerts)
    emit_json({"report": written}) if json else emit_lines((("report", str(written)),))
