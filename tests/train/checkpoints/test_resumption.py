"""What a run is resumed from; nothing is trained."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from raymlops.errors import TrainingError
from raymlops.ledger import Ledger, Run
from raymlops.ledger.provenance import code_at, environment
from raymlops.train import Trainer
from raymlops.train.checkpoints.folder import CheckpointFolder
from raymlops.train.checkpoints.resumption import (
    newest_step,
    require_first,
    spec_as_json,
    spec_of,
)
from raymlops.train.communication.spec import CommunicationSpec, NcclSpec
from raymlops.train.loop.progress import Progress
from raymlops.train.spec import CheckpointPolicy
from tests.train.specs import MLP


def start(ledger: Ledger, config: str, parent: Run | None = None) -> Run:
    return ledger.runs.start(
        kind="train",
        model="digits",
        params={},
        code=code_at(Path.cwd()),
        config=config,
        environment=environment(),
        inputs={},
        parent_id=None if parent is None else parent.id,
    )


def left_behind(folder: Path, *, step: int) -> str:
    """The folder, with a checkpoint of that step."""
    saved = CheckpointFolder(folder, CheckpointPolicy())
    saved.begin(step)
    saved.publish(Progress(step=step), {})
    return str(folder)


def test_a_run_is_not_resumed_while_another_goes_on_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second removed what the first was writing."""
    trainer = Trainer(MLP, home=tmp_path)
    here = left_behind(tmp_path / "here", step=40)
    config, elsewhere = (json.dumps(trainer._record(folder)) for folder in (here, "/there"))
    started: list[str | None] = []

    def start_nothing(_: Trainer, *, parent: Run, folder: str, on_start: object) -> None:
        started.append(folder)

    monkeypatch.setattr(Trainer, "_start", start_nothing)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        failed = start(ledger, config)
        ledger.runs.fail(failed.id, "killed")
        for others in (elsewhere, "epochs: 3", "[]"):
            start(ledger, others)
        going_on = start(ledger, config, failed)
        told = (
            f"run {going_on.id} goes on already with the checkpoints of run {failed.id} in {here}"
        )
        with pytest.raises(TrainingError, match=told):
            Trainer.resume(failed.id, home=tmp_path)
        assert started == []
        ledger.runs.fail(going_on.id, "killed")
        Trainer.resume(failed.id, home=tmp_path)
        assert started == [here]


def test_a_run_without_a_checkpoint_is_not_resumed(tmp_path: Path) -> None:
    """It began again at the first step, and its end took the place of the other's."""
    here = str(tmp_path / "here")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ended = start(ledger, json.dumps(Trainer(MLP, home=tmp_path)._record(here)))
        ledger.runs.finish(ended.id)
        told = f"run {ended.id} left no checkpoint in {here}.*every_steps was 0"
        with pytest.raises(TrainingError, match=told):
            Trainer.resume(ended.id, home=tmp_path)


def test_a_run_of_a_table_is_trained_anew(tmp_path: Path) -> None:
    """What was wrong with its factories was told, of which it has none."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        failed = start(ledger, json.dumps({"model": "tumours", "train": {"epochs": 3}}))
        ledger.runs.fail(failed.id, "killed")
    with pytest.raises(TrainingError, match="train a table's model anew with its files"):
        Trainer.resume(failed.id, home=tmp_path)


def test_a_training_goes_on_from_its_newest_checkpoint_or_starts_anew(tmp_path: Path) -> None:
    """Where a worker was lost, a run without checkpoints was said to go on from the newest."""
    assert newest_step(str(tmp_path / "empty"), CheckpointPolicy()) is None
    for step in (40, 80):
        here = left_behind(tmp_path, step=step)
    (tmp_path / "step-00000120").mkdir()  # the worker was lost while it was written
    assert newest_step(f"file://{here}", CheckpointPolicy()) == 80


@pytest.mark.parametrize(
    ("given", "comes_back"),
    [
        ({"a": [1, 2.5, None, True, {"b": "c"}]}, True),
        ({0: "a"}, False),
        (Path("/data"), False),
        ((64, 32), False),
        ({3, 4}, False),
        (date(2013, 1, 1), False),
        (b"abc", False),
        (np.zeros(3), False),
    ],
)
def test_a_run_is_resumed_with_the_arguments_it_had_or_not_at_all(
    given: object, comes_back: bool
) -> None:
    """Keys that had become texts, and lists that had been tuples, made another model."""
    model = replace(MLP.model, arguments={"given": given})
    assert spec_as_json(replace(MLP, model=model))[1] is comes_back


def test_a_run_of_before_workers_were_recorded_goes_on_with_the_usual_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ended in a KeyError."""
    started: list[Trainer] = []
    monkeypatch.setattr(Trainer, "_start", lambda trainer, **_: started.append(trainer))
    here = left_behind(tmp_path / "here", step=40)
    former = Trainer(MLP, home=tmp_path)._record(here)
    for name in ("cpus_per_worker", "max_restarts", "min_workers", "environment"):
        del former[name]
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        failed = start(ledger, json.dumps(former))
        ledger.runs.fail(failed.id, "killed")
    Trainer.resume(failed.id, home=tmp_path)
    assert [(each.spec, each.cpus_per_worker) for each in started] == [(MLP, 1.0)]


