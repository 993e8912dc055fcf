"""Verbs of drift: roll, restore."""

from __future__ import annotations

from typing import Annotated

import typer

from raymlops.cli.options import (
    EnvOption,
    HomeOption,
    JsonOption,
    WhyOption,
    open_workspace,
    parse_time,
)
from raymlops.cli.output import emit_json, emit_lines, person

_drift = typer.Typer(help="Drift of data.", no_args_is_help=True)

VersionArgument = Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="Or MODEL@champion.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(_drift, name="drift")


@_drift.command()
def roll(
    reference: VersionArgument,
    start: Annotated[str, typer.Option("--from", help="The first day of the new reference, UTC.")],
    end: Annotated[str, typer.Option("--to", help="The day after its last.")],
    why: WhyOption,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Hold a version's coming windows against some days of its traffic, not its training data."""
    from raymlops.monitor import Window, roll_reference

    with open_workspace(home=home, env=env) as workspace:
        decision = roll_reference(
            workspace.ledger,
            workspace.store,
            workspace.ledger.registry.resolve(reference),
            Window(parse_time(start), parse_time(end)),
            who=person(),
            why=why,
        )
    rows = f"{decision.evidence['num_rows']:,} rows"
    emit_json(decision) if json else emit_lines((("decision", f"{decision.id}"), ("holds", rows)))


@_drift.command()
def restore(
    reference: VersionArgument,
    why: WhyOption,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Hold a version's coming windows against its training data again."""
    from raymlops.monitor import restore_reference

    with open_workspace(home=home, env=env) as workspace:
        version = workspace.ledger.registry.resolve(reference)
        decision = restore_reference(workspace.ledger, version, who=person(), why=why)
    emit_json(decision) if json else emit_lines((("decision", f"{decision.id}"),))
