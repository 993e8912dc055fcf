"""Verbs that decide which version answers: promote, rollback, release, watch."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import (
    ConfigArgument,
    ConfigOption,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    WhyOption,
    open_workspace,
    refuse,
)
from raymlops.cli.output import emit_json, emit_json_line, emit_lines, person
from raymlops.cli.signals import ended_by_signal
from raymlops.config import MOST_S, redact
from raymlops.errors import RaymlopsError, StaleLeaseError

if TYPE_CHECKING:
    from raymlops.operate import Operator, Workspace
    from raymlops.operate.challenger import Source

_logger = logging.getLogger(__name__)


def add_to(app: typer.Typer) -> None:
    for verb in (promote, rollback, release, watch):
        app.command()(verb)


def promote(
    reference: Annotated[str, typer.Argument(help="MODEL@1.2.3")],
    why: WhyOption,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Make a version the champion; traffic follows by `watch`, or by `deploy`."""
    from raymlops import operate

    with open_workspace(home=home, env=env) as workspace:
        version = workspace.ledger.registry.resolve(reference)
        move = operate.promote(workspace, version, who=person(), why=why)
        answers = _answers(workspace, version.model)
    if json:
        emit_json(move)
        return
    follows = f"{answers}, until `watch` sees this or `raymlops deploy {version.model}@champion`"
    elsewhere = answers and answers != str(version.version)
    emit_lines(((move.alias, f"{version}"), *((("traffic", follows),) if elsewhere else ())))


def rollback(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="MODEL[@VERSION]", help="What is to answer no more; a name is in no doubt."
        ),
    ],
    why: WhyOption,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """End the release that runs, or else move champion back to the version it named before.

    Soon after another rollback, the version has to be named.
    Replicas follow by themselves, in about 20 seconds.
    """
    from raymlops import operate
    from raymlops.ledger import Release
    from raymlops.serve import POLL_S

    with open_workspace(home=home, env=env) as workspace:
        told = operate.rollback(workspace, reference, who=person(), why=why)
        model = told.model
        champion = workspace.ledger.registry.alias(model, "champion")
        served = workspace.ledger.releases.published(model) is not None
    if json:
        emit_json(told)
        return
    if isinstance(told, Release):
        line = (f"release {told.id}", f"{model} {told.challenger} rolled back")
    else:
        line = (told.alias, f"{model} {told.version}")
    traffic = f"goes to {champion}, in about {POLL_S:g} s at every replica"
    emit_lines((line, *((("traffic", traffic),) if served else ())))


def release(
    reference: Annotated[str, typer.Argument(help="MODEL@1.2.3, the challenger")],
    why: WhyOption,
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Start a canary of a version beside the deployed champion; `watch` takes its next steps."""
    from raymlops import operate

    with (
        open_workspace(configs, home=home, env=env, overrides=overrides) as workspace,
        workspace.connect(),
    ):
        version = workspace.ledger.registry.resolve(reference)
        found = operate.release(workspace, version, now=datetime.now(UTC), who=person(), why=why)
    if json:
        emit_json(found)
        return
    share = workspace.settings.release.shares[0]
    emit_lines(
        (
            ("release", f"{found.id}: {found.challenger} answers {share:.0%} of requests"),
            (
                "next",
                f"`watch` judges it once labels come, `raymlops rollback {found.model}` ends it",
            ),
        )
    )


def _answers(workspace: Workspace, model: str) -> str | None:
    """The versions that answer requests of the model, None where it is not deployed."""
    from raymlops.serve import TrafficTable

    published = workspace.ledger.releases.published(model)
    return published and ", ".join(TrafficTable.from_dict(published[1]).versions)


def watch(
    configs: ConfigArgument,
    data: Annotated[
        Path | None,
        typer.Option(
            help="A file that grows: all rows whose labels are known by now. None of a model that "
            "was trained elsewhere: it is watched and released, and its successor is yours to make."
        ),
    ] = None,
    every_s: Annotated[float, typer.Option(help="Seconds between two looks.")] = 60.0,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Judge windows, retrain, gate and release a deployed model, until interrupted."""
    from raymlops import operate

    refuse(
        not 1 <= every_s <= MOST_S,
        f"--every-s is {every_s:g}, at least 1 is needed, and at most {MOST_S}",
    )
    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        operate.check_rows(workspace, data)
        champion = workspace.ledger.registry.resolve(f"{workspace.model}@champion")
        source = _source(data, workspace)
        with workspace.connect(), operate.watch(workspace, source) as operator:
            ended = ended_by_signal()  # Ray, which was just connected to, had its own way
            if not json:
                emit_lines((("watching", f"{champion}, every {every_s:g} s"),))
            while not ended.wait(every_s):
                _look(operator, workspace.model, json=json)


def _source(data: Path | None, workspace: Workspace) -> Source | None:
    """What challengers are trained on, as it is then."""
    from raymlops.data import read_table

    return None if data is None else lambda _: read_table(data, texts=workspace.schema.texts)


def _look(operator: Operator, model: str, *, json: bool) -> None:
    try:
        decisions = operator.tick(datetime.now(UTC))
    except StaleLeaseError:  # it holds for every look to come
        raise
    except RaymlopsError as error:  # the next look may find the monitor, or the replicas, back
        _logger.error("this look at %s failed, the next is due: %s", model, redact(str(error)))
        return
    for decision in decisions:
        if json:
            emit_json_line(decision)
        else:
            emit_lines(((decision.kind, f"{decision.outcome}: {decision.why}"),))