def test_a_home_that_was_copied_goes_on_with_its_own_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup that was put back elsewhere trained on in the folder of the home it was taken of,
    or found no checkpoint where that was gone."""
    started: list[str] = []
    monkeypatch.setattr(Trainer, "_start", lambda _, folder, **__: started.append(folder))
    before, after = tmp_path / "before", tmp_path / "after"
    here = left_behind(before / "training" / "5f0e", step=40)
    with Ledger(f"sqlite:///{before / 'ledger.db'}") as ledger:
        failed = start(ledger, json.dumps(Trainer(MLP, home=before)._record(here)))
        ledger.runs.fail(failed.id, "killed")
    shutil.copytree(before, after)
    for home in (before, after):
        Trainer.resume(failed.id, home=home)
    assert started == [here, str(after / "training" / "5f0e")]


def test_a_spec_of_before_nccl_had_settings_of_its_own_is_read() -> None:
    """Every run that an earlier raymlops had cut off ended in a page of pydantic."""
    former = spec_as_json(MLP)[0]
    del former["communication"]["sockets"]
    former["communication"] |= {"nccl": None, "gpu_direct": None}
    assert spec_of({"spec": former}, "mlp-1") == MLP
    former["communication"] |= {"nccl": "ethernet", "gpu_direct": False}
    preset = CommunicationSpec(nccl=NcclSpec(preset="ethernet", gpu_direct=False))
    assert spec_of({"spec": former}, "mlp-1") == replace(MLP, communication=preset)


def test_a_spec_that_cannot_be_read_names_what_is_in_the_way() -> None:
    strange = spec_as_json(MLP)[0] | {"precision": "fp8"}
    told = r"run mlp-1 was recorded by another raymlops, .* \(precision: .*resume it by that one"
    with pytest.raises(TrainingError, match=told):
        spec_of({"spec": strange}, "mlp-1")


def test_a_run_that_cannot_be_resumed_says_so_when_it_starts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = replace(MLP.model, arguments={"shape": (8, 8)})
    saving = replace(MLP, model=model, checkpoints=CheckpointPolicy(every_steps=1))
    Trainer(replace(MLP, model=model), home=tmp_path)._record("/here")
    assert caplog.messages == []
    Trainer(saving, home=tmp_path)._record("/here")
    (told,) = caplog.messages
    assert "this run cannot be resumed" in told


def test_of_two_runs_resumed_at_the_same_moment_one_goes_on(tmp_path: Path) -> None:
    """Both had looked before either was recorded, and the second lost its checkpoints."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        config = json.dumps(Trainer(MLP, home=tmp_path)._record("/here"))
        failed = start(ledger, config)
        ledger.runs.fail(failed.id, "killed")
        first, second = start(ledger, config, failed), start(ledger, config, failed)
        require_first(first, failed, "/here", ledger)
        told = f"run {first.id} goes on already with the checkpoints of run {failed.id} in /here"
        with pytest.raises(TrainingError, match=told):
            require_first(second, failed, "/here", ledger)
        ledger.runs.fail(first.id, "killed")
        require_first(second, failed, "/here", ledger)
