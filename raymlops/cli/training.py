"""Verbs of training: train, tune."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import (
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_workspace,
    refuse,
)
from raymlops.cli.output import emit_json, emit_lines, emit_table, person

if TYPE_CHECKING:
    from raymlops.ledger import ModelVersion
    from raymlops.operate import Workspace
    from raymlops.train.tabular.training import Training
    from raymlops.tune.search import Search


def add_to(app: typer.Typer) -> None:
    for verb in (train, tune):
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
    from raymlops.cli.specs import AUTO, is_spec, resume_run, train_spec

    if resume is not None:
        refuse(data is not None, "--data is for a table's model; a run keeps its data")
        refuse(bool(configs), "--resume takes the spec from the run: give no file")
        refuse(plan == AUTO, "--resume takes a plan, but not auto")
        resume_run(resume, plan=plan, home=home, env=env, overrides=overrides, json=json)
        return
    if is_spec(configs):
        refuse(data is not None, "--data is for a table's model; a spec names its data")
        train_spec(configs, plan=plan, home=home, env=env, overrides=overrides, json=json)
        return
    refuse(not configs, "name a configuration file, or a run with --resume")
    refuse(plan is not None, "--plan is for a spec; a table's model has --set plan.data=2")
    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        _train_table(workspace, data, configs, json=json)


def _train_table(
    workspace: Workspace, data: Path | None, configs: Sequence[Path], *, json: bool
) -> None:
    from raymlops import operate
    from raymlops.cli.specs import followed
    from raymlops.ledger.figures import shown_figure
    from raymlops.train.tabular.quality import FIGURES

    # Before Ray is started, which takes long and is not needed to say that there is no data.
    dataset = operate.newest_data(workspace) if data is None else operate.add_data(workspace, data)
    with (
        workspace.connect() as session,
        followed(workspace, session, json=json) as begin,
    ):
        training = operate.train(workspace, dataset, on_start=begin)
    version = operate.register(workspace, training)
    operate.promote_first(workspace, version, who=person())
    if json:
        emit_json({"run": training.run, "version": version, "qualities": training.qualities})
        return
    qualities = {name: quality.to_dict() for name, quality in training.qualities.items()}
    figures = next(iter(qualities.values()))
    emit_table(
        ("model", *(FIGURES[figure] for figure in figures)),
        (
            (name, *(shown_figure(of[figure]) for figure in figures))
            for name, of in qualities.items()
        ),
    )
    emit_lines(_ending_lines(workspace, training, version, configs))


def _ending_lines(
    workspace: Workspace, training: Training, version: ModelVersion, configs: Sequence[Path]
) -> Iterator[tuple[str, str]]:
    """The version, whether it is worth serving, and how it is put to work."""
    model, files = version.model, [shlex.quote(str(path)) for path in configs]
    yield "version", str(version)
    if (simple := training.better_simple_model) is not None:
        yield (
            "note",
            f"the {simple} is at least as good on rows that neither has seen: before this one "
            f"serves, see what `raymlops tune {' '.join(files)}`, more rows or other features give",
        )
    settings = " ".join(f"-c {file}" for file in files)
    if workspace.ledger.registry.alias(model, "champion") == version.version:
        yield "next", f"raymlops deploy {model}@champion {settings}"
    else:
        challenger = f"{model}@{version.version}"
        yield "next", f"raymlops release {challenger} --why REASON {settings}"


def tune(
    configs: Annotated[
        list[Path],
        typer.Argument(help="Configuration files; later ones win.", metavar="[CONFIG...]"),
    ] = [],  # noqa: B006
    resume: Annotated[
        str | None, typer.Option(metavar="SEARCH", help="Go on with a search that was cut off.")
    ] = None,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Search for better training parameters of a table's model with Ray Tune and Optuna.

    A search that was cut off goes on by --resume: trials that had ended count, those that were cut
    off are run again, and the rest is suggested from the same seed.
    """
    from raymlops.cli.specs import is_spec, part
    from raymlops.ledger.figures import shown_figure

    refuse(not configs and resume is None, "name a configuration file, or a search with --resume")
    if resume is not None:
        refuse(bool(configs), "--resume takes what is searched from the search: give no file")
        of_search = part(overrides)[1]
        refuse(bool(of_search), f"a search keeps its settings: --resume takes no {of_search}")
    refuse(
        is_spec(configs),
        "a search is around a table's model, and this is a spec: train it with other values, such "
        "as --set optimizer.learning_rate=0.001, and let `raymlops runs best validation_loss "
        "--minimize` compare",
    )
    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        search, path = _searched(workspace, resume, json=json)
    if json:
        emit_json({"search": search, "file": path})
        return
    files = shlex.join(map(str, configs)) or "CONFIG"
    emit_lines(
        (
            ("best run", f"{search.best_run.id} of {search.num_trials} trials"),
            ("validation loss", shown_figure(search.validation_loss)),
            ("use it", f"raymlops train {files} {shlex.quote(str(path))}"),
        )
    )


def _searched(workspace: Workspace, resume: str | None, *, json: bool) -> tuple[Search, Path]:
    from raymlops import operate
    from raymlops.cli.specs import followed

    # Before Ray is started, which takes long and is not needed to say that there is nothing to
    # search in, or to go on with.
    if resume is None:
        search, why = partial(operate.tune, workspace, operate.newest_data(workspace)), None
    else:
        search = partial(operate.resume_search, workspace, resume)
        why = operate.search_standing(workspace, resume)
    with (
        workspace.connect() as session,
        followed(workspace, session, why=why, json=json) as begin,
    ):
        return search(on_start=begin)
