"""What runs in each Ray Train worker."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymlops.config import SecretUrl
from raymlops.ledger import LogPolicy, MetricLogger, open_ledger
from raymlops.ledger.patience import PATIENCE_S, patiently
from raymlops.storage import Files
from raymlops.train.checkpoints.folder import CheckpointFolder
from raymlops.train.plan import ParallelPlan
from raymlops.train.workers.naming import name_of, take_name

if TYPE_CHECKING:
    from raymlops.train.communication.sockets import Tuned

WEIGHTS = "weights.pt"

# A checkpoint waits so long for a ledger that is away, while its training goes on to the next: for
# a database that fails over, and less than the half hour for which workers wait for each other.
_PATIENT = LogPolicy(patience_s=PATIENCE_S)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Task:
    """All a worker needs to know: the `spec` of its framework, the `plan` for as many workers as
    there may be at most, and `folder`, a URI that every node reaches.

    Ray's train state, for the dashboard, shows all of it.
    """

    spec: Any
    plan: ParallelPlan
    folder: SecretUrl
    ledger_url: SecretUrl
    run_id: str
    num_threads: int

    @property
    def checkpoints(self) -> Path:
        """Where they are, if there are any: then the folder is one that every node has mounted."""
        return Path(self.folder.reveal().removeprefix("file://"))


def work(config: dict[str, Any]) -> None:
    """Trains, and leaves the weights of the whole model in the task's folder."""
    import torch
    from ray import train

    from raymlops.train.checkpoints.checkpoints import Checkpoints
    from raymlops.train.communication.sockets import tune
    from raymlops.train.devices import make_device
    from raymlops.train.layouts.lonely import require_company
    from raymlops.train.loop.loop import Loop
    from raymlops.train.plan.seat import Seat
    from raymlops.train.server import ParameterServer
    from raymlops.train.spec.sources import Sources

    task: Task = config["task"]
    torch.set_num_threads(task.num_threads)
    rank, num_workers = train.get_context().get_world_rank(), train.get_context().get_world_size()
    plan = task.plan.resized(num_workers)
    num_stages = len(task.spec.pipeline.starts) or None
    take_name(name_of(task.run_id, plan, rank, num_stages=num_stages))
    seat = Seat.take(plan, make_device(task.spec.device))
    sources = Sources.make(task.spec.data)
    require_company(task.spec, plan, sources.train)
    tuned = tune(task.spec.communication.sockets, seat)
    with recorder(task) if rank == 0 else contextlib.nullcontext(None) as log:
        checkpoints = None
        if task.spec.checkpoints.every_steps:
            settle = (lambda: None) if log is None else log.flush
            checkpoints = Checkpoints(task.checkpoints, task.spec.checkpoints, seat, settle=settle)
        start = partial(ParameterServer.start, label=task.run_id)
        loop = Loop(
            task.spec,
            seat,
            sources=sources,
            checkpoints=checkpoints,
            log=log,
            start_server=start,
        )
        if log is not None:
            log.begin(num_workers=num_workers, num_steps=loop.num_steps, tuned=tuned)
        progress = loop.run()
    weights = loop.weights()
    if rank == 0:
        file = io.BytesIO()
        torch.save({"weights": weights, "progress": progress.to_dict()}, file)
        deliver(task, {WEIGHTS: file.getvalue()})


def deliver(task: Task, files: Mapping[str, bytes]) -> None:
    """Leaves what was trained in the task's folder."""
    folder = Files(task.folder.reveal())
    for name, content in files.items():
        patiently(partial(folder.write, name, content), waits=f"run {task.run_id} has weights")


class Recorder:
    """Logs to a run what is newer than what it holds: steps done again after a worker was lost
    gave the same values before. `start` is the step of the checkpoint that it goes on from, which
    may be of another run."""

    def __init__(self, logger: MetricLogger, newest: Mapping[str, int], *, start: int) -> None:
        self._logger = logger
        self._newest = newest
        self._start = start

    def __call__(self, values: Mapping[str, float], step: int) -> None:
        fresh = {name: v for name, v in values.items() if step > self._newest.get(name, -1)}
        if fresh:
            self._logger(fresh, step=step)

    def begin(self, *, num_workers: int, num_steps: int, tuned: Tuned | None = None) -> None:
        """Tells with how many workers an attempt goes on from the newest step, how far, and what
        their connections were tuned to."""
        self({"num_workers": num_workers}, max([self._start, *self._newest.values()]))
        self({"num_steps": num_steps}, 0)
        if tuned is not None:
            self({name: float(value) for name, value in asdict(tuned).items()}, 0)

    def flush(self) -> None:
        """Returns once the ledger holds everything that was logged before."""
        self._logger.flush()


@contextlib.contextmanager
def recorder(task: Task) -> Iterator[Recorder]:
    """The recorder of the task's run, while it trains; what took a worker may have taken the ledger
    with it for a while."""
    waits = f"run {task.run_id} begins an attempt"
    with patiently(partial(open_ledger, task.ledger_url.reveal()), waits=waits) as ledger:
        newest: dict[str, int] = {}
        for metric in patiently(partial(ledger.runs.metrics, task.run_id), waits=waits):
            newest[metric.name] = max(metric.step, newest.get(metric.name, -1))
        logged = patiently(partial(ledger.runs.logger, task.run_id, _PATIENT), waits=waits)
        with logged as logger:
            saved = CheckpointFolder(task.checkpoints, task.spec.checkpoints)
            yield Recorder(logger, newest, start=max(saved.steps(), default=0))
