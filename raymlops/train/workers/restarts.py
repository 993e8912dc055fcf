"""Attempts at a training, until its workers have ended well or would fail again."""

from __future__ import annotations

import logging

from raymlops.config import redact
from raymlops.errors import ClusterError, LedgerError, LostWorkerError
from raymlops.ledger import open_ledger
from raymlops.train.backend import backend_of
from raymlops.train.checkpoints.resumption import newest_step, newest_whole_step, spec_as_json
from raymlops.train.workers.attempt import attempt
from raymlops.train.workers.failures import Failure, way_back
from raymlops.train.workers.interrupts import interruptible
from raymlops.train.workers.room import worker_resources
from raymlops.train.workers.waiting import wait_for_room
from raymlops.train.workers.worker import Task

_logger = logging.getLogger(__name__)


def see_through(
    task: Task, *, min_workers: int | None, cpus_per_worker: float, max_restarts: int
) -> None:
    """Attempts it once, and after a loss that may pass as often as `max_restarts`, each time from
    the newest checkpoint; `min_workers` do where machines were lost, None wants all of the plan.

    Raises:
        TrainingError: what ended the last attempt; says how the run is gone on with.
        KeyboardInterrupt: this process was told to end.
    """
    folder, policy = task.folder.reveal(), task.spec.checkpoints
    _, can_resume = spec_as_json(task.spec)
    most = task.plan.num_workers
    each = worker_resources(cpus_per_worker=cpus_per_worker, device=task.spec.device)

    def cut_off() -> str:
        """How to go on, without reading all of what was written."""
        return way_back(task.run_id, newest_step(folder, policy) if can_resume else None)

    step = newest_whole_step(folder, policy)
    for restarts in range(max_restarts + 1):
        try:
            with interruptible():
                wait_for_room(
                    most if min_workers is None else min_workers,
                    each,
                    run_id=task.run_id,
                    step=step if can_resume else None,
                )
                failure = attempt(
                    task,
                    f"{task.run_id}-{restarts}",
                    num_workers=most if min_workers is None else (min_workers, most),
                    cpus_per_worker=cpus_per_worker,
                )
        except KeyboardInterrupt:
            _logger.warning("run %s: interrupted%s", task.run_id, cut_off())
            raise
        except LostWorkerError as error:  # with all of Ray Train
            raise LostWorkerError(f"{error}{cut_off()}") from error
        if failure is None:
            return
        step = newest_whole_step(folder, policy)
        if not failure.may_pass or restarts == max_restarts:
            _log(failure, task.run_id)
            raise failure.error(
                task.run_id,
                restarts,
                lighter=backend_of(task.spec).lighter,
                step=step if can_resume else None,
            )
        lost = f"{failure.who} was lost ({failure.reason})"
        following = f"going on from step {step}" if step else "no checkpoint yet, starting anew"
        told = f"{lost}; {following}"
        _logger.warning("run %s: %s", task.run_id, told)
        _record_restart(task, restarts + 1, told)


def _log(failure: Failure, run_id: str) -> None:
    """All that it left behind, where more of it is worth reading than the error will tell."""
    if not failure.is_told:
        _logger.error("run %s: %s ended with:\n%s", run_id, failure.who, redact(failure.text))


def _record_restart(task: Task, number: int, told: str) -> None:
    """Keeps with the run what its log alone would say: one that finished went through it."""
    try:
        with open_ledger(task.ledger_url.reveal()) as ledger:
            ledger.runs.tag(task.run_id, {f"restart_{number}": redact(told)})
    except (LedgerError, ClusterError) as error:  # no reason not to go on
        _logger.warning("run %s: restart %d is not recorded: %s", task.run_id, number, error)
