"""Scores PMML in numpy, without a Java machine."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ModelError
from raymlops.models.pmml.document import child, parse
from raymlops.models.pmml.expressions import Scope, derive
from raymlops.models.pmml.models import evaluate_model, model_of

_TARGETS = {"target", "predicted"}
_NUMBERS = {"double", "float", "integer"}


class PmmlScorer:
    """Class probabilities [rows, k], in the order of `classes`, or values [rows].

    Raises:
        ModelError: names what the document holds that is not supported.
    """

    def __init__(self, data: bytes) -> None:
        root = parse(data)
        self._model = model_of(root)
        self._dictionary = root.find("TransformationDictionary")
        application = root.find("Header/Application")
        self.producer = (
            None
            if application is None
            else f"{application.get('name')} {application.get('version') or ''}".strip()
        )
        fields = {
            each.get("name", ""): each
            for each in child(root, "DataDictionary").iterfind("DataField")
        }
        used = {
            each.get("name", ""): each.get("usageType", "active")
            for each in self._model.iterfind("MiningSchema/MiningField")
        }
        self.target = next((name for name, usage in used.items() if usage in _TARGETS), None)
        self.inputs = tuple(name for name in fields if used.get(name) == "active")
        for name in self.inputs:
            if fields[name].get("dataType") not in _NUMBERS:
                raise ModelError(
                    f"pmml: input '{name}' is of type {fields[name].get('dataType')}; only numbers "
                    "are supported"
                )
        self.classes = self._classes(fields.get(self.target or ""))
        # Everything is evaluated once, on a row that means nothing: what is not supported is
        # found here and not at the first request.
        if self.inputs:
            self(np.zeros((1, len(self.inputs)), np.float32))
        else:
            raise ModelError("pmml: the model has no inputs")

    def __call__(self, matrix: NDArray[np.float32], /) -> NDArray[Any]:
        if matrix.ndim != 2 or matrix.shape[1] != len(self.inputs):
            raise ModelError(f"pmml: matrix {list(matrix.shape)}, not [rows, {len(self.inputs)}]")
        rows = np.asarray(matrix, np.float64)
        if np.isnan(rows).any():
            row, column = np.argwhere(np.isnan(rows))[0]
            raise ModelError(f"pmml: row {row} of '{self.inputs[column]}' is missing")
        scope: Scope = dict(zip(self.inputs, rows.T, strict=True))
        scope = derive(self._dictionary if self._dictionary is not None else (), scope)
        answer = evaluate_model(self._model, scope)
        if not self.classes:
            if answer.value is None:
                raise ModelError("pmml: the model classifies, but its target lists no classes")
            return answer.value
        zeros = np.zeros(len(rows))
        if unknown := answer.probabilities.keys() - {*self.classes}:
            raise ModelError(f"pmml: classes {sorted(unknown)} are not among {self.classes}")
        return np.stack([answer.probabilities.get(name, zeros) for name in self.classes], axis=1)

    def _classes(self, target: Element | None) -> tuple[str, ...]:
        if self._model.get("functionName") != "classification":
            return ()
        values = () if target is None else target.findall("Value")
        return tuple(value.get("value", "") for value in values)
