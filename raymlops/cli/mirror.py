"""The verb that copies the ledger to MLflow."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from raymlops.cli.options import (
    ConfigOption,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_workspace,
)
from raymlops.cli.output import emit_json, emit_lines

if TYPE_CHECKING:
    from raymlops.ledger.mirror import Copied


def add_to(app: typer.Typer) -> None:
    app.command()(mirror)


def mirror(
    watch: Annotated[bool, typer.Option("--watch", help="Go on until it is interrupted.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Go through everything, e.g. after MLflow was restored.")
    ] = False,
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Copy to MLflow (ledger.mlflow.url) what is new in the ledger; nothing is copied twice."""
    from raymlops import operate
    from raymlops.operate.mirror import follow_ledger

    def show(copied: Copied) -> None:
        if json:
            emit_json(copied)
        elif not watch or any(asdict(copied).values()):
            counts = asdict(copied).items()
            emit_lines((name.removeprefix("num_"), f"{count:,}") for name, count in counts)

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        if again or not watch:
            show(operate.mirror(workspace, again=again))
        if watch:
            # It may be ended anywhere: what was copied without a mark is found again.
            with contextlib.suppress(KeyboardInterrupt):
                follow_ledger(workspace, Event(), copied=show)
