"""Verbs of dataset versions: add, check, list, show, diff, export-dvc."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
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
    parse_time,
)
from raymlops.cli.output import emit_json, emit_lines, emit_table
from raymlops.errors import NotFoundError

if TYPE_CHECKING:
    from raymlops.data import Finding
    from raymlops.data.comparison import ColumnDifference, DatasetDifference
    from raymlops.data.statistics import ColumnStatistics, Value
    from raymlops.ledger import Check, Dataset, Ledger

_data = typer.Typer(help="Dataset versions: add, check, list, show, diff.", no_args_is_help=True)

RowsArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A Parquet or CSV file, a folder of them, a DVC pointer or a Delta table.",
    ),
]
ReferenceArgument = Annotated[str, typer.Argument(metavar="NAME[@VERSION]")]
VersionOption = Annotated[
    int | None, typer.Option("--delta-version", help="Which version of a Delta table.")
]
AtOption = Annotated[str | None, typer.Option("--at", help="A Delta table as it was at this time.")]


def add_to(app: typer.Typer) -> None:
    app.add_typer(_data, name="data")


@_data.command()
def add(
    data: RowsArgument,
    configs: ConfigArgument,
    description: Annotated[str, typer.Option(help="What this version holds.")] = "",
    version: VersionOption = None,
    at: AtOption = None,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006 - typer reads it, nobody changes it
    json: JsonOption = False,
) -> None:
    """Check rows against their expectations and add them as a dataset version."""
    from raymlops.operate import add_data

    began = datetime.now(UTC)
    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        dataset = add_data(
            workspace,
            data,
            description=description,
            version=version,
            at=parse_time(at) if at else None,
        )
    if json:
        emit_json(dataset)
        return
    emit_lines((*_dataset_lines(dataset), *_known_lines(dataset, description, began)))


@_data.command()
def check(
    data: RowsArgument,
    configs: ConfigArgument,
    version: VersionOption = None,
    at: AtOption = None,
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Check rows against their expectations and add nothing; exit status 1 when one is broken."""
    from raymlops.operate import check_data

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        found = check_data(workspace, data, version=version, at=parse_time(at) if at else None)
    if json:
        emit_json([asdict(each) | {"passed": each.passed} for each in found])
    else:
        _report(found)
        emit_lines((each.column, each.way_out) for each in found if each.way_out)
    if not all(each.passed for each in found):
        raise typer.Exit(1)


@_data.command("list")
def list_(home: HomeOption = None, env: EnvOption = None, json: JsonOption = False) -> None:
    """List dataset versions."""
    with open_workspace(home=home, env=env) as workspace:
        datasets, ledger = workspace.ledger.datasets.list(), workspace.shown_ledger
    if json:
        emit_json(datasets)
        return
    emit_table(
        ("dataset", "version", "rows", "format", "digest", "description"),
        (
            (d.name, d.version, f"{d.num_rows:,}", d.format, d.digest[:12], d.description)
            for d in datasets
        ),
        if_none=f"no dataset is in {ledger}: `raymlops data add FILE CONFIG` adds one",
    )


@_data.command()
def show(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="NAME[@VERSION]",
            help="A version, by default the newest; NAME@DIGEST is the report on refused rows.",
        ),
    ],
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Show a dataset version: where it came from, its statistics, the report of its rules."""
    with open_workspace(home=home, env=env) as workspace:
        name, _, wanted = reference.partition("@")
        if _is_digest(wanted):
            dataset, report = None, workspace.ledger.datasets.checks(name, wanted)
            if not report:
                raise NotFoundError(f"the ledger has no report on {name} with digest {wanted}")
        else:
            dataset = _resolve(workspace.ledger, reference)
            report = workspace.ledger.datasets.checks(name, dataset.digest)
    if json:
        emit_json({"dataset": dataset, "checks": report})
        return
    if dataset is not None:
        emit_lines(_dataset_lines(dataset))
        _statistics(dataset)
    _report(report)


@_data.command()
def diff(
    before: ReferenceArgument,
    after: ReferenceArgument,
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Hold one dataset version against another: rows, columns, statistics, drift."""
    from raymlops.data.comparison import difference

    with open_workspace(home=home, env=env) as workspace:
        found = difference(
            workspace.store,
            _resolve(workspace.ledger, before),
            _resolve(workspace.ledger, after),
        )
    emit_json(found) if json else _difference(found)


