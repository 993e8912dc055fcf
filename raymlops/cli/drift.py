"""Verbs of drift: compare, roll, restore."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raymlops.cli.options import (
    ConfigOption,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    WhyOption,
    open_workspace,
    parse_time,
)
from raymlops.cli.output import emit_json, emit_lines, emit_table, person

if TYPE_CHECKING:
    from raymlops.data.distributions import Rows
    from raymlops.data.table_drift import TableDrift

_drift = typer.Typer(
    help="Drift: compare two tables, move a reference.",
    no_args_is_help=True,
)

VersionArgument = Annotated[str, typer.Argument(metavar="MODEL@VERSION", help="Or MODEL@champion.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(_drift, name="drift")


@_drift.command()
def compare(
    before: Annotated[str, typer.Argument(metavar="A", help="The reference, e.g. a.parquet.")],
    after: Annotated[str, typer.Argument(metavar="B", help="What is held against it.")],
    columns: Annotated[
        str, typer.Option(help="Which, such as temp,carrier; by default all that both have.")
    ] = "",
    html: Annotated[
        Path | None, typer.Option(help="Write a page for browsers to this file.")
    ] = None,
    on_ray: Annotated[
        bool, typer.Option("--ray", help="Count Parquet on the cluster; only counts travel.")
    ] = False,
    configs: ConfigOption = [],  # noqa: B006
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Hold one table against another: every column, all columns together, and their types.

    Columns that are neither numbers nor categories nor embeddings are named, and not compared.
    Reads Parquet or CSV files, folders, Delta tables and DVC pointers in bounded memory, without
    a cluster. What counts as drift is monitor.drift in the settings.
    """
    from raymlops.data.table_drift import compare_tables
    from raymlops.monitor.drift_report import write_drift_report
    from raymlops.operate import load_settings

    wanted = [name.strip() for name in columns.split(",") if name.strip()]
    with contextlib.ExitStack() as stack:
        if on_ray:
            workspace = stack.enter_context(open_workspace(configs, env=env, overrides=overrides))
            stack.enter_context(workspace.connect())
            settings = workspace.settings
        else:
            settings = load_settings(configs, environment=env, overrides=overrides).settings
        rows = [_rows(path, on_ray=on_ray) for path in (before, after)]
        found = compare_tables(*rows, policy=settings.monitor.drift, columns=wanted)
    if html is not None:
        write_drift_report(found, before, after, html)
    emit_json(_document(found)) if json else _show(found)


@_drift.command()
def roll(
    reference: VersionArgument,
    start: Annotated[str, typer.Option("--from", help="The first day of the new reference, UTC.")],
    end: Annotated[str, typer.Option("--to", help="The day after its last.")],
    why: WhyOption,
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Hold a version's coming windows against some days of its traffic, not its training data."""
    from raymlops.monitor import Window, roll_reference

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        decision = roll_reference(
            workspace.ledger,
            workspace.store,
            workspace.ledger.registry.resolve(reference),
            Window(parse_time(start), parse_time(end)),
            min_rows=workspace.settings.monitor.drift.min_rows,
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


def _rows(path: str, *, on_ray: bool) -> Rows:
    from raymlops.data import open_source
    from raymlops.data.distributions import LocalRows
    from raymlops.data.ray_rows import RayRows

    return RayRows.read(path) if on_ray else LocalRows(open_source(path))


def _document(found: TableDrift) -> dict[str, Any]:
    return asdict(found) | {
        "alike": found.alike,
        "together": found.together._asdict() | {"drifted": found.drifted_together},
    }


def _show(found: TableDrift) -> None:
    from raymlops.data.table_drift import shown_p_value

    before, after = found.num_rows
    effect, p_value = found.together
    told = " DRIFTED" * found.drifted_together
    emit_lines(
        (
            ("rows", f"{before:,} -> {after:,}"),
            ("drifted", f"{len(found.drifted)} of {len(found.features)} features"),
            ("together", f"{effect:.3f}, p {shown_p_value(p_value)}{told}"),
            *(("changed", str(change)) for change in found.changes),
            *(("other type", str(change)) for change in found.retyped),
            *(("not compared", column) for column in found.not_compared),
        )
    )
    emit_table(
        ("", "feature", "test", "effect", "matters above", "p"),
        (
            (
                "DRIFTED" if verdict.drifted else "ok",
                verdict.feature,
                verdict.test,
                f"{verdict.effect:.3f}",
                f"{each.threshold:g}",
                shown_p_value(verdict.p_value),
            )
            for each in found.features
            for verdict in (each.verdict,)
        ),
    )
