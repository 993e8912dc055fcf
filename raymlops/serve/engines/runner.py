"""A bundle, ready to run: columns in, output fields out."""

from __future__ import annotations

import os

from raymlops.data import Columns
from raymlops.errors import ConfigError
from raymlops.models import Bundle
from raymlops.models.requirements import check_requirements
from raymlops.serve.batching import Outputs
from raymlops.serve.engines.registry import engine_for
from raymlops.serve.engines.settings import EngineSettings


class BundleRunner:
    """Like `bundle.predict` by the engine of its format, for columns that are known to fit.

    Raises:
        UntrustedError, ModelError: see `Engine.load`.
    """

    def __init__(self, bundle: Bundle, settings: EngineSettings) -> None:
        check_requirements(bundle.requirements)
        engine = engine_for(bundle.format, settings)
        self._score = engine.load(bundle.artifact, settings, recorded=lambda _: bundle.trusted)
        self._transform = bundle.preprocessing.transform
        self._apply = bundle.postprocessing.apply

    def __call__(self, columns: Columns) -> Outputs:
        return self._apply(self._score(self._transform(columns)))


def pin(settings: EngineSettings, instance: int) -> None:
    """Keeps the calling thread on the processors of that instance, if it has any."""
    if cpus := settings.cpus_of(instance):
        os.sched_setaffinity(0, cpus)


def check_cpus(settings: EngineSettings) -> None:
    """Raises ConfigError when this process may not run where its engines are to be pinned."""
    allowed = os.sched_getaffinity(0)
    if missing := sorted({*settings.cpus} - allowed):
        raise ConfigError(f"cpus names {missing}, this process may run on {sorted(allowed)} alone")
