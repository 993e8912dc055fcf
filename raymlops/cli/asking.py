"""Verbs that ask models: bench and predict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from raymlops.cli.options import (
    EnvOption,
    HomeOption,
    JsonOption,
    SetOption,
    open_workspace,
)
from raymlops.cli.output import emit_json, emit_lines, emit_table
from raymlops.errors import RequestError

_LINE_EVERY_S = 10.0


def add_to(app: typer.Typer) -> None:
    for verb in (bench, predict):
        app.command()(verb)


class RowsTold:
    """Prints to stderr how many rows are done, every so often."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s, self._told_s = now_s, now_s()
        self._console = Console(stderr=True)

    def __call__(self, num_done: int, num_rows: int) -> None:
        if self._now_s() - self._told_s >= _LINE_EVERY_S:
            self._told_s = self._now_s()
            self._console.print(f"{num_done:,} of {num_rows:,} rows", highlight=False)


def bench(
    url: Annotated[str, typer.Argument(help="http://HOST:PORT/v2/models/MODEL")],
    connections: Annotated[int, typer.Option(min=1, help="Requests in flight at a time.")] = 32,
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to ask.")] = 5.0,
    rows: Annotated[int, typer.Option(min=1, help="Rows a request.")] = 1,
    api_key: Annotated[
        str | None, typer.Option(envvar="RAYMLOPS_API_KEY", help="Where the server wants one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Ask a model as fast as it answers; tells requests a second and how long they took."""
    from raymlops.serve.bench import example_bodies, measure

    target = example_bodies(url, num_rows=rows, api_key=api_key)
    try:
        load = asyncio.run(
            measure(target, connections=connections, seconds=seconds, patience_s=10.0)
        )
    except OSError as error:
        raise RequestError(503, f"{url} cannot be reached: {error}") from error
    if json:
        emit_json({"per_second": load.per_second, **vars(load)})
        return
    figures = [f"{load.per_second:.0f}", *(f"{ms:.2f}" for ms in load.quantiles_ms.values())]
    emit_table(
        ("requests/s", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "failed", "without reply"),
        [(*figures, str(load.num_failed), str(load.num_lost))],
    )


def predict(
    reference: Annotated[str, typer.Argument(help="MODEL@ALIAS or MODEL@1.2.3")],
    source: Annotated[Path, typer.Argument(help="A Parquet file, or a folder of them.")],
    target: Annotated[Path, typer.Argument(help="The folder of Parquet files to be written.")],
    prefix: Annotated[
        str, typer.Option(help="Before the names of the outputs, where rows have such columns.")
    ] = "",
    home: HomeOption = None,
    env: EnvOption = None,
    overrides: SetOption = [],  # noqa: B006
    json: JsonOption = False,
) -> None:
    """Predict all rows of a Parquet file, without a server."""
    from raymlops import operate

    with open_workspace(home=home, env=env, overrides=overrides) as workspace:
        operate.check_prediction(workspace, reference, source, target, prefix=prefix)
        with workspace.connect():
            found = operate.predict(
                workspace, reference, source, target, prefix=prefix, on_rows=RowsTold()
            )
    if json:
        emit_json(found)
        return
    emit_lines(
        (
            ("version", str(found.version)),
            ("rows", f"{found.num_rows:,}"),
            ("written", str(found.path)),
        )
    )
