"""What was exported, read back by TensorBoard itself and by pandas."""

from __future__ import annotations

import json
import math
import struct
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine, insert

from raymlops.errors import DataError, NotFoundError
from raymlops.ledger import Code, Dataset, Ledger, Run, schema
from raymlops.ledger.export import Exported, to_parquet, to_tensorboard


@pytest.fixture
def curve(ledger: Ledger, run: Run) -> Run:
    """A run with two metrics over 60 steps, NaN and infinities among them."""
    odd = {3: math.nan, 5: math.inf, 7: -math.inf}
    for step in range(60):
        ledger.runs.log(run.id, {"loss": odd.get(step, 1 / (step + 1)), "auc@5": 0.5}, step=step)
    return run


def start(ledger: Ledger, model: str, **given: Any) -> Run:
    return ledger.runs.start(
        kind="train",
        model=model,
        params=given,
        code=Code(commit="c" * 40, dirty_digest=None),
        config='{"epochs": 3}',
        environment="",
        inputs={},
    )


def narrow(value: float) -> float:
    """The 32-bit float nearest to `value`."""
    (found,) = struct.unpack("f", struct.pack("f", value))
    return float(found)


@pytest.fixture(autouse=True)
def _tensorboard_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard reads by itself when this module of its own exists; else TensorFlow, which takes
    ten seconds to import, reads for it."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))


