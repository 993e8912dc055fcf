"""PMML: models as XML that other tools read; see `raymlops.models.pmml` for what is covered."""

from __future__ import annotations

from typing import Any

from raymlops.models.artifact import Artifact
from raymlops.models.formats.base import Facts, Format, Tensor
from raymlops.models.pmml import PmmlScorer, to_pmml
from raymlops.models.predictors import Matrix


class Pmml(Format):
    """Written from scikit-learn, read by a scorer in numpy; XML entities are refused."""

    name = "pmml"
    suffixes = (".pmml",)
    kinds = frozenset({"sklearn"})
    runs_code = False
    tolerance = 1e-9
    packages = ("defusedxml",)
    extra = "formats"

    def facts(self, artifact: Artifact) -> Facts:
        scorer = PmmlScorer(artifact.data)
        outputs = (
            Tensor(name="probabilities", datatype="FP64", shape=(None, len(scorer.classes))),
        )
        values = (Tensor(name=scorer.target or "value", datatype="FP64", shape=(None,)),)
        return Facts(
            producer=scorer.producer,
            inputs=tuple(
                Tensor(name=name, datatype="FP32", shape=(None,)) for name in scorer.inputs
            ),
            outputs=outputs if scorer.classes else values,
        )

    def _save(self, model: Any, sample: Matrix) -> Artifact:
        return Artifact(format=self.name, data=to_pmml(model))

    def _restore(self, artifact: Artifact) -> PmmlScorer:
        return PmmlScorer(artifact.data)
