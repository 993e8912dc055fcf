"""Checkpoints: tensors by torch's distributed checkpoint, the rest as JSON.

    FOLDER/step-00000040/*.distcp, .metadata    tensors, each worker writes those it holds
                         complete.json          published last, see `checkpoint_folder`

Tensors are stored under the names of the whole model, whatever slices of them the workers held, so
that a training saved under one plan is loaded under another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.staging import BlockingAsyncStager
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.checkpoint.state_dict_saver import save as save_now

from raymlops.errors import TrainingError
from raymlops.train.checkpoint_folder import CheckpointFolder
from raymlops.train.progress import Progress
from raymlops.train.seat import Seat
from raymlops.train.spec import CheckpointPolicy

# One process saves without torch.distributed on purpose.
warnings.filterwarnings("ignore", message="torch.distributed is disabled")


class _Stager(BlockingAsyncStager):
    """Copies into the same memory each time: fresh pages cost three times as much as the copy."""

    def stage(self, state_dict: dict[str, Any]) -> dict[str, Any]:
        staged: dict[str, Any] = super().stage(state_dict)
        self.state_dict_cache, self.cache_staged_state_dict = staged, True
        return staged


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
        self._asynchronous = policy.asynchronous
        self._seat = seat
        self._settle = settle
        self._stager = _Stager()
        self._writing: Future[Any] | None = None

    def is_due(self, step: int) -> bool:
        return self._saved.is_due(step)

    def save(self, tensors: dict[str, Any], progress: Progress) -> None:
        """Saves a step; an asynchronous one is copied when this returns, and written later.

        Every worker calls it. One that is still being written is waited for first.
        """
        self.wait()
        path = self._saved.path(progress.step)
        if self._seat.rank == 0:
            self._saved.begin(progress.step)
        if self._seat.saving is not None:
            dist.barrier(group=self._seat.saving)
        writer = FileSystemWriter(path, single_file_per_rank=True)
        if self._asynchronous:
            written = async_save(
                tensors,
                storage_writer=writer,
                process_group=self._seat.saving,
                async_stager=self._stager,
                no_dist=self._alone,
            )
            assert isinstance(written, Future), "what is staged at once gives a plain future"
            self._writing = self._published(written, progress)
        else:
            save_now(
                tensors, storage_writer=writer, process_group=self._seat.saving, no_dist=self._alone
            )
            if self._seat.rank == 0:
                self._publish(progress)

    def wait(self) -> None:
        """Returns once what is being written is there for all to see.

        Raises:
            Exception: whatever the writing failed with.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, the same on every worker."""
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
        now = self._of_all_workers({name: tuple(tensor.shape) for name, tensor in model.items()})
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

    def _publish(self, progress: Progress) -> None:
        self._settle()
        self._saved.publish(progress)

    @property
    def _alone(self) -> bool:
        return self._seat.saving is None

    def _metadata(self, step: int) -> Metadata:
        return FileSystemReader(self._saved.path(step)).read_metadata()

    def _published(self, written: Future[Any], progress: Progress) -> Future[Any]:
        """Ends when what was written is published too; a future wakes who waits for it before it
        calls back."""
        if self._seat.rank != 0:
            return written
        published: Future[Any] = Future()

        def publish(done: Future[Any]) -> None:
            try:
                done.result()
                self._publish(progress)
            except Exception as error:  # the thread's boundary: `wait` raises it
                published.set_exception(error)
            else:
                published.set_result(None)

        written.add_done_callback(publish)
        return published
