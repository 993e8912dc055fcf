"""Perceptrons as PMML."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from raymlops.errors import ModelError
from raymlops.models.pmml.elements import Columns, Target

_ACTIVATIONS = {"identity": "identity", "logistic": "logistic", "tanh": "tanh", "relu": "rectifier"}


def write_perceptron(model: Any, columns: Columns, target: Target) -> Element:
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
