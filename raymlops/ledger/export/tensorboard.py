"""Runs as TensorBoard event files: a curve a metric, the parameters, the configuration."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Row

from raymlops.ledger.export.folders import make_folder
from raymlops.ledger.export.rows import Exported, Rows, reading
from raymlops.ledger.ledger import Ledger

_FILE = "events.out.tfevents.0.raymlops"
"""One name for good: TensorBoard adds up all event files of a folder, so a second export has to
replace the first."""


def to_tensorboard(
    ledger: Ledger,
    folder: Path,
    *,
    model: str | None = None,
    run_ids: Sequence[str] | None = None,
) -> Exported:
    """Writes FOLDER/RUN/events.out.tfevents... for all runs, one model's, or those named.

    `tensorboard --logdir FOLDER` shows them. TensorBoard keeps values as 32-bit floats.

    Raises:
        NotFoundError: there is no such run, or no run of the model.
        DataError: `folder` is a file.
    """
    files: list[Path] = []
    num_metrics = 0
    with reading(ledger, model=model, run_ids=run_ids) as rows:
        for page in rows.runs():
            for run in page.rows:
                path = folder / quote(run.id, safe=" ") / _FILE
                params, config = page.params.get(run.id, {}), ledger.text(run.config_digest)
                num_metrics += _write(path, run, params, config, rows)
                files.append(path)
    return Exported(num_runs=len(files), num_metrics=num_metrics, files=tuple(files))


def _write(path: Path, run: Row[Any], params: Mapping[str, Any], config: str, rows: Rows) -> int:
    """Puts the events of one run at `path` and returns how many metrics they hold."""
    # Ray Tune depends on tensorboardX, so users of either framework have it.
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.summary import hparams, text

    make_folder(path.parent)
    started_at = run.started_at.timestamp()
    num_metrics, names = 0, set()
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as staging:
        writer = EventsWriter(str(Path(staging) / "run"))
        try:
            summary = text("config", f"```\n{config}\n```")
            writer.write_event(Event(wall_time=started_at, step=0, summary=summary))
            for event, found in _events(rows.metrics(run.id)):
                writer.write_event(event)
                num_metrics += len(found)
                names |= found
            plain = {name: _plain(value) for name, value in params.items()}
            for summary in hparams(plain, dict.fromkeys(sorted(names), 0.0)):
                writer.write_event(Event(wall_time=started_at, step=0, summary=summary))
        finally:
            writer.close()
        (written,) = Path(staging).iterdir()
        written.replace(path)
    return num_metrics


def _events(pages: Iterable[Sequence[Row[Any]]]) -> Iterator[tuple[Any, set[str]]]:
    """One event for what was logged in one call: neighbours of one step and one time."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    for page in pages:
        for (step, at), group in itertools.groupby(page, key=lambda row: (row.step, row.at)):
            values = [Summary.Value(tag=row.name, simple_value=row.value) for row in group]
            event = Event(wall_time=at.timestamp(), step=step, summary=Summary(value=values))
            yield event, {value.tag for value in values}


def _plain(value: Any) -> str | bool | float:
    return value if isinstance(value, str | bool | int | float) else json.dumps(value)
