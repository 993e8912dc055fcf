"""Verbs of dataset versions: add, list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import (
    ConfigArgument,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_workspace,
)
from raymlops.cli.output import emit_json, emit_lines, emit_table

if TYPE_CHECKING:
    from raymlops.ledger import Dataset

_data = typer.Typer(help="Dataset versions.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_data, name="data")


@_data.command()
def add(
    file: Annotated[Path, typer.Argument(help="A Parquet or CSV file.")],
    configs: ConfigArgument,
    description: Annotated[str, typer.Option(help="What this version holds.")] = "",
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer reads it, nobody changes it
    json: JsonOption = False,
) -> None:
    """Check a table against its expectations and add it as a dataset version."""
    from raymlops.operate import add_data

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        dataset = add_data(workspace, file, description=description)
    emit_json(dataset) if json else emit_lines(_dataset_lines(dataset))


@_data.command("list")
def list_(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """List dataset versions."""
    with open_workspace(home=home, env=env) as workspace:
        datasets = workspace.ledger.datasets.list()
    if json:
        emit_json(datasets)
        return
    emit_table(
        ("dataset", "version", "rows", "digest", "description"),
        ((d.name, d.version, f"{d.num_rows:,}", d.digest[:12], d.description) for d in datasets),
    )


def _dataset_lines(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    return (
        ("dataset", f"{dataset.name} version {dataset.version}"),
        ("rows", f"{dataset.num_rows:,}"),
        ("digest", dataset.digest),
    )
