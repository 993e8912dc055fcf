"""Search over train specs: Ray Tune runs the trials, Optuna chooses what to try."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from raymlops.cluster.resources import node_cpus
from raymlops.errors import TrainingError
from raymlops.ledger import Dataset, Ledger, Run, open_ledger
from raymlops.storage import Store, arrow_place
from raymlops.train import TabularSpec
from raymlops.tune.spec import TuneSpec

if TYPE_CHECKING:
    from raymlops.train.tabular.arrays import Arrays
    from raymlops.train.tabular.trainer import Epoch
    from raymlops.train.tabular.training import TrainingJob
    from raymlops.tune.progress import TrialsTold

METRIC = "validation_loss"


@dataclass(frozen=True, kw_only=True)
class Search:
    """A finished search: its run, the best trial's run, and the spec to train with."""

    run: Run
    best_run: Run
    best: TabularSpec
    validation_loss: float
    num_trials: int


def tune(
    job: TrainingJob,
    spec: TuneSpec,
    ledger: Ledger,
    store: Store,
    dataset: Dataset,
    *,
    on_start: Callable[[Run], None] | None = None,
) -> Search:
    """Searches around `job.spec` for the lowest validation loss.

    Each trial is a run nested in the search's run, its losses logged epoch by epoch. Which trial
    won, and with what parameters, is kept as a decision. `on_start` is given the search's run when
    it has begun, and returns at once.

    Raises:
        TrainingError: a trial fits on no node, or none finished.
    """
    import ray

    from raymlops.data import load_dataset
    from raymlops.train.tabular.split import split_by_time
    from raymlops.tune.progress import TrialsTold

    _require_room(spec, node_cpus())
    search = job.start(ledger, dataset, "tune", asdict(spec))
    with ledger.runs.recording(search):
        ledger.runs.log(search.id, {"num_steps": spec.num_trials}, step=0)
        if on_start is not None:
            on_start(search)
        split = split_by_time(load_dataset(store, dataset), job.schema, job.spec.validation_share)
        trial = functools.partial(
            _run_trial,
            job=job,
            arrays=[ray.put(split.arrays)],
            ledger_url=ledger.url,
            parent_id=search.id,
            dataset=dataset,
        )
        told = TrialsTold(ledger, search.id, metric=METRIC)
        results = _tuner(trial, job, spec, store, told, search.id).fit()
        if results.num_terminated == 0:
            raise TrainingError(f"all {spec.num_trials} trials failed: {_cause(results.errors)}")
        best = results.get_best_result()
        assert best.metrics is not None, "a trial that finished has reported"
        assert best.config is not None, "every trial has parameters"
        found = Search(
            run=search,
            best_run=ledger.runs.get(best.metrics["run_id"]),
            best=_with(job.spec, best.config),
            validation_loss=best.metrics[METRIC],
            num_trials=results.num_terminated,
        )
        _keep(ledger, job, found)
    return replace(found, run=ledger.runs.get(search.id))


def _tuner(
    trial: Callable[[dict[str, Any]], None],
    job: TrainingJob,
    spec: TuneSpec,
    store: Store,
    told: TrialsTold,
    name: str,
) -> Any:
    import optuna
    from ray import tune as ray_tune
    from ray.tune.search.optuna import OptunaSearch

    # Its handler tells of every study that begins, on a logger nobody asked for.
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # At verbosity 0, Ray Tune's older way of telling is silent, its newer one is not.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Its own handler of SIGINT ends a search as if all were well, and stays behind after it.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    path, filesystem = arrow_place(store.below("tuning"))
    return ray_tune.Tuner(
        ray_tune.with_resources(trial, {"CPU": spec.cpus_per_trial}),
        param_space=_space(spec),
        tune_config=ray_tune.TuneConfig(
            search_alg=OptunaSearch(seed=job.spec.seed),
            num_samples=spec.num_trials,
            max_concurrent_trials=spec.max_concurrent,
            metric=METRIC,
            mode="min",
            reuse_actors=True,
        ),
        run_config=ray_tune.RunConfig(
            name=name,
            storage_path=path,
            storage_filesystem=filesystem,
            verbose=0,
            callbacks=[told],
        ),
    )


def _cause(errors: Sequence[Exception]) -> str:
    """What the first trial that failed said, without what Ray wraps around it."""
    return str(getattr(errors[0], "cause", errors[0]))


def _require_room(spec: TuneSpec, node_cpus: Sequence[float]) -> None:
    """Raises TrainingError for trials that never fit; Ray Tune would wait for ever."""
    largest = max(node_cpus, default=0.0)
    if spec.cpus_per_trial > largest:
        raise TrainingError(
            f"a trial needs {spec.cpus_per_trial:g} CPUs (tune.cpus_per_trial), the largest node "
            f"has {largest:g}: set it to less, or add a larger node"
        )


def _run_trial(
    config: Mapping[str, Any],
    *,
    job: TrainingJob,
    arrays: list[Any],  # one reference, in a list so that Ray does not inline the arrays
    ledger_url: str,
    parent_id: str,
    dataset: Dataset,
) -> None:
    """One trial, called by Ray Tune in a worker with the parameters to try."""
    import ray
    import torch
    from ray import tune as ray_tune

    from raymlops.train.tabular.trainer import fit_alone

    torch.set_num_threads(1)
    rows: Arrays = ray.get(arrays[0])
    spec = _with(job.spec, config)
    with open_ledger(ledger_url) as ledger:
        run = job.start(ledger, dataset, "trial", asdict(spec), parent_id)
        losses: list[float] = []

        def report(epoch: Epoch) -> None:
            losses.append(epoch.validation_loss)
            values = {"train_loss": epoch.train_loss, METRIC: epoch.validation_loss}
            ledger.runs.log(run.id, values, step=epoch.number)

        with ledger.runs.recording(run):
            fit_alone(rows, spec, on_epoch=report)
    ray_tune.report({METRIC: losses[-1], "run_id": run.id})


def _space(spec: TuneSpec) -> dict[str, Any]:
    from ray import tune as ray_tune

    return {
        # Optuna's categories are plain values, so widths travel as JSON.
        "hidden": ray_tune.choice([json.dumps(widths) for widths in spec.hidden]),
        "dropout": ray_tune.uniform(*spec.dropout),
        "learning_rate": ray_tune.loguniform(*spec.learning_rate),
        "weight_decay": ray_tune.loguniform(*spec.weight_decay),
    }


def _with(spec: TabularSpec, config: Mapping[str, Any]) -> TabularSpec:
    return replace(
        spec,
        hidden=tuple(json.loads(config["hidden"])),
        dropout=config["dropout"],
        learning_rate=config["learning_rate"],
        weight_decay=config["weight_decay"],
    )


def _keep(ledger: Ledger, job: TrainingJob, search: Search) -> None:
    ledger.decisions.add(
        model=job.model,
        kind="tune",
        outcome=f"best of {search.num_trials} trials is {search.best_run.id}",
        who="raymlops tune",
        why=f"lowest validation loss, {search.validation_loss:.4f}",
        evidence={"run": search.run.id, "best": asdict(search.best)},
    )
