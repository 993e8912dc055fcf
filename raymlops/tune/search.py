"""Search over train specs: Ray Tune runs the trials, Optuna chooses what to try.

What was tried is in the ledger, and there alone: a search whose driver died goes on from its trials
and their losses, and reads nothing of what Ray Tune keeps.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymlops.cluster.resources import node_cpus
from raymlops.errors import TrainingError
from raymlops.ledger import Dataset, Ledger, LogPolicy, Run, open_ledger
from raymlops.ledger.figures import shown_figure
from raymlops.ledger.patience import PATIENCE_S, patiently
from raymlops.storage import Store
from raymlops.train import TabularSpec
from raymlops.tune.spec import TuneSpec
from raymlops.tune.tracebacks import keeping_tracebacks
from raymlops.tune.trials import (
    METRIC,
    NUMBER,
    Trial,
    require_first,
    require_resumable,
    trials_of,
)

if TYPE_CHECKING:
    from raymlops.train.tabular.arrays import Arrays
    from raymlops.train.tabular.trainer import Epoch
    from raymlops.train.tabular.training import TrainingJob
    from raymlops.tune.progress import TrialsTold
    from raymlops.tune.suggestions import Suggestions


_TUNING = "tuning"
_KIND = "tune"
"""Of a search's run, and of the decision which of its trials won."""

_LAST_WORDS = ("Trials did not complete", "Wrote the latest version")

_PATIENT = LogPolicy(patience_s=PATIENCE_S)


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
    resumes: Run | None = None,
    on_start: Callable[[Run], None] | None = None,
) -> Search:
    """Searches around `job.spec` for the lowest validation loss.

    Each trial is a run nested in the search's run, its losses logged epoch by epoch. Which trial
    won, and with what parameters, is kept as a decision. `on_start` is given the search's run when
    it has begun, and returns at once.

    A search that `resumes` one that was cut off is nested in it. Trials that had ended count, those
    that were cut off are run again, and the rest is suggested from the same seed: what the other
    would have tried, as far as that depends on the losses so far and not on which of several
    trials at once ends first.

    Raises:
        TrainingError: a trial fits on no node, or none finished; what it `resumes` has finished, or
            is running.
    """
    from raymlops.tune.progress import TrialsTold
    from raymlops.tune.suggestions import Suggestions

    _require_room(spec, node_cpus())
    if resumes is not None:
        require_resumable(ledger, resumes)
    parent_id = None if resumes is None else resumes.id
    search = job.start(ledger, dataset, _KIND, asdict(spec), parent_id)
    with ledger.runs.recording(search):
        require_first(ledger, search)
        known = trials_of(ledger, search)
        below = f"{_TUNING}/{search.id}"
        told = TrialsTold(
            ledger, search.id, place=lambda name: store.below(f"{below}/{name}"), known=known
        )
        told.begin(spec.num_trials)
        if on_start is not None:
            on_start(search)
        if num_left := spec.num_trials - sum(trial.has_ended for trial in known):
            trial = _trainable(job, ledger, store, dataset, search)
            suggestions = Suggestions(
                spec, seed=job.spec.seed, tried=[trial.tried for trial in known]
            )
            with keeping_tracebacks(store.files, below) as folder, _without_its_last_words():
                _tuner(trial, spec, num_left, suggestions, told, folder, search.id).fit()
        waits = f"search {search.id} has tried all"
        tried = patiently(partial(trials_of, ledger, search), waits=waits)
        found = _best(job, search, tried, told.causes)
        patiently(partial(_keep, ledger, job, found), waits=waits)
    return replace(found, run=patiently(partial(ledger.runs.get, search.id), waits=waits))


def _trainable(
    job: TrainingJob, ledger: Ledger, store: Store, dataset: Dataset, search: Run
) -> Callable[[dict[str, Any]], None]:
    """What a worker does with parameters; the rows are put where every worker gets them."""
    from raymlops.data import load_dataset
    from raymlops.train.tabular.arrays import shared
    from raymlops.train.tabular.split import split_by_time

    table = load_dataset(store, dataset, job.schema.columns)
    split = split_by_time(table, job.schema, job.spec.validation_share)
    return partial(
        _run_trial,
        job=job,
        arrays=shared(split.arrays),
        ledger_url=ledger.url,
        parent_id=search.id,
        dataset=dataset,
    )


