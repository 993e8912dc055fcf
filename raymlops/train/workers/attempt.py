"""One attempt at a training: Ray Train's workers, until they have ended or one was lost."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from raymlops.errors import LostWorkerError
from raymlops.storage import arrow_place
from raymlops.train.backend import backend_of
from raymlops.train.workers.failures import Failure, cause_of
from raymlops.train.workers.room import worker_resources
from raymlops.train.workers.tracebacks import LeftBehind, leaving_traceback, reason_of
from raymlops.train.workers.waiting import PATIENCE_S
from raymlops.train.workers.worker import Task

if TYPE_CHECKING:
    from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

# How often Ray Train looks whether there is room for more workers; taking them in costs a restart.
_RESIZE_INTERVAL_S = 60.0

# Ray Train asks for all workers anew whenever they have not come in this time, by itself for ever.
_START_S = 60.0


def attempt(
    task: Task, name: str, *, num_workers: int | tuple[int, int], cpus_per_worker: float
) -> Failure | None:
    """Why the workers failed, None when they did not; `num_workers` are so many, or from so few to
    so many.

    Raises:
        LostWorkerError: Ray Train itself failed, or could not start the workers.
    """
    from ray.exceptions import OutOfMemoryError, RayActorError, RayTaskError
    from ray.train.v2.api.exceptions import (
        ControllerError,
        TrainingFailedError,
        WorkerGroupError,
    )

    from raymlops.train.workers.controller import sweep

    # Ray Train looks at its workers so often; by default a run waits 2 s at its end.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.25")
    trainer = _ray_trainer(task, name, num_workers, cpus_per_worker)
    try:
        trainer.fit()
    except WorkerGroupError as error:
        return cause_of({rank: _text(failed) for rank, failed in error.worker_failures.items()})
    except TrainingFailedError as error:
        raised = error.controller_failure if isinstance(error, ControllerError) else None
        if isinstance(raised, RayTaskError):  # by a worker, as they were brought together
            return replace(cause_of({0: _qualified(raised.cause)}), rank=None)
        raise LostWorkerError(f"run {task.run_id}: {reason_of(str(error))}") from error
    except OutOfMemoryError as error:
        # Where memory runs out, Ray kills Ray Train's controller with the workers, and nobody is
        # left to say what became of them.
        sweep()
        return replace(cause_of({0: _text(error)}), rank=None)
    except RayActorError as error:  # of the controller, which looks after all of them
        sweep()
        failure = cause_of({0: _qualified(error)})
        return replace(failure, rank=None, reason=f"with Ray Train's controller: {failure.reason}")
    return None


def _ray_trainer(
    task: Task, name: str, num_workers: int | tuple[int, int], cpus_per_worker: float
) -> DataParallelTrainer:
    from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig

    from raymlops.train.workers.controller import UnsweptTrainer

    backend = backend_of(task.spec)
    resources = worker_resources(cpus_per_worker=cpus_per_worker, device=task.spec.device)
    # With an environment of their own, workers cannot be processes that wait for work.
    variables = dict(backend.environment)
    # Ray Train would try again after any error; `cause_of` knows which may pass.
    path, filesystem = arrow_place(task.folder.reveal())
    run_config: Any = RunConfig(  # typed as that of Ray Train v1
        name=name,
        storage_path=path,
        storage_filesystem=filesystem,
        failure_config=FailureConfig(
            max_failures=0, controller_failure_limit=int(PATIENCE_S / _START_S)
        ),
        worker_runtime_env={"env_vars": variables} if variables else {},
    )
    return UnsweptTrainer(
        partial(leaving_traceback, backend.work),
        train_loop_config={"task": task},
        backend_config=backend.ray_config(task.plan),
        scaling_config=ScalingConfig(
            num_workers=num_workers,
            use_gpu="GPU" in resources,
            resources_per_worker=resources,
            elastic_resize_monitor_interval_s=_RESIZE_INTERVAL_S,
        ),
        run_config=run_config,
    )


def _text(failure: Exception) -> str:
    """Type and text of what a worker raised, or of why it was found dead."""
    from ray.train.v2._internal.exceptions import WorkerHealthCheckTimeoutError

    if isinstance(failure, WorkerHealthCheckTimeoutError):
        # What follows is Ray's handle of it, and advice to wait longer.
        return f"{type(failure).__name__}: {str(failure).splitlines()[0]}"
    if isinstance(failure, LeftBehind):
        return failure.text
    failure = getattr(failure, "health_check_failure", None) or failure
    return f"{type(failure).__name__}: {failure}"


def _qualified(raised: Exception) -> str:
    """As the last line of a traceback has it."""
    return f"{type(raised).__module__}.{type(raised).__qualname__}: {raised}"
