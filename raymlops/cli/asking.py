"""Verbs about what is served: bench and predict."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from raymlops.cli.options import JsonOption
from raymlops.cli.output import emit_json, emit_table
from raymlops.errors import RequestError


def add_to(app: typer.Typer) -> None:
    app.command()(bench)


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
