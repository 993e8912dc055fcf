"""Derived fields: what PMML computes from the inputs before a model reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ModelError
from raymlops.models.pmml.document import number

Values = NDArray[np.float64]
Scope = dict[str, Values]
"""Fields by name, each [rows]."""

_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": np.divide,
    "min": np.minimum,
    "max": np.maximum,
    "pow": np.power,
    "exp": np.exp,
    "ln": np.log,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "equal": np.equal,
    "notEqual": np.not_equal,
    "lessThan": np.less,
    "lessOrEqual": np.less_equal,
    "greaterThan": np.greater,
    "greaterOrEqual": np.greater_equal,
    "threshold": np.greater,
    "if": np.where,
}


def derive(fields: Iterable[Element], scope: Scope) -> Scope:
    """`scope` and the derived fields among `fields`, in their order."""
    known = dict(scope)
    for field in fields:
        if field.tag != "DerivedField":
            raise ModelError(f"pmml: <{field.tag}> among derived fields is not supported")
        known[field.get("name", "")] = derived(field, known)
    return known


def derived(field: Element, scope: Scope) -> Values:
    """The value of one derived field, rounded as its data type says."""
    expressions = [each for each in field if each.tag != "Extension"]
    if len(expressions) != 1:
        raise ModelError(f"pmml: field {field.get('name')} has {len(expressions)} expressions")
    values = np.asarray(evaluate(expressions[0], scope), np.float64)
    return (
        values.astype(np.float32).astype(np.float64) if field.get("dataType") == "float" else values
    )


def evaluate(expression: Element, scope: Scope) -> Any:
    """A field, a constant or a function of them, [rows] or a single value.

    Raises:
        ModelError: names the field, function or element that is unknown.
    """
    match expression.tag:
        case "FieldRef":
            return lookup(scope, expression.get("field", ""))
        case "Constant":
            return _constant(expression)
        case "NormContinuous":
            return _norm_continuous(expression, scope)
        case "NormDiscrete":
            values = lookup(scope, expression.get("field", ""))
            return (values == number(expression, "value")).astype(np.float64)
        case "Apply":
            return _apply(expression, scope)
    raise ModelError(f"pmml: the expression <{expression.tag}> is not supported")


def lookup(scope: Scope, name: str) -> Values:
    if name not in scope:
        raise ModelError(f"pmml: there is no field '{name}' to read; known: {', '.join(scope)}")
    return scope[name]


def _constant(expression: Element) -> float:
    try:
        return float(expression.text or "")
    except ValueError as error:
        raise ModelError(f"pmml: the constant {expression.text!r} is no number") from error


def _apply(expression: Element, scope: Scope) -> Any:
    name = expression.get("function", "")
    if name not in _FUNCTIONS:
        raise ModelError(f"pmml: the function '{name}' is not supported")
    arguments = [evaluate(each, scope) for each in expression if each.tag != "Extension"]
    try:
        return _FUNCTIONS[name](*arguments)
    except (TypeError, ValueError) as error:
        raise ModelError(f"pmml: '{name}' of {len(arguments)} arguments: {error}") from error


def _norm_continuous(expression: Element, scope: Scope) -> Values:
    """Piecewise linear, the outer pieces going on beyond their ends."""
    if expression.get("outliers", "asIs") != "asIs":
        raise ModelError(f"pmml: outliers='{expression.get('outliers')}' is not supported")
    values = lookup(scope, expression.get("field", ""))
    points = [(number(p, "orig"), number(p, "norm")) for p in expression.iter("LinearNorm")]
    if len(points) < 2:
        raise ModelError("pmml: <NormContinuous> has fewer than two <LinearNorm>")
    orig, norm = np.array(points).T
    piece = np.clip(np.searchsorted(orig, values, side="right") - 1, 0, len(points) - 2)
    slope = np.diff(norm) / np.diff(orig)
    result: Values = norm[piece] + (values - orig[piece]) * slope[piece]
    return result