def events_of(folder: Path) -> Any:
    """TensorBoard's own reading of all event files in `folder`, nothing sampled away."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    return accumulator.Reload()


def test_tensorboard_reads_every_value_with_its_step_and_time(
    ledger: Ledger, curve: Run, tmp_path: Path
) -> None:
    exported = to_tensorboard(ledger, tmp_path, run_ids=[curve.id])
    assert (exported.num_runs, exported.num_metrics) == (1, 120)
    events = events_of(tmp_path / curve.id)
    assert sorted(events.Tags()["scalars"]) == ["auc@5", "loss"]
    for name in ("loss", "auc@5"):
        assert [
            (event.step, event.wall_time, repr(event.value)) for event in events.Scalars(name)
        ] == [
            (metric.step, metric.at.timestamp(), repr(narrow(metric.value)))
            for metric in ledger.runs.metrics(curve.id, name)
        ]


def test_tensorboard_shows_configuration_and_parameters(ledger: Ledger, tmp_path: Path) -> None:
    from tensorboard.plugins.hparams import metadata

    run = start(ledger, "tumours", lr=0.1, net="mlp", deep=[8, 8], fast=True, limit=None)
    ledger.runs.log(run.id, {"loss": 0.5})
    to_tensorboard(ledger, tmp_path)
    events = events_of(tmp_path / run.id)
    (config,) = events.Tensors("config/text_summary")
    assert config.tensor_proto.string_val[0].decode() == '```\n{"epochs": 3}\n```'
    held = {
        tag: events.SummaryMetadata(tag).plugin_data.content
        for tag in events.PluginTagToContent(metadata.PLUGIN_NAME)
    }
    session = metadata.parse_session_start_info_plugin_data(held[metadata.SESSION_START_INFO_TAG])
    assert {name: value.WhichOneof("kind") for name, value in session.hparams.items()} == {
        "lr": "number_value",
        "net": "string_value",
        "deep": "string_value",
        "fast": "bool_value",
        "limit": "string_value",
    }
    assert session.hparams["deep"].string_value == "[8, 8]"
    experiment = metadata.parse_experiment_plugin_data(held[metadata.EXPERIMENT_TAG])
    assert [info.name.tag for info in experiment.metric_infos] == ["loss"]


def test_a_second_export_replaces_the_first(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    ledger.runs.log(run.id, {"loss": 0.5}, step=1)
    to_tensorboard(ledger, tmp_path)
    ledger.runs.log(run.id, {"loss": 0.25}, step=2)
    to_tensorboard(ledger, tmp_path)
    assert [event.step for event in events_of(tmp_path / run.id).Scalars("loss")] == [1, 2]
    assert len(list((tmp_path / run.id).iterdir())) == 1


def test_a_model_name_cannot_lead_out_of_the_folder(ledger: Ledger, tmp_path: Path) -> None:
    run = start(ledger, "../../outside")
    (path,) = to_tensorboard(ledger, tmp_path / "a" / "b").files
    assert path.resolve().is_relative_to(tmp_path / "a" / "b")
    assert path.parent.name == run.id.replace("/", "%2F")


def test_pandas_reads_every_metric(ledger: Ledger, curve: Run, tmp_path: Path) -> None:
    exported = to_parquet(ledger, tmp_path)
    assert (exported.num_runs, exported.num_metrics) == (1, 120)
    frame = pd.read_parquet(tmp_path / "metrics.parquet")
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "run_id": "category",
        "name": "category",
        "step": "int64",
        "value": "float64",
        "at": "datetime64[us, UTC]",
    }
    assert set(frame["run_id"]) == {curve.id}
    frame = frame.astype({"name": str}).sort_values(["name", "step"])
    expected = ledger.runs.metrics(curve.id)
    assert [(row.name, row.step, repr(row.value), row.at) for row in expected] == [
        (name, step, repr(value), at.to_pydatetime())
        for name, step, value, at in zip(
            frame["name"], frame["step"], frame["value"].tolist(), frame["at"], strict=True
        )
    ]
    assert pq.read_table(tmp_path / "metrics.parquet")["value"].null_count == 0


def test_a_run_is_a_typed_row(ledger: Ledger, dataset: Dataset, tmp_path: Path) -> None:
    parent = start(ledger, "tumours", lr=0.1, deep=[8, 8], note=None)
    engine = create_engine(ledger.url)
    with engine.begin() as connection:
        tag = {"run_id": parent.id, "name": "owner", "value": "ann"}
        connection.execute(insert(schema.tags), tag)
    engine.dispose()
    child = ledger.runs.start(
        kind="trial",
        model="tumours",
        params={},
        code=Code(commit="c" * 40, dirty_digest="d" * 64),
        config="{}",
        environment="",
        inputs={"train": dataset},
        parent_id=parent.id,
    )
    ledger.runs.fail(child.id, "ValueError: no")
    to_parquet(ledger, tmp_path)
    rows = {row["id"]: row for row in pq.read_table(tmp_path / "runs.parquet").to_pylist()}
    assert set(rows) == {parent.id, child.id}
    assert json.loads(rows[parent.id]["params"]) == {"lr": 0.1, "deep": [8, 8], "note": None}
    assert rows[parent.id]["tags"] == [("owner", "ann")]
    assert rows[parent.id]["ended_at"] is None
    ended = ledger.runs.get(child.id)
    assert rows[child.id] == {
        "id": child.id,
        "parent_id": parent.id,
        "kind": "trial",
        "model": "tumours",
        "status": "failed",
        "commit": "c" * 40,
        "dirty_digest": "d" * 64,
        "config_digest": ended.config_digest,
        "environment_digest": ended.environment_digest,
        "started_at": ended.started_at.astimezone(UTC),
        "ended_at": ended.ended_at,
        "error": "ValueError: no",
        "params": "{}",
        "tags": [],
        "inputs": [{"role": "train", "dataset": "tumours", "version": 1}],
    }


def test_one_model_or_some_runs_are_exported_alone(ledger: Ledger, tmp_path: Path) -> None:
    runs = [start(ledger, model) for model in ("tumours", "flights", "flights")]
    for run in runs:
        ledger.runs.log(run.id, {"loss": 0.5})
    to_parquet(ledger, tmp_path, model="flights")
    found = pd.read_parquet(tmp_path / "runs.parquet")
    assert set(found["id"]) == {run.id for run in runs[1:]}
    assert len(pd.read_parquet(tmp_path / "metrics.parquet")) == 2
    to_parquet(ledger, tmp_path, model="flights", run_ids=[runs[0].id, runs[1].id])
    assert list(pd.read_parquet(tmp_path / "runs.parquet")["id"]) == [runs[1].id]
    to_parquet(ledger, tmp_path, run_ids=[runs[0].id])
    assert list(pd.read_parquet(tmp_path / "metrics.parquet")["run_id"]) == [runs[0].id]


def test_an_empty_ledger_gives_empty_files(ledger: Ledger, tmp_path: Path) -> None:
    to_parquet(ledger, tmp_path)
    assert pq.read_table(tmp_path / "runs.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "metrics.parquet").num_rows == 0


def test_an_export_that_fails_leaves_the_old_file(
    ledger: Ledger, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.runs.log(run.id, {"loss": 0.5})
    to_parquet(ledger, tmp_path)
    before = (tmp_path / "metrics.parquet").read_bytes()

    def out_of_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_batch", out_of_space)
    with pytest.raises(OSError, match="No space left"):
        to_parquet(ledger, tmp_path)
    assert (tmp_path / "metrics.parquet").read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("*parquet*")) == [
        "metrics.parquet",
        "runs.parquet",
    ]
    assert not list(tmp_path.glob(".*"))


def test_what_does_not_exist_is_refused(ledger: Ledger, run: Run, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no run 'nobody'"):
        to_parquet(ledger, tmp_path, run_ids=["nobody"])
    with pytest.raises(NotFoundError, match="no run of model 'tumors'"):
        to_tensorboard(ledger, tmp_path, model="tumors")


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize("export", [to_parquet, to_tensorboard])
def test_a_file_is_no_folder_to_export_to(
    export: Callable[[Ledger, Path], Exported], ledger: Ledger, tmp_path: Path
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("notes")
    for folder in (taken, taken / "below"):
        with pytest.raises(DataError, match=r"taken.* cannot be a folder: .*; name another"):
            export(ledger, folder)
    assert taken.read_text() == "notes"
