"""The one call: a spec trained under a plan on Ray Train workers, recorded as a run.

result = rm.Trainer(spec, plan=rm.ParallelPlan(data=2, tensor=2)).fit()

driver                          workers, one a rank of the plan
plan possible? ── no ─▶ PlanError
start a run
attempt ───────────────────────▶ from the newest checkpoint, or from the start
   ▲  a worker was lost ◀─────── killed, or its machine gone
   └─ again, a few times         rank 0 logs steps to the ledger, at the end writes the weights
end the run ◀─────────────────── done
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from raymlops.cluster import ClusterSettings, connect
from raymlops.cluster.resources import node_resources
from raymlops.cluster.uploads import refuse_upload
from raymlops.config import SecretUrl
from raymlops.errors import TrainingError
from raymlops.ledger import Run, open_ledger, sqlite_url
from raymlops.ledger.patience import patiently
from raymlops.ledger.provenance import code_at, environment
from raymlops.train.backend import Spec, backend_of
from raymlops.train.checkpoints.resumption import (
    require_first,
    resumable,
    spec_as_json,
    spec_of,
    training_folder,
)
from raymlops.train.checks import require_types
from raymlops.train.plan import ParallelPlan
from raymlops.train.plan.feasibility import Limits, require
from raymlops.train.workers.restarts import see_through
from raymlops.train.workers.room import room_on
from raymlops.train.workers.worker import Task

_logger = logging.getLogger(__name__)

_OF_WORKERS = ("cpus_per_worker", "max_restarts", "min_workers")
"""What a run that is gone on with has from the one before, beside spec and plan."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """A finished training: its run, what it was, how many steps it took, why it ended early."""

    run_id: str
    spec: Spec
    plan: ParallelPlan
    folder: str
    steps: int
    ended: str | None

    def weights(self) -> Mapping[str, Any]:
        """The weights of the whole model by name, in the memory of this process: tensors of torch,
        with its buffers, or arrays of Keras."""
        return backend_of(self.spec).weights(self.folder)

    def model(self) -> Any:
        """The trained model in this process: a torch module or a Keras model, as the spec says."""
        return backend_of(self.spec).model(self.folder)


@dataclass(frozen=True)
class Trainer:
    """Trains `spec`, whatever it says, on the workers of `plan`; a constructor starts nothing.

        spec = TrainSpec(
            name="digits",
            model=Factory(call="raymlops.demo.digits:mlp"),
            data=Factory(call="raymlops.demo.digits:sources"),
            epochs=2,
        )
        result = Trainer(spec, plan=ParallelPlan(data=2)).fit()
        print(result.run_id, result.steps, result.ended)
        module = result.model()

    The plan of one worker is the default; all plans end with the same weights. A `KerasSpec` is
    trained by TensorFlow.

    Run and checkpoints stay below `home`, which every node must reach, unless `ledger_url` says
    otherwise. A Ray that this process is connected to is used; otherwise `cluster` says which. A
    lost worker is replaced up to `max_restarts` times, and the run goes on from its newest
    checkpoint.

    With `min_workers` it goes on with as few where machines were lost, and with more when they are
    back. What a step computes stays the same: `batch_size` counts the rows of all workers.

    Raises:
        ValueError: `cpus_per_worker` is not above 0 or `max_restarts` negative; `min_workers` is
            below 1, above the plan's workers, or the plan cannot shrink.
    """

    spec: Spec
    plan: ParallelPlan = field(default_factory=ParallelPlan, kw_only=True)
    home: Path = field(default=Path(".raymlops"), kw_only=True)
    ledger_url: str | None = field(default=None, kw_only=True)
    cluster: ClusterSettings = field(default_factory=ClusterSettings, kw_only=True)
    cpus_per_worker: float = field(default=1.0, kw_only=True)
    max_restarts: int = field(default=3, kw_only=True)
    min_workers: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        require_types(self)
        if not 0 < self.cpus_per_worker < math.inf:
            raise ValueError(
                f"cpus_per_worker is {self.cpus_per_worker:g}; a worker takes more than 0 CPUs, "
                "such as 1 or 0.5"
            )
        if self.max_restarts < 0:
            raise ValueError(
                f"max_restarts is {self.max_restarts}; set it to 0 to replace no worker"
            )
        if self.min_workers is None:
            return
        if not 1 <= self.min_workers <= self.plan.num_workers:
            raise ValueError(
                f"min_workers is {self.min_workers}; it is from 1 to the {self.plan.num_workers} "
                f"workers of plan {self.plan}"
            )
        self.plan.resized(self.min_workers)

    def fit(self, *, on_start: Callable[[Run], None] | None = None) -> TrainResult:
        """The training, ended; `on_start` is given the run when it has begun, and returns at once.

        Raises:
            ConfigError: `home` would go with the job.
            PlanError: the plan fits neither cluster, batch nor model; nothing was started.
            NoRoomError: others kept the CPUs or devices that its workers waited for.
            OutOfMemoryError: a worker ran out of memory.
            TrainingError: a worker fits on no node, one failed, or more were lost than
                `max_restarts`; says why. Or this is a worker of a training itself.
        """
        return self._start(parent=None, folder=None, on_start=on_start)

    @classmethod
    def resume(
        cls, run_id: str, *, plan: ParallelPlan | None = None, home: Path = Path(".raymlops"),
        ledger_url: str | None = None, cluster: ClusterSettings | None = None,
        on_start: Callable[[Run], None] | None = None,
    ) -> TrainResult:  # fmt: skip
        """Goes on where run `run_id` stopped, as a run of its own whose parent that is.

        What was trained, and on what workers, is read from the ledger. `plan` is the run's own,
        unless another is given, which has all its workers.
        `on_start` is as for `fit`.

        Raises:
            ConfigError: `home` would go with the job.
            TrainingError: the ledger does not hold what is needed to go on, the run left no
                checkpoint, or another goes on already with its checkpoints.
        """
        refuse_upload(home)
        with open_ledger(ledger_url or _ledger_below(home)) as ledger:
            run = ledger.runs.get(run_id)
            recorded = resumable(run, ledger, home)
        # The first runs did not record on what workers: they go on with the defaults.
        workers = {name: recorded[name] for name in _OF_WORKERS if name in recorded}
        if plan is not None:
            workers["min_workers"] = None
        trainer = cls(
            spec_of(recorded, run_id),
            plan=plan or ParallelPlan(**recorded["plan"]),
            home=home,
            ledger_url=ledger_url,
            cluster=cluster or ClusterSettings(),
            **workers,
        )
        return trainer._start(parent=run, folder=recorded["folder"], on_start=on_start)

    def fit_run(self, run_id: str, *, folder: str, ledger_url: str) -> TrainResult:
        """The same for a run that exists, below a folder URI that exists; Ray is connected."""
        self._require_room()
        if self.spec.checkpoints.every_steps and "://" in folder.removeprefix("file://"):
            raise TrainingError(
                f"checkpoints go to a folder that every node reaches, and {folder} is none: set "
                "checkpoints.every_steps to 0, or home to such a folder"
            )
        task = Task(
            spec=self.spec,
            plan=self.plan,
            folder=SecretUrl(folder),
            ledger_url=SecretUrl(ledger_url),
            run_id=run_id,
            num_threads=max(1, int(self.cpus_per_worker)),
        )
        see_through(
            task,
            min_workers=self.min_workers,
            cpus_per_worker=self.cpus_per_worker,
            max_restarts=self.max_restarts,
        )
        read = partial(backend_of(self.spec).progress, folder)
        progress = patiently(read, waits=f"run {run_id} has trained")
        return TrainResult(
            run_id=run_id,
            spec=self.spec,
            plan=self.plan,
            folder=folder,
            steps=progress.step,
            ended=progress.ended,
        )

    def _start(
        self, parent: Run | None, folder: str | None, on_start: Callable[[Run], None] | None
    ) -> TrainResult:
        _require_driver()
        refuse_upload(self.home)
        url = self.ledger_url or _ledger_below(self.home)
        with connect(self.cluster, home=self.home), open_ledger(url) as ledger:
            self._require_room()
            folder = folder or training_folder(self.home, os.urandom(8).hex())
            run = ledger.runs.start(
                kind="train",
                model=self.spec.name,
                params={"plan": self.plan.to_dict(), **spec_as_json(self.spec)[0]},
                code=code_at(Path.cwd()),
                config=json.dumps(self._record(folder), indent=2, sort_keys=True),
                environment=environment(),
                inputs={},
                parent_id=None if parent is None else parent.id,
            )
            with ledger.runs.recording(run):
                if parent is not None:
                    require_first(run, parent, folder, ledger)
                Path(folder).mkdir(parents=True, exist_ok=True)
                if on_start is not None:
                    on_start(run)
                return self.fit_run(run.id, folder=folder, ledger_url=ledger.url)

    def _require_room(self) -> None:
        """Raises what `fit` does of a plan that fits nowhere; Ray Train would wait without a
        word."""
        limits = self._limits()
        plan = self.plan
        if self.min_workers is not None:
            most = min(limits.max_workers, plan.num_workers)
            plan = plan.resized(max(self.min_workers, most))
        require(plan, limits)

    def _limits(self) -> Limits:
        room = room_on(
            node_resources(), cpus_per_worker=self.cpus_per_worker, device=self.spec.device
        )
        limits = Limits(
            max_workers=room.num_workers, batch_size=self.spec.batch_size, scarce=room.scarce
        )
        return backend_of(self.spec).limits(self.plan, limits)

    def _record(self, folder: str) -> dict[str, Any]:
        """What `resume` reads; warns where it will refuse."""
        spec, whole = spec_as_json(self.spec)
        if self.spec.checkpoints.every_steps and not whole:
            _logger.warning(
                "this run cannot be resumed from its checkpoints: its spec holds values that JSON "
                "does not keep as they are; give the factories texts, numbers and lists"
            )
        return {
            "framework": backend_of(self.spec).name,
            "spec": spec,
            "plan": self.plan.to_dict(),
            "folder": folder,
            **{name: getattr(self, name) for name in _OF_WORKERS},
            "environment": dict(backend_of(self.spec).environment),
            "resumable": whole,
        }


def _require_driver() -> None:
    """Raises TrainingError in a worker of a training, which imports the script whose functions a
    spec names: what stands there without a guard would start another one, and so on."""
    from ray.train.v2.api.train_fn_utils import get_context

    try:
        get_context()
    except (RuntimeError, DeprecationWarning):  # the latter in a trial of Ray Tune
        return
    raise TrainingError(
        "a Trainer was started in a worker of a training, which imports the functions that its "
        "spec names: put what starts a training in that file below if __name__ == '__main__', or "
        "the functions into a file of their own"
    )


def _ledger_below(home: Path) -> str:
    home.mkdir(parents=True, exist_ok=True)
    return sqlite_url(home.resolve() / "ledger.db")