@_data.command("export-dvc")
def export_dvc(
    reference: ReferenceArgument,
    folder: Annotated[Path, typer.Argument(help="A folder in a DVC repository.")],
    home: HomeOption = None,
    env: EnvOption = None,
    json: JsonOption = False,
) -> None:
    """Write a dataset version as data, cache entry and pointer that DVC takes as its own."""
    from raymlops.data.export import export_dvc as export

    with open_workspace(home=home, env=env) as workspace:
        dataset = _resolve(workspace.ledger, reference)
        pointer = export(workspace.store, dataset, folder)
    emit_json({"pointer": str(pointer)}) if json else emit_lines((("pointer", str(pointer)),))


def _resolve(ledger: Ledger, reference: str) -> Dataset:
    name, at, version = reference.partition("@")
    if at and not version.isdecimal():
        raise NotFoundError(f"'{reference}' names no version; write NAME or NAME@3")
    return ledger.datasets.get(name, int(version) if at else None)


def _is_digest(text: str) -> bool:
    """Whether a reference means content; versions never have eight digits."""
    return len(text) >= 8 and set(text) <= set("0123456789abcdef")


def _dataset_lines(dataset: Dataset) -> tuple[tuple[str, str], ...]:
    lines = [
        ("dataset", f"{dataset.name} version {dataset.version}"),
        ("rows", f"{dataset.num_rows:,}"),
        ("format", dataset.format),
        ("digest", dataset.digest),
    ]
    if dataset.source is not None:
        lines.append(("source", ", ".join(f"{key} {each}" for key, each in dataset.source.items())))
    return tuple(lines)


def _known_lines(
    dataset: Dataset, description: str, began: datetime
) -> tuple[tuple[str, str], ...]:
    """That nothing was added, where the same rows were before this command began."""
    if dataset.created_at >= began:
        return ()
    known = f"since {dataset.created_at:%Y-%m-%d %H:%M} UTC: these rows are that version already"
    if description and description != dataset.description:
        known += f", and it stays described as '{dataset.description}'"
    return (("known", known),)


def _statistics(dataset: Dataset) -> None:
    from raymlops.data.statistics import ColumnStatistics

    columns = [ColumnStatistics.from_dict(values) for values in dataset.statistics]
    emit_table(
        ("column", "type", "missing", "min", "max", "mean", "std", "distinct", "most frequent"),
        (
            (
                each.name,
                each.type,
                f"{each.missing:,}",
                *map(_number, (each.min, each.max, each.mean, each.std)),
                _distinct(each),
                ", ".join(f"{value} {count:,}" for value, count in each.top[:3]),
            )
            for each in columns
        ),
    )


def _report(report: Sequence[Finding] | Sequence[Check]) -> None:
    emit_table(
        ("", "column", "rule", "broken", "rows", "examples"),
        (
            (
                "ok" if each.passed else "BROKEN",
                each.column,
                each.rule,
                f"{each.num_broken:,}",
                f"{each.num_rows:,}",
                ", ".join(each.examples),
            )
            for each in report
        ),
    )


def _difference(found: DatasetDifference) -> None:
    emit_lines(
        (
            ("before", f"{found.before.name} version {found.before.version}"),
            ("after", f"{found.after.name} version {found.after.version}"),
            ("rows", f"{found.before.num_rows:,} -> {found.after.num_rows:,}"),
            ("content", "the same" if found.same_content else "differs"),
        )
    )
    emit_table(
        ("column", "change", "missing", "min", "max", "mean", "distinct", "drift"),
        (_difference_row(column) for column in found.columns),
    )


def _difference_row(column: ColumnDifference) -> Sequence[str]:
    def pair(show: str) -> str:
        sides = [
            "" if side is None else _number(getattr(side, show))
            for side in (column.before, column.after)
        ]
        return sides[0] if sides[0] == sides[1] else f"{sides[0] or '-'} -> {sides[1] or '-'}"

    drift = column.drift
    told = "" if drift is None else f"{drift.test} {drift.effect:.3f}{' DRIFTED' * drift.drifted}"
    shown = ("missing", "min", "max", "mean", "distinct")
    return (column.name, column.change, *map(pair, shown), told)


def _distinct(column: ColumnStatistics) -> str:
    return "many" if column.distinct is None else f"{column.distinct:,}"


def _number(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool() | str():
            return str(value)
        case _:
            return f"{value:.6g}"
