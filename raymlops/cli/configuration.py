"""Verbs that explain settings."""

from __future__ import annotations

from typing import Annotated

import typer

from raymlops.cli.options import ConfigOption, EnvOption, JsonOption, SetOption, open_workspace
from raymlops.cli.output import emit_json, emit_table

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
    if json:
        emit_json([{"key": name, "value": value, "origin": origin} for name, value, origin in rows])
        return
    emit_table(("setting", "value", "set by"), rows)
