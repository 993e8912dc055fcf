"""Rows of a Ray dataset under the Trainer: computed by the driver, read by every worker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from sklearn.datasets import load_digits

from raymlops.cluster import Session
from raymlops.data.loading import ArraySource, RayDataSource, Source
from raymlops.train import Factory, ParallelPlan, Trainer, TrainSpec
from raymlops.train.loop.loop import Loop
from raymlops.train.plan.seat import Seat

pytestmark = pytest.mark.cluster

COLUMNS = [tuple(f"pixel{i}" for i in range(64)), "digit"]
HERE = "tests.train.test_ray_data"


def computed() -> RayDataSource:
    images, labels = load_digits(return_X_y=True, as_frame=True)
    images.columns = list(COLUMNS[0])
    table = images[:333].assign(digit=labels[:333])
    return RayDataSource.of(ray.data.from_pandas(table).repartition(4), COLUMNS)


def given(source: Source) -> Source:
    return source


def network() -> torch.nn.Module:
    return torch.nn.Linear(64, 10)


def spec_of(data: str, **arguments: Any) -> TrainSpec:
    return TrainSpec(
        model=Factory(call=f"{HERE}:network"),
        data=Factory(call=f"{HERE}:{data}", arguments=arguments),
        batch_size=50,
        max_steps=9,
        epochs=2,
    )


def test_workers_learn_from_a_dataset_what_one_process_learns_from_its_rows(
    tmp_path: Path, ray_cluster: Session
) -> None:
    source = computed()
    result = Trainer(
        spec_of("given", source=source), plan=ParallelPlan(data=2), home=tmp_path
    ).fit()
    rows = ArraySource(source.take(np.arange(333)))
    alone = Loop(spec_of("given", source=rows), Seat())
    alone.run()
    assert result.steps == 9
    for name, weight in alone.weights().items():
        torch.testing.assert_close(result.weights()[name], weight, rtol=0, atol=1e-5)
