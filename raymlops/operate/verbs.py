"""What a person does with models, one function a verb; the command line only prints them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from raymlops import data, serve
from raymlops.cluster import spawn
from raymlops.data import FileHasher, Finding, Source
from raymlops.errors import ConfigError, NotFoundError, ReleaseError
from raymlops.ledger import AliasMove, Bump, Dataset, ModelVersion, Release
from raymlops.ledger.provenance import code_at, environment
from raymlops.monitor import DriftMonitor
from raymlops.monitor.client import MonitorClient
from raymlops.operate.alerts import start_sentinel
from raymlops.operate.exporter import EXPORTER_NAME, start_exporter
from raymlops.operate.workspace import Workspace
from raymlops.release import ReleaseController
from raymlops.release.controller import Publish
from raymlops.serve import Deployment, TrafficTable

# Calls the monitor takes at a time; what comes together is committed together.
_MONITOR_CALLS = 64

if TYPE_CHECKING:
    from raymlops.serve.offline import Predicted
    from raymlops.train.tabular.training import Training, TrainingJob
    from raymlops.tune.search import Search


def add_data(
    workspace: Workspace,
    what: pa.Table | str | Path | Sequence[str | Path],
    *,
    description: str = "",
    version: int | None = None,
    at: datetime | None = None,
) -> Dataset:
    """Checks rows and adds them as a dataset version: a table, a Parquet or CSV file, a folder or
    list of them, a DVC pointer, or a Delta table, of which `version` or `at` choose a state.

    Raises:
        ExpectationError: names column, rule and count of everything that is wrong with it.
    """
    return data.add_dataset(
        workspace.ledger,
        workspace.store,
        _source(workspace, what, version, at),
        workspace.schema,
        description=description,
    )


def check_data(
    workspace: Workspace,
    what: pa.Table | str | Path | Sequence[str | Path],
    *,
    version: int | None = None,
    at: datetime | None = None,
) -> tuple[Finding, ...]:
    """Every rule of the workspace's table, checked on what `add_data` takes; adds nothing."""
    schema = workspace.schema
    references = data.Versions(workspace.ledger, workspace.store, schema.dataset)
    return data.check(_source(workspace, what, version, at), schema, references)


def _source(
    workspace: Workspace,
    what: pa.Table | str | Path | Sequence[str | Path],
    version: int | None,
    at: datetime | None,
) -> Source:
    hasher = FileHasher(workspace.home / "cache" / "digests.db")
    return data.open_source(what, hasher=hasher, version=version, at=at)


def newest_data(workspace: Workspace) -> Dataset:
    """The newest version of the workspace's dataset.

    Raises:
        NotFoundError: nothing was added yet.
    """
    try:
        return workspace.ledger.datasets.get(workspace.schema.dataset)
    except NotFoundError as error:
        raise NotFoundError(
            f"{error}: add one by `raymlops data add FILE CONFIG`, or train with --data FILE"
        ) from error


def train(workspace: Workspace, dataset: Dataset | None = None) -> Training:
    """Trains on a dataset version, by default the newest of the workspace's dataset.

    Ray must be connected: `with workspace.connect(): ...`.
    """
    dataset = dataset or newest_data(workspace)
    return training_job(workspace).run(workspace.ledger, workspace.store, dataset)


def tune(workspace: Workspace, dataset: Dataset | None = None) -> tuple[Search, Path]:
    """Searches for better training parameters; returns what was found and the file it was kept
    in, a configuration file to be named behind the model's own."""
    from raymlops.tune.search import tune as search

    dataset = dataset or newest_data(workspace)
    found = search(
        training_job(workspace), workspace.settings.tune, workspace.ledger, workspace.store, dataset
    )
    path = workspace.home / "tuned" / f"{workspace.model}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    # JSON is YAML: the file is one more layer for `Workspace.open`.
    path.write_text(json.dumps({"train": asdict(found.best)}, indent=2) + "\n")
    return found, path


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
    """
    signature = training.bundle.signature
    return workspace.ledger.registry.register(
        training.run.model,
        bundle=training.bundle.save(workspace.store),
        signature=signature.to_json(),
        run_id=training.run.id,
        bump=bump or signature.bump_from_json,
        event_time=training.last_event,
    )


def promote(
    workspace: Workspace,
    version: ModelVersion,
    *,
    who: str,
    why: str,
    evidence: Mapping[str, Any] | None = None,
) -> AliasMove:
    """Makes `version` the champion; traffic follows at the operator's next tick, or by `deploy`."""
    return workspace.ledger.registry.move(
        version.model,
        "champion",
        version.version,
        who=who,
        why=why,
        evidence=evidence or {},
        event_time=version.event_time,
    )


def rollback(workspace: Workspace, model: str, *, who: str, why: str) -> AliasMove:
    """Moves the champion alias back to the version it named before.

    Raises:
        ReleaseError: the alias never named another version.
    """
    registry = workspace.ledger.registry
    current = registry.alias(model, "champion")
    moves = registry.moves(model, "champion")
    earlier = [move.version for move in moves if move.version != current]
    if not earlier:
        raise ReleaseError(f"{model} {current} is the only champion there ever was")
    return registry.move(
        model, "champion", earlier[-1], who=who, why=why, evidence={"from": str(current)}
    )


def end_release(workspace: Workspace, model: str, *, who: str, why: str) -> Release | None:
    """Rolls back the release of `model` that runs, if one does: traffic goes back to the champion,
    at the operator's next tick or by `deploy`.

    Raises:
        ConflictError: it has just ended.
    """
    ledger = workspace.ledger
    if (running := ledger.releases.running(model)) is None:
        return None
    ended = ledger.releases.advance(running.id, running.state, "rolled_back")
    ledger.decisions.add(
        model=model,
        kind="release",
        outcome=f"{ended.challenger} rolled back",
        who=who,
        why=why,
        evidence={"release": ended.id},
    )
    return ended


