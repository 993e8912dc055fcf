"""Checkpoints: what is saved under one plan goes on under another, bit by bit."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raymlops.data.loading import ArraySource, Columns
from raymlops.errors import TrainingError
from raymlops.train import ParallelPlan
from raymlops.train.factory import Factory
from raymlops.train.loading import LoadingSpec
from raymlops.train.progress import Progress
from raymlops.train.seat import Seat
from raymlops.train.spec import CheckpointPolicy, OptimizerSpec, PipelineSpec, TrainSpec
from tests.endurance import endurance
from tests.train import gloo, models
from tests.train.server.threads import start_threads
from tests.train.specs import MLP, TEXT

ALONE = ParallelPlan()
EVERY_5 = CheckpointPolicy(every_steps=5, keep=2)
DROPPING = replace(
    MLP,
    model=Factory(call="tests.train.test_checkpoints:dropping_mlp"),
    checkpoints=EVERY_5,
    loading=LoadingSpec(num_threads=0),  # what is read is what is learned from
)
# What nobody else loads torch warns of.
RESTORED_ALONE = pytest.mark.filterwarnings("ignore:torch.distributed is disabled")


def dropping_mlp() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Dropout(0.2), models.mlp())


class Loud(torch.nn.Module):
    """Gradients so large that scaled for fp16 the first ones overflow."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = models.mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(100 * x)


class Unreached(torch.nn.Module):
    """With a layer that nothing flows through, among blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(64, 64), torch.nn.Linear(64, 10)])
        self.spare = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Repeated(torch.nn.Module):
    """One block three times, so that its parameters have three names each."""

    def __init__(self) -> None:
        super().__init__()
        block = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU())
        self.blocks = torch.nn.ModuleList([block, block, block])
        self.head = torch.nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return self.head(x)


class Centred(torch.nn.Module):
    """Rows are seen from their running mean, which each worker takes of its own."""

    mean: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(64))
        self.mlp = models.mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean.lerp_(x.mean(0), 0.1)
        return self.mlp(x - self.mean)


class Watched:
    """A source that remembers which rows were read."""

    def __init__(self, source: ArraySource) -> None:
        self.source = source
        self.seen: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return len(self.source)

    def take(self, rows: NDArray[np.int64]) -> Columns:
        self.seen.append(rows)
        return self.source.take(rows)


def train(seat: Seat, spec: TrainSpec, folder: Path, watch: bool = False) -> Mapping[str, Any]:
    """What one rank holds in the end: whole tensors, the rows it read, the losses it logged."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict

    from raymlops.train.checkpoints import Checkpoints
    from raymlops.train.loop import Loop
    from raymlops.train.sources import Sources

    sources = Sources.make(spec.data)
    watched = Watched(sources.train)  # type: ignore[arg-type]
    losses: dict[int, float] = {}

    def log(values: Mapping[str, float], step: int) -> None:
        if "loss" in values:
            losses[step] = values["loss"]

    loop = Loop(
        spec,
        seat,
        sources=Sources(train=watched, validation=sources.validation),
        checkpoints=Checkpoints(folder, spec.checkpoints, seat),
        log=log,
        start_server=start_threads,
    )
    watched.seen.clear()  # the probe's
    progress = loop.run()
    whole = StateDictOptions(full_state_dict=True)
    model: dict[str, Any] = {}
    state: dict[str, Any] = {}
    for part, optimizer in loop._updater.saved:
        if optimizer is None:
            continue
        of_model, of_optimizer = get_state_dict(part, optimizer, options=whole)
        model |= of_model
        state |= of_optimizer["state"]
    return {
        "progress": progress,
        "model": model,
        "state": state,
        "rows": np.concatenate(watched.seen) if watched.seen else np.array([], np.int64),
        "losses": losses,
        "generator": torch.get_rng_state(),
    }


def train_alone(spec: TrainSpec, folder: Path) -> tuple[Progress, Mapping[str, Any]]:
    """How far the training in `folder` came in this process, and its weights."""
    from raymlops.train.checkpoints import Checkpoints
    from raymlops.train.loop import Loop

    loop = Loop(spec, Seat(), checkpoints=Checkpoints(folder, spec.checkpoints, Seat()))
    return loop.run(), loop.weights()


