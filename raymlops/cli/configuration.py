"""Verbs of settings: show, explain, check."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from raymlops.cli.options import ConfigOption, EnvOption, JsonOption, SetOption, open_workspace
from raymlops.cli.output import emit_json, emit_lines, emit_table
from raymlops.config import DEFAULT

ConfigFiles = Annotated[
    list[Path], typer.Argument(help="Configuration files; later ones win.", metavar="[CONFIG...]")
]

_config = typer.Typer(help="Settings and where they come from.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(_config, name="config")


@_config.callback()
def config() -> None:
    """Settings and where they come from."""


@_config.command()
def explain(
    key: Annotated[str, typer.Argument(help="A setting or a section, e.g. serve.port or serve")],
    configs: ConfigOption = [],  # noqa: B006 - typer reads it, nobody changes it
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Tell a setting's value, and which file, variable or option set it."""
    with open_workspace(configs, env=env, overrides=overrides) as workspace:
        rows = workspace.configured.explain(key)
    _emit(rows, json=json)


@_config.command()
def show(
    configs: ConfigFiles = [],  # noqa: B006
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Show every setting, secrets hidden, and which file, variable or option set it."""
    with open_workspace(configs, env=env, overrides=overrides) as workspace:
        rows = workspace.configured.explain()
    _emit(rows, json=json)


@_config.command()
def check(
    configs: ConfigFiles = [],  # noqa: B006
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Check configuration files, and that every variable and secret file they ask for is there."""
    with open_workspace(configs, env=env, overrides=overrides) as workspace:
        rows = workspace.configured.explain()
    num_set = sum(origin != DEFAULT for _, _, origin in rows)
    if json:
        emit_json({"num_settings": len(rows), "num_set": num_set})
        return
    emit_lines((("valid", f"{len(rows)} settings, {num_set} of them not left at their default"),))


def _emit(rows: Iterable[tuple[str, Any, str]], *, json: bool) -> None:
    if json:
        emit_json([{"key": name, "value": value, "origin": origin} for name, value, origin in rows])
        return
    emit_table(("setting", "value", "set by"), rows)
