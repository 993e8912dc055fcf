"""Decision trees, forests and gradient boosting as PMML."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from raymlops.errors import ModelError
from raymlops.models.pmml.elements import Columns, Target, inner_schema, one_target, table


def write_tree(model: Any, columns: Columns, target: Target) -> Element:
    one_target(model)
    return _tree_model(model.tree_, columns, target.classes)


def _tree_model(
    tree: Any, columns: Columns, classes: Sequence[str], factor: float = 1.0
) -> Element:
    element = Element(
        "TreeModel",
        functionName="classification" if classes else "regression",
        splitCharacteristic="binarySplit",
        missingValueStrategy="none",
    )
    # A loop, because trees are deeper than Python's stack may be.
    pending: list[tuple[int, Element, Element]] = [(0, element, Element("True"))]
    while pending:
        index, parent, predicate = pending.pop()
        node = SubElement(parent, "Node", id=str(index))
        node.append(predicate)
        left, right = int(tree.children_left[index]), int(tree.children_right[index])
        if left == -1:
            _leaf(node, tree.value[index][0], int(tree.n_node_samples[index]), classes, factor)
            continue
        split = {
            "field": columns[tree.feature[index]],
            "value": repr(float(tree.threshold[index])),
        }
        pending.append((right, node, Element("SimplePredicate", split, operator="greaterThan")))
        pending.append((left, node, Element("SimplePredicate", split, operator="lessOrEqual")))
    return element


def _leaf(node: Element, value: Any, size: int, classes: Sequence[str], factor: float) -> None:
    if not classes:
        node.set("score", repr(float(value[0]) * factor))
        return
    shares = value / value.sum()
    node.set("score", classes[int(np.argmax(shares))])
    for name, share in zip(classes, shares, strict=True):
        SubElement(
            node,
            "ScoreDistribution",
            value=name,
            recordCount=repr(float(share) * size),
            probability=repr(float(share)),
        )


def write_forest(model: Any, columns: Columns, target: Target) -> Element:
    one_target(model)
    trees = (_tree_model(each.tree_, columns, target.classes) for each in model.estimators_)
    return _ensemble(trees, "average", target.function, columns)


def _ensemble(models: Iterable[Element], method: str, function: str, columns: Columns) -> Element:
    element = Element("MiningModel", functionName=function)
    segmentation = SubElement(element, "Segmentation", multipleModelMethod=method)
    for index, model in enumerate(models):
        segment = SubElement(segmentation, "Segment", id=str(index + 1))
        SubElement(segment, "True")
        model.insert(0, inner_schema(columns))
        segment.append(model)
    return element


def write_boosting(model: Any, columns: Columns, target: Target) -> Element:
    """A chain: a sum of trees a class, then a regression that reads the sums."""
    if model.init is not None:
        raise ModelError(f"pmml cannot hold {type(model).__name__}(init=...); leave it None")
    if target.classes and model.loss != "log_loss":
        raise ModelError(f"pmml cannot hold {type(model).__name__}(loss='{model.loss}')")
    stages = model.estimators_.T
    raw = [f"raw{index}" for index in range(len(stages))]
    chain = [
        _sum_of_trees(model, trees, columns, name) for trees, name in zip(stages, raw, strict=True)
    ]
    starts = _starts(model, len(columns))
    last = Element("RegressionModel", functionName=target.function)
    if not target.classes:
        table(last, raw, [1.0], starts[0])
    elif len(target.classes) == 2:
        last.set("normalizationMethod", "logit")
        table(last, raw, [1.0], starts[0], target.classes[1])
        SubElement(last, "RegressionTable", intercept="0.0", targetCategory=target.classes[0])
    else:
        last.set("normalizationMethod", "softmax")
        for name, category, start in zip(raw, target.classes, starts, strict=True):
            table(last, [name], [1.0], start, category)
    schema = inner_schema(raw)
    SubElement(schema, "MiningField", name=target.name, usageType="target")
    last.insert(0, schema)
    element = Element("MiningModel", functionName=target.function)
    segmentation = SubElement(element, "Segmentation", multipleModelMethod="modelChain")
    for index, each in enumerate([*chain, last]):
        segment = SubElement(segmentation, "Segment", id=str(index + 1))
        SubElement(segment, "True")
        segment.append(each)
    return element


def _sum_of_trees(model: Any, trees: Any, columns: Columns, name: str) -> Element:
    factor = model.learning_rate
    written = (_tree_model(tree.tree_, columns, (), factor) for tree in trees)
    element = _ensemble(written, "sum", "regression", columns)
    element.insert(0, inner_schema(columns))
    output = Element("Output")
    SubElement(
        output,
        "OutputField",
        name=name,
        optype="continuous",
        dataType="double",
        feature="predictedValue",
    )
    element.insert(1, output)
    return element


def _starts(model: Any, width: int) -> list[float]:
    """What boosting starts from, a value a class: its answer less that of its trees."""
    row = np.zeros((1, width))
    ask = model.decision_function if hasattr(model, "classes_") else model.predict
    total = np.atleast_1d(np.squeeze(ask(row)))
    grown = [
        model.learning_rate * sum(float(tree.predict(row)[0]) for tree in trees)
        for trees in model.estimators_.T
    ]
    return [float(value) for value in total - np.array(grown)]
