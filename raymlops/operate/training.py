"""Models of the workspace: training, searching, registering what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from raymlops.cluster.files import replace_text
from raymlops.data import TableSchema
from raymlops.ledger import Bump, Dataset, ModelVersion, Run
from raymlops.ledger.patience import patiently
from raymlops.ledger.provenance import code_at, environment
from raymlops.operate.datasets import newest_data
from raymlops.operate.releasing import promote
from raymlops.operate.workspace import Workspace
from raymlops.train import ParallelPlan, TabularSpec
from raymlops.tune import TuneSpec

if TYPE_CHECKING:
    from raymlops.train.tabular.training import Training, TrainingJob
    from raymlops.tune.search import Search


def train(
    workspace: Workspace,
    dataset: Dataset | None = None,
    *,
    on_start: Callable[[Run], None] | None = None,
) -> Training:
    """Trains on a dataset version, by default the newest of the workspace's dataset; `on_start` is
    given the run when it has begun, and returns at once.

    Ray must be connected: `with workspace.connect(): ...`.
    """
    dataset = dataset or newest_data(workspace)
    job = training_job(workspace)
    return job.run(workspace.ledger, workspace.store, dataset, on_start=on_start)


def tune(
    workspace: Workspace,
    dataset: Dataset | None = None,
    *,
    on_start: Callable[[Run], None] | None = None,
) -> tuple[Search, Path]:
    """Searches for better training parameters; returns what was found and the file it was kept
    in, a configuration file to be named behind the model's own.

    `on_start` is given the search's run when it has begun, and returns at once. Each trial that
    ends is a step of that run.
    """
    from raymlops.tune.search import tune as search

    dataset = dataset or newest_data(workspace)
    found = search(
        training_job(workspace),
        workspace.settings.tune,
        workspace.ledger,
        workspace.store,
        dataset,
        on_start=on_start,
    )
    return found, _kept(workspace, found)


def resume_search(
    workspace: Workspace, run_id: str, *, on_start: Callable[[Run], None] | None = None
) -> tuple[Search, Path]:
    """Goes on with a search that was cut off, as a run of its own whose parent that is; returns
    what `tune` does.

    What is searched, and in which data, is read from the ledger.

    Raises:
        TrainingError: the run is no search, has finished, or is running.
    """
    from raymlops.train.tabular.training import Provenance, TrainingJob
    from raymlops.tune.search import tune as search
    from raymlops.tune.trials import require_resumable

    run = workspace.ledger.runs.get(run_id)
    require_resumable(workspace.ledger, run)
    config = workspace.ledger.text(run.config_digest)
    recorded = json.loads(config)
    job = TrainingJob(
        model=run.model,
        schema=TypeAdapter(TableSchema).validate_python(recorded["data"]),
        spec=TypeAdapter(TabularSpec).validate_python(recorded["train"]),
        plan=ParallelPlan(**recorded["plan"]),
        provenance=Provenance(code=code_at(Path.cwd()), config=config, environment=environment()),
    )
    found = search(
        job,
        TypeAdapter(TuneSpec).validate_python(recorded["tune"]),
        workspace.ledger,
        workspace.store,
        workspace.ledger.datasets.get(*workspace.ledger.runs.inputs(run_id)["train"]),
        resumes=run,
        on_start=on_start,
    )
    return found, _kept(workspace, found)


def search_standing(workspace: Workspace, run_id: str) -> str:
    """What is known of a search that can be gone on with, in words.

    Raises:
        TrainingError: the run is no search, has finished, or is running.
    """
    from raymlops.tune.trials import require_resumable, trials_of

    run = workspace.ledger.runs.get(run_id)
    require_resumable(workspace.ledger, run)
    trials = trials_of(workspace.ledger, run)
    num_ended = sum(trial.has_ended for trial in trials)
    told = f"goes on with {run_id}: {num_ended} of {run.params['num_trials']} trials have ended"
    if num_cut_off := len(trials) - num_ended:
        told += f", {num_cut_off} cut off {'is' if num_cut_off == 1 else 'are'} run again"
    return told


def _kept(workspace: Workspace, found: Search) -> Path:
    """The file in which the best parameters were put."""
    path = workspace.home / "tuned" / f"{found.run.model}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML: the file is one more layer for `Workspace.open`.
    replace_text(path, json.dumps({"train": asdict(found.best)}, indent=2) + "\n")
    return path


def training_job(workspace: Workspace) -> TrainingJob:
    """What the workspace's settings say shall be trained, with where code and settings stand."""
    from raymlops.train.tabular.training import Provenance, TrainingJob

    settings = workspace.settings
    return TrainingJob(
        model=workspace.model,
        schema=workspace.schema,
        spec=settings.train,
        plan=settings.plan,
        provenance=Provenance(
            code=code_at(Path.cwd()),
            config=json.dumps(_recorded(workspace), indent=2, sort_keys=True, default=str),
            environment=environment(),
        ),
    )


def register(workspace: Workspace, training: Training, *, bump: Bump | None = None) -> ModelVersion:
    """Stores the bundle of a training and registers it as the next version of its model.

    Without `bump` the signature decides: broken is major, extended is minor, the same is patch.
    It waits some minutes for a store or a ledger that is away: nobody would register it later.
    """
    run, registry = training.run, workspace.ledger.registry
    waits = f"what run {run.id} trained is to be registered"
    bundle = patiently(partial(training.bundle.save, workspace.store), waits=waits)
    signature = training.bundle.signature
    known = patiently(partial(registry.of_runs, [run.id]), waits=waits)

    def registered() -> ModelVersion:
        # The answer to a call before this one may have been lost with the ledger.
        new = [each for each in registry.of_runs([run.id]) if each not in known]
        return (
            new[0]
            if new
            else registry.register(
                run.model,
                bundle=bundle,
                signature=signature.to_json(),
                run_id=run.id,
                bump=bump or signature.bump_from_json,
                event_time=training.last_event,
            )
        )

    return patiently(registered, waits=waits)


def promote_first(workspace: Workspace, version: ModelVersion, *, who: str) -> None:
    """Makes `version` the champion of a model that never had one; it waits as `register` does."""

    def promoted() -> None:
        if not workspace.ledger.registry.moves(version.model, "champion"):
            promote(workspace, version, who=who, why="the first version")

    patiently(promoted, waits=f"{version} is registered")


def _recorded(workspace: Workspace) -> dict[str, Any]:
    """The settings that decide what is trained; those of the site, such as URLs with passwords,
    do not belong into the record of a run."""
    settings = asdict(workspace.settings)
    return {key: settings[key] for key in ("model", "data", "train", "plan", "tune")}
