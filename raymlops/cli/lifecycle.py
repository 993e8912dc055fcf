"""Verbs of a model's life: train, tune, deploy, promote, rollback, watch."""

from __future__ import annotations

import logging
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
)
from raymlops.cli.output import emit_json, emit_json_line, emit_lines, emit_table, person
from raymlops.errors import ConfigError, RaymlopsError

if TYPE_CHECKING:
    from raymlops.operate import Operator, Workspace

_logger = logging.getLogger(__name__)


def add_to(app: typer.Typer) -> None:
    for verb in (train, tune, deploy, undeploy, promote, rollback, release, watch):
        app.command()(verb)


def train(
    configs: Annotated[
        list[Path],
        typer.Argument(
            help="Configuration files of a table's model, or a spec; later ones win.",
            metavar="[CONFIG...]",
        ),
    ] = [],  # noqa: B006
    data: Annotated[
        Path | None, typer.Option(help="Add this file as a dataset version first.")
    ] = None,
    plan: Annotated[
        str | None,
        typer.Option(help="Of a spec: its layout, such as data=2,tensor=2; auto chooses one."),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with a spec's run that was cut off.")
    ] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Train a table's model on its newest dataset version, or whatever a spec describes.

    A table's model is registered, and the first becomes champion. A spec is a file whose model
    names a function: `raymlops train configs/digits.yaml --plan data=2`. --set changes it.
    """
    from raymlops.cli.training import AUTO, is_spec, resume_run, train_spec

    if resume is not None:
        _refuse(data is not None, "--data is for a table's model; a run keeps its data")
        _refuse(bool(configs), "--resume takes the spec from the run: give no file")
        _refuse(plan == AUTO, "--resume takes a plan, but not auto")
        resume_run(resume, plan=plan, home=home, env=env, overrides=overrides, json=json)
        return
    if is_spec(configs):
        _refuse(data is not None, "--data is for a table's model; a spec names its data")
        train_spec(configs, plan=plan, home=home, env=env, overrides=overrides, json=json)
        return
    _refuse(not configs, "name a configuration file, or a run with --resume")
    _refuse(plan is not None, "--plan is for a spec; a table's model has --set plan.data=2")
    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        _train_table(workspace, data, json=json)


def _train_table(workspace: Workspace, data: Path | None, *, json: bool) -> None:
    from raymlops import operate
    from raymlops.cli.training import followed

    # Before Ray is started, which takes long and is not needed to say that there is no data.
    dataset = operate.newest_data(workspace) if data is None else operate.add_data(workspace, data)
    with (
        workspace.connect() as session,
        followed(workspace, session, json=json) as begin,
    ):
        training = operate.train(workspace, dataset, on_start=begin)
    version = operate.register(workspace, training)
    if not workspace.ledger.registry.moves(version.model, "champion"):
        operate.promote(workspace, version, who=person(), why="the first version")
    if json:
        emit_json({"run": training.run, "version": version, "qualities": training.qualities})
        return
    emit_table(
        ("model", "log loss", "ROC AUC", "Brier", "calibration error"),
        (
            (name, *(f"{figure:.4f}" for figure in quality.to_dict().values()))
            for name, quality in training.qualities.items()
        ),
    )
    emit_lines((("version", str(version)),))


def tune(
    configs: ConfigArgument,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Search for better training parameters with Ray Tune and Optuna."""
    from raymlops import operate

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        dataset = operate.newest_data(workspace)
        with workspace.connect():
            search, path = operate.tune(workspace, dataset)
    if json:
        emit_json({"search": search, "file": path})
        return
    emit_lines(
        (
            ("best run", f"{search.best_run.id} of {search.num_trials} trials"),
            ("validation loss", f"{search.validation_loss:.4f}"),
            ("use it", f"raymlops train {' '.join(map(str, configs))} {path}"),
        )
    )


def deploy(
    references: Annotated[list[str], typer.Argument(help="MODEL@ALIAS or MODEL@1.2.3")],
    pool: Annotated[
        str | None,
        typer.Option(help="Serve them by the same replicas, called so (serve.pool.max_models)."),
    ] = None,
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Serve a version to all requests, or one of each of a pool of models; on a private Ray, until
    interrupted."""
    from raymlops import operate

    if pool is None and len(references) > 1:
        raise ConfigError(
            f"{len(references)} versions are named, and no --pool that they share: name one, or "
            "deploy them one by one"
        )
    with (
        open_workspace(configs, home=home, env=env, overrides=overrides) as workspace,
        workspace.connect() as session,
    ):
        if pool is None:
            deployment = operate.deploy(workspace, references[0])
            told: Any = deployment
            infer = f"POST {deployment.url}/v2/models/{deployment.model}/infer"
        else:
            url = operate.deploy_pool(workspace, pool, references)
            told = {"pool": pool, "url": url}
            infer = f"POST {url}/v2/models/{{MODEL}}/infer"
        emit_json(told) if json else emit_lines((("infer", infer),))
        if session.owned:
            _until_ended()
            for reference in references:
                workspace.ledger.releases.withdraw(reference.partition("@")[0])


def undeploy(
    name: Annotated[str, typer.Argument(help="A model, or with --pool a pool.")],
    pool: Annotated[bool, typer.Option("--pool", help="End the pool of that name.")] = False,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """End the replicas of a model or pool once they have answered."""
    from raymlops import operate

    with (
        open_workspace(home=home, env=env, overrides=overrides) as workspace,
        workspace.connect(),
    ):
        end = operate.undeploy_pool if pool else operate.undeploy
        end(workspace, name)
    emit_json({"undeployed": name}) if json else emit_lines((("undeployed", name),))


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
    emit_json(move) if json else emit_lines(((move.alias, f"{version}"),))


def rollback(
    model: str,
    why: WhyOption,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """End the release that runs, or else move champion back to the version it named before.

    Replicas follow by themselves, in about 20 seconds.
    """
    from raymlops import operate
    from raymlops.serve import POLL_S

    with open_workspace(home=home, env=env) as workspace:
        if ended := operate.end_release(workspace, model, who=person(), why=why):
            told: Any = ended
            line = (f"release {ended.id}", f"{model} {ended.challenger} rolled back")
        else:
            told = move = operate.rollback(workspace, model, who=person(), why=why)
            line = (move.alias, f"{model} {move.version}")
        champion = workspace.ledger.registry.alias(model, "champion")
        served = workspace.ledger.releases.published(model) is not None
    if json:
        emit_json(told)
        return
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
    emit_lines((("release", f"{found.id}: {found.challenger} answers {share:.0%} of requests"),))


def watch(
    configs: ConfigArgument,
    data: Annotated[
        Path, typer.Option(help="A file that grows: all rows whose labels are known by now.")
    ],
    every_s: Annotated[float, typer.Option(help="Seconds between two looks.")] = 60.0,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Judge windows, retrain, gate and release a deployed model, until interrupted."""
    from raymlops import operate
    from raymlops.data import read_table

    _refuse(not every_s >= 1, f"--every-s is {every_s:g}, at least 1 is needed")
    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        operate.check_rows(workspace, data)
        champion = workspace.ledger.registry.resolve(f"{workspace.model}@champion")
        with (
            workspace.connect(),
            operate.watch(workspace, lambda _: read_table(data)) as operator,
        ):
            ended = _ended_by_signal()  # Ray, which was just connected to, had its own way
            if not json:
                emit_lines((("watching", f"{champion}, every {every_s:g} s"),))
            while not ended.wait(every_s):
                _look(operator, workspace.model, json=json)


def _look(operator: Operator, model: str, *, json: bool) -> None:
    try:
        decisions = operator.tick(datetime.now(UTC))
    except RaymlopsError:  # the next look may find the monitor, or the replicas, back
        _logger.exception("this look at %s failed; the next is due", model)
        return
    for decision in decisions:
        if json:
            emit_json_line(decision)
        else:
            emit_lines(((decision.kind, f"{decision.outcome}: {decision.why}"),))


def _refuse(wrong: bool, why: str) -> None:
    if wrong:
        raise typer.BadParameter(why)


def _until_ended() -> None:
    _ended_by_signal().wait()


def _ended_by_signal() -> threading.Event:
    """Set by SIGINT or SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    return ended
