"""Models put to work: deployed by themselves or in a pool, monitored, or run over a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raymlops import serve
from raymlops.cluster import code_digest, is_private, renew
from raymlops.data import OUTPUTS
from raymlops.errors import ConfigError, NotFoundError, ReleaseError
from raymlops.ledger import ModelVersion
from raymlops.models import Bundle, Signature
from raymlops.monitor import DriftMonitor
from raymlops.monitor.client import MonitorClient
from raymlops.operate.exporter import EXPORTER_NAME, start_exporter
from raymlops.operate.private import forget_killed, is_served_privately
from raymlops.operate.sentinel import start_sentinel
from raymlops.operate.workspace import Workspace
from raymlops.release.controller import traffic_of
from raymlops.serve import Deployment, TrafficTable

if TYPE_CHECKING:
    from raymlops.serve.offline import Predicted

# Calls the monitor takes at a time; what comes together is committed together.
_MONITOR_CALLS = 64


def deploy(workspace: Workspace, reference: str) -> Deployment:
    """Serves MODEL@ALIAS or MODEL@1.2.3 to all requests, watched by the model's monitor; where a
    release of the model runs, the champion beside its challenger, as that stands.

    Ray must be connected.

    Raises:
        NotFoundError: there is no such version.
        ReleaseError: a release of the model is running, whose traffic another version than the
            champion would take away.
        ConfigError: the model is in a pool, or `serve.log.hidden` or `monitor.slice_by` names what
            it is not asked with.
        ClusterError: the cluster never has the CPUs that the settings ask for.
    """
    version = workspace.ledger.registry.resolve(reference)
    serve.check_deployment(version.model, workspace.settings.serve)
    _check_hidden(workspace, [version])
    _check_slices(workspace, [version])
    with _giving_traffic(workspace, [version]):
        deployment = serve.deploy(
            version.model,
            ledger_url=workspace.ledger_url,
            store_uri=workspace.store_uri,
            settings=workspace.settings.serve,
            tap=monitor_name(version.model),
            exporter=EXPORTER_NAME,
            log_folder=str(workspace.home / "logs"),
            slice_by=workspace.settings.monitor.slice_by,
            copies=workspace.copies,
        )
    _warn_of_doors(workspace)
    return deployment


def deploy_pool(workspace: Workspace, name: str, references: Sequence[str]) -> str:
    """Serves each of `references` as `deploy` does, all by the same replicas, which hold as many
    models at once as `serve.pool` says; returns the URL below which they answer.

    Raises:
        NotFoundError: there is no such version.
        ReleaseError: as `deploy`.
        ConfigError: a model is deployed by itself or in another pool, or `serve.log.hidden` or
            `monitor.slice_by` names what none of them is asked with.
        ClusterError: as `deploy`.
    """
    versions = [workspace.ledger.registry.resolve(reference) for reference in references]
    models = [version.model for version in versions]
    serve.check_pool(name, models, workspace.settings.serve)
    _check_hidden(workspace, versions)
    _check_slices(workspace, versions)
    with _giving_traffic(workspace, versions):
        url = serve.deploy_pool(
            name,
            models,
            ledger_url=workspace.ledger_url,
            store_uri=workspace.store_uri,
            settings=workspace.settings.serve,
            taps={model: monitor_name(model) for model in models},
            exporter=EXPORTER_NAME,
            log_folder=str(workspace.home / "logs"),
            slice_by=workspace.settings.monitor.slice_by,
            copies=workspace.copies,
        )
    _warn_of_doors(workspace)
    return url


def undeploy(workspace: Workspace, model: str) -> None:
    """Ends the replicas of `model`, once they have answered, and its traffic.

    Raises:
        NotFoundError: it is not deployed on the connected Ray, nor does the ledger say so of a
            cluster that has ended.
        ConfigError: it is in a pool.
    """
    releases = workspace.ledger.releases
    try:
        serve.undeploy(model)
    except NotFoundError:
        # What a private Ray does not serve, another may: the ledger is left as it is.
        private = is_private(workspace.settings.cluster, home=workspace.home)
        was_killed = is_served_privately(workspace.home, model) is False
        if (private and not was_killed) or releases.published(model) is None:
            raise
    releases.withdraw(model)
    forget_killed(workspace.home, model)


def undeploy_pool(workspace: Workspace, name: str) -> None:
    """Does so for the pool of that name, and each of its models.

    Raises:
        NotFoundError: there is no such pool.
    """
    for model in serve.undeploy_pool(name):
        workspace.ledger.releases.withdraw(model)


def start_monitor(workspace: Workspace, model: str) -> MonitorClient:
    """The model's drift monitor, an actor, started unless it runs.

    One that runs is replaced where the model's configuration asks for another, or any that says
    something of that policy, and one of an earlier raymlops is, which would judge as that did; this
    loses nothing, and judges no window again.
    """
    settings, configured = workspace.settings.monitor, workspace.configured
    policies = {
        "windows": settings.windows,
        "drift": settings.drift,
        "concept": settings.concept,
        "joins": settings.joins,
    }
    # As those have them that tell it what was answered: they are deployed with these.
    shared = {
        "code": code_digest(),
        "ledger_url": workspace.ledger.url,  # opened here, since an actor makes no SQLite file
        "store_uri": workspace.store_uri,
        "slice_by": settings.slice_by,
    }
    is_own = configured.settings.model == model
    named = [name for name in policies if is_own or configured.is_set(f"monitor.{name}")]
    renew(
        DriftMonitor,
        monitor_name(model),
        shared | policies,
        follow=(*shared, *named),
        max_concurrency=_MONITOR_CALLS,
        lists_calls=False,
    )
    return MonitorClient(monitor_name(model))


def predict(
    workspace: Workspace,
    reference: str,
    source: Path,
    target: Path,
    *,
    prefix: str = "",
    on_rows: Callable[[int, int], None] | None = None,
) -> Predicted:
    """Writes the rows of the Parquet file or folder `source` with what MODEL@ALIAS says of them,
    in columns whose names begin with `prefix`, to `target`, a folder of Parquet files; needs no
    server. Ray must be connected. `on_rows` is told how many rows are done, and how many there are.

    Raises:
        NotFoundError: there is no such version.
        DataError: `target` is there already, `source` has a column of an output's name, or a row
            of it does not fit the model; nothing is written.
    """
    from raymlops.serve.offline import predict_parquet

    version = workspace.ledger.registry.resolve(reference)
    return predict_parquet(
        version,
        source,
        target,
        ledger_url=workspace.ledger_url,
        store_uri=workspace.store_uri,
        prefix=prefix,
        on_rows=on_rows,
    )


def check_prediction(
    workspace: Workspace, reference: str, source: Path, target: Path, *, prefix: str = ""
) -> None:
    """Raises what `predict` would before it reads a row: without Ray, which takes long to start."""
    from raymlops.serve.offline import parts_for

    version = workspace.ledger.registry.resolve(reference)
    parts_for(version, source, target, ledger=workspace.ledger, prefix=prefix)


def monitor_name(model: str) -> str:
    """The name of the model's drift-monitor actor."""
    return f"raymlops-monitor-{model}"


