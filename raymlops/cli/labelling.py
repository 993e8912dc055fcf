"""What came true of requests, told by a file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from raymlops.cli.options import (
    ConfigOption,
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_workspace,
    parse_time,
)
from raymlops.cli.output import emit_json, emit_lines


def add_to(app: typer.Typer) -> None:
    app.command()(labels)


def labels(
    model: str,
    file: Annotated[Path, typer.Argument(help="Parquet or CSV: a line a row, with its request.")],
    id_column: Annotated[str, typer.Option(help="The column of request ids.")] = "request_id",
    label_column: Annotated[str, typer.Option(help="The column of what came true.")] = "label",
    as_of: Annotated[
        str | None, typer.Option(help="When they were known, such as 2026-02-01; now by default.")
    ] = None,
    configs: ConfigOption = [],  # noqa: B006
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Tell what came true of requests, by which windows, canaries and detectors judge a model."""
    from raymlops import operate

    with open_workspace(configs, home=home, env=env, overrides=overrides) as workspace:
        found = operate.add_labels(
            workspace,
            model,
            file,
            now=datetime.now(UTC) if as_of is None else parse_time(as_of),
            id_column=id_column,
            label_column=label_column,
        )
    if json:
        emit_json(found)
        return
    emit_lines(
        (
            ("requests", f"{found.num_requests:,}"),
            ("taken now", f"{found.num_new:,}"),
            ("not known yet", f"{found.num_unknown:,}"),
            *(
                (fate.replace("_", " "), f"{number:,}")
                for fate, number in sorted(found.fates.items())
            ),
        )
    )
