"""The contract of an engine: a saved model in, something that answers matrices out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from raymlops.models import Artifact, Predictor, Recorded, format_named
from raymlops.serve.engines.settings import EngineSettings


class Engine(ABC):
    """Runs models of some formats.

    What `load` returns may be called from several threads at once. It answers like
    `Format.load`, within the format's tolerance, whatever the settings are.
    """

    name: ClassVar[str]
    formats: ClassVar[frozenset[str]]

    @abstractmethod
    def load(
        self, artifact: Artifact, settings: EngineSettings, *, recorded: Recorded
    ) -> Predictor:
        """The model, ready to be asked.

        Raises:
            UntrustedError: loading could run code, and the digest is not recorded.
            ModelError: it cannot be loaded, or a setting cannot be honoured here.
        """


class FormatEngine(Engine):
    """Asks the model as its own library does."""

    def load(
        self, artifact: Artifact, settings: EngineSettings, *, recorded: Recorded
    ) -> Predictor:
        predictor = format_named(artifact.format).load(artifact, recorded=recorded)
        limit_threads(settings.num_threads)
        return predictor


def limit_threads(num_threads: int) -> None:
    """BLAS and OpenMP use so many threads from now on: in the whole process, which serves
    nothing else."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(num_threads)
