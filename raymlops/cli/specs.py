"""`raymlops train SPEC`: a spec trained under a plan, or a run gone on with, and followed."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from raymlops.cli.options import find_functions_here, open_workspace
from raymlops.cli.output import emit_json, emit_lines
from raymlops.config import file_layer
from raymlops.errors import ConfigError

if TYPE_CHECKING:
    from raymlops.cluster import Session
    from raymlops.ledger import Run
    from raymlops.operate import Workspace
    from raymlops.train import ParallelPlan, TrainResult
    from raymlops.train.plan.proposal import Proposal

AUTO = "auto"


def is_spec(paths: Sequence[Path]) -> bool:
    """Whether files are a training's spec, whose model names a function, and not a table's."""
    return any(("model", "call") in file_layer(path).values for path in paths)


def train_spec(
    paths: Sequence[Path],
    *,
    plan: str | None,
    home: Path | None,
    env: str | None,
    overrides: Sequence[str],
    json: bool,
) -> None:
    """Trains the spec in `paths` under `plan`, by default in one process."""
    from raymlops import operate
    from raymlops.train.backend import read_spec

    of_site, of_spec = part(overrides)
    spec = read_spec(*paths, overrides=of_spec)
    given = None if plan == AUTO else parse_plan(plan or "")
    with _connected(home, env, of_site) as (workspace, session):
        proposal = operate.propose_plan(spec) if given is None else None
        chosen = proposal.plan if proposal is not None else given
        _trained(
            lambda begin: operate.fit(workspace, spec, chosen, on_start=begin),
            workspace,
            session,
            proposal=proposal,
            json=json,
        )


def resume_run(
    run_id: str,
    *,
    plan: str | None,
    home: Path | None,
    env: str | None,
    overrides: Sequence[str],
    json: bool,
) -> None:
    """Goes on with a run, under its own plan unless another is given."""
    from raymlops import operate

    of_site, of_spec = part(overrides)
    if of_spec:
        raise typer.BadParameter(f"a run keeps its spec: --resume takes no --set {of_spec[0]}")
    chosen = None if plan is None else parse_plan(plan)
    with _connected(home, env, of_site) as (workspace, session):
        _trained(
            lambda begin: operate.resume(workspace, run_id, plan=chosen, on_start=begin),
            workspace,
            session,
            proposal=None,
            json=json,
        )


@contextlib.contextmanager
def followed(
    workspace: Workspace, session: Session, *, why: str | None = None, json: bool
) -> Iterator[Callable[[Run], None]]:
    """Gives what tells where to look once a run has begun, and how it goes until the block ends."""
    from raymlops.cli.following import following, screen_for

    with following(workspace.ledger, screen_for(Console(stderr=True))) as follow:

        def begin(run: Run) -> None:
            if not json:
                emit_lines(beginning_lines(run, workspace.home, session.dashboard_url, why=why))
            follow(run)

        yield begin


@contextlib.contextmanager
def _connected(
    home: Path | None, env: str | None, overrides: list[str]
) -> Iterator[tuple[Workspace, Session]]:
    find_functions_here()
    with (
        open_workspace(home=home, env=env, overrides=overrides) as workspace,
        workspace.connect() as session,
    ):
        yield workspace, session


def _trained(
    train: Callable[[Callable[[Run], None]], TrainResult],
    workspace: Workspace,
    session: Session,
    *,
    proposal: Proposal | None,
    json: bool,
) -> None:
    """Trains, and tells what came of it."""
    why = None if proposal is None else proposal.why
    with followed(workspace, session, why=why, json=json) as begin:
        result = train(begin)
    run = workspace.ledger.runs.get(result.run_id)
    values = workspace.ledger.runs.last_metrics(result.run_id)
    if json:
        emit_json(_document(result, run, values, proposal))
    else:
        emit_lines(ending_lines(result, run, values))


def part(overrides: Sequence[str]) -> tuple[list[str], list[str]]:
    """What --set changes of the site (home, ledger, cluster, ...), and what of a spec."""
    from raymlops.operate.settings import SITE

    of_site = [each for each in overrides if each.partition("=")[0].split(".")[0] in SITE]
    return of_site, [each for each in overrides if each not in of_site]


def parse_plan(text: str) -> ParallelPlan:
    """The plan of a text, of an empty one that of one process; ConfigError for what is none."""
    from raymlops.train import ParallelPlan

    try:
        return ParallelPlan.parse(text)
    except ValueError as error:
        raise ConfigError(f"--plan {text}: {error}") from error


def beginning_lines(
    run: Run, home: Path, dashboard_url: str | None = None, *, why: str | None = None
) -> Iterable[tuple[str, str]]:
    """The plan of a training, why it was chosen, the run, where to look, and how a search goes on
    should its driver die, which could not say so."""
    from raymlops.train import ParallelPlan

    if (plan := run.params.get("plan")) is not None:
        yield "plan", str(ParallelPlan(**plan))
    if why is not None:
        yield "why", why
    yield "run", run.id
    yield "watch", f"raymlops runs watch {run.id} --home {shlex.quote(str(home))}"
    if run.kind == "tune":
        yield "if cut off", f"raymlops tune --resume {run.id} --home {shlex.quote(str(home))}"
    if dashboard_url is not None:
        yield "dashboard", dashboard_url


def ending_lines(
    result: TrainResult, run: Run, values: Mapping[str, float]
) -> Iterable[tuple[str, str]]:
    """Losses, steps, seconds, and where the weights are."""
    from raymlops.ledger.figures import shown_figure

    for name in ("loss", "train_loss", "validation_loss"):
        if name in values:
            yield name.replace("_", " "), shown_figure(values[name])
    yield "steps", f"{result.steps:,}{f', ended early: {result.ended}' if result.ended else ''}"
    yield "seconds", f"{_seconds(run):.1f}"
    yield "weights", result.folder


def _document(
    result: TrainResult, run: Run, values: Mapping[str, float], proposal: Proposal | None
) -> dict[str, Any]:
    return {
        "run": run,
        "plan": str(result.plan),
        "why": proposal and proposal.why,
        "estimate": proposal
        and {"memory_bytes": proposal.memory_bytes, "sent_bytes": proposal.sent_bytes},
        "steps": result.steps,
        "ended": result.ended,
        "seconds": _seconds(run),
        "metrics": values,
        "folder": result.folder,
    }


def _seconds(run: Run) -> float:
    assert run.ended_at is not None, "a training that returned has ended"
    return (run.ended_at - run.started_at).total_seconds()
