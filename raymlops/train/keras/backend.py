"""What TensorFlow brings to the Trainer."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import TrainingError
from raymlops.storage import Files
from raymlops.train.keras.spec import KerasSpec
from raymlops.train.keras.state import load_weights
from raymlops.train.keras.worker import PROGRESS, WEIGHTS, work
from raymlops.train.loop.progress import Progress
from raymlops.train.plan import Axis, ParallelPlan
from raymlops.train.plan.feasibility import Limits

if TYPE_CHECKING:
    from ray.train.backend import BackendConfig

_WHOLE = "TensorFlow's strategies copy the whole model to each worker: use data"
_CLOSED: Mapping[Axis | Literal["server"], str] = {
    "pipeline": _WHOLE,
    "shard": _WHOLE,
    "tensor": _WHOLE,
    "server": "TensorFlow's workers step copies of their own: set server to 0",
}

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KerasBackend:
    """Trains a `KerasSpec` by MultiWorkerMirroredStrategy, alone by MirroredStrategy."""

    spec: KerasSpec
    name = "keras"
    lighter = "a smaller batch_size, a plan with more of data, or a smaller model"

    @property
    def work(self) -> Callable[[dict[str, Any]], None]:
        return work

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables of the workers, which TensorFlow and Keras read when they are imported."""
        return {
            "KERAS_BACKEND": "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_USE_LEGACY_KERAS": "1" if self.spec.loop == "fit" else "0",
        }

    def ray_config(self, plan: ParallelPlan) -> BackendConfig:
        from raymlops.train.keras.rendezvous import Rendezvous

        if plan.data > 1:
            _logger.warning(
                "TensorFlow's workers listen on every interface of their machines, and trust "
                "whoever connects: train where nobody else can"
            )
        return Rendezvous()

    def limits(self, plan: ParallelPlan, limits: Limits) -> Limits:
        self._require_installed()
        return replace(limits, closed=_CLOSED)

    def progress(self, folder: str) -> Progress:
        return Progress.from_dict(json.loads(Files(folder).read(PROGRESS)))

    def weights(self, folder: str) -> Mapping[str, NDArray[Any]]:
        with np.load(io.BytesIO(Files(folder).read(WEIGHTS)), allow_pickle=False) as arrays:
            return dict(arrays)

    def model(self, folder: str) -> Any:
        """A model of this process's `tensorflow.keras`, which is Keras 3 unless told otherwise."""
        model = self.spec.model.make()
        load_weights(model, self.weights(folder))
        return model

    def _require_installed(self) -> None:
        if find_spec("tensorflow") is None:
            raise TrainingError(
                "a KerasSpec needs TensorFlow: pip install 'raymlops[tensorflow]', or "
                "'raymlops[tensorflow-cpu]' on machines without a GPU"
            )
        if self.spec.loop == "fit" and find_spec("tf_keras") is None:
            raise TrainingError(
                "loop 'fit' needs tf_keras: pip install 'raymlops[tf-keras]', or, beside "
                "tensorflow-cpu, pip install --no-deps tf-keras; or set loop to 'custom'"
            )
