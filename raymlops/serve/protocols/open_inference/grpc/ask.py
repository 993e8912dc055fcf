"""A request to infer as a protobuf message: tensors raw, or typed value by value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from raymlops.data import Column
from raymlops.errors import RequestError, SignatureError
from raymlops.models import Field
from raymlops.serve.form import Form
from raymlops.serve.inference import Result
from raymlops.serve.protocols.base import BaseAsk
from raymlops.serve.protocols.documents import about, text
from raymlops.serve.protocols.json_tensors import read_json
from raymlops.serve.protocols.open_inference.answers import refuse_not_offered
from raymlops.serve.protocols.open_inference.binary import read_binary, read_plain, write_binary
from raymlops.serve.protocols.open_inference.grpc.messages import response_class
from raymlops.serve.protocols.open_inference.inputs import check_datatype, field_of
from raymlops.serve.protocols.shapes import read_shape

_Answer = response_class("ModelInfer")
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def parse_message(message: Any, *, left_s: float | None) -> GrpcAsk:
    """The request in a ModelInferRequest; its caller waits for another `left_s`.

    Raises:
        RequestError: 400, naming the member at fault.
    """
    about_it = about(message.id, _parameters(message.parameters))
    if left_s is not None and (about_it.timeout_s is None or left_s < about_it.timeout_s):
        about_it = replace(about_it, timeout_s=left_s)
    raw, inputs = message.raw_input_contents, message.inputs
    if raw and len(raw) != len(inputs):
        raise RequestError(400, f"there are {len(raw)} raw_input_contents for {len(inputs)} inputs")
    names = [_wanted(output) for output in message.outputs]
    return GrpcAsk(about_it, message.model_version or None, message, names)


class GrpcAsk(BaseAsk):
    """A ModelInferRequest, and the names of the outputs it wants, all when there are none."""

    message: Any
    names: list[str]

    def columns(self, form: Form) -> Mapping[str, Column]:
        form.check_wanted(self.names)
        columns: dict[str, Column] = {}
        raw = self.message.raw_input_contents
        try:
            if raw and (plain := _read_plain(self.message.inputs, raw, form)) is not None:
                return plain
            for index, tensor in enumerate(self.message.inputs):
                name = text(tensor.name, "inputs.name")
                field = field_of(name, form, columns)
                columns[name] = _column(field, tensor, raw[index] if raw else None)
        except SignatureError as error:
            raise RequestError(400, str(error)) from error
        columns = form.completed(columns)
        form.check(columns)
        return columns

    def encode(self, result: Result) -> Any:
        fields, outputs = result.form.outputs, result.outputs
        names = self.names or list(fields)
        return _Answer(
            model_name=result.model,
            model_version=result.version,
            id=self.about.id,
            parameters={"arm": {"string_param": result.arm}},
            outputs=[
                {
                    "name": name,
                    "datatype": fields[name].datatype,
                    "shape": outputs[name].shape,
                }
                for name in names
            ],
            raw_output_contents=[
                write_binary(outputs[name], fields[name].datatype) for name in names
            ],
        )


def _wanted(output: Any) -> str:
    name = text(output.name, "outputs.name")
    refuse_not_offered(name, output.parameters)
    return name


def _read_plain(
    tensors: Sequence[Any], raw: Sequence[bytes], form: Form
) -> Mapping[str, Column] | None:
    """The columns of a request in the signature's own order, types and flat shapes."""
    names = tuple([tensor.name for tensor in tensors])
    if names != form.names or not form.is_flat:
        return None
    shapes = [tuple(tensor.shape) for tensor in tensors]
    shape = shapes[0]
    if len(shape) != 1 or shape[0] < 1 or shapes.count(shape) != len(shapes):
        return None
    if tuple([tensor.datatype for tensor in tensors]) != form.datatypes:
        return None
    if any(tensor.HasField("contents") or tensor.parameters for tensor in tensors):
        return None
    return read_plain(form, raw, shape[0])


def _column(field: Field, tensor: Any, raw: bytes | None) -> Column:
    datatype = check_datatype(field, tensor.datatype)
    shape = read_shape(field, list(tensor.shape))
    if "shared_memory_region" in tensor.parameters:
        raise SignatureError(
            field.name, "is in shared memory, which is not offered; send its values"
        )
    if raw is not None:
        if tensor.HasField("contents"):
            raise SignatureError(field.name, "has both contents and raw_input_contents")
        return read_binary(field, shape, datatype, memoryview(raw))
    if datatype not in _CONTENTS:
        raise SignatureError(field.name, f"{datatype} can only be sent as raw_input_contents")
    values = list(getattr(tensor.contents, _CONTENTS[datatype]))
    if datatype == "BYTES":
        values = [_text(field.name, index, value) for index, value in enumerate(values)]
    return read_json(field, shape, datatype, values)


def _text(name: str, index: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise SignatureError(name, f"text {index} is not UTF-8: {error.reason}") from error


def _parameters(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: getattr(value, choice)
        for name, value in given.items()
        if (choice := value.WhichOneof("parameter_choice")) is not None
    }