def release(
    workspace: Workspace, version: ModelVersion, *, now: datetime, who: str, why: str
) -> Release:
    """Gives `version` its first share of a deployed model's traffic; an operator goes on from it.

    Raises:
        ConflictError: another release of this model is running.
    """
    controller = ReleaseController(
        workspace.ledger, workspace.settings.release, publisher(workspace)
    )
    return controller.start(version, now=now, who=who, why=why)


def monitor_name(model: str) -> str:
    """The name of the model's drift-monitor actor."""
    return f"raymlops-monitor-{model}"


def start_monitor(workspace: Workspace, model: str) -> MonitorClient:
    """The model's drift monitor, an actor, started unless it runs."""
    settings = workspace.settings.monitor
    return MonitorClient(
        spawn(
            DriftMonitor,
            monitor_name(model),
            workspace.ledger.url,  # opened here, since an actor makes no SQLite file
            workspace.store_uri,
            settings.windows,
            settings.drift,
            settings.concept,
            settings.joins,
            _slice_by(workspace),
            max_concurrency=_MONITOR_CALLS,
            lists_calls=False,
        )
    )


def _slice_by(workspace: Workspace) -> tuple[str, ...]:
    """Raises ConfigError where the settings slice by what is no feature of their table."""
    names = workspace.settings.monitor.slice_by
    if names:
        known = [feature.name for feature in workspace.schema.features]
        if unknown := [name for name in names if name not in known]:
            raise ConfigError(
                f"monitor.slice_by names '{unknown[0]}', which is no feature; there are: "
                f"{', '.join(known)}"
            )
    return names


def publisher(workspace: Workspace) -> Publish:
    """Makes all replicas follow a traffic table, and waits until they do."""

    def publish(table: TrafficTable) -> None:
        generation = serve.publish(table, ledger_url=workspace.ledger_url)
        serve.wait_applied(table.model, generation, ledger_url=workspace.ledger_url)

    return publish


def deploy(workspace: Workspace, reference: str) -> Deployment:
    """Serves MODEL@ALIAS or MODEL@1.2.3 to all requests, watched by the model's monitor.

    Ray must be connected.

    Raises:
        NotFoundError: there is no such version.
        ReleaseError: a release of the model is running; deploying would take its traffic away.
        ConfigError: the model is in a pool.
    """
    version = workspace.ledger.registry.resolve(reference)
    serve.check_alone(version.model)
    _give_all_traffic(workspace, version)
    return serve.deploy(
        version.model,
        ledger_url=workspace.ledger_url,
        store_uri=workspace.store_uri,
        settings=workspace.settings.serve,
        tap=monitor_name(version.model),
        exporter=EXPORTER_NAME,
        log_folder=str(workspace.home / "logs"),
        slice_by=_slice_by(workspace),
    )


def deploy_pool(workspace: Workspace, name: str, references: Sequence[str]) -> str:
    """Serves each of `references` as `deploy` does, all by the same replicas, which hold as many
    models at once as `serve.pool` says; returns the URL below which they answer.

    Raises:
        NotFoundError: there is no such version.
        ReleaseError: a release of a model is running.
        ConfigError: a model is deployed by itself or in another pool.
    """
    versions = [workspace.ledger.registry.resolve(reference) for reference in references]
    models = [version.model for version in versions]
    serve.check_pool(name, models, workspace.settings.serve)
    for version in versions:
        _give_all_traffic(workspace, version)
    return serve.deploy_pool(
        name,
        models,
        ledger_url=workspace.ledger_url,
        store_uri=workspace.store_uri,
        settings=workspace.settings.serve,
        taps={model: monitor_name(model) for model in models},
        exporter=EXPORTER_NAME,
        log_folder=str(workspace.home / "logs"),
        slice_by=_slice_by(workspace),
    )


def _give_all_traffic(workspace: Workspace, version: ModelVersion) -> None:
    """From when the model is served; until then nothing answers by that."""
    if (running := workspace.ledger.releases.running(version.model)) is not None:
        raise ReleaseError(
            f"release {running.id} of {version.model} {running.challenger} is running; let "
            "`raymlops watch` finish it, or end it by "
            f"`raymlops rollback {version.model} --why ...`"
        )
    start_monitor(workspace, version.model)
    start_exporter(workspace)
    start_sentinel(workspace)
    table = TrafficTable.champion(version.model, str(version.version))
    serve.publish(table, ledger_url=workspace.ledger_url)


def predict(workspace: Workspace, reference: str, source: Path, target: Path) -> Predicted:
    """Writes the rows of the Parquet file or folder `source` with what MODEL@ALIAS says of them
    to `target`, a folder of Parquet files; needs no server. Ray must be connected.

    Raises:
        NotFoundError: there is no such version.
        DataError: `target` is there already, or a row of `source` does not fit the model;
            nothing is written.
    """
    from raymlops.serve.offline import predict_parquet

    version = workspace.ledger.registry.resolve(reference)
    return predict_parquet(
        version,
        source,
        target,
        ledger_url=workspace.ledger_url,
        store_uri=workspace.store_uri,
    )


def _recorded(workspace: Workspace) -> dict[str, Any]:
    """The settings that decide what is trained; those of the site, such as URLs with passwords,
    do not belong into the record of a run."""
    settings = asdict(workspace.settings)
    return {key: settings[key] for key in ("model", "data", "train", "plan", "tune")}
