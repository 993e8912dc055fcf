"""The tap counts tensors by what its version's profile tells of them, whatever their length."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from torch import nn

from raymlops.models import Artifact, Bundle, Postprocessing, export
from raymlops.operate.own_models import bundle_of
from raymlops.serve import BatchPolicy
from raymlops.serve.batching import Batcher
from raymlops.serve.exchange import Exchange, Run
from raymlops.serve.tap import recorder
from raymlops.serve.tap.blocks import blocks_of
from raymlops.serve.tap.recorder import Recorder
from raymlops.serve.tap.summarising import summarise
from raymlops.serve.versions.loaded import LoadedVersion
from tests.serve.tap.traffic import Monitor

RNG = np.random.default_rng(0)


class Sum(nn.Module):
    def forward(self, tokens: Any) -> Any:
        return tokens.float().mean(dim=1)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    tokens = pa.array([RNG.integers(1, 9, 1 + row % 7).tolist() for row in range(300)])
    rows = pa.table({"tokens": tokens, "mean": RNG.normal(4.0, 2.0, 300)})
    model = Artifact(format="onnx", data=export(Sum(), np.ones((2, 7), np.int64), any_length=True))
    told = Postprocessing(label="mean", reads="number")
    return bundle_of(model, rows, told, recorded=lambda _: False)


def run_of(bundle: Bundle, lengths: list[int]) -> Run:
    version = LoadedVersion(
        version="1.0.0", bundle=bundle, batcher=Batcher(bundle.predict, BatchPolicy())
    )
    exchanges = []
    for number, length in enumerate(lengths):
        columns = {"tokens": RNG.integers(1, 9, (2, length)).astype(np.float64)}
        exchanges.append(
            Exchange(
                id=f"r-{number}",
                arm="champion",
                version=version,
                columns=columns,
                num_rows=2,
                outputs=bundle.predict(columns),
                status=200,
            )
        )
    return Run(version, "champion", 200, exchanges)


def test_requests_of_any_length_are_counted(bundle: Bundle) -> None:
    run = run_of(bundle, [3, 3, 5, 1, 5])
    summary = summarise(
        list(blocks_of([run])),
        model="means",
        replica="a",
        sequence=0,
        slice_by=("tokens length",),
    )
    (pane,) = summary.panes
    wanted = sum(
        bundle.profile.count(bundle.profile.read(each.columns), each.outputs["mean"])
        for each in run.exchanges
    )
    np.testing.assert_array_equal(pane.cells, wanted)
    assert pane.num_rows == 10
    assert summary.predictions.slices is not None
    bins = bundle.profile.bins[0]
    lengths = np.repeat([3.0, 3.0, 5.0, 1.0, 5.0], 2)
    np.testing.assert_array_equal(summary.predictions.slices[1], bins.cells_of(lengths))


def test_the_ring_is_bounded_by_values_too(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """65,536 images would be many gigabytes."""
    monkeypatch.setattr(recorder, "_RING_VALUES", 100)
    dropped: list[int] = []
    monitor = Monitor()

    async def test() -> None:
        ring = Recorder(model="means", replica="a", sink=monitor, on_drop=dropped.append)
        for _ in range(20):
            ring.note([run_of(bundle, [5])])
        assert ring.pending_rows == 20  # of five values each
        ring.close()
        await ring.run()

    asyncio.run(test())
    assert (sum(dropped), monitor.rows) == (20, 20)
    assert caplog.messages == [
        "20 rows of means never reached the monitor: the ring holds 65536, or 100 values of tensors"
    ]
