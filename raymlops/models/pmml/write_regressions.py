"""Linear and logistic regressions as PMML."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from raymlops.models.pmml.elements import Columns, Target, one_target, table


def write_linear(model: Any, columns: Columns, target: Target) -> Element:
    intercept = float(np.ravel(model.intercept_)[0])
    element = Element("RegressionModel", functionName="regression")
    one_target(model)
    table(element, columns, np.ravel(model.coef_), intercept)
    return element


def write_logistic(model: Any, columns: Columns, target: Target) -> Element:
    binary = len(target.classes) == 2
    element = Element(
        "RegressionModel",
        functionName="classification",
        normalizationMethod="logit" if binary else "softmax",
    )
    if binary:
        table(element, columns, model.coef_[0], float(model.intercept_[0]), target.classes[1])
        SubElement(element, "RegressionTable", intercept="0.0", targetCategory=target.classes[0])
        return element
    for name, weights, bias in zip(target.classes, model.coef_, model.intercept_, strict=True):
        table(element, columns, weights, float(bias), name)
    return element
