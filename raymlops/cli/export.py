"""Verbs that write runs and metrics as files for other tools: export tensorboard, parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import EnvOption, HomeOption, JsonOption, open_workspace
from raymlops.cli.output import emit_json, emit_lines

if TYPE_CHECKING:
    from raymlops.ledger.export import Exported

FolderArgument = Annotated[Path, typer.Argument(help="Where to write; made unless it is there.")]
ModelOption = Annotated[str | None, typer.Option(help="Only runs of this model.")]
RunOption = Annotated[
    list[str], typer.Option("--run", help="Only this run; may be repeated.", metavar="RUN")
]

_export = typer.Typer(help="Runs and metrics as files for other tools.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_export, name="export")


@_export.command()
def tensorboard(
    folder: FolderArgument,
    model: ModelOption = None,
    runs: RunOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Write event files, a folder a run: `tensorboard --logdir FOLDER` shows them."""
    from raymlops.ledger.export import to_tensorboard

    with open_workspace(home=home, env=env) as workspace:
        _show(to_tensorboard(workspace.ledger, folder, model=model, run_ids=runs or None), json)


@_export.command()
def parquet(
    folder: FolderArgument,
    model: ModelOption = None,
    runs: RunOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Write runs.parquet and metrics.parquet."""
    from raymlops.ledger.export import to_parquet

    with open_workspace(home=home, env=env) as workspace:
        _show(to_parquet(workspace.ledger, folder, model=model, run_ids=runs or None), json)


def _show(exported: Exported, json: bool) -> None:
    if json:
        emit_json(exported)
        return
    emit_lines(
        (
            ("runs", f"{exported.num_runs:,}"),
            ("metrics", f"{exported.num_metrics:,}"),
            *(("file", str(path)) for path in exported.files),
        )
    )
