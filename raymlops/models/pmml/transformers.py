"""scikit-learn's transformers as derived fields of PMML."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from raymlops.errors import ModelError


class Fields:
    """Adds derived fields below `parent`, under names nobody has."""

    def __init__(self, parent: Element, taken: Sequence[str]) -> None:
        self._parent = parent
        self._taken = set(taken)

    def add(self, base: str, expression: Element, *, datatype: str = "double") -> str:
        name = base
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        field = SubElement(
            self._parent, "DerivedField", name=name, optype="continuous", dataType=datatype
        )
        field.append(expression)
        return name

    def as_float32(self, columns: Sequence[str], inputs: Sequence[str]) -> list[str]:
        """Rounded to float32, as scikit-learn's trees read them; inputs are float32 already."""
        return [
            name
            if name in inputs
            else self.add(f"float({name})", Element("FieldRef", field=name), datatype="float")
            for name in columns
        ]


def write_transformer(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    """Adds what `step` makes of `columns` and returns the names of the result.

    Raises:
        ModelError: names the transformer or parameter that cannot be written.
    """
    if isinstance(step, str):
        return _passed(step, columns)
    kind = type(step).__name__
    if kind not in _WRITERS or not type(step).__module__.startswith("sklearn."):
        raise ModelError(
            f"pmml cannot hold the transformer {kind}; it can hold {', '.join(_WRITERS)}"
        )
    return _WRITERS[kind](step, columns, fields)


def apply(function: str, *arguments: str | float) -> Element:
    """A call on fields, by name, and numbers."""
    element = Element("Apply", function=function)
    for argument in arguments:
        if isinstance(argument, str):
            SubElement(element, "FieldRef", field=argument)
        else:
            SubElement(element, "Constant", dataType="double").text = repr(float(argument))
    return element


def _passed(step: str, columns: Sequence[str]) -> list[str]:
    return [] if step == "drop" else list(columns)


def _standard(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    means = step.mean_ if step.with_mean else np.zeros(len(columns))
    scales = step.scale_ if step.with_std else np.ones(len(columns))
    written = []
    for name, mean, scale in zip(columns, means, scales, strict=True):
        quotient = apply("/")
        quotient.append(apply("-", name, float(mean)))
        SubElement(quotient, "Constant", dataType="double").text = repr(float(scale))
        written.append(fields.add(f"standard({name})", quotient))
    return written


def _min_max(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    if step.clip:
        raise ModelError("pmml cannot hold MinMaxScaler(clip=True)")
    written = []
    for name, scale, low in zip(columns, step.scale_, step.min_, strict=True):
        total = apply("+")
        total.append(apply("*", name, float(scale)))
        SubElement(total, "Constant", dataType="double").text = repr(float(low))
        written.append(fields.add(f"minmax({name})", total))
    return written


def _max_abs(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    return [
        fields.add(f"maxabs({name})", apply("/", name, float(scale)))
        for name, scale in zip(columns, step.scale_, strict=True)
    ]


def _one_hot(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    """0 for a category never seen: `handle_unknown="error"` cannot be written."""
    if step.handle_unknown != "ignore":
        raise ModelError(
            f"pmml cannot hold OneHotEncoder(handle_unknown='{step.handle_unknown}'): PMML gives "
            "0 for unknown categories; fit it with handle_unknown='ignore'"
        )
    if step.min_frequency is not None or step.max_categories is not None:
        raise ModelError("pmml cannot hold OneHotEncoder with infrequent categories")
    written = []
    for index, (name, categories) in enumerate(zip(columns, step.categories_, strict=True)):
        dropped = None if step.drop_idx_ is None else step.drop_idx_[index]
        for position, category in enumerate(categories):
            if position == dropped:
                continue
            if not isinstance(category, int | float | np.number):
                raise ModelError(f"pmml: category {category!r} of {name} is no number")
            choice = Element("Apply", function="if")
            choice.append(apply("equal", name, float(category)))
            for value in ("1.0", "0.0"):
                SubElement(choice, "Constant", dataType="double").text = value
            written.append(fields.add(f"{name}={float(category):g}", choice))
    return written


def _column_transformer(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    written: list[str] = []
    for _, transformer, chosen in step.transformers_:
        picked = _picked(columns, chosen)
        if picked:
            written += write_transformer(transformer, picked, fields)
    return written


def _picked(columns: Sequence[str], chosen: Any) -> list[str]:
    """The columns a ColumnTransformer was told to use: by name, number, slice or mask."""
    if isinstance(chosen, slice):
        return list(columns[chosen])
    wanted = np.atleast_1d(np.asarray(chosen))
    if wanted.dtype == np.bool_:
        return [name for name, keep in zip(columns, wanted, strict=True) if keep]
    return [str(each) if isinstance(each, str) else columns[int(each)] for each in wanted]


def _pipeline(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    names = list(columns)
    for _, each in step.steps:
        names = write_transformer(each, names, fields)
    return names


def _function(step: Any, columns: Sequence[str], fields: Fields) -> list[str]:
    """A ColumnTransformer passes its remainder through one that has no function."""
    if step.func is not None:
        raise ModelError("pmml cannot hold FunctionTransformer with a function")
    return list(columns)


_WRITERS: Mapping[str, Callable[[Any, Sequence[str], Fields], list[str]]] = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "MaxAbsScaler": _max_abs,
    "OneHotEncoder": _one_hot,
    "ColumnTransformer": _column_transformer,
    "Pipeline": _pipeline,
    "FunctionTransformer": _function,
}
