"""What the Open Inference Protocol asks of a model, however it is carried: REST or gRPC."""

from __future__ import annotations

from typing import Any

from raymlops.errors import RequestError
from raymlops.serve.inference import Inference
from raymlops.serve.protocols.open_inference import describe
from raymlops.serve.versions.loaded import LoadedVersion
from raymlops.serve.witnesses.statistics import Tally


class Service:
    """Answers about the one model that this replica serves; an empty version is none named."""

    def __init__(self, inference: Inference) -> None:
        self.inference = inference

    def loaded(self, model: str, version: str | None) -> LoadedVersion:
        """Raises RequestError: 404 without such a version, 503 before any is loaded."""
        self.inference.check_model(model)
        arms = self.inference.arms
        return (arms.of_version(version) if version else arms.of_key(""))[1]

    def is_ready(self) -> bool:
        return bool(self.inference.arms.versions)

    def metadata(self, model: str, version: str | None) -> dict[str, Any]:
        loaded = self.loaded(model, version)
        versions = (loaded.version,) if version else self.inference.arms.versions
        format = loaded.bundle.format
        return describe.model_metadata(model, versions, loaded.signature, format=format)

    def statistics(self, model: str | None, version: str | None) -> dict[str, Any]:
        if model:
            self.loaded(model, version)
        tallies = self.inference.statistics.of
        loaded = self.inference.arms.versions if not version else (version,)
        return describe.statistics(
            self.inference.model, {name: tallies.get(name) or Tally() for name in loaded}
        )

    def index(self) -> list[dict[str, Any]]:
        return describe.repository_index(self.inference.model, self.inference.arms.versions)

    def load(self, model: str) -> None:
        """Returns quietly when the model is loaded, as by the traffic table it is."""
        self.loaded(model, None)

    def unload(self, model: str) -> None:
        """Raises RequestError, 403: what is loaded follows from decisions, not from requests."""
        self.inference.check_model(model)
        raise RequestError(
            403,
            "what is loaded follows the model's traffic table, and a change of that is a decision "
            f"with a reason: `raymlops undeploy {model}`, `raymlops deploy {model}@VERSION` or "
            f"`raymlops release {model}@VERSION --why ...`",
        )