def flat(tree: Any, prefix: str = "") -> dict[str, torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        return {prefix: tree}
    found: dict[str, torch.Tensor] = {}
    for key, value in tree.items():
        found |= flat(value, f"{prefix}/{key}")
    return found


def merged(ranks: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What all ranks hold: each stage of a pipeline is on some of them."""
    return {
        what: {name: value for rank in ranks for name, value in rank[what].items()}
        for what in ("model", "state")
    }


def same_bits(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    a, b = ({**flat(d["model"], "model"), **flat(d["state"], "state")} for d in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("plan", "asynchronous"),
    [
        ("data=2", True),
        ("pipeline=2,microbatches=2", False),
        ("data=2,server=2", True),
        endurance("data=1", True),
        endurance("data=1", False),
        endurance("data=2", False),
        endurance("pipeline=2,microbatches=2", True),
        endurance("data=2,server=2", False),
    ],
)
def test_a_training_that_was_cut_ends_as_one_that_was_not(
    plan: str, asynchronous: bool, tmp_path: Path
) -> None:
    # Step 12 lies in the second epoch, whose order and dropout go on where they were.
    layout = ParallelPlan.parse(plan)
    spec = replace(DROPPING, checkpoints=replace(EVERY_5, asynchronous=asynchronous))
    if layout.pipeline > 1:  # trainings that are compared are cut alike
        spec = replace(spec, pipeline=PipelineSpec(starts=("0", "1.2")))
    whole = gloo.run(layout, train, spec, tmp_path / "whole")
    cut = replace(spec, max_steps=12)
    before = gloo.run(layout, train, cut, tmp_path / "cut")
    after = gloo.run(layout, train, spec, tmp_path / "cut")

    assert before[0]["progress"].step == 12
    assert sorted(after[0]["losses"]) == list(range(11, 21))  # from the checkpoint of step 10
    assert same_bits(merged(after), merged(whole))
    for rank in range(layout.num_workers):
        assert torch.equal(after[rank]["generator"], whole[rank]["generator"])
    expected = whole[0]["losses"]
    assert all(after[0]["losses"][step] == expected[step] for step in range(11, 21))
    assert after[0]["progress"] == whole[0]["progress"]


@pytest.mark.parametrize(
    ("plan", "model", "changes", "num_stateless"),
    [
        ("data=2", "Loud", {"precision": "fp16"}, (6, 0)),
        ("data=1", "Unreached", {}, (2, 2)),
        ("shard=2", "Unreached", {"activation_checkpointing": True}, (2, 2)),
        endurance("shard=2", "Loud", {"precision": "fp16"}, (6, 0)),
    ],
)
def test_parameters_that_took_no_step_yet_go_on_without_a_state(
    plan: str, model: str, changes: dict[str, Any], num_stateless: tuple[int, int], tmp_path: Path
) -> None:
    """A checkpoint lacks what torch makes to load one into, and could not be loaded."""
    factory = Factory(call=f"tests.train.test_checkpoints:{model}")
    policy = CheckpointPolicy(every_steps=1)
    spec = replace(MLP, model=factory, max_steps=6, checkpoints=policy, **changes)
    layout = ParallelPlan.parse(plan)
    whole = gloo.run(layout, train, spec, tmp_path / "whole")
    before = gloo.run(layout, train, replace(spec, max_steps=1), tmp_path / "cut")
    after = gloo.run(layout, train, spec, tmp_path / "cut")
    found = tuple(len(ranks[0]["model"]) - len(ranks[0]["state"]) for ranks in (before, after))
    assert found == num_stateless
    assert sorted(after[0]["losses"]) == [2, 3, 4, 5, 6]
    assert same_bits(merged(after), merged(whole))
    assert after[0]["progress"] == whole[0]["progress"]


def decayed_and_not(parameters: Iterable[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    """Weights decay, biases do not; a group may have nothing in it."""
    given = list(parameters)
    return torch.optim.AdamW(
        [
            {"params": [each for each in given if each.ndim > 1], "weight_decay": 0.1},
            {"params": [each for each in given if each.ndim == 1], "weight_decay": 0.0},
        ],
        lr=lr,
    )


class Counting(torch.nn.Module):
    """Saves more than tensors: how often it ran, and the mean row it has seen."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = models.mlp()
        self.num_passes, self.mean = 0, torch.zeros(64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.num_passes += 1
            self.mean = self.mean.lerp(x.mean(0), 0.1)
        return self.mlp(x + 0.01 * self.num_passes)

    def get_extra_state(self) -> dict[str, Any]:
        return {"num_passes": self.num_passes, "mean": self.mean}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.num_passes, self.mean = state["num_passes"], state["mean"]


class Looked(torch.nn.Module):
    """The sum of what sparse tables say of each pixel's sixteen values."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(17 * 64, 10, sparse=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.table((x * 16).long() + 17 * torch.arange(64)).sum(1)


def without_biases() -> torch.nn.Module:
    return torch.nn.Sequential(
        torch.nn.Linear(64, 8, bias=False), torch.nn.ReLU(), torch.nn.Linear(8, 10, bias=False)
    )


@RESTORED_ALONE
@pytest.mark.parametrize(
    ("model", "optimizer", "arguments"),
    [
        ("without_biases", "tests.train.test_checkpoints:decayed_and_not", {}),
        ("Counting", "adamw", {}),
        ("Looked", "torch.optim:SparseAdam", {}),
        ("Looked", "sgd", {"momentum": 0.9}),
        ("Looked", "sgd", {"momentum": 0.9, "nesterov": True}),
    ],
)
def test_models_and_optimizers_of_ones_own_go_on(
    model: str, optimizer: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    """What had been saved could not be loaded, and sparse momentum could not be saved."""
    spec = replace(
        MLP,
        model=Factory(call=f"tests.train.test_checkpoints:{model}"),
        optimizer=OptimizerSpec(name=optimizer, learning_rate=0.01, arguments=arguments),
        checkpoints=CheckpointPolicy(every_steps=1),
        max_steps=4,
        clip_norm=None,
    )
    whole, expected = train_alone(spec, tmp_path / "whole")
    train_alone(replace(spec, max_steps=2), tmp_path / "cut")
    progress, weights = train_alone(spec, tmp_path / "cut")
    assert progress == whole
    torch.testing.assert_close(weights, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    "plans",
    [
        ("data=2,tensor=2", "pipeline=2,microbatches=2", "data=1"),
        ("data=2,server=2", "shard=2"),
        endurance(("data=2,tensor=2", "shard=4", "tensor=2")),
        endurance(("shard=2,pipeline=2,microbatches=2", "pipeline=3,microbatches=3", "data=1")),
        endurance(("data=2,server=2", "server=1")),
        endurance(("data=2,server=3,sync=stale", "data=2", "data=2,server=1")),
        endurance(("data=2", "data=2,server=2")),
    ],
    ids=" ".join,
)
def test_a_checkpoint_of_one_plan_is_loaded_under_others_bit_by_bit(
    plans: tuple[str, ...], tmp_path: Path
) -> None:
    spec = replace(TEXT, max_steps=6, checkpoints=CheckpointPolicy(every_steps=6))
    saved, *loaded = (gloo.run(ParallelPlan.parse(plan), train, spec, tmp_path) for plan in plans)
    for plan, ranks in zip(plans[1:], loaded, strict=True):
        assert ranks[0]["losses"] == {}  # all steps are done
        assert same_bits(merged(ranks), merged(saved)), plan


@RESTORED_ALONE
def test_a_module_of_several_names_goes_on_under_any_plan(tmp_path: Path) -> None:
    """Stages of a pipeline knew the first alone, and torch gave back the first alone to DDP."""
    factory = Factory(call="tests.train.test_checkpoints:Repeated")
    spec = replace(MLP, model=factory, checkpoints=CheckpointPolicy(every_steps=1), max_steps=1)
    for step, plan in enumerate(("pipeline=2,microbatches=2", "data=2"), start=1):
        going_on = replace(spec, max_steps=step)
        ranks = gloo.run(ParallelPlan.parse(plan), train, going_on, tmp_path)
        assert sorted(ranks[0]["losses"]) == [step], plan
    _, weights = train_alone(going_on, tmp_path)
    assert weights.keys() == Repeated().state_dict().keys()


def test_sparse_momentum_goes_on_at_a_server_and_comes_back(tmp_path: Path) -> None:
    spec = replace(
        MLP,
        model=Factory(call="tests.train.test_checkpoints:Looked"),
        optimizer=OptimizerSpec(name="sgd", learning_rate=0.01, arguments={"momentum": 0.9}),
        checkpoints=CheckpointPolicy(every_steps=1),
    )
    for step, plan in enumerate(("data=2", "data=2,server=1", "data=2"), start=1):
        going_on = replace(spec, max_steps=step)
        ranks = gloo.run(ParallelPlan.parse(plan), train, going_on, tmp_path)
        assert sorted(ranks[0]["losses"]) == [step], plan


@pytest.mark.parametrize("plan", ["shard=2", "data=2,server=1", endurance("data=2")])
def test_buffers_of_the_first_worker_are_saved_and_given_to_all(plan: str, tmp_path: Path) -> None:
    """A checkpoint held some of each worker, and of a server's workers one alone had them back."""
    layout = ParallelPlan.parse(plan)
    factory = Factory(call="tests.train.test_checkpoints:Centred")
    spec = replace(MLP, model=factory, checkpoints=EVERY_5, max_steps=10)
    whole = gloo.run(layout, train, spec, tmp_path / "whole")
    gloo.run(layout, train, replace(spec, max_steps=5), tmp_path / "cut")
    after = gloo.run(layout, train, spec, tmp_path / "cut")
    assert sorted(after[0]["losses"]) == [6, 7, 8, 9, 10]
    for rank in range(2):
        assert same_bits(after[rank], whole[rank])
    held = [rank["model"]["mean"] for rank in after if rank["model"]]
    assert all(torch.equal(mean, held[0]) for mean in held)


def test_no_row_is_seen_twice_or_skipped_by_another_number_of_workers(tmp_path: Path) -> None:
    policy = CheckpointPolicy(every_steps=3)
    spec = replace(DROPPING, epochs=1, max_steps=None, checkpoints=policy)
    first = gloo.run(ParallelPlan(data=2), train, replace(spec, max_steps=3), tmp_path)
    rest = gloo.run(ParallelPlan(shard=3), train, spec, tmp_path)
    seen = np.concatenate([rank["rows"] for rank in first + rest])
    assert sorted(seen) == list(range(333))
    assert len(np.concatenate([rank["rows"] for rank in first])) == 150


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


@pytest.mark.parametrize("removed", ["step-00000005", "step-00000005/__0_0.distcp"])
def test_a_checkpoint_removed_while_written_is_not_published(removed: str, tmp_path: Path) -> None:
    """Its folder was made anew, with nothing in it that could be loaded."""
    from raymlops.train.checkpoints import Checkpoints

    folder = tmp_path / "training"
    saved = Checkpoints(
        folder, EVERY_5, Seat(), settle=lambda: (folder / removed).rename(tmp_path / "removed")
    )
    saved.save({"model": {"weight": torch.ones(3)}}, Progress(step=5))
    with pytest.raises(TrainingError, match=r"step 5 was removed from .* another training goes on"):
        saved.wait()
    assert saved.latest() is None
    assert list(folder.iterdir()) == []


def test_a_training_that_goes_on_is_cut_where_it_was(tmp_path: Path) -> None:
    plan = ParallelPlan(pipeline=2, microbatches=2)
    spec = replace(DROPPING, max_steps=5)
    gloo.run(plan, train, spec, tmp_path)
    stages = tmp_path / "stages.json"
    kept = json.loads(stages.read_text())
    assert (kept["plan"], kept["starts"][0]) == (str(plan), "0")
    for start in ("1.0", "1.4"):
        stages.write_text(json.dumps({**kept, "starts": ["0", start]}))
        _, last = gloo.run(plan, train, spec, tmp_path)
        assert min(last["model"]) == f"{start}.bias"
    gloo.run(replace(plan, microbatches=3), train, spec, tmp_path)
    assert json.loads(stages.read_text())["plan"] == "pipeline=2,schedule=1f1b,microbatches=3"


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
    from raymlops.train import checkpoint_image, checkpoints

    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    if seat.rank == 1:
        checkpoint_image.write_direct = full
    saved = checkpoints.Checkpoints(folder, EVERY_5, seat)
    saved.save({"model": {"weight": torch.ones(3)}}, Progress(step=5))
    with pytest.raises(TrainingError) as raised:
        saved.wait()
    assert saved.steps() == []
    return str(raised.value)


def test_every_worker_hears_of_one_that_cannot_write(tmp_path: Path) -> None:
    for heard in gloo.run(ParallelPlan(data=2), save_on_a_full_disk, tmp_path):
        assert heard.startswith("worker 1 could not write its part of the checkpoint of step 5 in")
        assert "No space left on device" in heard
