"""Runs the loop under a parallel plan on Ray Train workers."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from raymlops.config import SecretUrl
from raymlops.errors import TrainingError
from raymlops.ledger import open_ledger
from raymlops.train.plan import ParallelPlan
from raymlops.train.tabular.spec import TabularSpec

if TYPE_CHECKING:
    import ray

    from raymlops.train.tabular.loop import Arrays, Epoch
    from raymlops.train.tabular.network import Perceptron

_logger = logging.getLogger(__name__)

_WEIGHTS = "weights.pt"


@dataclass(frozen=True, kw_only=True)
class Trainer:
    """Trains the network of `spec` on `plan.num_workers` Ray Train workers (torch DDP, gloo)."""

    spec: TabularSpec
    plan: ParallelPlan
    cpus_per_worker: float = 1.0

    def fit(self, arrays: Arrays, *, ledger_url: str, storage_path: str, run_id: str) -> Perceptron:
        """The trained network; each epoch's losses reach the ledger while training goes on.

        Its checkpoint stays below `storage_path`, which every node must reach. Ray must be
        connected; see `raymlops.cluster.connect`.

        Raises:
            TrainingError: the cluster is too small, or a worker failed for good; says why.
        """
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        from raymlops.train.tabular.network import make_network

        untyped: Any = ray
        self._check_cpus(untyped.cluster_resources(), untyped.available_resources())
        task = _Task(
            spec=self.spec,
            arrays=[ray.put(arrays)],
            ledger_url=SecretUrl(ledger_url),  # Ray's train state, for the dashboard, shows it
            run_id=run_id,
        )
        trainer = TorchTrainer(
            _worker,
            train_loop_config=dict(task),
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(
                num_workers=self.plan.num_workers,
                resources_per_worker={"CPU": self.cpus_per_worker},
            ),
            run_config=RunConfig(
                name=run_id,
                storage_path=storage_path,
                failure_config=FailureConfig(max_failures=1),
            ),
        )
        try:
            with _interruptible():
                result = trainer.fit()
        except Exception as error:  # Ray Train wraps what a worker raised in its own types
            raise TrainingError(f"run {run_id}: {_reason(error)}") from error
        if result.checkpoint is None:
            raise TrainingError(f"run {run_id} ended without a checkpoint")
        with result.checkpoint.as_directory() as folder:
            return _restore(make_network(arrays.width, self.spec), Path(folder))

    def _check_cpus(self, total: Mapping[str, float], available: Mapping[str, float]) -> None:
        """Ray Train waits for CPUs without a word, for ever if there are too few."""
        wanted = self.plan.num_workers * self.cpus_per_worker
        if total.get("CPU", 0.0) < wanted:
            raise TrainingError(
                f"{self.plan.num_workers} workers need {wanted:g} CPUs, the cluster has "
                f"{total.get('CPU', 0.0):g}; use fewer workers, or set cluster.num_cpus"
            )
        if available.get("CPU", 0.0) < wanted:
            _logger.warning(
                "%d workers need %g CPUs, %g are free: training waits for the others",
                self.plan.num_workers,
                wanted,
                available.get("CPU", 0.0),
            )


def fit_alone(
    arrays: Arrays, spec: TabularSpec, *, on_epoch: Callable[[Epoch], None]
) -> Perceptron:
    """The network trained in this process: the reference every plan is held against."""
    from raymlops.train.tabular.loop import fit
    from raymlops.train.tabular.network import make_network

    network = make_network(arrays.width, spec)
    fit(network, arrays, spec, on_epoch=on_epoch)
    return network


class _Task(TypedDict):
    spec: TabularSpec
    arrays: list[ray.ObjectRef[Arrays]]  # in a list, or Ray would inline megabytes into the call
    ledger_url: SecretUrl
    run_id: str


def _worker(config: dict[str, Any]) -> None:
    import ray
    import torch
    from ray import train

    from raymlops.train.tabular.loop import Seat, fit
    from raymlops.train.tabular.network import make_network

    torch.set_num_threads(1)
    context = train.get_context()
    seat = Seat(rank=context.get_world_rank(), world_size=context.get_world_size())
    spec: TabularSpec = config["spec"]
    arrays: Arrays = ray.get(config["arrays"][0])
    network = make_network(arrays.width, spec)
    model: torch.nn.Module = network
    if seat.world_size > 1:
        model = torch.nn.parallel.DistributedDataParallel(network)
    with open_ledger(config["ledger_url"].reveal()) as ledger:

        def report(epoch: Epoch) -> None:
            if seat.rank == 0:
                losses = {
                    "train_loss": epoch.train_loss,
                    "validation_loss": epoch.validation_loss,
                }
                ledger.runs.log(config["run_id"], losses, step=epoch.number)

        fit(model, arrays, spec, seat=seat, on_epoch=report)
    _hand_over(network, seat.rank)


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Keeps Ctrl-C what it was: Ray Train's own handler of SIGINT ends the process as if all were
    well, and stays behind after the training, where it swallows every Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as exit_:
        raise KeyboardInterrupt from exit_
    finally:
        signal.signal(signal.SIGINT, before)


def _hand_over(network: Perceptron, rank: int) -> None:
    """Reports the weights of rank 0 as the checkpoint the driver reads."""
    import torch
    from ray import train

    if rank != 0:
        train.report({})
        return
    with tempfile.TemporaryDirectory() as folder:
        torch.save(network.state_dict(), Path(folder) / _WEIGHTS)
        train.report({}, checkpoint=train.Checkpoint.from_directory(folder))


def _reason(error: Exception) -> str:
    """What a worker raised, without the tracebacks Ray Train wraps it in; those are its cause."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    if not failures:
        return f"{type(error).__name__}: {error}"
    rank, failure = min(failures.items())
    lines = str(failure).strip().splitlines() or [type(failure).__name__]
    return f"worker {rank} failed: {lines[-1]}"


def _restore(network: Perceptron, folder: Path) -> Perceptron:
    import torch

    weights = io.BytesIO((folder / _WEIGHTS).read_bytes())
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network
