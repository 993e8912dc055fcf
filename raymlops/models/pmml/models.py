"""The models of PMML, each evaluated on whole columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element

import numpy as np
from scipy.special import expit, softmax

from raymlops.errors import ModelError
from raymlops.models.pmml.document import child, number
from raymlops.models.pmml.expressions import Scope, Values, derive, derived, evaluate, lookup
from raymlops.models.pmml.trees import evaluate_tree


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says: `value` [rows] of a regression, probabilities by class, and the output
    fields that models further down a chain may read."""

    value: Values | None = None
    probabilities: Mapping[str, Values] = field(default_factory=dict)
    outputs: Scope = field(default_factory=dict)


def evaluate_model(model: Element, scope: Scope) -> Answer:
    """Raises ModelError naming what is not supported."""
    _refuse_treatments(model)
    local = model.find("LocalTransformations")
    scope = derive(local if local is not None else (), scope)
    answer = _EVALUATE[model.tag](model, scope)
    answer = _rescaled(model, answer)
    return Answer(
        value=answer.value,
        probabilities=answer.probabilities,
        outputs=_outputs(model, answer, scope),
    )


def model_of(element: Element) -> Element:
    """The model below `element`.

    Raises:
        ModelError: there is none, or of a kind that is not supported.
    """
    for each in element:
        if each.tag in _EVALUATE:
            return each
    found = [each.tag for each in element if each.tag.endswith(("Model", "Network", "Scorecard"))]
    raise ModelError(
        f"pmml: {', '.join(found) or 'no model'} in <{element.tag}>; supported are "
        f"{', '.join(_EVALUATE)}"
    )


def _refuse_treatments(model: Element) -> None:
    """Raises ModelError for instructions on bad values: they would silently not be followed."""
    for each in model.iterfind("MiningSchema/MiningField"):
        for attribute in ("missingValueReplacement", "outliers"):
            if each.get(attribute, "asIs") != "asIs":
                raise ModelError(f"pmml: {attribute} of {each.get('name')} is not supported")


def _regression(model: Element, scope: Scope) -> Answer:
    tables = model.findall("RegressionTable")
    scores = [_linear(table, scope) for table in tables]
    normalization = model.get("normalizationMethod", "none")
    if model.get("functionName") == "regression":
        if len(scores) != 1:
            raise ModelError(f"pmml: a regression of {len(scores)} tables")
        return Answer(value=_link(normalization, scores[0]))
    classes = [table.get("targetCategory", "") for table in tables]
    match normalization:
        case "softmax":
            shares = list(softmax(np.stack(scores), axis=0))
        case "logit" if len(scores) == 2:
            first = expit(scores[0])
            shares = [first, 1.0 - first]
        case "none" if len(scores) == 2:  # the second table is the remainder
            shares = [scores[0], 1.0 - scores[0]]
        case "simplemax":
            total = np.sum(scores, axis=0)
            shares = [score / total for score in scores]
        case other:
            raise ModelError(
                f"pmml: normalizationMethod '{other}' of {len(scores)} classes is not supported"
            )
    return Answer(probabilities=dict(zip(classes, shares, strict=True)))


def _link(name: str, score: Values) -> Values:
    match name:
        case "none" | "identity":
            return score
        case "logit" | "softmax":
            logistic: Values = expit(score)
            return logistic
        case "exp":
            return np.exp(score)
    raise ModelError(f"pmml: normalizationMethod '{name}' of a regression is not supported")


def _linear(table: Element, scope: Scope) -> Values:
    rows = len(next(iter(scope.values())))
    total = np.full(rows, number(table, "intercept", 0.0))
    for term in table:
        if term.tag == "Extension":
            continue
        if term.tag != "NumericPredictor":
            raise ModelError(f"pmml: <{term.tag}> in a regression is not supported")
        value = lookup(scope, term.get("name", ""))
        total += number(term, "coefficient") * value ** number(term, "exponent", 1.0)
    return total


def _tree(model: Element, scope: Scope) -> Answer:
    value, probabilities = evaluate_tree(model, scope)
    return Answer(value=value, probabilities=probabilities)


def _mining(model: Element, scope: Scope) -> Answer:
    segmentation = child(model, "Segmentation")
    method = segmentation.get("multipleModelMethod", "")
    segments = segmentation.findall("Segment")
    for segment in segments:
        if segment.find("True") is None:
            raise ModelError("pmml: a segment with a condition is not supported")
    if not segments:
        raise ModelError("pmml: <Segmentation> has no segments")
    if method == "modelChain":
        known, answer = dict(scope), Answer()
        for segment in segments:
            answer = evaluate_model(model_of(segment), known)
            known |= answer.outputs
        return answer
    if method not in {"sum", "average", "weightedAverage"}:
        raise ModelError(f"pmml: multipleModelMethod '{method}' is not supported")
    weights = [
        number(each, "weight", 1.0) if method == "weightedAverage" else 1.0 for each in segments
    ]
    answers = [evaluate_model(model_of(segment), scope) for segment in segments]
    divisor = 1.0 if method == "sum" else sum(weights)
    return _combined(answers, [weight / divisor for weight in weights])


