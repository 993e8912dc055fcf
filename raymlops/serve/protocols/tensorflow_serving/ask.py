"""Requests to predict, classify and regress, as TensorFlow Serving's REST API has them.

https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from raymlops.data import Column
from raymlops.errors import RequestError
from raymlops.serve.form import Form
from raymlops.serve.inference import About, Result
from raymlops.serve.protocols.base import BaseAsk
from raymlops.serve.protocols.documents import about, load, mapping, sequence, shown
from raymlops.serve.protocols.replies import answered, plain_outputs, records
from raymlops.serve.protocols.tensorflow_serving.base64 import unwrap
from raymlops.serve.protocols.tensorflow_serving.verdicts import (
    check_classifies,
    check_regresses,
    classes,
    values,
)
from raymlops.serve.protocols.values import columns_of_lists, columns_of_records, named
from raymlops.serve.web import Request, Response

SIGNATURE_NAME = "serving_default"


def parse_predict(request: Request, version: str | None) -> RowsAsk | ColumnsAsk:
    """`instances`, a row each, or `inputs`, a list for each input.

    Raises:
        RequestError: 400, naming the member at fault.
    """
    document, is_strict, about_it = _envelope(request)
    if ("instances" in document) == ("inputs" in document):
        raise RequestError(400, "the body needs either instances or inputs")
    if "inputs" in document:
        return ColumnsAsk(about_it, version, document["inputs"], is_strict=is_strict)
    instances = sequence(document["instances"], "instances")
    return RowsAsk(about_it, version, instances, is_strict=is_strict)


def parse_classify(request: Request, version: str | None) -> ClassifyAsk:
    """`examples`, a row each, and a `context` that holds for all of them."""
    about_it, examples = _examples(request)
    return ClassifyAsk(about_it, version, examples)


def parse_regress(request: Request, version: str | None) -> RegressAsk:
    about_it, examples = _examples(request)
    return RegressAsk(about_it, version, examples)


class RowsAsk(BaseAsk):
    """Rows as records, or of a model with one input as its values."""

    rows: list[Any]
    is_strict: bool

    def columns(self, form: Form) -> Mapping[str, Column]:
        rows, is_strict = self.rows, self.is_strict
        if len(form.names) == 1 and not _are_records(rows, form.names[0]):
            lists = {form.names[0]: rows}
            return columns_of_lists(lists, form, is_strict=is_strict, unwrap=unwrap)
        return columns_of_records(rows, form, is_strict=is_strict, unwrap=unwrap)

    def encode(self, result: Result) -> Response:
        outputs = plain_outputs(result)
        rows = next(iter(outputs.values())) if len(outputs) == 1 else records(outputs)
        return answered(self.about.id, result, {"predictions": rows})


class ColumnsAsk(BaseAsk):
    """A list for each input, or of a model with one input that list alone."""

    inputs: Any
    is_strict: bool

    def columns(self, form: Form) -> Mapping[str, Column]:
        lists = named(self.inputs, form, "inputs")
        return columns_of_lists(lists, form, is_strict=self.is_strict, unwrap=unwrap)

    def encode(self, result: Result) -> Response:
        outputs = plain_outputs(result)
        document = next(iter(outputs.values())) if len(outputs) == 1 else outputs
        return answered(self.about.id, result, {"outputs": document})


class Examples(NamedTuple):
    """Rows as records, and what holds for all of them.

    Kept apart until the model is known: a copy of a large context for each of many empty rows
    would be thousands of times larger than the body.
    """

    context: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    is_strict: bool

    def columns(self, form: Form) -> Mapping[str, Column]:
        return columns_of_records(
            self.rows, form, is_strict=self.is_strict, unwrap=unwrap, context=self.context
        )


class ClassifyAsk(BaseAsk):
    """A pair of class and score for each class of each row."""

    examples: Examples

    def columns(self, form: Form) -> Mapping[str, Column]:
        check_classifies(form)
        return self.examples.columns(form)

    def encode(self, result: Result) -> Response:
        return answered(self.about.id, result, {"result": classes(result)})


class RegressAsk(BaseAsk):
    """A number for each row."""

    examples: Examples

    def columns(self, form: Form) -> Mapping[str, Column]:
        check_regresses(form)
        return self.examples.columns(form)

    def encode(self, result: Result) -> Response:
        return answered(self.about.id, result, {"result": values(result)})


def _examples(request: Request) -> tuple[About, Examples]:
    document, is_strict, about_it = _envelope(request)
    context = mapping(document.get("context", {}), "context")
    examples = sequence(document.get("examples"), "examples")
    rows = [mapping(example, "examples") for example in examples]
    return about_it, Examples(context, rows, is_strict)


def _envelope(request: Request) -> tuple[Mapping[str, Any], bool, About]:
    loaded, is_strict = load(request.body)
    document = mapping(loaded, "the body")
    signature = document.get("signature_name", SIGNATURE_NAME)
    if signature != SIGNATURE_NAME:
        raise RequestError(400, f"signature_name is {shown(signature)}, not '{SIGNATURE_NAME}'")
    return document, is_strict, about(request.headers.get("x-request-id"), {})


def _are_records(rows: list[Any], name: str) -> bool:
    return bool(rows) and isinstance(rows[0], dict) and rows[0].keys() == {name}
