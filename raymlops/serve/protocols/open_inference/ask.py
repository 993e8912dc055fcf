"""A request to infer by the Open Inference Protocol: JSON, with binary tensors behind it or not.

https://github.com/open-inference/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain
from operator import itemgetter
from typing import Any

from raymlops.data import Column, Columns, GroupedColumns
from raymlops.errors import RequestError, SignatureError
from raymlops.models import Field
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.base import BaseAsk
from raymlops.serve.protocols.datatypes import DTYPES
from raymlops.serve.protocols.documents import about, load, mapping, sequence, shown, text
from raymlops.serve.protocols.json_tensors import read_json
from raymlops.serve.protocols.open_inference.answers import (
    EVERY_OUTPUT,
    Wanted,
    encode_answer,
    refuse_not_offered,
)
from raymlops.serve.protocols.open_inference.binary import read_binary, read_plain, split_binary
from raymlops.serve.protocols.open_inference.fitted import fitted_reader
from raymlops.serve.protocols.open_inference.inputs import check_datatype, field_of
from raymlops.serve.protocols.open_inference.plain import PlainTensor, read_request, read_tensors
from raymlops.serve.protocols.shapes import read_shape
from raymlops.serve.web import Response

Tensor = Mapping[str, Any]

_BINARY_NAMES = ("name", "datatype", "shape", "parameters")
_BINARY_MEMBERS = itemgetter(*_BINARY_NAMES)
_DATATYPES = frozenset((*DTYPES, "BYTES"))
_NO_PARAMETERS: Mapping[str, Any] = {}
_WHOLE = {int}


def parse_infer(
    body: bytes,
    *,
    version: str | None = None,
    json_length: str | None = None,
    likely: Form | None = None,
) -> OpenInferenceAsk:
    """The request in `body`, of `version` when one is named.

    Args:
        json_length: the header Inference-Header-Content-Length, of requests that have it.
        likely: the form by which the columns will most likely be read, and now are if they fit.

    Raises:
        RequestError: 400, naming the member at fault.
    """
    request_id: Any
    read: Callable[[Form], Columns]
    reader = None if likely is None or json_length is not None else fitted_reader(likely)
    if reader is not None and (fitted := reader.read(body)) is not None:
        envelope, columns = fitted
        request_id, parameters, outputs = envelope.id, envelope.parameters, envelope.outputs
        read = partial(_read_fitted, columns, body)
    elif json_length is None and (plain := read_request(body)) is not None:
        request_id, parameters, outputs = plain.id, plain.parameters, plain.outputs
        read = partial(_read_plain, plain.inputs, body)
    else:
        head, tail = (body, None) if json_length is None else split_binary(body, json_length)
        loaded, is_strict = load(head)
        document = mapping(loaded, "the body")
        request_id, parameters, outputs = map(document.get, ("id", "parameters", "outputs"))
        tensors = sequence(document.get("inputs"), "inputs")
        if tail is None:
            read = partial(_read_each, tensors, memoryview(b""))
        else:
            read = partial(_read_binary, tensors, tail, is_strict)
    if parameters is None and outputs is None:
        return OpenInferenceAsk(about(request_id, _NO_PARAMETERS), version, read, _JSON)
    parameters = _NO_PARAMETERS if parameters is None else mapping(parameters, "parameters")
    every = parameters.get("binary_data_output", False)
    wanted = _wanted(outputs, _flag(every, "parameters.binary_data_output"))
    return OpenInferenceAsk(about(request_id, parameters), version, read, wanted)


class OpenInferenceAsk(BaseAsk):
    """Tensors that `read` reads once, and the outputs that are wanted."""

    read: Callable[[Form], Columns] | None
    wanted: Wanted

    def columns(self, form: Form) -> Columns:
        """As the protocol says; what they are read from is let go at once, so that the next
        request is read into memory that is still hot."""
        if self.wanted.names:
            form.check_wanted(self.wanted.names)
        assert self.read is not None, "columns are read once"
        read, self.read = self.read, None
        return read(form)

    def encode(self, result: Result) -> Response:
        return encode_answer(self.about.id, result, self.wanted)


def _read_fitted(columns: GroupedColumns, body: bytes, form: Form) -> Columns:
    if columns.layout is form.layout:
        return columns
    plain = read_request(body)
    assert plain is not None, "it was read as something stricter"
    return _read_plain(plain.inputs, body, form)


def _read_plain(tensors: list[PlainTensor], body: bytes, form: Form) -> Columns:
    columns = read_tensors(tensors, form)
    if columns is not None:
        return columns
    loaded, _ = load(body)
    return _read_each(loaded["inputs"], memoryview(b""), form)


def _read_binary(
    tensors: Sequence[Any], tail: memoryview, may_be_plain: bool, form: Form
) -> Columns:
    if may_be_plain:
        try:
            columns = _read_plain_binary(tensors, tail, form)
        except SignatureError as error:
            raise RequestError(400, str(error)) from error
        if columns is not None:
            return columns
    return _read_each(tensors, tail, form)


def _read_each(tensors: Sequence[Any], tail: memoryview, form: Form) -> Columns:
    """Tensor by tensor, however they are written; finds out what is wrong."""
    columns: dict[str, Column] = {}
    try:
        for each in tensors:
            tensor = mapping(each, "inputs")
            name = text(tensor.get("name"), "inputs.name")
            columns[name], tail = _read_tensor(field_of(name, form, columns), tensor, tail)
    except SignatureError as error:
        raise RequestError(400, str(error)) from error
    if tail:
        raise RequestError(400, f"{len(tail)} bytes follow the last binary tensor")
    columns = form.completed(columns)
    form.check(columns)
    return columns


def _read_plain_binary(tensors: Sequence[Any], tail: memoryview, form: Form) -> Columns | None:
    """The same of a request all of whose tensors are binary."""
    try:
        names, datatypes, shapes, parameters = zip(*map(_BINARY_MEMBERS, tensors), strict=True)
        sizes = [each["binary_data_size"] for each in parameters]
    except (KeyError, TypeError, ValueError):
        return None
    if names != form.names or datatypes != form.datatypes or not form.is_flat:
        return None
    num_rows = _num_rows(shapes)
    plain = set(map(type, sizes)) == _WHOLE and set(map(len, parameters)) == {1}
    if num_rows is None or num_rows < 1 or not plain or min(sizes) < 0 or sum(sizes) != len(tail):
        return None
    if set(map(len, tensors)) != {len(_BINARY_NAMES)}:  # one has data as well
        return None
    ends = accumulate(sizes)
    return read_plain(
        form, [tail[end - size : end] for end, size in zip(ends, sizes, strict=True)], num_rows
    )


def _num_rows(shapes: Sequence[Any]) -> int | None:
    """How many rows all of the flat `shapes` have; None when they are not all flat and alike."""
    shape = shapes[0]
    if type(shape) is not list or len(shape) != 1 or shapes.count(shape) != len(shapes):
        return None
    if set(map(type, chain.from_iterable(shapes))) != _WHOLE:  # [1] equals [True] and [1.0]
        return None
    num_rows: int = shape[0]
    return num_rows


def _read_tensor(field: Field, tensor: Tensor, tail: memoryview) -> tuple[Column, memoryview]:
    """The tensor's column, and what of the binary tail is left."""
    datatype = _datatype(field, tensor)
    shape = read_shape(field, tensor.get("shape"))
    size = _binary_size(field.name, tensor)
    if size is None:
        return read_json(field, shape, datatype, tensor.get("data")), tail
    if "data" in tensor:
        raise SignatureError(field.name, "has both data and binary_data_size")
    if size > len(tail):
        raise SignatureError(
            field.name, f"its binary_data_size is {size}, but {len(tail)} bytes are left"
        )
    return read_binary(field, shape, datatype, tail[:size]), tail[size:]


