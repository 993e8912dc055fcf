"""scikit-learn's estimators as models of PMML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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


def _regression(model: Any, columns: Columns, target: Target) -> Element:
    intercept = float(np.ravel(model.intercept_)[0])
    element = Element("RegressionModel", functionName="regression")
    _one_target(model)
    _table(element, columns, np.ravel(model.coef_), intercept)
    return element


def _logistic(model: Any, columns: Columns, target: Target) -> Element:
    binary = len(target.classes) == 2
    element = Element(
        "RegressionModel",
        functionName="classification",
        normalizationMethod="logit" if binary else "softmax",
    )
    if binary:
        _table(element, columns, model.coef_[0], float(model.intercept_[0]), target.classes[1])
        SubElement(element, "RegressionTable", intercept="0.0", targetCategory=target.classes[0])
        return element
    for name, weights, bias in zip(target.classes, model.coef_, model.intercept_, strict=True):
        _table(element, columns, weights, float(bias), name)
    return element


def _table(
    parent: Element, columns: Columns, weights: Any, intercept: float, category: str | None = None
) -> None:
    table = SubElement(parent, "RegressionTable", intercept=repr(intercept))
    if category is not None:
        table.set("targetCategory", category)
    for name, weight in zip(columns, weights, strict=True):
        SubElement(table, "NumericPredictor", name=name, coefficient=repr(float(weight)))


def _tree(model: Any, columns: Columns, target: Target) -> Element:
    _one_target(model)
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


def _forest(model: Any, columns: Columns, target: Target) -> Element:
    _one_target(model)
    trees = (_tree_model(each.tree_, columns, target.classes) for each in model.estimators_)
    return _ensemble(trees, "average", target.function, columns)


def _ensemble(models: Iterable[Element], method: str, function: str, columns: Columns) -> Element:
    element = Element("MiningModel", functionName=function)
    segmentation = SubElement(element, "Segmentation", multipleModelMethod=method)
    for index, model in enumerate(models):
        segment = SubElement(segmentation, "Segment", id=str(index + 1))
        SubElement(segment, "True")
        model.insert(0, _inner_schema(columns))
        segment.append(model)
    return element


def _boosting(model: Any, columns: Columns, target: Target) -> Element:
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
        _table(last, raw, [1.0], starts[0])
    elif len(target.classes) == 2:
        last.set("normalizationMethod", "logit")
        _table(last, raw, [1.0], starts[0], target.classes[1])
        SubElement(last, "RegressionTable", intercept="0.0", targetCategory=target.classes[0])
    else:
        last.set("normalizationMethod", "softmax")
        for name, category, start in zip(raw, target.classes, starts, strict=True):
            _table(last, [name], [1.0], start, category)
    schema = _inner_schema(raw)
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
    element.insert(0, _inner_schema(columns))
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


_ACTIVATIONS = {"identity": "identity", "logistic": "logistic", "tanh": "tanh", "relu": "rectifier"}


def _perceptron(model: Any, columns: Columns, target: Target) -> Element:
    if model.n_outputs_ > 1 and not target.classes:
        raise ModelError(f"pmml cannot hold {type(model).__name__} of {model.n_outputs_} outputs")
    if model.out_activation_ not in {"identity", "logistic", "softmax"}:
        raise ModelError(f"pmml cannot hold the output activation '{model.out_activation_}'")
    element = Element(
        "NeuralNetwork",
        functionName=target.function,
        activationFunction=_ACTIVATIONS[model.activation],
    )
    inputs = SubElement(element, "NeuralInputs", numberOfInputs=str(len(columns)))
    for index, name in enumerate(columns):
        neuron = SubElement(inputs, "NeuralInput", id=f"0,{index}")
        field = SubElement(neuron, "DerivedField", optype="continuous", dataType="double")
        SubElement(field, "FieldRef", field=name)
    last = len(model.coefs_)
    for depth, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True), 1):
        layer = _layer(element, depth, weights, bias)
        if depth == last:
            softmax = model.out_activation_ == "softmax"
            layer.set("activationFunction", "identity" if softmax else model.out_activation_)
            if softmax:
                layer.set("normalizationMethod", "softmax")
    if len(target.classes) == 2:  # one neuron p becomes two: 1 - p and p
        last += 1
        both = _layer(element, last, np.array([[-1.0, 1.0]]), np.array([1.0, 0.0]))
        both.set("activationFunction", "identity")
    _neural_outputs(element, last, target)
    return element


def _layer(parent: Element, depth: int, weights: Any, bias: Any) -> Element:
    """`weights` are [inputs, neurons]."""
    layer = SubElement(parent, "NeuralLayer", numberOfNeurons=str(len(bias)))
    for index in range(len(bias)):
        neuron = SubElement(layer, "Neuron", id=f"{depth},{index}", bias=repr(float(bias[index])))
        for source in range(len(weights)):
            weight = repr(float(weights[source, index]))
            SubElement(neuron, "Con", {"from": f"{depth - 1},{source}", "weight": weight})
    return layer


def _neural_outputs(parent: Element, depth: int, target: Target) -> None:
    names = target.classes or (None,)
    outputs = SubElement(parent, "NeuralOutputs", numberOfOutputs=str(len(names)))
    for index, name in enumerate(names):
        output = SubElement(outputs, "NeuralOutput", outputNeuron=f"{depth},{index}")
        kind = {"optype": "continuous", "dataType": "double"}
        if name is not None:
            kind = {"optype": "categorical", "dataType": "string"}
        field = SubElement(output, "DerivedField", kind)
        if name is None:
            SubElement(field, "FieldRef", field=target.name)
        else:
            SubElement(field, "NormDiscrete", field=target.name, value=name)


def _inner_schema(columns: Columns) -> Element:
    schema = Element("MiningSchema")
    for name in dict.fromkeys(columns):
        SubElement(schema, "MiningField", name=name)
    return schema


def _one_target(model: Any) -> None:
    several = getattr(model, "n_outputs_", 1) > 1 or np.ndim(getattr(model, "coef_", [0])) > 1
    if several and not (hasattr(model, "classes_") and getattr(model, "n_outputs_", 1) == 1):
        raise ModelError(f"pmml cannot hold {type(model).__name__} of several targets")


WRITERS: Mapping[str, Callable[[Any, Columns, Target], Element]] = {
    "LinearRegression": _regression,
    "Ridge": _regression,
    "Lasso": _regression,
    "ElasticNet": _regression,
    "LogisticRegression": _logistic,
    "DecisionTreeClassifier": _tree,
    "DecisionTreeRegressor": _tree,
    "RandomForestClassifier": _forest,
    "RandomForestRegressor": _forest,
    "ExtraTreesClassifier": _forest,
    "ExtraTreesRegressor": _forest,
    "GradientBoostingClassifier": _boosting,
    "GradientBoostingRegressor": _boosting,
    "MLPClassifier": _perceptron,
    "MLPRegressor": _perceptron,
}
