"""Checkpoints of Keras models, without TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raymlops.train import CheckpointPolicy
from raymlops.train.keras.checkpoints import Checkpoints
from raymlops.train.loop.progress import Progress


class Bare:
    """A state of one array."""

    def __init__(self, value: float) -> None:
        self.value = value

    def arrays(self) -> dict[str, Any]:
        return {"weight": np.array(self.value)}

    def restore(self, arrays: dict[str, Any]) -> None:
        self.value = float(arrays["weight"])


def cut_short(content: bytes) -> bytes:
    return content[:-10]


def with_another_bit(content: bytes) -> bytes:
    return content[:40] + bytes([content[40] ^ 1]) + content[41:]


@pytest.mark.parametrize("damage", [cut_short, with_another_bit])
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    damage: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    policy = CheckpointPolicy(every_steps=5, asynchronous=False)
    told: list[int | None] = []

    def tell(step: int | None) -> int | None:
        told.append(step)
        return step

    saved = Checkpoints(tmp_path, policy, settle=lambda: None, told=tell)
    for step in (5, 10):
        state: Any = Bare(step / 10)
        saved.save(state, Progress(step=step))
    arrays = tmp_path / "step-00000010" / "arrays.npz"
    arrays.write_bytes(damage(arrays.read_bytes()))

    found: Any = Bare(0.0)
    first = Checkpoints(tmp_path, policy, settle=lambda: None, told=tell)
    assert first.restore(found) == Progress(step=5)
    assert (found.value, told) == (0.5, [5])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "damaged-00000010", "step-00000005",
    ]  # fmt: skip


def test_workers_go_on_from_what_the_first_one_finds(tmp_path: Path) -> None:
    """Each looked for itself, and a node may hold a list of the folder from before."""
    policy = CheckpointPolicy(every_steps=5, asynchronous=False)
    saved = Checkpoints(tmp_path, policy, settle=lambda: None, told=lambda step: step)
    for step in (5, 10):
        state: Any = Bare(step / 10)
        saved.save(state, Progress(step=step))
    found: Any = Bare(0.0)
    other = Checkpoints(tmp_path, policy, settle=None, told=lambda _: 5)
    assert other.restore(found) == Progress(step=5)
    assert found.value == 0.5
    none = Checkpoints(tmp_path, policy, settle=None, told=lambda _: None)
    assert none.restore(found) is None
