"""All settings of raymlops in one frozen tree, and the files they are read from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.resources import files
from pathlib import Path

import raymlops
from raymlops.cluster import ClusterSettings
from raymlops.config import (
    Configured,
    Layer,
    Problems,
    SecretUrl,
    Variables,
    build,
    dotenv_variables,
    environment_layer,
    environment_variables,
    file_layer,
    merge,
    override_layer,
)
from raymlops.coordination import CoordinationSettings
from raymlops.data import CONFIDENCE, SCORE, TableSchema
from raymlops.data.drift.base import Kind
from raymlops.errors import ConfigError
from raymlops.ledger import JoinPolicy
from raymlops.ledger.mirror import FollowPolicy
from raymlops.ledger.names import check_name
from raymlops.models import Postprocessing
from raymlops.monitor import ConceptPolicy, DriftPolicy, WindowPolicy
from raymlops.monitor.alerts import AlertSettings
from raymlops.monitor.metrics import ExporterSettings, PrometheusSettings
from raymlops.operate.triggers import RetrainPolicy
from raymlops.release import CanaryPolicy, GatePolicy
from raymlops.serve import ServeSettings
from raymlops.train import ParallelPlan, TabularSpec
from raymlops.tune import TuneSpec

ENVIRONMENT_VARIABLE = "RAYMLOPS_ENV"
DEFAULT_ENVIRONMENT = "development"

# Texts in these sections may be secrets. What describes a model is recorded with its runs, in
# names, signatures and decisions, so there only a field of type Secret takes a reference.
SITE = ("home", "ledger", "storage", "coordination", "cluster", "serve", "alerts")


@dataclass(frozen=True, kw_only=True)
class MlflowSettings:
    """`url` of the MLflow store that mirrors the ledger (sqlite, postgresql, http); None is none.

    `artifacts` is the folder or URI for files there; None is a folder in the home folder, or the
    tracking server's own. Larger files than `max_file_mb` are referred to by their digest.
    """

    url: SecretUrl | None = None
    artifacts: SecretUrl | None = None
    max_file_mb: int = 64
    follow: FollowPolicy = field(default_factory=FollowPolicy)

    def __post_init__(self) -> None:
        if self.max_file_mb < 0:
            raise ValueError(f"max_file_mb {self.max_file_mb} must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """`url` of the database, its password never shown; None is SQLite in the home folder."""

    url: SecretUrl | None = None
    mlflow: MlflowSettings = field(default_factory=MlflowSettings)


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """`uri` of the store (file, s3, hdfs), its keys never shown; None is a folder in the home
    folder.

    Each node keeps `copies_mb` at most of what its replicas load from s3 or hdfs, so that they
    start again while that is away; 0 keeps nothing.
    """

    uri: SecretUrl | None = None
    copies_mb: int = 4096

    def __post_init__(self) -> None:
        if self.copies_mb < 0:
            raise ValueError(f"copies_mb {self.copies_mb} must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class MonitorSettings:
    """Which windows are judged, what counts as drift, and where metrics are scraped."""

    windows: WindowPolicy = field(default_factory=WindowPolicy)
    drift: DriftPolicy = field(default_factory=DriftPolicy)
    concept: ConceptPolicy = field(default_factory=ConceptPolicy)
    joins: JoinPolicy = field(default_factory=JoinPolicy)
    slice_by: tuple[str, ...] = ()
    exporter: ExporterSettings = field(default_factory=ExporterSettings)
    prometheus: PrometheusSettings = field(default_factory=PrometheusSettings)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Site settings (home to alerts) and those of one model (model to retrain)."""

    home: str = ".raymlops"
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    coordination: CoordinationSettings = field(default_factory=CoordinationSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)
    alerts: AlertSettings = field(default_factory=AlertSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    model: str | None = None
    data: TableSchema | None = None
    train: TabularSpec = field(default_factory=TabularSpec)
    plan: ParallelPlan = field(default_factory=ParallelPlan)
    tune: TuneSpec = field(default_factory=TuneSpec)
    gate: GatePolicy = field(default_factory=GatePolicy)
    release: CanaryPolicy = field(default_factory=CanaryPolicy)
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)

    def __post_init__(self) -> None:
        if self.model is not None:
            check_name(self.model, of="model")
        if self.data is not None:
            kinds = {feature.name: feature.kind for feature in self.data.features}
            # Refused here, and not when a training has begun.
            Postprocessing(
                label=self.data.target,
                threshold=self.train.threshold,
                classes=self.data.classes,
            )
            if self.data.task == "regression":
                self._check_of_numbers()
            outputs: dict[str, Kind] = {SCORE: "number"}
            if self.data.classes:
                outputs = {SCORE: "category", CONFIDENCE: "number"}
            self.monitor.drift.check({**kinds, **outputs})
            if unknown := [name for name in self.monitor.slice_by if name not in kinds]:
                raise ValueError(
                    f"monitor.slice_by names '{unknown[0]}', which is no feature; there are: "
                    f"{', '.join(kinds)}"
                )

    def _check_of_numbers(self) -> None:
        """What is set of a model that says numbers can come about."""
        if self.train.threshold != TabularSpec.threshold:
            raise ValueError(
                f"train.threshold is {self.train.threshold}, but a number is said as it is "
                "(data.task is regression): leave it out"
            )
        if "expected" in self.retrain.on:
            raise ValueError(
                "retrain.on names expected, but of numbers nothing is expected (data.task is "
                "regression): leave it out"
            )
        for name, share in (
            ("gate.min_gain", self.gate.min_gain),
            ("release.max_loss_increase", -self.release.max_loss_increase),
        ):
            if share >= 1.0:
                raise ValueError(
                    f"{name} asks for an RMSE of numbers that is {share:.0%} lower than the "
                    "champion's, and none is below 0 (data.task is regression): it is a share"
                )


