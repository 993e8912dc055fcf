"""Checkpoints: tensors by torch's distributed checkpoint, the rest as JSON.

    FOLDER/step-00000040/*.distcp, .metadata    tensors, each worker writes those it holds
                         complete.json          published last, see `folder`

Tensors are stored under the names of the whole model, whatever slices of them the workers held, so
that a training saved under one plan is loaded under another; `image` lays them out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint._nested_dict import flatten_state_dict
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from raymlops.errors import TrainingError
from raymlops.train.checkpoints.folder import CheckpointFolder
from raymlops.train.checkpoints.image import Image
from raymlops.train.loop.progress import Progress
from raymlops.train.plan.seat import Seat
from raymlops.train.spec import CheckpointPolicy

# One process loads without torch.distributed on purpose.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class Checkpoints:
    """The checkpoints of one training in a folder that every node reaches.

    `settle` is called on rank 0 before each is published: what it makes durable nobody does again.
    """

    def __init__(
        self,
        folder: Path,
        policy: CheckpointPolicy,
        seat: Seat,
        *,
        settle: Callable[[], None] = lambda: None,
    ) -> None:
        self.folder = folder
        self._saved = CheckpointFolder(folder, policy)
        self._seat = seat
        self._settle = settle
        self._image: Image | None = None
        self._writer = ThreadPoolExecutor(1, "checkpoints") if policy.asynchronous else None
        self._writing: Future[None] | None = None

    def is_due(self, step: int) -> bool:
        return self._saved.is_due(step)

    def save(self, tensors: dict[str, Any], progress: Progress) -> None:
        """Saves a step; an asynchronous one is copied when this returns, and written later.

        Every worker calls it. One that is still being written is waited for first.
        """
        self.wait()
        image = self._image
        if not self._agreed(image is not None and image.fill(tensors)):
            image = self._image = Image(tensors, self._seat.saving)
        assert image is not None, "where all agreed there is one"
        if self._writer is None:
            self._write(image, progress)
        else:
            self._writing = self._writer.submit(self._write, image, progress)

    def wait(self) -> None:
        """Returns once what is being written is there for all to see.

        Raises:
            TrainingError: a worker could not write its part; says which and why.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, the same on every worker.

        What attempts that were killed left of others is removed, and what was damaged set aside: it
        is called before any is saved.
        """
        if self._seat.rank == 0:
            self._saved.clear()
        found: list[int | None] = [max(self.steps(), default=None)]
        if self._seat.saving is not None:
            dist.broadcast_object_list(found, src=0, group=self._seat.saving)
        return found[0]

    def steps(self) -> list[int]:
        """The steps of all complete checkpoints, oldest first."""
        return self._saved.steps()

    def shapes(self, step: int) -> Mapping[str, tuple[int, ...]]:
        """The shapes of all tensors that were saved, by name."""
        return {
            name: tuple(entry.size)
            for name, entry in self._metadata(step).state_dict_metadata.items()
            if isinstance(entry, TensorStorageMetadata)
        }

    def load(self, step: int, tensors: dict[str, Any]) -> Progress:
        """Fills `tensors` in place, each worker the slices it holds now."""
        self._require_same_model(step, tensors["model"])
        load(
            tensors,
            storage_reader=FileSystemReader(self._saved.path(step)),
            process_group=self._seat.saving,
            no_dist=self._alone,
        )
        return self._saved.progress(step)

    def _require_same_model(self, step: int, model: dict[str, Any]) -> None:
        saved = {
            name.removeprefix("model."): shape
            for name, shape in self.shapes(step).items()
            if name.startswith("model.")
        }
        flat, _ = flatten_state_dict(model)  # a module's extra state may hold others within
        shapes = {n: tuple(v.shape) for n, v in flat.items() if isinstance(v, torch.Tensor)}
        now = self._of_all_workers(shapes)
        for name in sorted(saved.keys() | now.keys()):
            if saved.get(name) != now.get(name):
                raise TrainingError(
                    f"the checkpoint of step {step} in {self.folder} is of another model: {name} "
                    f"has shape {saved.get(name)} there and {now.get(name)} here; give the "
                    "training a folder of its own, or the model it had"
                )

    def _of_all_workers(self, mine: dict[str, Any]) -> dict[str, Any]:
        """By name, what any worker holds: stages hold some, with a server rank 0 holds all."""
        plan = self._seat.plan
        if plan.num_workers == 1 or (plan.pipeline == 1 and not plan.server):
            return mine
        found: list[Any] = [None] * self._seat.plan.num_workers
        dist.all_gather_object(found, mine, group=self._seat.saving)
        return {name: shape for part in found for name, shape in part.items()}

    def _write(self, image: Image, progress: Progress) -> None:
        """Writes this worker's part and, once all have written theirs, makes a checkpoint of it."""
        step = progress.step
        path = self._saved.path(step)

        def write_part() -> int:
            path.mkdir(parents=True, exist_ok=True)
            return image.write(path)

        digests = self._together(step, write_part)
        if self._seat.rank == 0:
            with self._saved.discarding(step):
                self._settle()
                self._saved.publish(progress, image.files(digests))

    def _together(self, step: int, act: Callable[[], int]) -> list[int]:
        """Does what is this worker's part; returns what each worker's part gave, or raises, once
        all have done theirs."""
        failure, mine = None, 0
        try:
            mine = act()
        except OSError as error:
            failure = str(error)
        done = self._of_each([int(failure is None), mine])
        if all(succeeded for succeeded, _ in done):
            return [given for _, given in done]
        if self._seat.rank == 0:
            self._saved.discard(step)
        found: list[str | None] = [failure]
        if self._seat.saving is not None:
            found = [None] * self._seat.plan.num_workers
            dist.all_gather_object(found, failure, group=self._seat.saving)
        rank = next(rank for rank, (succeeded, _) in enumerate(done) if not succeeded)
        raise TrainingError(
            f"worker {rank} could not write its part of the checkpoint of step {step} in "
            f"{self.folder}: {found[rank]}"
        )

    def _of_each(self, mine: list[int]) -> list[list[int]]:
        """The numbers of every worker, by rank."""
        if self._seat.saving is None:
            return [mine]
        numbers = torch.tensor(mine)
        found = [torch.empty_like(numbers) for _ in range(self._seat.plan.num_workers)]
        dist.all_gather(found, numbers, group=self._seat.saving)
        return [each.tolist() for each in found]

    def _agreed(self, yes: bool) -> bool:
        """Whether all workers say so."""
        if self._seat.saving is None:
            return yes
        found = torch.tensor([int(yes)])
        dist.all_reduce(found, op=dist.ReduceOp.MIN, group=self._seat.saving)
        return bool(found.item())

    @property
    def _alone(self) -> bool:
        return self._seat.saving is None

    def _metadata(self, step: int) -> Metadata:
        return FileSystemReader(self._saved.path(step)).read_metadata()
