"""What a model says of classes and of numbers, told from its outputs.

A bundle's postprocessing gives a score and the label it stands for, such as `probability` and
`late`: two classes, late and not late. Of several classes it gives the probabilities of all.
"""

from __future__ import annotations

from typing import Any

from raymlops.errors import RequestError
from raymlops.models import PROBABILITIES, Field
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.datatypes import FLOATS
from raymlops.serve.protocols.replies import plain_outputs


def check_classifies(form: Form) -> None:
    """Raises RequestError, 400, when the model gives no score of a label."""
    if not form.signature.classes and (_score(form) is None or _label(form) is None):
        raise RequestError(400, f"the model is no classifier: it gives {_given(form)}; :predict it")


def check_regresses(form: Form) -> None:
    """Raises RequestError, 400, when the model gives no number a row, or only how sure it is."""
    if form.signature.classes:
        raise RequestError(400, "the model tells classes apart, and gives no number; :classify it")
    if _score(form) is None:
        raise RequestError(400, f"the model gives no number: it gives {_given(form)}; :predict it")


def classes(result: Result) -> list[list[tuple[str, float]]]:
    """For each row all classes with their scores."""
    if several := tuple(map(str, result.form.signature.classes)):
        (rows,) = plain_outputs(result, [PROBABILITIES]).values()
        return [list(zip(several, row, strict=True)) for row in rows]
    label = _label(result.form)
    assert label is not None, "check_classifies was called"
    return [[(label, score), (f"not {label}", 1.0 - score)] for score in values(result)]


def values(result: Result) -> list[Any]:
    """The number that the model gives for each row."""
    score = _score(result.form)
    assert score is not None, "check_regresses was called"
    return plain_outputs(result, [score])[score]


def _score(form: Form) -> str | None:
    return _first(form, lambda field: field.datatype in FLOATS)


def _label(form: Form) -> str | None:
    return _first(form, lambda field: field.datatype == "BOOL")


def _first(form: Form, fits: Any) -> str | None:
    def one_a_row(field: Field) -> bool:
        return not field.shape and fits(field)

    return next((field.name for field in form.outputs.values() if one_a_row(field)), None)


def _given(form: Form) -> str:
    return ", ".join(f"{field.name} ({field.datatype})" for field in form.outputs.values())