def _datatype(field: Field, tensor: Tensor) -> str:
    """That by which the tensor's values are read: the field's own where all are null, since
    whoever has no value cannot tell its type.

    Raises:
        SignatureError: as `check_datatype`.
    """
    datatype, data = tensor.get("datatype"), tensor.get("data")
    is_known = isinstance(datatype, str) and datatype in _DATATYPES
    if is_known and isinstance(data, list) and data and data.count(None) == len(data):
        return field.datatype
    return check_datatype(field, datatype)


def _binary_size(name: str, tensor: Tensor) -> int | None:
    parameters = tensor.get("parameters")
    if parameters is None:
        return None
    size = mapping(parameters, "inputs.parameters").get("binary_data_size")
    if "shared_memory_region" in parameters:
        raise SignatureError(name, "is in shared memory, which is not offered; send its values")
    if size is not None and (type(size) is not int or size < 0):
        raise SignatureError(name, f"its binary_data_size is {shown(size)}, not a number of bytes")
    return size


def _wanted(outputs: Any, every_binary: bool) -> Wanted:
    if outputs is None or not sequence(outputs, "outputs"):
        return _BINARY if every_binary else _JSON
    names, binary = [], set()
    for item in sequence(outputs, "outputs"):
        output = mapping(item, "outputs")
        names.append(text(output.get("name"), "outputs.name"))
        parameters = mapping(output.get("parameters", {}), "outputs.parameters")
        refuse_not_offered(names[-1], parameters)
        if _flag(parameters.get("binary_data", every_binary), "outputs.parameters.binary_data"):
            binary.add(names[-1])
    return Wanted(tuple(names), frozenset(binary), every_binary)


_JSON, _BINARY = EVERY_OUTPUT, Wanted((), frozenset(), True)


def _flag(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise RequestError(400, f"{where} is {shown(value)}, neither true nor false")
    return value