@contextmanager
def _giving_traffic(workspace: Workspace, versions: Sequence[ModelVersion]) -> Iterator[None]:
    """Where that fails inside, or is interrupted, the traffic goes back to what had it, be it
    nothing: a replica that is started later would follow the table of a version that nobody can
    load."""
    tables = [_table_with(workspace, version) for version in versions]
    for version in versions:
        forget_killed(workspace.home, version.model)
    with ExitStack() as undo:
        for table in tables:
            undo.callback(_give_back, workspace, table.model, _table_of(workspace, table.model))
            _give_traffic(workspace, table)
        yield
        undo.pop_all()


def _table_of(workspace: Workspace, model: str) -> Mapping[str, Any]:
    """The published table of `model`; the empty one of what is withdrawn where it has none."""
    published = workspace.ledger.releases.published(model)
    return {} if published is None else published[1]


def _give_back(workspace: Workspace, model: str, table: Mapping[str, Any]) -> None:
    """In the ledger alone, where replicas look at every poll: whoever interrupted it may have done
    so since the board hangs."""
    workspace.ledger.releases.publish(model, table)


def _table_with(workspace: Workspace, version: ModelVersion) -> TrafficTable:
    """By which requests are answered once `version` is deployed. A release that runs goes on where
    its cluster ended, such as by an upgrade or a reboot, beside a champion that is deployed again.
    """
    running = workspace.ledger.releases.running(version.model)
    if running is None:
        return TrafficTable.champion(version.model, str(version.version))
    champion = workspace.ledger.registry.alias(version.model, "champion")
    if version.version != champion:
        raise ReleaseError(
            f"release {running.id} of {version.model} {running.challenger} is running; let "
            f"`raymlops watch` finish it, or end it by `raymlops rollback {version.model} --why "
            f"...`; only the champion, {champion}, can be deployed meanwhile, beside it"
        )
    return traffic_of(running, champion)


def _give_traffic(workspace: Workspace, table: TrafficTable) -> None:
    """From when the model is served; until then nothing answers by that."""
    start_monitor(workspace, table.model)
    start_exporter(workspace)
    start_sentinel(workspace)
    serve.publish(table, ledger_url=workspace.ledger_url)


def _warn_of_doors(workspace: Workspace) -> None:
    """A door is everybody's: it is held against limits that were set, and not against defaults."""
    settings = workspace.settings.serve
    is_limited = workspace.configured.is_set("serve.http")
    serve.warn_of_doors(settings.host, settings.http if is_limited else None)


def _check_hidden(workspace: Workspace, versions: Sequence[ModelVersion]) -> None:
    """Raises ConfigError where the log is to hide a column that none of the versions takes: the
    one that was meant would be shown."""
    if not (hidden := workspace.settings.serve.log.hidden):
        return
    kept = [workspace.ledger.text(version.signature_digest) for version in versions]
    known = {field.name for text in kept for field in Signature.from_json(text).inputs}
    if unknown := [name for name in hidden if name not in known]:
        raise ConfigError(
            f"serve.log.hidden names '{unknown[0]}', which is no input of "
            f"{', '.join(version.model for version in versions)}; there are: "
            f"{', '.join(sorted(known))}"
        )


def _check_slices(workspace: Workspace, versions: Sequence[ModelVersion]) -> None:
    """Raises ConfigError where the monitor is to slice by what is counted of none of the versions
    and is no feature of the settings' table, by which a challenger may be the first to be asked."""
    if not (names := workspace.settings.monitor.slice_by):
        return
    table = workspace.settings.data
    known = set() if table is None else {feature.name for feature in table.features}
    for version in versions:
        counted = Bundle.of_version(workspace.store, version).profile.cells
        known |= counted.keys() - {*OUTPUTS}
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"monitor.slice_by names '{unknown[0]}', by which nothing is counted of "
            f"{', '.join(version.model for version in versions)}; there are: "
            f"{', '.join(sorted(known))}"
        )