def _combined(answers: list[Answer], weights: list[float]) -> Answer:
    def total(values: list[Values]) -> Values:
        return np.asarray(
            sum(weight * value for weight, value in zip(weights, values, strict=True))
        )

    if classes := answers[0].probabilities.keys():
        return Answer(
            probabilities={
                name: total([answer.probabilities[name] for answer in answers]) for name in classes
            }
        )
    return Answer(value=total([_value(answer) for answer in answers]))


def _network(model: Element, scope: Scope) -> Answer:
    neurons: dict[str, Values] = {}
    for neuron in child(model, "NeuralInputs").iterfind("NeuralInput"):
        neurons[neuron.get("id", "")] = derived(child(neuron, "DerivedField"), scope)
    for layer in model.iterfind("NeuralLayer"):
        neurons |= _layer(model, layer, neurons)
    value: Values | None = None
    probabilities: dict[str, Values] = {}
    for output in child(model, "NeuralOutputs").iterfind("NeuralOutput"):
        answered = lookup(neurons, output.get("outputNeuron", ""))
        (expression,) = [e for e in child(output, "DerivedField") if e.tag != "Extension"]
        if expression.tag == "NormDiscrete":
            probabilities[expression.get("value", "")] = answered
        elif expression.tag == "FieldRef":
            value = answered
        else:
            raise ModelError(f"pmml: <{expression.tag}> of a neural output is not supported")
    return Answer(value=value, probabilities=probabilities)


_ACTIVATIONS: Mapping[str, Callable[[Values], Values]] = {
    "identity": lambda values: values,
    "logistic": expit,
    "tanh": np.tanh,
    "rectifier": lambda values: np.maximum(values, 0.0),
}


def _layer(model: Element, layer: Element, neurons: Mapping[str, Values]) -> dict[str, Values]:
    activation = layer.get("activationFunction", model.get("activationFunction", ""))
    if activation not in _ACTIVATIONS:
        raise ModelError(f"pmml: activationFunction '{activation}' is not supported")
    normalization = layer.get("normalizationMethod", model.get("normalizationMethod", "none"))
    sums: dict[str, Values] = {}
    for neuron in layer.iterfind("Neuron"):
        total: Values = np.asarray(number(neuron, "bias", 0.0))
        for synapse in neuron.iterfind("Con"):
            source = lookup(dict(neurons), synapse.get("from", ""))
            total = total + number(synapse, "weight") * source
        sums[neuron.get("id", "")] = _ACTIVATIONS[activation](total)
    match normalization:
        case "none":
            return sums
        case "softmax":
            shares = softmax(np.stack(list(sums.values())), axis=0)
            return dict(zip(sums, shares, strict=True))
    raise ModelError(f"pmml: normalizationMethod '{normalization}' of a layer is not supported")


def _rescaled(model: Element, answer: Answer) -> Answer:
    target = model.find("Targets/Target")
    if target is None or answer.value is None:
        return answer
    if target.get("castInteger") or target.get("min") or target.get("max"):
        raise ModelError("pmml: castInteger, min and max of a target are not supported")
    factor, constant = number(target, "rescaleFactor", 1.0), number(target, "rescaleConstant", 0.0)
    return Answer(value=answer.value * factor + constant, probabilities=answer.probabilities)


def _outputs(model: Element, answer: Answer, scope: Scope) -> Scope:
    outputs: Scope = {}
    for each in model.iterfind("Output/OutputField"):
        name = each.get("name", "")
        match each.get("feature", "predictedValue"):
            case "probability":
                category = each.get("value", "")
                if category not in answer.probabilities:
                    raise ModelError(f"pmml: output {name} is of an unknown class '{category}'")
                outputs[name] = answer.probabilities[category]
            case "predictedValue" if answer.value is not None:
                outputs[name] = answer.value
            case "transformedValue":
                (expression,) = [e for e in each if e.tag != "Extension"]
                values = np.asarray(evaluate(expression, scope | outputs), np.float64)
                outputs[name] = values
    return outputs


def _value(answer: Answer) -> Values:
    if answer.value is None:
        raise ModelError("pmml: segments that classify and segments that do not are mixed")
    return answer.value


_EVALUATE: Mapping[str, Callable[[Element, Scope], Answer]] = {
    "RegressionModel": _regression,
    "TreeModel": _tree,
    "MiningModel": _mining,
    "NeuralNetwork": _network,
}
