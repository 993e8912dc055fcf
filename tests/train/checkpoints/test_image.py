"""The bytes of a checkpoint: torch itself reads them as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.distributed import checkpoint
from torch.distributed.tensor import DTensor, distribute_tensor

from raymlops.train.checkpoints.image import Image
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.seat import Seat
from tests.train import gloo, models

pytestmark = pytest.mark.filterwarnings("ignore:torch.distributed is (disabled|unavailable)")


def of_all_kinds() -> dict[str, Any]:
    pixels = torch.from_numpy(models.digits(60)[0].columns[0])
    return {
        "numbers": {
            "half": pixels.half(),
            "brain": pixels.bfloat16(),
            "double": pixels.double(),
            "long": (pixels * 16).long(),
            "yes": pixels > 0.5,
            "one": torch.tensor(0.1),
            "none": torch.empty(0, 3),
            "across": pixels.t(),
            "some": pixels[3:7, ::2],
            "odd": pixels[0, :7].clone(),
        },
        "values": {"lr": 0.1, "betas": (0.9, 0.999), "fused": None, "step": 7, "name": "adam"},
        "list": [1, {"deep": pixels[1]}],
    }


def emptied(tree: Any) -> Any:
    """The same tree, whose tensors hold nothing yet."""
    if isinstance(tree, torch.Tensor):
        return torch.zeros_like(tree)
    if isinstance(tree, dict):
        return {name: emptied(value) for name, value in tree.items()}
    return [emptied(value) for value in tree] if isinstance(tree, list) else tree


def flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for name in tree for k, v in flat(tree[name], f"{prefix}.{name}").items()}
    if isinstance(tree, list):
        return {k: v for i, each in enumerate(tree) for k, v in flat(each, f"{prefix}.{i}").items()}
    return {prefix: tree}


def write(image: Image, folder: Path) -> None:
    folder.mkdir()
    image.write(folder)


def read(folder: Path, like: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = emptied(like)
    checkpoint.load(found, checkpoint_id=folder, no_dist=True)
    return found


def same(one: Any, other: Any) -> bool:
    a, b = flat(one), flat(other)
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) and a[name].dtype == b[name].dtype
        if isinstance(a[name], torch.Tensor)
        else (type(a[name]), a[name]) == (type(b[name]), b[name])
        for name in a
    )


def test_torch_loads_what_was_written(tmp_path: Path) -> None:
    tensors = of_all_kinds()
    write(Image(tensors, None), tmp_path / "ours")
    checkpoint.save(tensors, checkpoint_id=tmp_path / "torchs", no_dist=True)
    found = read(tmp_path / "ours", tensors)
    assert same(found, tensors)
    assert same(found, read(tmp_path / "torchs", tensors))


def test_what_was_filled_in_is_what_the_tensors_held_then(tmp_path: Path) -> None:
    tensors = of_all_kinds()
    image = Image(tensors, None)
    before = of_all_kinds()
    for name, tensor in tensors["numbers"].items():
        if name != "yes":
            tensor.add_(1)
    write(image, tmp_path / "first")
    tensors["values"]["lr"] = 0.2
    assert image.fill(tensors)
    write(image, tmp_path / "second")
    assert same(read(tmp_path / "first", before), before)
    assert same(read(tmp_path / "second", before), tensors)


def test_a_value_that_changes_in_place_or_back_is_what_it_is_then(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {"values": {"seen": [1, 2], "rate": 0.1}, "deep": {0: {"rate": 0.3}}}
    image = Image(tensors, None)
    for name, seen, rate in (("first", 7, 0.2), ("second", 8, 0.1)):
        tensors["values"]["seen"][0] = seen
        tensors["values"]["rate"] = tensors["deep"][0]["rate"] = rate
        assert image.fill(tensors)
        write(image, tmp_path / name)
        found = read(tmp_path / name, {"values": {"seen": [0, 0], "rate": 0.0}, "deep.0.rate": 0.0})
        assert found == {"values": {"seen": [seen, 2], "rate": rate}, "deep.0.rate": rate}


@pytest.mark.parametrize(
    "change",
    [
        {"numbers": {"half": torch.zeros(2, 2, dtype=torch.half)}},
        {"values": {"name": "a name too long " * 9}},
        {"more": {"momentum": torch.zeros(3)}},
        {"values": {"lr": torch.tensor(0.1)}},
    ],
)
def test_other_tensors_need_another_image(change: dict[str, Any]) -> None:
    tensors = of_all_kinds()
    image = Image(tensors, None)
    for name, values in change.items():
        tensors[name] = {**tensors.get(name, {}), **values}
    assert not image.fill(tensors)
    assert image.fill(of_all_kinds())


def table() -> torch.Tensor:
    return torch.from_numpy(models.digits(101)[0].columns[0])


def sharded(seat: Seat, tensor: torch.Tensor) -> DTensor:
    """Rows on the shard axis, which do not come out even; whole on the data axis."""
    from torch.distributed.tensor import Replicate, Shard

    assert seat.mesh is not None
    return distribute_tensor(tensor, seat.mesh["data", "shard"], [Replicate(), Shard(0)])


def save_shards(seat: Seat, folder: Path) -> None:
    tensors = {"table": sharded(seat, table()), f"mine.{seat.rank}": torch.tensor(seat.rank)}
    image = Image(tensors, seat.saving)
    tensors["table"].mul_(3)
    assert image.fill(tensors)
    image.write(folder)


def load_shards(seat: Seat, folder: Path) -> bool:
    found = {"table": sharded(seat, torch.zeros_like(table()))}
    checkpoint.load(found, checkpoint_id=folder, process_group=seat.saving)
    return torch.equal(found["table"].full_tensor(), table() * 3)


def test_shards_are_loaded_by_torch_in_one_process_and_in_other_shards(tmp_path: Path) -> None:
    gloo.run(ParallelPlan(data=2, shard=2), save_shards, tmp_path)
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == [".metadata", *(f"__{rank}_0.distcp" for rank in range(4))]
    like = {"table": table(), **{f"mine.{rank}": torch.tensor(-1) for rank in range(4)}}
    found = read(tmp_path, like)
    assert torch.equal(found["table"], table() * 3)
    assert [int(found[f"mine.{rank}"]) for rank in range(4)] == [0, 1, 2, 3]
    assert gloo.run(ParallelPlan(shard=3), load_shards, tmp_path) == [True] * 3


def large() -> torch.Tensor:
    """Of 3 MB, in rows that do not come out even."""
    return torch.from_numpy(models.digits(401)[0].columns[0]).repeat(31, 1)


def save_large(seat: Seat, folder: Path, plan: ParallelPlan) -> None:
    tensors: dict[str, Any] = {"large": large(), "small": table(), f"{seat.rank}": large()[:9]}
    if plan.shard > 1:
        tensors["large"] = sharded(seat, large())
    image = Image(tensors, seat.saving)
    tensors["large"].mul_(3)
    assert image.fill(tensors)
    image.write(folder)


@pytest.mark.parametrize("plan", [ParallelPlan(data=3), ParallelPlan(data=2, shard=2)])
def test_each_replica_writes_its_rows_of_what_is_large(tmp_path: Path, plan: ParallelPlan) -> None:
    gloo.run(plan, save_large, tmp_path, plan)
    sizes = [path.stat().st_size for path in tmp_path.glob("*.distcp")]
    assert max(sizes) - min(sizes) < large().nbytes // plan.num_workers // 10
    like = {"large": large(), "small": table(), "0": large()[:9]}
    found = read(tmp_path, like)
    assert torch.equal(found["large"], large() * 3)
    assert torch.equal(found["small"], table())
    assert torch.equal(found["0"], large()[:9])
