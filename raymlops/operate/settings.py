"""All settings of raymlops in one frozen tree, and the files they are read from."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import raymlops
from raymlops.cluster import ClusterSettings
from raymlops.config import (
    Configured,
    build,
    environment_layer,
    file_layer,
    merge,
    override_layer,
)
from raymlops.data import TableSchema
from raymlops.errors import ConfigError
from raymlops.monitor import DriftPolicy, WindowPolicy
from raymlops.operate.triggers import RetrainPolicy
from raymlops.release import CanaryPolicy, GatePolicy
from raymlops.serve import ServeSettings
from raymlops.train import ParallelPlan, TrainSpec
from raymlops.tune import TuneSpec

ENVIRONMENT_VARIABLE = "RAYMLOPS_ENV"
DEFAULT_ENVIRONMENT = "development"


@dataclass(frozen=True, kw_only=True)
class LedgerSettings:
    """`url` of the database; None is SQLite in the home folder."""

    url: str | None = None


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """`uri` of the store (file, s3, hdfs); None is a folder in the home folder."""

    uri: str | None = None


@dataclass(frozen=True, kw_only=True)
class MonitorSettings:
    """Which windows are judged, and what counts as drift."""

    windows: WindowPolicy = field(default_factory=WindowPolicy)
    drift: DriftPolicy = field(default_factory=DriftPolicy)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Site settings (home to serve) and those of one model (model to retrain)."""

    home: str = ".raymlops"
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    cluster: ClusterSettings = field(default_factory=ClusterSettings)
    serve: ServeSettings = field(default_factory=ServeSettings)
    monitor: MonitorSettings = field(default_factory=MonitorSettings)
    model: str | None = None
    data: TableSchema | None = None
    train: TrainSpec = field(default_factory=TrainSpec)
    plan: ParallelPlan = field(default_factory=ParallelPlan)
    tune: TuneSpec = field(default_factory=TuneSpec)
    gate: GatePolicy = field(default_factory=GatePolicy)
    release: CanaryPolicy = field(default_factory=CanaryPolicy)
    retrain: RetrainPolicy = field(default_factory=RetrainPolicy)


def load_settings(
    paths: Iterable[Path] = (),
    *,
    environment: str | None = None,
    overrides: Iterable[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Configured[Settings]:
    """Settings from, later ones winning: base.yaml, the environment's file, `paths`, variables
    RAYMLOPS__SECTION__KEY, and `overrides` written section.key=value.

    `environment` is development, production, ...; None reads RAYMLOPS_ENV.

    Raises:
        ConfigError: a file is missing or malformed, a key unknown, a value of the wrong type.
    """
    paths = tuple(paths)
    folder = _configs(paths)
    name = environment or environ.get(ENVIRONMENT_VARIABLE, DEFAULT_ENVIRONMENT)
    layer = merge(
        [
            file_layer(folder / "base.yaml"),
            file_layer(_environment_file(folder, name)),
            *(file_layer(path) for path in paths),
            environment_layer(environ),
            override_layer(overrides),
        ]
    )
    return build(Settings, layer)


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