def load_settings(
    paths: Iterable[Path] = (),
    *,
    environment: str | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Configured[Settings]:
    """Settings from, later ones winning: base.yaml, the environment's file, `paths`, variables
    RAYMLOPS__SECTION__KEY, and `overrides` written section.key=value.

    `environment` is development, production, ...; None reads RAYMLOPS_ENV. A file `.env` in the
    working directory adds the variables that `environ` lacks; it changes no process's environment.

    Raises:
        ConfigError: lists every file that is missing or malformed; or else every key that is
            unknown, value of the wrong type, and variable or secret file that is asked for and
            not there.
    """
    variables = {**dotenv_variables(), **environment_variables(environ)}
    layers, problems = [], Problems()
    for read in _sources(tuple(paths), environment, tuple(overrides), variables):
        with problems.gathered():
            layers.append(read())
    problems.raise_any()
    return build(Settings, merge(layers), variables=variables, secret_in=SITE)


def _sources(
    paths: tuple[Path, ...],
    environment: str | None,
    overrides: tuple[str, ...],
    variables: Variables,
) -> Iterator[Callable[[], Layer]]:
    """What reads each layer, the strongest last."""
    folder = _configs(paths)
    given = variables.get(ENVIRONMENT_VARIABLE)
    name = environment or (given.text if given else "") or DEFAULT_ENVIRONMENT
    yield partial(file_layer, folder / "base.yaml")
    yield lambda: file_layer(_environment_file(folder, name))
    for path in paths:
        yield partial(file_layer, path)
    yield partial(environment_layer, variables)
    yield partial(override_layer, overrides)


def _configs(paths: tuple[Path, ...]) -> Path:
    """The folder with base.yaml: beside the first file, else ./configs, else raymlops' own."""
    own = Path(str(files(raymlops)))
    candidates = [
        *(path.parent for path in paths[:1]),
        Path("configs"),
        own / "_configs",  # an installed wheel
        own.parent / "configs",  # a source checkout
    ]
    for folder in candidates:
        if (folder / "base.yaml").is_file():
            return folder
    raise ConfigError(f"no base.yaml in {', '.join(str(folder) for folder in candidates)}")


def packaged_config(name: str) -> Path:
    """A configuration file that comes with raymlops, such as flights.yaml."""
    own = Path(str(files(raymlops)))
    for folder in (own / "_configs", own.parent / "configs"):
        if (folder / name).is_file():
            return folder / name
    raise ConfigError(f"raymlops comes with no configuration '{name}'")


def _environment_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in folder.glob("*.yaml") if p.stem != "base")
        raise ConfigError(
            f"there is no environment '{name}' in {folder}; files: {', '.join(known)}"
        )
    return path
