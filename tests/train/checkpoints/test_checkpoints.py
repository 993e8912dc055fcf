"""Checkpoints on disk: complete or not there, the newest, and of this training alone."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from raymlops.errors import LedgerError, TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.checkpoints.digest import digest
from raymlops.train.checkpoints.folder import CheckpointFolder
from raymlops.train.checkpoints.resumption import newest_whole_step
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from raymlops.train.spec.factory import Factory
from tests.train import gloo
from tests.train.cutting import ALONE, DROPPING, EVERY_5, train


def test_what_a_killed_writer_left_is_no_checkpoint(tmp_path: Path) -> None:
    spec = replace(DROPPING, max_steps=10)
    gloo.run(ALONE, train, spec, tmp_path)
    half = tmp_path / "step-00000010"
    (half / "complete.json").unlink()
    (half / "__3_0.distcp").touch()  # of a plan with more workers
    after = gloo.run(ALONE, train, spec, tmp_path)[0]
    assert sorted(after["losses"]) == [6, 7, 8, 9, 10]
    assert sorted(path.name for path in half.iterdir()) == [
        ".metadata", "__0_0.distcp", "complete.json",
    ]  # fmt: skip


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-10])


def flip_bit(file: Path) -> None:
    """Of what JSON has where, it makes one digit another."""
    content = bytearray(file.read_bytes())
    at = content.find(b'"loss_sum": ') + len('"loss_sum": ') if file.suffix == ".json" else 5_000
    content[at % len(content)] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("__0_0.distcp", flip_bit, "__0_0.distcp does not hold what was written"),
        (".metadata", flip_bit, ".metadata does not hold what was written"),
        ("complete.json", flip_bit, "complete.json does not say what was written"),
        ("__0_0.distcp", cut_short, r"__0_0.distcp has [\d,]+ bytes, and had [\d,]+"),
        ("__0_0.distcp", Path.unlink, "__0_0.distcp is not there"),
        (".metadata", cut_short, r".metadata has [\d,]+ bytes, and had [\d,]+"),
        ("complete.json", cut_short, "complete.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_for_the_one_before(
    name: str,
    damage: Callable[[Path], None],
    told: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It ended every attempt to go on in a traceback of torch, and a whole one lay beside it."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints

    spec = replace(DROPPING, max_steps=10)
    undisturbed = gloo.run(ALONE, train, spec, tmp_path)[0]
    damage(tmp_path / "step-00000010" / name)
    aside = tmp_path / "damaged-00000010"
    assert newest_whole_step(str(tmp_path), EVERY_5) == 5
    assert re.search(rf"step-00000010 is damaged, and left out: .*{told}", caplog.text)
    assert Checkpoints(tmp_path, EVERY_5, Seat()).latest() == 5
    assert re.search(f"a checkpoint is damaged, and now in {aside}: .*{told}", caplog.text)
    assert aside.exists()
    again = gloo.run(ALONE, train, spec, tmp_path)[0]
    assert sorted(again["losses"]) == [6, 7, 8, 9, 10]
    assert again["losses"][10] == undisturbed["losses"][10]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOENT])
def test_a_checkpoint_that_the_disk_cannot_read_is_damaged(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> int:
        raise OSError(error, os.strerror(error), str(path))

    saved = CheckpointFolder(tmp_path, EVERY_5)
    (saved.begin(5) / "part").touch()
    saved.publish(Progress(step=5), {"part": digest(b"")})
    assert saved.damage(5) is None
    monkeypatch.setattr("raymlops.train.checkpoints.folder.digest_of_file", broken)
    assert saved.damage(5) == f"{saved.path(5) / 'part'} cannot be read: {os.strerror(error)}"


def test_a_checkpoint_of_before_sizes_were_kept_is_one(tmp_path: Path) -> None:
    saved = CheckpointFolder(tmp_path, EVERY_5)
    saved.begin(5)
    saved.publish(Progress(step=5), {})
    file = tmp_path / "step-00000005" / "complete.json"
    file.write_text(json.dumps(Progress(step=5).to_dict()))
    assert saved.steps() == [5]
    assert saved.progress(5) == Progress(step=5)
    assert saved.damage(5) is None


@pytest.mark.parametrize("removed", ["step-00000005", "step-00000005/__0_0.distcp"])
def test_a_checkpoint_removed_while_written_is_not_published(removed: str, tmp_path: Path) -> None:
    """Its folder was made anew, with nothing in it that could be loaded."""
    from raymlops.train.checkpoints.checkpoints import Checkpoints

    folder = tmp_path / "training"
    saved = Checkpoints(
        folder, EVERY_5, Seat(), settle=lambda: (folder / removed).rename(tmp_path / "removed")
    )
    saved.save({"model": {"weight": torch.ones(3)}}, Progress(step=5))
    with pytest.raises(TrainingError, match=r"step 5 was removed from .* another training goes on"):
        saved.wait()
    assert saved.latest() is None
    assert list(folder.iterdir()) == []


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    gloo.run(ALONE, train, DROPPING, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


def test_progress_survives_its_way_through_json() -> None:
    progress = Progress(step=7, epoch=2, batch=1, loss_sum=0.1 + 0.2).after_step(
        1 / 3, num_rows=5, finite=True, precision="fp16"
    )
    assert Progress.from_dict(progress.to_dict()) == progress


def test_progress_of_before_rows_went_uncounted_can_be_read() -> None:
    saved = Progress(step=7, loss_sum=0.5).to_dict()
    del saved["uncounted_rows"]
    assert Progress.from_dict(saved).mean_loss(5) == 0.1


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    gloo.run(ALONE, train, replace(DROPPING, max_steps=5), tmp_path)
    other = replace(
        DROPPING, model=Factory(call="tests.train.models:mlp", arguments={"width": 16}), max_steps=6
    )
    with pytest.raises(RuntimeError, match=r"TrainingError: the checkpoint of step 5 in .* is of"):
        gloo.run(ALONE, train, other, tmp_path)


def save_on_a_full_disk(seat: Seat, folder: Path) -> str:
    from raymlops.train.checkpoints import checkpoints, image

    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    if seat.rank == 1:
        image.write_direct = full
    saved = checkpoints.Checkpoints(folder, EVERY_5, seat)
    saved.save({"model": {"weight": torch.ones(3)}}, Progress(step=5))
    with pytest.raises(TrainingError) as raised:
        saved.wait()
    assert saved.steps() == []
    seat.meet()
    assert not list(folder.iterdir())
    return str(raised.value)


def test_every_worker_hears_of_one_that_cannot_write(tmp_path: Path) -> None:
    for heard in gloo.run(ParallelPlan(data=2), save_on_a_full_disk, tmp_path):
        assert heard.startswith("worker 1 could not write its part of the checkpoint of step 5 in")
        assert "No space left on device" in heard


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), LedgerError("it is full")])
def test_what_cannot_be_published_does_not_keep_the_disk_full(
    error: Exception, tmp_path: Path
) -> None:
    """The ledger beside it could not record why the run had failed, and told of itself alone."""

    from raymlops.train.checkpoints.checkpoints import Checkpoints

    def full() -> None:
        raise error

    saved = Checkpoints(tmp_path, EVERY_5, Seat(), settle=full)
    saved.save({"model": {"weight": torch.ones(3)}}, Progress(step=5))
    with pytest.raises(type(error), match="full"):
        saved.wait()
    assert not list(tmp_path.iterdir())
