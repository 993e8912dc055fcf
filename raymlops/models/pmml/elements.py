"""What all models that are written share: target, schema and regression table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from raymlops.errors import ModelError

Columns = Sequence[str]
"""Names of the fields a model reads, in the order of its inputs."""


@dataclass(frozen=True, kw_only=True)
class Target:
    name: str
    classes: tuple[str, ...]

    @property
    def function(self) -> str:
        return "classification" if self.classes else "regression"


def table(
    parent: Element, columns: Columns, weights: Any, intercept: float, category: str | None = None
) -> None:
    table = SubElement(parent, "RegressionTable", intercept=repr(intercept))
    if category is not None:
        table.set("targetCategory", category)
    for name, weight in zip(columns, weights, strict=True):
        SubElement(table, "NumericPredictor", name=name, coefficient=repr(float(weight)))


def inner_schema(columns: Columns) -> Element:
    schema = Element("MiningSchema")
    for name in dict.fromkeys(columns):
        SubElement(schema, "MiningField", name=name)
    return schema


def one_target(model: Any) -> None:
    several = getattr(model, "n_outputs_", 1) > 1 or np.ndim(getattr(model, "coef_", [0])) > 1
    if several and not (hasattr(model, "classes_") and getattr(model, "n_outputs_", 1) == 1):
        raise ModelError(f"pmml cannot hold {type(model).__name__} of several targets")
