"""Trainings by either loop, for the tests of both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray

from raymlops.train.keras import KerasSpec
from raymlops.train.keras.backend import KerasBackend
from raymlops.train.keras.spec import LoopName
from tests.train.keras import training
from tests.train.keras.host import Crew, Host
from tests.train.keras.specs import (
    BY_BATCH,
    CLIPPED_TAGGER,
    CNN,
    MLP,
    NORMALISED,
    TAGGER,
)
from tests.train.keras.training import Outcome

LOOPS: tuple[LoopName, ...] = ("custom", "fit")
LIBRARIES = {"custom": "keras", "fit": "tf_keras"}
SPECS = {
    "mlp": MLP,
    "cnn": CNN,
    "normalised": NORMALISED,
    "by batch": BY_BATCH,
    "tagger": TAGGER,
    "clipped tagger": CLIPPED_TAGGER,
}

Outcomes: TypeAlias = Mapping[str, list[Outcome]]
"""By the spec's name, each worker's."""


def spec_of(loop: LoopName, name: str) -> KerasSpec:
    return replace(SPECS[name], loop=loop)


def crew(loop: LoopName, *, num_workers: int = 1, num_devices: int = 1) -> Crew:
    environment = KerasBackend(spec_of(loop, "mlp")).environment
    return Crew(num_workers=num_workers, num_devices=num_devices, environment=environment)


def train(host: Host, loop: LoopName, num_workers: int, names: Iterable[str]) -> Outcomes:
    specs = [spec_of(loop, name) for name in names]
    found = host.run(crew(loop, num_workers=num_workers), training.train, *specs)
    return dict(zip(names, map(list, zip(*found, strict=True)), strict=True))


def assert_close(mine: Iterable[NDArray[Any]], theirs: Iterable[NDArray[Any]]) -> None:
    for array, other in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(array, other, atol=1e-5)


def assert_equal(mine: Iterable[NDArray[Any]], theirs: Iterable[NDArray[Any]]) -> None:
    for array, other in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(array, other)


def assert_learned_alike(one: Outcomes, two: Outcomes) -> None:
    for name, (alone,) in one.items():
        first, second = two[name]
        assert alone.progress.step == 20
        assert alone.losses[-1] < alone.losses[0]
        np.testing.assert_allclose(first.losses, alone.losses, rtol=1e-5)
        assert second.losses == first.losses
        assert_close(first.weights.values(), alone.weights.values())
        assert len(alone.epochs) == 2
        for mine, theirs in zip(first.epochs, alone.epochs, strict=True):
            assert mine == pytest.approx(theirs, rel=1e-5)
