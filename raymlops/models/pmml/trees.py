"""Decision trees of PMML: rows are split down the nodes, all of them at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from raymlops.errors import ModelError
from raymlops.models.pmml.document import number
from raymlops.models.pmml.expressions import Scope, Values, lookup

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "equal": operator.eq,
    "notEqual": operator.ne,
    "lessThan": operator.lt,
    "lessOrEqual": operator.le,
    "greaterThan": operator.gt,
    "greaterOrEqual": operator.ge,
}
_PREDICATES = {"True", "False", "SimplePredicate", "CompoundPredicate"}


def evaluate_tree(model: Element, scope: Scope) -> tuple[Values | None, dict[str, Values]]:
    """The value of each row in a regression tree, or the probability of each class.

    Raises:
        ModelError: a row reaches no leaf, or a predicate is not supported.
    """
    num_rows = len(next(iter(scope.values())))
    classifies = model.get("functionName") == "classification"
    values = np.full(num_rows, np.nan)
    shares: dict[str, Values] = {}
    pending: list[tuple[Element, NDArray[np.int64]]] = []
    root = model.find("Node")
    if root is not None:
        pending.append((root, np.arange(num_rows)))
    while pending:
        node, rows = pending.pop()
        children = node.findall("Node")
        for each in children:
            chosen = _holds(each, scope, rows)
            pending.append((each, rows[chosen]))
            rows = rows[~chosen]
        if children and len(rows):
            raise ModelError(f"pmml: {len(rows)} rows find no branch below node {node.get('id')}")
        if children:
            continue
        if not classifies:
            values[rows] = number(node, "score")
            continue
        for name, share in _distribution(node).items():
            shares.setdefault(name, np.zeros(num_rows))[rows] = share
        values[rows] = 0.0
    if np.isnan(values).any():
        raise ModelError(f"pmml: row {int(np.argmax(np.isnan(values)))} reaches no leaf of a tree")
    return (None, shares) if classifies else (values, {})


def _distribution(node: Element) -> dict[str, float]:
    leaves = node.findall("ScoreDistribution")
    if not leaves:
        return {node.get("score", ""): 1.0}
    if all(leaf.get("probability") for leaf in leaves):
        return {leaf.get("value", ""): number(leaf, "probability") for leaf in leaves}
    counts = {leaf.get("value", ""): number(leaf, "recordCount") for leaf in leaves}
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()}


def _holds(node: Element, scope: Scope, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    predicate = next((each for each in node if each.tag in _PREDICATES), None)
    if predicate is None:
        raise ModelError(f"pmml: node {node.get('id')} has no predicate that is supported")
    return _decide(predicate, scope, rows)


def _decide(predicate: Element, scope: Scope, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    match predicate.tag:
        case "True":
            return np.ones(len(rows), np.bool_)
        case "False":
            return np.zeros(len(rows), np.bool_)
        case "SimplePredicate":
            compare = _COMPARE.get(predicate.get("operator", ""))
            if compare is None:
                raise ModelError(f"pmml: operator '{predicate.get('operator')}' is not supported")
            values = lookup(scope, predicate.get("field", ""))[rows]
            return np.asarray(compare(values, number(predicate, "value")), np.bool_)
        case "CompoundPredicate":
            parts = [_decide(p, scope, rows) for p in predicate if p.tag != "Extension"]
            match predicate.get("booleanOperator"):
                case "and":
                    return np.asarray(np.logical_and.reduce(parts))
                case "or":
                    return np.asarray(np.logical_or.reduce(parts))
    raise ModelError(
        f"pmml: <{predicate.tag} {predicate.get('booleanOperator', '')}> is not supported"
    )