def _tuner(
    trial: Callable[[dict[str, Any]], None],
    spec: TuneSpec,
    num_trials: int,
    suggestions: Suggestions,
    told: TrialsTold,
    folder: Path,
    name: str,
) -> Any:
    from ray import tune as ray_tune

    from raymlops.tune.searcher import SuggestionSearcher

    # At verbosity 0, Ray Tune's older way of telling is silent, its newer one is not.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # Its own handler of SIGINT ends a search as if all were well, and stays behind after it.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    # A trial that fails is told by `told`, in a line; Ray Tune would print its whole traceback.
    os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")
    return ray_tune.Tuner(
        ray_tune.with_resources(trial, {"CPU": spec.cpus_per_trial}),
        tune_config=ray_tune.TuneConfig(
            search_alg=SuggestionSearcher(suggestions),
            num_samples=num_trials,
            max_concurrent_trials=spec.max_concurrent,
            metric=METRIC,
            mode="min",
            reuse_actors=True,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=ray_tune.RunConfig(
            name=name,
            storage_path=str(folder),
            verbose=0,
            callbacks=[told],
        ),
    )


def _name(trial: Any) -> str:
    return f"trial-{trial.config[NUMBER]}"


@contextmanager
def _without_its_last_words() -> Iterator[None]:
    """Ray Tune ends with an error that lists the trials that failed, each of which was told, and
    with where its files are, which go."""
    logger = logging.getLogger("ray.tune.tune")

    def is_other(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith(_LAST_WORDS)

    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


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
    arrays: list[Any],  # as `shared` gave them
    ledger_url: str,
    parent_id: str,
    dataset: Dataset,
) -> None:
    """One trial, called by Ray Tune in a worker with the parameters to try.

    It outlives a ledger that is away for a while: else every trial that is left would begin and
    fail before it is back.
    """
    import ray
    import torch
    from ray import tune as ray_tune

    from raymlops.train.tabular.trainer import fit_alone
    from raymlops.tune.suggestions import applied

    torch.set_num_threads(1)
    rows: Arrays = ray.get(arrays[0])
    spec = applied(job.spec, config)
    waits = f"trial {config[NUMBER]}"
    with patiently(partial(open_ledger, ledger_url), waits=waits) as ledger:
        params = {NUMBER: config[NUMBER], **job.parameters(spec)}
        begin = partial(job.start, ledger, dataset, "trial", params, parent_id)
        run = patiently(begin, waits=waits)
        losses: list[float] = []
        with (
            ledger.runs.recording(run),
            patiently(partial(ledger.runs.logger, run.id, _PATIENT), waits=waits) as log,
        ):

            def report(epoch: Epoch) -> None:
                losses.append(epoch.validation_loss)
                values = {"train_loss": epoch.train_loss, METRIC: epoch.validation_loss}
                log(values, step=epoch.number)

            fit_alone(rows, spec, on_epoch=report)
            if math.isnan(losses[-1]):
                raise TrainingError("the validation loss is nan after the last epoch")
    ray_tune.report({METRIC: losses[-1]})


def _best(job: TrainingJob, search: Run, trials: Sequence[Trial], causes: Sequence[str]) -> Search:
    """Raises TrainingError when no trial has finished."""
    from raymlops.tune.suggestions import applied

    losses = {trial.tried.loss: trial for trial in reversed(trials) if trial.tried.loss is not None}
    if not losses:
        raise TrainingError(f"all {len(causes)} trials failed: {causes[0]}")
    loss = min(losses)
    best = losses[loss]
    return Search(
        run=search,
        best_run=best.run,
        best=applied(job.spec, best.tried.parameters),
        validation_loss=loss,
        num_trials=sum(trial.tried.outcome == "finished" for trial in trials),
    )


def _keep(ledger: Ledger, job: TrainingJob, search: Search) -> None:
    """Once, however often it is called: the answer to the first call may have been lost."""
    kept = ledger.decisions.list(model=job.model, kind=_KIND)
    if any(decision.evidence["run"] == search.run.id for decision in kept):
        return
    ledger.decisions.add(
        model=job.model,
        kind=_KIND,
        outcome=f"best of {search.num_trials} trials is {search.best_run.id}",
        who="raymlops tune",
        why=f"lowest validation loss, {shown_figure(search.validation_loss)}",
        evidence={"run": search.run.id, "best": job.parameters(search.best)},
    )
